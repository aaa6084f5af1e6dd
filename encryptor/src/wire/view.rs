//! A plain frame seen whole: parsed once, then asked by the policy and by the classifier.

use super::ip::{SCTP, UDP};
use super::{
    EtherType, GTPU_PORT, Gtpu, L2, L3, LabelStack, MacAddr, Transport, parse_gtpu, parse_ip, parse_labels,
};

/// What a frame shows of one thing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Seen<T> {
    /// It has no such thing.
    Absent,
    /// It may have it, but does not show it: cut off, in another fragment, or not to be followed.
    Hidden,
    /// This.
    Is(T),
}

impl<T> Seen<T> {
    /// The same of what is seen, if it is.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Seen<U> {
        self.and_then(|value| Seen::Is(change(value)))
    }

    /// What is seen behind it, if it is seen.
    pub fn and_then<U>(self, next: impl FnOnce(T) -> Seen<U>) -> Seen<U> {
        match self {
            Seen::Absent => Seen::Absent,
            Seen::Hidden => Seen::Hidden,
            Seen::Is(value) => next(value),
        }
    }
}

/// What tells sessions over one pair of ports apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Session {
    /// No protocol that has any.
    None,
    /// It may be one, but cannot be read: a fragment, cut off, or odd.
    Hidden,
    /// The verification tag of SCTP (RFC 9260 section 3.1). 0: a first message, before there is a tag.
    Sctp(u32),
    /// GTP-U.
    Gtpu(Gtpu),
}

/// A frame seen whole. Where the network layer cannot be read, it is hidden; the layers above it then are as well.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct View {
    /// Whom it is to; all zero for a packet that came without an Ethernet header.
    pub destination: MacAddr,
    /// Tags, and the type behind them.
    pub l2: L2,
    /// The first two bytes behind the type, 0 where there are none: a slow protocol's subtype, or LLC's SAPs.
    pub lead: [u8; 2],
    /// MPLS labels.
    pub labels: Seen<LabelStack>,
    /// The network layer.
    pub network: Seen<L3>,
    /// MPLS does not say what it carries: the network layer is only likely to be one (RFC 4928 section 3).
    pub guessed: bool,
    /// The session.
    pub session: Session,
}

impl View {
    /// Looks at a whole Ethernet frame without FCS. `None`: a runt, shorter than its own Ethernet header.
    pub fn of_frame(frame: &[u8]) -> Option<View> {
        let l2 = L2::parse(frame)?;
        let payload = &frame[l2.payload..];
        let lead = payload.first_chunk().copied().unwrap_or_default();
        let mut view = View {
            destination: MacAddr(*frame.first_chunk()?),
            l2,
            lead,
            labels: Seen::Absent,
            network: Seen::Absent,
            guessed: false,
            session: Session::None,
        };
        match l2.ethertype {
            EtherType::IPV4 if lead[0] >> 4 == 4 => view.see_network(payload),
            EtherType::IPV6 if lead[0] >> 4 == 6 => view.see_network(payload),
            EtherType::IPV4 | EtherType::IPV6 => view.hide_network(),
            ethertype if EtherType::MPLS.contains(&ethertype) => view.see_labels(payload),
            ethertype if ethertype.is_tag() => {
                view.hide_network();
                view.labels = Seen::Hidden;
            }
            _ => {}
        }
        Some(view)
    }

    /// Looks at an IP packet that came without an Ethernet header.
    pub fn of_packet(packet: &[u8]) -> View {
        let lead: [u8; 2] = packet.first_chunk().copied().unwrap_or_default();
        let ethertype = if lead[0] >> 4 == 6 { EtherType::IPV6 } else { EtherType::IPV4 };
        let mut view = View {
            destination: MacAddr([0; 6]),
            l2: L2 { vlans: [0; 2], tags: 0, ethertype, payload: 0 },
            lead,
            labels: Seen::Absent,
            network: Seen::Absent,
            guessed: false,
            session: Session::None,
        };
        view.see_network(packet);
        view
    }

    /// Traffic class to show on the outside: DSCP in the upper six bits. 0 where there is no IP header, or only a guess, which
    /// would show bits of a payload.
    pub fn class(&self) -> u8 {
        match self.network {
            Seen::Is(l3) if !self.guessed => l3.traffic_class,
            _ => 0,
        }
    }

    /// Where in the frame the IP header is whose traffic class [`View::class`] gives.
    pub fn ip_header_at(&self) -> Option<usize> {
        let is_certain = matches!(self.network, Seen::Is(_)) && !self.guessed;
        is_certain.then_some(self.l2.payload)
    }

    fn see_labels(&mut self, payload: &[u8]) {
        self.guessed = true;
        let Some(stack) = parse_labels(payload) else {
            self.labels = Seen::Hidden;
            return self.hide_network();
        };
        self.labels = Seen::Is(stack);
        match stack.payload {
            Some(at) => self.see_network(&payload[at..]),
            None => self.hide_network(),
        }
    }

    fn hide_network(&mut self) {
        (self.network, self.session) = (Seen::Hidden, Session::Hidden);
    }

