//! Reading the outer headers.

use super::{
    ESP_IV_LEN, Encap, IPPROTO_ESP, IPPROTO_UDP, IPV4_BARE, IPV4_HLEN, IPV4_UDP, IPV6_BARE, IPV6_HLEN,
    IPV6_UDP, OuterShape,
};
use crate::spi::Spi;
use crate::wire::{ETH_HLEN, EtherType};

/// What the receiver reads before it knows whether a packet is genuine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EspHeader {
    /// Which key.
    pub spi: Spi,
    /// The low half of the sequence number, from the ESP header.
    pub sequence_low: u32,
    /// The 8-byte IV: our senders put the whole sequence number here.
    pub iv: u64,
    /// UDP source port, where there is UDP.
    pub source_port: Option<u16>,
    /// Traffic class of the IP header: DSCP in the upper six bits, ECN in the lower two.
    pub class: u8,
    start: u16,
    body: u16,
}

impl EspHeader {
    /// Where ciphertext and ICV start in the frame.
    #[inline]
    pub fn start(&self) -> usize {
        self.start.into()
    }

    /// Length of ciphertext and ICV; link-layer padding behind them does not count.
    #[inline]
    pub fn body(&self) -> usize {
        self.body.into()
    }
}

/// Why a frame from the cipher port is not a packet of ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OuterError {
    /// Shorter than its headers say, or than any ESP packet.
    Truncated,
    /// Lengths that contradict each other, or other headers than the shape's.
    Malformed,
    /// An SPI that no sender of ours makes (or IKE's non-ESP marker).
    Spi,
}

/// Reads the outer headers of a whole frame. ICV and trailer need at least 18 bytes behind the IV (RFC 4303). A UDP checksum
/// is not looked at: RFC 6936 section 4 lets a tunnel take zero on its own port, and the ICV says more than any other value.
#[inline(always)]
pub fn parse_outer(frame: &[u8], shape: OuterShape) -> Result<EspHeader, OuterError> {
    // As in writing, code of its own for each shape.
    match (shape.ipv6, shape.encap) {
        (false, Encap::Udp(port)) => parse_as::<IPV4_UDP>(frame, port),
        (false, Encap::None) => parse_as::<IPV4_BARE>(frame, 0),
        (true, Encap::Udp(port)) => parse_as::<IPV6_UDP>(frame, port),
        (true, Encap::None) => parse_as::<IPV6_BARE>(frame, 0),
    }
}

/// `port`: that of UDP, where there is any.
#[inline(always)]
fn parse_as<const N: usize>(frame: &[u8], port: u16) -> Result<EspHeader, OuterError> {
    let head: &[u8; N] = frame.first_chunk().ok_or(OuterError::Truncated)?;
    let (is_ipv4, has_udp) = (N == IPV4_UDP || N == IPV4_BARE, N == IPV4_UDP || N == IPV6_UDP);
    let protocol = if has_udp { IPPROTO_UDP } else { IPPROTO_ESP };
    let (class, length, behind_ip) = match is_ipv4 {
        true => parse_ipv4(head, protocol).map(|(class, length)| (class, length, ETH_HLEN + IPV4_HLEN))?,
        false => parse_ipv6(head, protocol).map(|(class, length)| (class, length, ETH_HLEN + IPV6_HLEN))?,
    };
    let end = behind_ip + length;
    if end > frame.len() {
        return Err(OuterError::Truncated);
    }
    let source_port = if has_udp { Some(parse_udp(&head[behind_ip..], port, length)?) } else { None };
    let body = end.checked_sub(N).filter(|body| *body >= 18).ok_or(OuterError::Truncated)?;
    let esp = &head[N - ESP_IV_LEN..];
    let word = |at: usize| u32::from_be_bytes([esp[at], esp[at + 1], esp[at + 2], esp[at + 3]]);
    Ok(EspHeader {
        spi: Spi::from_wire(word(0)).ok_or(OuterError::Spi)?,
        sequence_low: word(4),
        iv: u64::from(word(8)) << 32 | u64::from(word(12)),
        source_port,
        class,
        start: N as u16,
        // What an IP header tells is below 2^16.
        body: body as u16,
    })
}

/// Traffic class, and the length of what stands behind the header.
#[inline(always)]
fn parse_ipv4(head: &[u8], protocol: u8) -> Result<(u8, usize), OuterError> {
    let total = usize::from(u16::from_be_bytes([head[16], head[17]]));
    if [head[12], head[13]] != EtherType::IPV4.0.to_be_bytes() || head[14] != 0x45 || head[23] != protocol {
        return Err(OuterError::Malformed);
    }
    let length = total.checked_sub(20).ok_or(OuterError::Malformed)?;
    Ok((head[15], length))
}

/// The same. Extension headers are no part of what a peer sends.
#[inline]
fn parse_ipv6(head: &[u8], protocol: u8) -> Result<(u8, usize), OuterError> {
    let length = usize::from(u16::from_be_bytes([head[18], head[19]]));
    if [head[12], head[13]] != EtherType::IPV6.0.to_be_bytes() || head[14] >> 4 != 6 || head[20] != protocol {
        return Err(OuterError::Malformed);
    }
    Ok((head[14] << 4 | head[15] >> 4, length))
}

