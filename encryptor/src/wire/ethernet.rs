//! Ethernet II with up to two VLAN tags (IEEE 802.3, 802.1Q, 802.1ad).

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
    const VLAN: EtherType = EtherType(0x8100);
    const QINQ: EtherType = EtherType(0x88a8);

    fn is_tag(self) -> bool {
        self == Self::VLAN || self == Self::QINQ
    }
}

/// A 48-bit hardware address.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct MacAddr(pub [u8; 6]);

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

/// What stands in front of the network layer: the tags' VLAN identifiers, the type behind them, and where that begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct L2 {
    /// VLAN identifiers, outermost first; 0 where there is no tag (0 is also the priority tag, which names no VLAN).
    pub vlans: [u16; 2],
    /// The type behind the tags; a third tag is left as it is and shows here.
    pub ethertype: EtherType,
    /// Offset of the first byte behind the Ethernet header.
    pub payload: usize,
}

impl L2 {
    /// Reads the header of `frame` (without FCS). `None`: shorter than its own header.
    pub fn parse(frame: &[u8]) -> Option<L2> {
        let mut ethertype = EtherType(be16(frame, 12)?);
        let mut payload = ETH_HLEN;
        let mut vlans = [0; 2];
        for vlan in &mut vlans {
            if !ethertype.is_tag() {
                break;
            }
            *vlan = be16(frame, payload)? & 0x0fff;
            ethertype = EtherType(be16(frame, payload + 2)?);
            payload += 4;
        }
        Some(L2 { vlans, ethertype, payload })
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
        assert_eq!(plain, L2 { vlans: [0, 0], ethertype: EtherType::IPV4, payload: 14 });
        let tagged = L2::parse(&frame(&[0x81, 0x00, 0xe0, 0x64, 0x86, 0xdd])).unwrap();
        assert_eq!(tagged, L2 { vlans: [100, 0], ethertype: EtherType::IPV6, payload: 18 });
        let qinq = frame(&[0x88, 0xa8, 0x00, 0x07, 0x81, 0x00, 0x00, 0x64, 0x08, 0x06]);
        assert_eq!(
            L2::parse(&qinq).unwrap(),
            L2 { vlans: [7, 100], ethertype: EtherType(0x0806), payload: 22 }
        );
    }

    #[test]
    fn refuses_every_cut() {
        let qinq = frame(&[0x88, 0xa8, 0x00, 0x07, 0x81, 0x00, 0x00, 0x64, 0x08, 0x06]);
        for cut in 0..qinq.len() {
            assert_eq!(L2::parse(&qinq[..cut]), None, "cut at {cut}");
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
