//! The outer headers on the cipher side: Ethernet, IPv4, UDP (RFC 3948) and ESP (RFC 4303) with its 8-byte IV.

use std::net::Ipv4Addr;

use super::{ETH_HLEN, EtherType, MacAddr, be16};
use crate::spi::Spi;

const IPV4_HLEN: usize = 20;
const UDP_HLEN: usize = 8;
const ESP_HLEN: usize = 8;
const IV_LEN: usize = 8;
const IPPROTO_UDP: u8 = 17;

/// Bytes in front of the ciphertext: Ethernet 14, IPv4 20, UDP 8, ESP 8, IV 8.
pub const OUTER_LEN: usize = ETH_HLEN + IPV4_HLEN + UDP_HLEN + ESP_HLEN + IV_LEN;

/// The ESP next header values in use (IANA protocol numbers).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NextHeader {
    /// A whole Ethernet frame without FCS (143).
    Ethernet,
    /// Nothing: a dummy packet (59, RFC 4303 section 2.6).
    None,
}

impl NextHeader {
    /// The number on the wire.
    pub fn value(self) -> u8 {
        match self {
            NextHeader::Ethernet => 143,
            NextHeader::None => 59,
        }
    }

    /// The meaning of a number on the wire, if it is one of ours.
    pub fn from_wire(value: u8) -> Option<NextHeader> {
        [NextHeader::Ethernet, NextHeader::None].into_iter().find(|known| known.value() == value)
    }
}

/// The UDP source port that packets of `spi` carry: 49152 to 65535, a fixed function of the SPI, so that ECMP and
/// RSS spread flows. The multiplier is Knuth's (2^32 divided by the golden ratio); the top 14 bits are kept.
pub fn source_port(spi: Spi) -> u16 {
    let mixed = spi.value().wrapping_mul(0x9e37_79b1) >> 18;
    0xc000 | (mixed as u16)
}

/// The parts of an outer header that stay the same for all packets to one peer.
#[derive(Clone, Debug)]
pub struct OuterTemplate {
    bytes: [u8; OUTER_LEN],
    /// Ones' complement sum of the IPv4 header with class, length and checksum left out.
    fixed_sum: u32,
}

impl OuterTemplate {
    /// A header from `source` to `destination` with DF set (RFC 6864: identification 0), TTL 64, and no UDP checksum
    /// (RFC 3948 section 2.1; the ICV protects more than it would).
    pub fn new(local_mac: MacAddr, source: Ipv4Addr, destination: Ipv4Addr, udp_port: u16) -> OuterTemplate {
        let mut bytes = [0; OUTER_LEN];
        bytes[6..12].copy_from_slice(&local_mac.0);
        bytes[12..14].copy_from_slice(&EtherType::IPV4.0.to_be_bytes());
        bytes[14] = 0x45;
        bytes[20] = 0x40;
        bytes[22] = 64;
        bytes[23] = IPPROTO_UDP;
        bytes[26..30].copy_from_slice(&source.octets());
        bytes[30..34].copy_from_slice(&destination.octets());
        bytes[36..38].copy_from_slice(&udp_port.to_be_bytes());
        let words = bytes[ETH_HLEN..ETH_HLEN + IPV4_HLEN].chunks_exact(2);
        let fixed_sum = words.map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
        OuterTemplate { bytes, fixed_sum }
    }

    /// Writes the header of one packet. `behind` is the length of ciphertext and ICV in bytes; `dscp` stands in the
    /// upper six bits of `class`, and ECN is left Not-ECT, so that no mark can be lost at the far end (RFC 6040
    /// section 4.1, compatibility mode).
    pub fn write(
        &self,
        out: &mut [u8; OUTER_LEN],
        to: MacAddr,
        class: u8,
        behind: u16,
        spi: Spi,
        sequence: u64,
    ) {
        let udp_len = behind + (UDP_HLEN + ESP_HLEN + IV_LEN) as u16;
        let ip_len = udp_len + IPV4_HLEN as u16;
        let class = class & 0xfc;
        out.copy_from_slice(&self.bytes);
        out[0..6].copy_from_slice(&to.0);
        out[15] = class;
        out[16..18].copy_from_slice(&ip_len.to_be_bytes());
        let checksum = !fold(self.fixed_sum + u32::from(class) + u32::from(ip_len));
        out[24..26].copy_from_slice(&checksum.to_be_bytes());
        out[34..36].copy_from_slice(&source_port(spi).to_be_bytes());
        out[38..40].copy_from_slice(&udp_len.to_be_bytes());
        out[42..46].copy_from_slice(&spi.value().to_be_bytes());
        out[46..50].copy_from_slice(&(sequence as u32).to_be_bytes());
        out[50..58].copy_from_slice(&sequence.to_be_bytes());
    }
}

fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// What the receiver reads before it knows whether a packet is genuine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EspHeader {
    /// Which key.
    pub spi: Spi,
    /// The low half of the sequence number, from the ESP header.
    pub sequence_low: u32,
    /// The 8-byte IV: our senders put the whole sequence number here.
    pub iv: u64,
    /// UDP source port.
    pub source_port: u16,
    /// Length of ciphertext and ICV, which start at [`OUTER_LEN`]; link-layer padding behind them does not count.
    pub body: usize,
}

