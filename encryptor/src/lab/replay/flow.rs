//! Names a frame's flow: the finest within which a network keeps order, and so the finest that an encryptor may tell apart.
//!
//! Written from the standards and not on the encryptor's own parsers, which are what is being tested.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

const GTP_U: u16 = 2152;
const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;
/// Labels and tags that are read; frames beyond share what is in front.
const DEPTH: usize = 8;

/// A frame's flow in words: addresses, tags, and what the headers inside tell, as far as they can be read.
pub(super) fn flow_of(frame: &[u8]) -> String {
    let mut name = String::new();
    let Some((addresses, rest)) = frame.split_at_checked(12) else { return "no Ethernet header".to_owned() };
    let (destination, source) = addresses.split_at(6);
    let _ = write!(name, "{} > {}", mac(source), mac(destination));
    // Not a single step fails: a frame that ends early has a coarser name.
    let _ = describe(rest, &mut name);
    name
}

fn mac(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}

/// What begins with an EtherType.
fn describe(mut rest: &[u8], name: &mut String) -> Option<()> {
    for _ in 0..DEPTH {
        let (ethertype, behind) = (half(rest, 0)?, rest.get(2..)?);
        match ethertype {
            0x8100 | 0x88a8 | 0x9100 => {
                let tag = half(behind, 0)? & 0xfff;
                let _ = write!(name, " vlan {tag}");
                rest = behind.get(2..)?;
                continue;
            }
            0x8847 | 0x8848 => return mpls(behind, name),
            0x0800 => return ipv4(behind, name),
            0x86dd => return ipv6(behind, name),
            0..0x0600 => {
                let _ = write!(name, " llc {:02x?}", behind.get(..2)?);
            }
            other => {
                let _ = write!(name, " type {other:04x}");
            }
        }
        break;
    }
    Some(())
}

fn mpls(mut rest: &[u8], name: &mut String) -> Option<()> {
    for _ in 0..DEPTH {
        let entry = u32::from_be_bytes(*rest.first_chunk()?);
        let _ = write!(name, " label {}", entry >> 12);
        rest = rest.get(4..)?;
        if entry & 0x100 != 0 {
            break;
        }
    }
    match rest.first()? >> 4 {
        4 => ipv4(rest, name),
        6 => ipv6(rest, name),
        _ => Some(()),
    }
}

fn ipv4(packet: &[u8], name: &mut String) -> Option<()> {
    let header = packet.get(..20)?;
    let address = |at: usize| header[at..].first_chunk().map(|bytes: &[u8; 4]| Ipv4Addr::from(*bytes));
    let _ = write!(name, " ipv4 {} > {} class {:02x}", address(12)?, address(16)?, header[1] >> 2);
    let is_fragment = half(header, 6)? & 0x3fff != 0;
    let length = usize::from(header[0] & 0xf) * 4;
    transport(header[9], is_fragment, packet.get(length.max(20)..)?, name)
}

fn ipv6(packet: &[u8], name: &mut String) -> Option<()> {
    let header = packet.get(..40)?;
    let address = |at: usize| header[at..].first_chunk().map(|bytes: &[u8; 16]| Ipv6Addr::from(*bytes));
    let class = (half(header, 0)? >> 6) & 0x3f;
    let _ = write!(name, " ipv6 {} > {} class {class:02x}", address(8)?, address(24)?);
    // Behind extension headers order is not looked for by ports: whoever hashes may not have looked there either.
    transport(header[6], false, packet.get(40..)?, name)
}

