//! Control frames by name, so that a rule for them is no wider than they are.

use super::Match;
use super::condition::ports;
use crate::wire::{EtherType, MacAddr, Seen, View};

/// The group addresses that no bridge forwards (IEEE 802.1Q table 8-1) differ in their last byte.
const fn link_local(last: u8) -> MacAddr {
    MacAddr([0x01, 0x80, 0xc2, 0, 0, last])
}

/// A kind of control frames. All but PTP are untagged and sent to a group address of IEEE 802.1Q.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// Link discovery (IEEE 802.1AB).
    Lldp,
    /// Link aggregation and its marker protocol (IEEE 802.1AX).
    Lacp,
    /// Spanning tree, of customers and providers (IEEE 802.1Q, 802.1D).
    Stp,
    /// MAC control: PAUSE and priority flow control (IEEE 802.3 clause 31).
    Pause,
    /// Quality of a SyncE clock (ITU-T G.8264).
    Esmc,
    /// Precision time (IEEE 1588): over Ethernet, or in UDP to port 319 or 320.
    Ptp,
}

impl Preset {
    /// All of them.
    pub const ALL: [Preset; 6] =
        [Preset::Lldp, Preset::Lacp, Preset::Stp, Preset::Pause, Preset::Esmc, Preset::Ptp];

    /// Its name in the site's file.
    pub fn name(self) -> &'static str {
        match self {
            Preset::Lldp => "lldp",
            Preset::Lacp => "lacp",
            Preset::Stp => "stp",
            Preset::Pause => "pause",
            Preset::Esmc => "esmc",
            Preset::Ptp => "ptp",
        }
    }

    /// The types behind the addresses that its frames may have, 0 for IEEE 802.2.
    pub(super) fn outer_types(self) -> &'static [u16] {
        match self {
            Preset::Lldp => &[0x88cc],
            Preset::Lacp | Preset::Esmc => &[0x8809],
            Preset::Stp => &[0],
            Preset::Pause => &[0x8808],
            Preset::Ptp => &[0x88f7, 0x0800, 0x86dd, 0x8100, 0x88a8, 0x9100],
        }
    }

    /// Whether a frame is one.
    pub(super) fn test(self, view: &View) -> Match {
        let EtherType(ethertype) = view.l2.ethertype;
        let sent_to = |lasts: &[u8]| lasts.iter().any(|&last| view.destination == link_local(last));
        let is = match self {
            Preset::Lldp => ethertype == 0x88cc && sent_to(&[0x0e, 0x03, 0x00]),
            Preset::Lacp => ethertype == 0x8809 && sent_to(&[0x02]) && matches!(view.lead[0], 1 | 2),
            Preset::Stp => ethertype < 0x0600 && sent_to(&[0x00, 0x08]) && view.lead == [0x42, 0x42],
            Preset::Pause => ethertype == 0x8808 && sent_to(&[0x01]),
            Preset::Esmc => ethertype == 0x8809 && sent_to(&[0x02]) && view.lead[0] == 0x0a,
            Preset::Ptp => return ptp(view),
        };
        if is && view.l2.tags == 0 { Match::Yes } else { Match::No }
    }
}

fn ptp(view: &View) -> Match {
    let udp = match view.network {
        Seen::Is(l3) if !view.guessed => match l3.upper_protocol() {
            Seen::Is(17) => ports(view),
            Seen::Hidden => Seen::Hidden,
            Seen::Is(_) | Seen::Absent => Seen::Absent,
        },
        _ => ports(view),
    };
    match udp {
        Seen::Is([_, 319 | 320]) => Match::Yes,
        Seen::Hidden => Match::May,
        _ if view.l2.ethertype == EtherType(0x88f7) => Match::Yes,
        _ => Match::No,
    }
}