/// The source port of a datagram that takes up all `length` bytes behind the IP header.
#[inline(always)]
fn parse_udp(udp: &[u8], port: u16, length: usize) -> Result<u16, OuterError> {
    let field = |at: usize| u16::from_be_bytes([udp[at], udp[at + 1]]);
    if field(2) != port || usize::from(field(4)) != length {
        return Err(OuterError::Malformed);
    }
    Ok(field(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spi::Epoch;
    use crate::wire::{ClassMap, Dscp, Ecn, Ends, MacAddr, OuterTemplate, source_port};
    use proptest::prelude::*;

    const UDP: Encap = Encap::Udp(4500);

    fn v4() -> Ends {
        Ends::V4([192, 0, 2, 1].into(), [192, 0, 2, 2].into())
    }

    fn shapes() -> [(Ends, Encap); 4] {
        let v6 = Ends::V6(1.into(), 2.into());
        [(v4(), UDP), (v4(), Encap::None), (v6, UDP), (v6, Encap::None)]
    }

    fn packet((ends, encap): (Ends, Encap), behind: u16) -> Vec<u8> {
        let template =
            OuterTemplate::new(MacAddr([2; 6]), ends, encap, 64, ClassMap::new(&Dscp::Copy, Ecn::Copy));
        let mut head = vec![0; template.shape().header_len()];
        let spi = Spi::new(Epoch::FIRST, 0, 7);
        template.write(&mut head, MacAddr([4; 6]), 0xb8, behind, spi, 0x1_0000_0002).unwrap();
        [&head[..], &vec![0; usize::from(behind)]].concat()
    }

    #[test]
    fn what_is_written_is_read() {
        let spi = Spi::new(Epoch::FIRST, 0, 7);
        for (ends, encap) in shapes() {
            let shape = ends.shape(encap);
            let expected = EspHeader {
                spi,
                sequence_low: 2,
                iv: 0x1_0000_0002,
                source_port: (encap == UDP).then(|| source_port(spi)),
                class: 0xb8,
                start: shape.header_len() as u16,
                body: 32,
            };
            assert_eq!(parse_outer(&packet((ends, encap), 32), shape), Ok(expected));
            let padded = [&packet((ends, encap), 32)[..], &[0; 9]].concat();
            assert_eq!(parse_outer(&padded, shape), Ok(expected));
        }
    }

    #[test]
    fn each_shape_reads_its_own_alone() {
        for (number, sent) in shapes().into_iter().enumerate() {
            for (other, (ends, encap)) in shapes().into_iter().enumerate() {
                let read = parse_outer(&packet(sent, 60), ends.shape(encap));
                assert_eq!(read.is_ok(), number == other, "{sent:?} read as {ends:?}, {encap:?}");
            }
        }
        assert_eq!(
            parse_outer(&packet((v4(), UDP), 32), v4().shape(Encap::Udp(4501))),
            Err(OuterError::Malformed)
        );
    }

    #[test]
    fn cuts_are_refused() {
        for (ends, encap) in shapes() {
            let whole = packet((ends, encap), 32);
            for cut in 0..whole.len() {
                let read = parse_outer(&whole[..cut], ends.shape(encap));
                assert_eq!(read, Err(OuterError::Truncated), "cut at {cut}");
            }
            let short = parse_outer(&packet((ends, encap), 17), ends.shape(encap));
            assert_eq!(short, Err(OuterError::Truncated));
        }
    }

    #[test]
    fn lies_are_refused() {
        let [v4_udp, v4_bare, v6_udp, v6_bare] = shapes();
        let rows = [
            (v4_udp, 12, 0x86, OuterError::Malformed),
            (v4_udp, 14, 0x46, OuterError::Malformed),
            (v4_udp, 17, 4, OuterError::Malformed),
            (v4_udp, 23, 50, OuterError::Malformed),
            (v4_udp, 39, 0, OuterError::Malformed),
            (v4_udp, 42, 0x80, OuterError::Spi),
            (v4_bare, 23, 17, OuterError::Malformed),
            (v4_bare, 34, 0x80, OuterError::Spi),
            (v4_bare, 17, 50, OuterError::Truncated),
            (v6_udp, 13, 0, OuterError::Malformed),
            (v6_udp, 14, 0x4b, OuterError::Malformed),
            (v6_udp, 18, 1, OuterError::Truncated),
            (v6_udp, 20, 44, OuterError::Malformed),
            (v6_udp, 59, 0, OuterError::Malformed),
            (v6_bare, 19, 0, OuterError::Truncated),
            (v6_bare, 20, 0, OuterError::Malformed),
            (v6_bare, 54, 0, OuterError::Spi),
        ];
        for (sent, at, value, fault) in rows {
            let mut bytes = packet(sent, 32);
            bytes[at] = value;
            assert_eq!(
                parse_outer(&bytes, sent.0.shape(sent.1)),
                Err(fault),
                "{value:#x} at {at} of {sent:?}"
            );
        }
    }

    proptest! {
        /// Never a panic, and never a body outside the frame.
        #[test]
        fn any_bytes_are_read_within_their_bounds(
            noise in prop::collection::vec(any::<u8>(), 0..200),
            which in 0..4usize,
            kept in 0..90usize,
        ) {
            let (ends, encap) = shapes()[which];
            let mut bytes = packet((ends, encap), 100);
            let from = kept.min(bytes.len());
            let length = noise.len().min(bytes.len() - from);
            bytes[from..from + length].copy_from_slice(&noise[..length]);
            if let Ok(header) = parse_outer(&bytes, ends.shape(encap)) {
                prop_assert!(header.body() >= 18 && header.start() + header.body() <= bytes.len());
            }
        }
    }
}