fn transport(protocol: u8, is_fragment: bool, rest: &[u8], name: &mut String) -> Option<()> {
    if is_fragment {
        let _ = write!(name, " fragments of protocol {protocol}");
        return Some(());
    }
    if !matches!(protocol, TCP | UDP | SCTP) {
        let _ = write!(name, " protocol {protocol}");
        return Some(());
    }
    let (source, destination) = (half(rest, 0)?, half(rest, 2)?);
    let kind = if protocol == TCP {
        "tcp"
    } else if protocol == UDP {
        "udp"
    } else {
        "sctp"
    };
    let _ = write!(name, " {kind} {source} > {destination}");
    match protocol {
        UDP if source == GTP_U || destination == GTP_U => gtp(rest.get(8..)?, name),
        SCTP => {
            let _ = write!(name, " tag {:02x?}", rest.get(4..8)?);
            Some(())
        }
        _ => Some(()),
    }
}

/// TEID, and the QFI where a PDU session container is the first extension (TS 29.281 section 5.2, TS 38.415).
fn gtp(packet: &[u8], name: &mut String) -> Option<()> {
    let _ = write!(name, " teid {:02x?}", packet.get(4..8)?);
    if packet[0] & 0x04 != 0 && *packet.get(11)? == 0x85 {
        let _ = write!(name, " qfi {}", packet.get(14)? & 0x3f);
    }
    Some(())
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|half| u16::from_be_bytes(*half))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ethernet(ethertype: u16, payload: &[u8]) -> Vec<u8> {
        [&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2][..], &ethertype.to_be_bytes(), payload].concat()
    }

    fn udp(fragment: u8, port: u16, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x45, 0xb8, 0, 99, 0, 0, fragment, 0, 64, UDP, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        packet.extend(port.to_be_bytes());
        packet.extend([0x08, 0x68, 0, 0, 0, 0]);
        [&packet[..], payload].concat()
    }

    #[test]
    fn a_flow_is_told_as_far_as_it_can_be_read() {
        let start = "02:00:00:00:00:02 > 02:00:00:00:00:01";
        let gtp = [0x34, 255, 0, 9, 0, 0, 0, 7, 0, 0, 0, 0x85, 1, 0x10, 0x49, 0];
        let mut behind_two_tags = vec![0x20, 100, 0x81, 0, 0, 7, 8, 0];
        behind_two_tags.extend(udp(0, 5000, &gtp));
        let mut labels = vec![0, 1, 0, 64, 0, 2, 1, 64];
        labels.extend(udp(0x20, 5000, &[]));
        let cases = [
            (vec![1; 11], "no Ethernet header".to_owned()),
            (vec![1; 12], "01:01:01:01:01:01 > 01:01:01:01:01:01".to_owned()),
            (ethernet(0x0806, &[]), format!("{start} type 0806")),
            (ethernet(38, &[0x42, 0x42, 3]), format!("{start} llc [42, 42]")),
            (ethernet(0x8100, &[0x20]), start.to_owned()),
            (
                ethernet(0x88a8, &behind_two_tags),
                format!(
                    "{start} vlan 100 vlan 7 ipv4 10.0.0.1 > 10.0.0.2 class 2e udp 5000 > 2152 teid [00, 00, 00, 07] qfi 9"
                ),
            ),
            (
                ethernet(0x8847, &labels),
                format!(
                    "{start} label 16 label 32 ipv4 10.0.0.1 > 10.0.0.2 class 2e fragments of protocol 17"
                ),
            ),
            (ethernet(0x86dd, &[0x60; 39]), start.to_owned()),
        ];
        for (frame, flow) in cases {
            assert_eq!(flow_of(&frame), flow);
        }
    }

    proptest::proptest! {
        #[test]
        fn no_frame_makes_it_panic(ethertype: u16, payload: Vec<u8>, cut in 0..60_usize) {
            let gtp = [&[0x34, 255, 0, 9, 0, 0, 0, 7, 0, 0, 0, 0x85][..], &payload].concat();
            let mut whole = ethernet(0x0800, &udp(0, 5000, &gtp));
            whole.truncate(cut);
            for frame in [&payload, &ethernet(ethertype, &payload), &ethernet(0x8847, &payload), &whole] {
                assert!(!flow_of(frame).is_empty());
            }
        }
    }
}
