//! Plain frames that one packet on the backhaul does not carry: their senders are told, or they are cut, or they end here.
//!
//! | packet | `icmp` | `fragment` | `drop` |
//! | --- | --- | --- | --- |
//! | IPv4 without DF | ends here | is cut (RFC 791) | ends here |
//! | IPv4 with DF, IPv6 | its sender is told (RFC 1191, RFC 8201) | its sender is told | ends here |
//! | not IP, or not to be read | ends here | ends here | ends here |

mod fragment;
mod mss;

use std::time::Instant;

use crate::BURST;
use crate::budget::Budget;
use crate::drops::DropReason;
use crate::icmp::packet_too_big;
use crate::wire::{EtherType, L2};
use crate::xsk::{Frame, Umem};

use fragment::Cut;

/// ICMP errors in a second, and at once, at the most (RFC 1812 section 4.3.2.8, RFC 4443 section 2.4 f).
const ERRORS: u32 = 100;

/// What is done about a packet that does not fit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Oversize {
    /// Its sender is told by ICMP where that is allowed.
    Icmp,
    /// What a router does: IPv4 without DF is cut, of all else the sender is told.
    #[default]
    Fragment,
    /// It is dropped.
    Drop,
}

/// The settings of a site.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sizes {
    /// What is done about a packet that does not fit.
    pub oversize: Oversize,
    /// Whether TCP's ends are told to send no more than fits.
    pub mss_clamp: bool,
}

/// What the stage made of frames.
#[derive(Debug)]
pub struct Made {
    /// Fragments, to be encrypted like any other frame.
    pub fragments: Vec<Frame>,
    /// ICMP errors for the plain port.
    pub replies: Vec<Frame>,
}

impl Default for Made {
    /// With room for what a burst of frames of 9,216 bytes becomes where 1,280 fit.
    fn default() -> Self {
        Made { fragments: Vec::with_capacity(8 * BURST), replies: Vec::with_capacity(BURST) }
    }
}

/// The stage of one worker.
#[derive(Debug)]
pub struct Fit {
    sizes: Sizes,
    /// Bytes of the largest plain frame that one packet carries.
    largest: usize,
    errors: Budget,
}

impl Fit {
    /// `largest`: bytes of the largest plain frame that one packet carries.
    pub fn new(sizes: Sizes, largest: usize) -> Fit {
        Fit { sizes, largest, errors: Budget::new(ERRORS, ERRORS) }
    }

    /// Lowers the MSS of a TCP SYN, if that is asked for.
    pub fn clamp(&self, frame: &mut Frame) {
        if !self.sizes.mss_clamp {
            return;
        }
        if let Some(l2) = L2::parse(frame.data()) {
            let mtu = self.largest.saturating_sub(l2.payload);
            mss::clamp(frame.data_mut(), &l2, mtu);
        }
    }

    /// Deals with a frame that does not fit. Its fragments and the answer to its sender are added to `made`; how many fragments
    /// there are, or why there are none. The frame itself has done its duty in either case.
    pub fn handle(
        &mut self,
        frame: &Frame,
        umem: &mut Umem,
        made: &mut Made,
        now: Instant,
    ) -> Result<usize, DropReason> {
        let l2 = L2::parse(frame.data()).ok_or(DropReason::Runt)?;
        if frame.len() <= self.largest {
            return Err(DropReason::TooBig);
        }
        let mtu = self.largest.saturating_sub(l2.payload);
        if self.sizes.oversize == Oversize::Fragment && l2.ethertype == EtherType::IPV4 {
            let (head, packet) = frame.data().split_at(l2.payload);
            if let Some(cut) = Cut::new(head, packet, mtu) {
                let cut = write_fragments(cut, self.largest, umem, &mut made.fragments);
                return cut.ok_or(DropReason::NoBuffer);
            }
        }
        if self.sizes.oversize != Oversize::Drop {
            self.tell(frame, &l2, mtu, umem, &mut made.replies, now);
        }
        Err(DropReason::TooBig)
    }

    fn tell(
        &mut self,
        about: &Frame,
        l2: &L2,
        mtu: usize,
        umem: &mut Umem,
        replies: &mut Vec<Frame>,
        now: Instant,
    ) {
        self.errors.refill(now);
        let Ok(mtu) = u16::try_from(mtu) else { return };
        if !self.errors.take() {
            return;
        }
        let Some(mut reply) = umem.alloc() else { return };
        if packet_too_big(about.data(), l2, mtu, &mut reply) {
            replies.push(reply);
        } else {
            self.errors.refund();
            umem.free(reply);
        }
    }
}

/// All fragments or none. How many.
fn write_fragments(
    mut cut: Cut<'_>,
    largest: usize,
    umem: &mut Umem,
    fragments: &mut Vec<Frame>,
) -> Option<usize> {
    let (count, before) = (cut.count(), fragments.len());
    for _ in 0..count {
        let Some(mut fragment) = umem.alloc_for(largest) else {
            fragments.drain(before..).for_each(|fragment| umem.free(fragment));
            return None;
        };
        let written = cut.write_next(&mut fragment);
        debug_assert!(written, "there is room for a fragment, and there are as many as were counted");
        fragments.push(fragment);
    }
    Some(count)
}

#[cfg(test)]
mod tests;
