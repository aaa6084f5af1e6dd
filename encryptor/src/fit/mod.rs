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
use crate::drops::DropReason;
use crate::icmp::{Problem, Teller, Voice};
use crate::wire::{EtherType, L2};
use crate::xsk::{Frame, Umem};

use fragment::Cut;

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
    /// Who tells senders where there is no router.
    voice: Voice,
}

impl Fit {
    /// `largest`: bytes of the largest plain frame that one packet carries.
    pub fn new(sizes: Sizes, largest: usize) -> Fit {
        Fit { sizes, largest, voice: Voice::new(Teller::default()) }
    }

    /// Lowers the MSS of a TCP SYN, if that is asked for.
    pub fn clamp(&self, frame: &mut Frame) {
        if !self.sizes.mss_clamp {
            return;
        }
        if let Some(l2) = L2::parse(frame.data()) {
            mss::clamp(frame.data_mut(), &l2, self.mtu(&l2));
        }
    }

    /// Deals with a frame that does not fit: it is cut, or turns into the answer to its sender, and what was made of it is added to
    /// `made`; or it ends here. How many fragments there are, or why there are none. `router`: who tells the sender, if there is one.
    pub fn handle(
        &mut self,
        mut frame: Frame,
        umem: &mut Umem,
        made: &mut Made,
        router: Option<&mut Voice>,
        now: Instant,
    ) -> Result<usize, DropReason> {
        let cut = self.cut(&frame, umem, &mut made.fragments);
        match cut == Err(DropReason::TooBig) && self.tell(&mut frame, router, now) {
            true => made.replies.push(frame),
            false => umem.free(frame),
        }
        cut
    }

    fn cut(&self, frame: &Frame, umem: &mut Umem, fragments: &mut Vec<Frame>) -> Result<usize, DropReason> {
        let l2 = L2::parse(frame.data()).ok_or(DropReason::Runt)?;
        let may_cut = self.sizes.oversize == Oversize::Fragment && l2.ethertype == EtherType::IPV4;
        if !may_cut || frame.len() <= self.largest {
            return Err(DropReason::TooBig);
        }
        let (head, packet) = frame.data().split_at(l2.payload);
        let cut = Cut::new(head, packet, self.mtu(&l2)).ok_or(DropReason::TooBig)?;
        write_fragments(cut, self.largest, umem, fragments).ok_or(DropReason::NoBuffer)
    }

    /// Turns the frame into the answer to its sender, if there is one. One that fits and only lacks room around it is not answered.
    fn tell(&mut self, frame: &mut Frame, router: Option<&mut Voice>, now: Instant) -> bool {
        if self.sizes.oversize == Oversize::Drop || frame.len() <= self.largest {
            return false;
        }
        let mtu = L2::parse(frame.data()).and_then(|l2| u16::try_from(self.mtu(&l2)).ok());
        let voice = router.unwrap_or(&mut self.voice);
        voice.refill(now);
        mtu.is_some_and(|mtu| voice.tell(frame, Problem::TooBig(mtu)))
    }

    /// Bytes of the largest packet that goes on behind such a link layer's header.
    fn mtu(&self, l2: &L2) -> usize {
        self.largest.saturating_sub(l2.payload)
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