/// Why a frame from the cipher port is not a packet of ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OuterError {
    /// Shorter than its headers say, or than any ESP packet.
    Truncated,
    /// Lengths that contradict each other, or headers that are not IPv4, UDP and ESP.
    Malformed,
    /// An SPI that no sender of ours makes (or IKE's non-ESP marker).
    Spi,
}

/// Reads the outer headers of a whole frame. ICV and trailer need at least 18 bytes behind the IV (RFC 4303).
pub fn parse_outer(frame: &[u8], udp_port: u16) -> Result<EspHeader, OuterError> {
    let head: &[u8; OUTER_LEN] = frame.first_chunk().ok_or(OuterError::Truncated)?;
    let field = |at: usize| be16(head, at).ok_or(OuterError::Truncated);
    if field(12)? != EtherType::IPV4.0
        || head[14] != 0x45
        || head[23] != IPPROTO_UDP
        || field(36)? != udp_port
    {
        return Err(OuterError::Malformed);
    }
    let (ip_len, udp_len) = (usize::from(field(16)?), usize::from(field(38)?));
    if ETH_HLEN + ip_len > frame.len() {
        return Err(OuterError::Truncated);
    }
    if ip_len != udp_len + IPV4_HLEN {
        return Err(OuterError::Malformed);
    }
    let body = (ip_len + ETH_HLEN).checked_sub(OUTER_LEN).ok_or(OuterError::Truncated)?;
    if body < 18 {
        return Err(OuterError::Truncated);
    }
    let [.., s0, s1, s2, s3, l0, l1, l2, l3, i0, i1, i2, i3, i4, i5, i6, i7] = *head;
    Ok(EspHeader {
        spi: Spi::from_wire(u32::from_be_bytes([s0, s1, s2, s3])).ok_or(OuterError::Spi)?,
        sequence_low: u32::from_be_bytes([l0, l1, l2, l3]),
        iv: u64::from_be_bytes([i0, i1, i2, i3, i4, i5, i6, i7]),
        source_port: field(34)?,
        body,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spi::Epoch;

    const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);

    fn packet(behind: u16) -> Vec<u8> {
        let template = OuterTemplate::new(MAC, [192, 0, 2, 1].into(), [192, 0, 2, 2].into(), 4500);
        let mut head = [0; OUTER_LEN];
        let spi = Spi::new(Epoch::FIRST, 0, 7);
        template.write(&mut head, MacAddr([2, 0, 0, 0, 0, 2]), 0xbb, behind, spi, 0x1_0000_0002);
        [&head[..], &vec![0; usize::from(behind)]].concat()
    }

    #[test]
    fn what_is_written_is_read() {
        let header = parse_outer(&packet(32), 4500).unwrap();
        let spi = Spi::new(Epoch::FIRST, 0, 7);
        let source_port = source_port(spi);
        assert_eq!(header, EspHeader { spi, sequence_low: 2, iv: 0x1_0000_0002, source_port, body: 32 });
        assert!(source_port >= 49152);
    }

    #[test]
    fn the_ip_header_verifies_and_carries_dscp_without_ecn() {
        for behind in [18, 1000, 1518, 8000] {
            let packet = packet(behind);
            let words = packet[14..34].chunks_exact(2);
            let sum = words.map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
            assert_eq!(fold(sum), 0xffff, "RFC 1071");
            assert_eq!(packet[15], 0xb8);
        }
    }

    #[test]
    fn cuts_and_lies_are_refused() {
        let whole = packet(32);
        for cut in 0..whole.len() {
            assert_eq!(parse_outer(&whole[..cut], 4500), Err(OuterError::Truncated), "cut at {cut}");
        }
        let with = |at: usize, value: u8| {
            let mut bytes = whole.clone();
            bytes[at] = value;
            parse_outer(&bytes, 4500)
        };
        assert_eq!(with(12, 0x86), Err(OuterError::Malformed));
        assert_eq!(with(14, 0x46), Err(OuterError::Malformed));
        assert_eq!(with(39, 0), Err(OuterError::Malformed));
        assert_eq!(with(42, 0x80), Err(OuterError::Spi));
        assert_eq!(parse_outer(&whole, 4501), Err(OuterError::Malformed));
        assert_eq!(parse_outer(&packet(17), 4500), Err(OuterError::Truncated));
        let padded = [&whole[..], &[0; 9]].concat();
        assert_eq!(parse_outer(&padded, 4500).unwrap().body, 32);
    }

    #[test]
    fn source_ports_spread_over_neighbouring_slots() {
        let ports: std::collections::HashSet<u16> =
            (1..=1000).map(|slot| source_port(Spi::new(Epoch::FIRST, 0, slot))).collect();
        assert!(ports.len() > 950, "{} ports for 1000 flows", ports.len());
    }
}
