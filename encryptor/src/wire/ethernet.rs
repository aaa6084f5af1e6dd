//! Ethernet II with VLAN tags (IEEE 802.3, 802.1Q, 802.1ad).

use std::fmt;
use std::str::FromStr;

use super::be16;

/// Length of an untagged Ethernet header: two addresses and a type.
pub const ETH_HLEN: usize = 14;

/// An EtherType as it stands after any VLAN tags.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct EtherType(pub u16);

impl EtherType {
    /// IPv4.
    pub const IPV4: EtherType = EtherType(0x0800);
    /// IPv6.
    pub const IPV6: EtherType = EtherType(0x86dd);
    /// MPLS, whose labels were given out downstream or upstream (RFC 5332).
    pub const MPLS: [EtherType; 2] = [EtherType(0x8847), EtherType(0x8848)];
    /// 802.1Q, 802.1ad, and what stood for the latter before it was there.
    pub const TAGS: [EtherType; 3] = [EtherType(0x8100), EtherType(0x88a8), EtherType(0x9100)];

    /// Whether it announces a VLAN tag.
    pub fn is_tag(self) -> bool {
        Self::TAGS.contains(&self)
    }
}

/// A 48-bit hardware address.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// Where a frame goes. `None`: it is cut.
    pub fn of_destination(frame: &[u8]) -> Option<MacAddr> {
        frame.first_chunk().copied().map(MacAddr)
    }

    /// Where a frame comes from. `None`: it is cut.
    pub fn of_source(frame: &[u8]) -> Option<MacAddr> {
        frame.get(6..)?.first_chunk().copied().map(MacAddr)
    }

    /// Whether it names a group, such as all stations.
    pub fn is_group(self) -> bool {
        self.0[0] & 1 == 1
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for MacAddr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().unwrap_or_default();
            *byte =
                u8::from_str_radix(part, 16).map_err(|_| format!("'{text}' is not a hardware address"))?;
        }
        match parts.next() {
            None => Ok(MacAddr(bytes)),
            Some(_) => Err(format!("'{text}' is not a hardware address")),
        }
    }
}

/// VLAN tags that are read before a frame counts as odd.
const MAX_TAGS: usize = 4;

/// What stands in front of the network layer: the tags' VLAN identifiers, the type behind them, and where that begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct L2 {
    /// Identifiers of the two outermost tags; 0 where there is no tag (0 is also the priority tag, which names no VLAN).
    pub vlans: [u16; 2],
    /// How many tags there are.
    pub tags: u8,
    /// The type behind the tags. Still a tag's: there are more than are read, or it is cut off.
    pub ethertype: EtherType,
    /// Offset of the first byte behind the Ethernet header.
    pub payload: usize,
}

impl L2 {
    /// Reads the header of `frame` (without FCS), as far as it goes. `None`: shorter than an untagged header.
    pub fn parse(frame: &[u8]) -> Option<L2> {
        let ethertype = EtherType(be16(frame, 12)?);
        let mut l2 = L2 { vlans: [0; 2], tags: 0, ethertype, payload: ETH_HLEN };
        while l2.ethertype.is_tag() && usize::from(l2.tags) < MAX_TAGS {
            let (word, inner) = (be16(frame, l2.payload), be16(frame, l2.payload + 2));
            let (number, (Some(word), Some(inner))) = (usize::from(l2.tags), (word, inner)) else {
                break;
            };
            if let Some(vlan) = l2.vlans.get_mut(number) {
                *vlan = word & 0x0fff;
            }
            l2 = L2 { tags: l2.tags + 1, ethertype: EtherType(inner), payload: l2.payload + 4, ..l2 };
        }
        Some(l2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(behind_addresses: &[u8]) -> Vec<u8> {
        [&[0u8; 12], behind_addresses].concat()
    }

    #[test]
    fn reads_plain_tagged_and_double_tagged_headers() {
        let plain = L2::parse(&frame(&[0x08, 0x00])).unwrap();
        assert_eq!(plain, L2 { vlans: [0, 0], tags: 0, ethertype: EtherType::IPV4, payload: 14 });
        let tagged = L2::parse(&frame(&[0x81, 0x00, 0xe0, 0x64, 0x86, 0xdd])).unwrap();
        assert_eq!(tagged, L2 { vlans: [100, 0], tags: 1, ethertype: EtherType::IPV6, payload: 18 });
        let qinq = frame(&[0x88, 0xa8, 0x00, 0x07, 0x81, 0x00, 0x00, 0x64, 0x08, 0x06]);
        assert_eq!(
            L2::parse(&qinq).unwrap(),
            L2 { vlans: [7, 100], tags: 2, ethertype: EtherType(0x0806), payload: 22 }
        );
    }

    #[test]
    fn tags_beyond_two_are_read_over_up_to_a_bound() {
        let stack =
            |tags: usize| frame(&[&[0x81, 0x00, 0x00, 0x05].repeat(tags)[..], &[0x08, 0x00]].concat());
        let l2 = |tags: usize| L2::parse(&stack(tags)).unwrap();
        assert_eq!((l2(4).tags, l2(4).ethertype, l2(4).payload), (4, EtherType::IPV4, 30));
        assert!(l2(5).ethertype.is_tag() && l2(9).ethertype.is_tag());
        let cut = L2::parse(&stack(3)[..24]).unwrap();
        assert!(cut.tags == 2 && cut.ethertype.is_tag());
    }

    #[test]
    fn a_cut_tag_is_left_in_place_and_a_cut_header_refused() {
        let qinq = frame(&[0x88, 0xa8, 0x00, 0x07, 0x81, 0x00, 0x00, 0x64, 0x08, 0x06]);
        for cut in 0..14 {
            assert_eq!(L2::parse(&qinq[..cut]), None, "cut at {cut}");
        }
        for cut in 14..18 {
            let l2 = L2 { vlans: [0, 0], tags: 0, ethertype: EtherType(0x88a8), payload: 14 };
            assert_eq!(L2::parse(&qinq[..cut]), Some(l2), "cut at {cut}");
        }
        for cut in 18..22 {
            let l2 = L2 { vlans: [7, 0], tags: 1, ethertype: EtherType(0x8100), payload: 18 };
            assert_eq!(L2::parse(&qinq[..cut]), Some(l2), "cut at {cut}");
        }
    }

    #[test]
    fn reads_hardware_addresses() {
        let mac: MacAddr = "02:00:5e:10:0a:ff".parse().unwrap();
        assert_eq!(mac.to_string(), "02:00:5e:10:0a:ff");
        assert!("02:00:5e:10:0a".parse::<MacAddr>().is_err());
        assert!("02:00:5e:10:0a:ff:01".parse::<MacAddr>().is_err());
    }
}
