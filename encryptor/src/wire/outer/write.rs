//! Writing the outer headers.

use super::{
    ESP_IV_LEN, Encap, Ends, IPV4_BARE, IPV4_HLEN, IPV4_UDP, IPV6_BARE, IPV6_UDP, MAX_OUTER_LEN, OuterShape,
    UDP_HLEN, flow_label, source_port,
};
use crate::spi::Spi;
use crate::wire::{ClassMap, ETH_HLEN, EtherType, MacAddr};

/// The parts of an outer header that stay the same for all packets to one peer.
#[derive(Clone, Debug)]
pub struct OuterTemplate {
    shape: OuterShape,
    classes: ClassMap,
    bytes: [u8; MAX_OUTER_LEN],
    /// Ones' complement sum of the IPv4 header with class, length and checksum left out.
    fixed_sum: u32,
}

impl OuterTemplate {
    /// A header between `ends` with DF set (RFC 6864: identification 0), `ttl` as TTL or hop limit, traffic classes after `classes`, and no UDP checksum:
    /// RFC 3948 section 2.1 for IPv4; RFC 6935 section 5 for IPv6, whose terms (RFC 6936 section 4) ESP meets, since the ICV
    /// protects the payload, the SPI leads to one peer's key alone, and a packet that went astray opens nowhere.
    pub fn new(local_mac: MacAddr, ends: Ends, encap: Encap, ttl: u8, classes: ClassMap) -> OuterTemplate {
        let shape = ends.shape(encap);
        let mut bytes = [0; MAX_OUTER_LEN];
        bytes[6..12].copy_from_slice(&local_mac.0);
        match ends {
            Ends::V4(own, peer) => {
                bytes[12..14].copy_from_slice(&EtherType::IPV4.0.to_be_bytes());
                bytes[14] = 0x45;
                bytes[20] = 0x40;
                bytes[22] = ttl;
                bytes[23] = shape.protocol();
                bytes[26..30].copy_from_slice(&own.octets());
                bytes[30..34].copy_from_slice(&peer.octets());
            }
            Ends::V6(own, peer) => {
                bytes[12..14].copy_from_slice(&EtherType::IPV6.0.to_be_bytes());
                bytes[20] = shape.protocol();
                bytes[21] = ttl;
                bytes[22..38].copy_from_slice(&own.octets());
                bytes[38..54].copy_from_slice(&peer.octets());
            }
        }
        let words = bytes[ETH_HLEN..ETH_HLEN + 20].chunks_exact(2);
        let fixed_sum = words.map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
        if let Encap::Udp(port) = encap {
            bytes[shape.header_len() - ESP_IV_LEN - UDP_HLEN + 2..][..2].copy_from_slice(&port.to_be_bytes());
        }
        OuterTemplate { shape, classes, bytes, fixed_sum }
    }

    /// Which headers it writes.
    pub fn shape(&self) -> OuterShape {
        self.shape
    }

    /// Writes the header of one packet into `out`, which is as long as its shape says; `None` if it is not. `class` is
    /// the inner traffic class, `behind` the length of ciphertext and ICV in bytes.
    #[inline(always)]
    pub fn write(
        &self,
        out: &mut [u8],
        to: MacAddr,
        class: u8,
        behind: u16,
        spi: Spi,
        sequence: u64,
    ) -> Option<()> {
        let fields = Fields { to, class: self.classes.outer(class), behind, spi, sequence };
        // Code of its own for each shape, in which every place is fixed, takes half the time.
        match (self.shape.ipv6, self.shape.encap) {
            (false, Encap::Udp(_)) => self.write_as::<IPV4_UDP>(out.try_into().ok()?, &fields),
            (false, Encap::None) => self.write_as::<IPV4_BARE>(out.try_into().ok()?, &fields),
            (true, Encap::Udp(_)) => self.write_as::<IPV6_UDP>(out.try_into().ok()?, &fields),
            (true, Encap::None) => self.write_as::<IPV6_BARE>(out.try_into().ok()?, &fields),
        }
        Some(())
    }

    #[inline(always)]
    fn write_as<const N: usize>(&self, out: &mut [u8; N], fields: &Fields) {
        let Fields { to, class, behind, spi, sequence } = *fields;
        out.copy_from_slice(&self.bytes[..N]);
        out[..6].copy_from_slice(&to.0);
        let mut length = behind + ESP_IV_LEN as u16;
        if N == IPV4_UDP || N == IPV6_UDP {
            length += UDP_HLEN as u16;
            let udp = &mut out[N - ESP_IV_LEN - UDP_HLEN..];
            udp[0..2].copy_from_slice(&source_port(spi).to_be_bytes());
            udp[4..6].copy_from_slice(&length.to_be_bytes());
        }
        match N == IPV4_UDP || N == IPV4_BARE {
            true => self.write_ipv4(&mut out[ETH_HLEN..], class, length),
            false => write_ipv6(&mut out[ETH_HLEN..], class, length, flow_label(spi)),
        }
        let esp = &mut out[N - ESP_IV_LEN..];
        esp[0..4].copy_from_slice(&spi.value().to_be_bytes());
        esp[4..8].copy_from_slice(&(sequence as u32).to_be_bytes());
        esp[8..16].copy_from_slice(&sequence.to_be_bytes());
    }