    fn see_network(&mut self, packet: &[u8]) {
        let Some((l3, segment)) = parse_ip(packet) else { return self.hide_network() };
        self.network = Seen::Is(l3);
        self.session = session(&l3, segment);
    }
}

fn session(l3: &L3, segment: &[u8]) -> Session {
    let of_interest = match l3.upper_protocol() {
        Seen::Is(protocol) => protocol == UDP || protocol == SCTP,
        Seen::Hidden | Seen::Absent => true,
    };
    match (l3.transport, l3.protocol) {
        _ if !of_interest => Session::None,
        (Transport::Fragment | Transport::Cut, _) => Session::Hidden,
        (Transport::Ports(..), SCTP) => match segment.get(4..).and_then(<[u8]>::first_chunk) {
            Some(&tag) => Session::Sctp(u32::from_be_bytes(tag)),
            None => Session::Hidden,
        },
        (Transport::Ports(_, GTPU_PORT), UDP) => {
            let end = super::be16(segment, 4).map_or(0, usize::from).min(segment.len());
            let gtpu = segment.get(8..end).and_then(parse_gtpu);
            gtpu.map_or(Session::Hidden, Session::Gtpu)
        }
        _ => Session::None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(ethertype: u16, payload: &[u8]) -> Vec<u8> {
        [&[2; 12][..], &ethertype.to_be_bytes(), payload].concat()
    }

    fn v4(protocol: u8, fragment: u16, segment: &[u8]) -> Vec<u8> {
        let length = (20 + segment.len() as u16).to_be_bytes();
        let [high, low] = fragment.to_be_bytes();
        let head = [0x45, 0xb8, length[0], length[1], 0, 0, high, low, 64, protocol, 0, 0];
        [&head[..], &[10, 0, 0, 1, 10, 0, 0, 2], segment].concat()
    }

    fn gtpu() -> Vec<u8> {
        let message = [0x34, 255, 0, 8, 0, 0, 0, 7, 0, 0, 0, 0x85, 1, 0, 9, 0];
        [&[8, 104, 8, 104, 0, 24, 0, 0][..], &message].concat()
    }

    fn view(ethertype: u16, payload: &[u8]) -> View {
        View::of_frame(&frame(ethertype, payload)).unwrap()
    }

    #[test]
    fn a_gtpu_packet_is_seen_down_to_its_qfi_behind_tags_and_labels() {
        let packet = v4(UDP, 0, &gtpu());
        let tunnel = Session::Gtpu(Gtpu { message: 255, teid: 7, qfi: Seen::Is(9) });
        let tagged = [&[0, 7, 0x81, 0, 0, 100, 8, 0][..], &packet].concat();
        let labelled = [&[0, 1, 0x01, 64][..], &packet].concat();
        for (ethertype, payload, guessed) in
            [(0x0800, &packet, false), (0x88a8, &tagged, false), (0x8847, &labelled, true)]
        {
            let view = view(ethertype, payload);
            assert_eq!((view.session, view.guessed), (tunnel, guessed), "{ethertype:x}");
            assert_eq!(view.class(), if guessed { 0 } else { 0xb8 });
            let header = view.ip_header_at().map(|at| at + packet.len());
            assert_eq!(header, (!guessed).then_some(14 + payload.len()));
        }
        assert_eq!(View::of_packet(&packet).session, tunnel);
    }

    #[test]
    fn what_is_not_shown_is_hidden_and_what_cannot_be_is_absent() {
        let cut = gtpu();
        let table = [
            (v4(UDP, 0x2000, &gtpu()), Session::Hidden),
            (v4(UDP, 0, &cut[..15]), Session::Hidden),
            (v4(UDP, 0, &cut[..3]), Session::Hidden),
            (v4(UDP, 0, &[0, 1, 0, 2, 0, 8, 0, 0]), Session::None),
            (v4(6, 0x2000, &gtpu()), Session::None),
            (v4(SCTP, 0, &[1, 1, 2, 2, 0, 0, 0, 9, 0, 0, 0, 0]), Session::Sctp(9)),
            (v4(SCTP, 0, &[1, 1, 2, 2, 0, 0, 0]), Session::Hidden),
            (vec![0x65; 60], Session::Hidden),
        ];
        for (packet, expected) in table {
            assert_eq!(view(0x0800, &packet).session, expected, "{packet:x?}");
        }
        assert_eq!(view(0x0806, &[0; 28]).network, Seen::Absent);
        assert_eq!(view(0x8847, &[0, 1, 0]).labels, Seen::Hidden);
        assert_eq!(view(0x8100, &[0, 1, 0x81, 0].repeat(9)).network, Seen::Hidden);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), kind in 0..6usize) {
            let ethertype = [0x0800, 0x86dd, 0x8847, 0x8100, 0x88a8, 0x0042][kind];
            let _ = View::of_frame(&bytes);
            let _ = View::of_frame(&frame(ethertype, &bytes));
            let _ = View::of_packet(&v4([UDP, SCTP][kind % 2], 0, &bytes));
        }
    }
}