    #[inline]
    fn write_ipv4(&self, ip: &mut [u8], class: u8, payload: u16) {
        let total = payload + IPV4_HLEN as u16;
        ip[1] = class;
        ip[2..4].copy_from_slice(&total.to_be_bytes());
        let checksum = !fold(self.fixed_sum + u32::from(class) + u32::from(total));
        ip[10..12].copy_from_slice(&checksum.to_be_bytes());
    }
}

#[inline]
fn write_ipv6(ip: &mut [u8], class: u8, payload: u16, label: u32) {
    let word = 6 << 28 | u32::from(class) << 20 | label;
    ip[0..4].copy_from_slice(&word.to_be_bytes());
    ip[4..6].copy_from_slice(&payload.to_be_bytes());
}

/// Twice is enough for any sum of 32 bits (RFC 1071).
#[inline]
fn fold(sum: u32) -> u16 {
    let once = (sum & 0xffff) + (sum >> 16);
    ((once & 0xffff) + (once >> 16)) as u16
}

/// What differs from packet to packet.
struct Fields {
    to: MacAddr,
    /// Of the outer header.
    class: u8,
    behind: u16,
    spi: Spi,
    sequence: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spi::Epoch;
    use crate::wire::{Dscp, Ecn};

    const V4: Ends = Ends::V4(std::net::Ipv4Addr::new(192, 0, 2, 1), std::net::Ipv4Addr::new(192, 0, 2, 2));
    const V6: Ends = Ends::V6(
        std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1),
        std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2),
    );

    fn classes() -> ClassMap {
        ClassMap::new(&Dscp::Copy, Ecn::Copy)
    }

    fn header(ends: Ends, encap: Encap, behind: u16) -> Vec<u8> {
        let template = OuterTemplate::new(MacAddr([2, 0, 0, 0, 0, 1]), ends, encap, 61, classes());
        let mut head = vec![0xee; template.shape().header_len()];
        let (to, spi) = (MacAddr([2, 0, 0, 0, 0, 2]), Spi::new(Epoch::FIRST, 0, 7));
        template.write(&mut head, to, 0xb9, behind, spi, 0x1_0000_0002).unwrap();
        head
    }

    #[test]
    fn the_ipv4_header_verifies() {
        for behind in [18, 1000, 1518, 8000] {
            for encap in [Encap::Udp(4500), Encap::None] {
                let header = header(V4, encap, behind);
                let words = header[14..34].chunks_exact(2);
                let sum = words.map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
                assert_eq!(fold(sum), 0xffff, "RFC 1071");
                assert_eq!(
                    usize::from(behind) + header.len() - 14,
                    usize::from(u16::from_be_bytes([header[16], header[17]]))
                );
                assert_eq!(header[15], 0xb9);
                assert_eq!(header[22], 61);
            }
        }
    }

    #[test]
    fn the_ipv6_header_is_that_of_rfc_8200() {
        let spi = Spi::new(Epoch::FIRST, 0, 7);
        for (encap, next, more) in [(Encap::Udp(4500), 17, 24), (Encap::None, 50, 16)] {
            let header = header(V6, encap, 1000);
            let word = u32::from_be_bytes(*header[14..].first_chunk().unwrap());
            assert_eq!(word, 6 << 28 | 0xb9 << 20 | flow_label(spi));
            assert_eq!(header[18..22], [((1000 + more) >> 8) as u8, (1000 + more) as u8, next, 61]);
            assert_eq!(header[37..38], [1]);
            assert_eq!(header[53..54], [2]);
        }
        assert_eq!(header(V6, Encap::Udp(4500), 9)[60..62], [0, 0], "no UDP checksum");
    }

    #[test]
    fn a_place_of_another_length_is_refused() {
        let template = OuterTemplate::new(MacAddr([2; 6]), V4, Encap::Udp(4500), 64, classes());
        for length in [0, 57, 59, 78, 200] {
            let spi = Spi::new(Epoch::FIRST, 0, 7);
            assert_eq!(
                template.write(&mut vec![0; length], MacAddr([2; 6]), 0, 32, spi, 1),
                None,
                "{length}"
            );
        }
    }
}
