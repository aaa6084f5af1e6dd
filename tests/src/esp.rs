use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use qhaul::lab::plan::{ESP_PORT, Side};
use qhaul::spi::Spi;
use qhaul::wire::source_port;

use crate::key_log::Entry;

/// Bytes in front of ESP: Ethernet 14, IPv4 20, UDP 8.
pub const ESP_AT: usize = 42;
/// The next header of a whole Ethernet frame (IANA protocol number).
pub const ETHERNET: u8 = 143;
/// The next header of a dummy packet (RFC 4303 section 2.6).
pub const NO_NEXT_HEADER: u8 = 59;

/// ESP as it stands on the wire, in UDP or bare, over IPv4 or IPv6.
#[derive(Clone, Debug)]
pub struct Packet {
    /// Outer source address.
    pub source: IpAddr,
    /// Which key.
    pub spi: u32,
    /// The low half of the sequence number.
    pub sequence: u32,
    /// The IV of 8 bytes, which is the whole sequence number.
    pub iv: u64,
    /// Ciphertext and ICV.
    pub body: Vec<u8>,
}

impl Packet {
    /// Reads a whole frame; `None`: it is no ESP.
    pub fn parse(frame: &[u8]) -> Option<Packet> {
        let word = |at: usize| Some(u16::from_be_bytes(frame.get(at..at + 2)?.try_into().ok()?));
        let long = |at: usize| Some(u32::from_be_bytes(frame.get(at..at + 4)?.try_into().ok()?));
        let (source, protocol, behind_ip, end) = match (word(12)?, *frame.get(14)? >> 4) {
            (0x0800, 4) => {
                (Ipv4Addr::from(long(26)?).into(), *frame.get(23)?, 34, 14 + usize::from(word(16)?))
            }
            (0x86dd, 6) => {
                let source: [u8; 16] = frame.get(22..38)?.try_into().ok()?;
                (IpAddr::from(Ipv6Addr::from(source)), *frame.get(20)?, 54, 54 + usize::from(word(18)?))
            }
            _ => return None,
        };
        let at = match protocol {
            17 if word(behind_ip + 2)? == ESP_PORT => behind_ip + 8,
            50 => behind_ip,
            _ => return None,
        };
        let [spi, sequence, high, low] = [long(at)?, long(at + 4)?, long(at + 8)?, long(at + 12)?];
        let iv = u64::from(high) << 32 | u64::from(low);
        Some(Packet { source, spi, sequence, iv, body: frame.get(at + 16..end)?.to_vec() })
    }

    /// The sender's key epoch, 1 to 31.
    pub fn epoch(&self) -> u32 {
        self.spi >> 26
    }

    /// Whether it is a probe: slot 0 is never traffic.
    pub fn is_probe(&self) -> bool {
        self.spi & 0x1f_ffff == 0
    }

    /// Opens it with a key: payload and next header, or `None` if it is not genuine under that key. The padding is checked
    /// against RFC 4303 section 2.4.
    pub fn open(&self, key: &Entry) -> Option<(Vec<u8>, u8)> {
        let aad = aad(self.spi, self.iv, self.sequence);
        let payload = Payload { msg: &self.body, aad: &aad };
        let mut text = Aes256Gcm::new(&key.key.into()).decrypt(&nonce(key, self.iv), payload).ok()?;
        let (next, pad) = (text.pop()?, usize::from(text.pop()?));
        let padding = text.split_off(text.len().checked_sub(pad)?);
        padding.iter().zip(1..).all(|(byte, number): (&u8, u8)| *byte == number).then_some((text, next))
    }
}

/// Payload with the smallest padding that RFC 4303 allows, pad length and next header.
pub fn with_trailer(payload: &[u8], next: u8) -> Vec<u8> {
    let pad = (payload.len() + 2).next_multiple_of(4) - payload.len() - 2;
    let mut text = payload.to_vec();
    text.extend((1..).take(pad));
    text.extend([pad as u8, next]);
    text
}

/// Seals `text` (payload and trailer) under `key` as its sender would, and puts the outer headers in front.
/// `sequence` is the ESP header's half; a true sender's is the low half of `iv`.
pub fn seal(from: Side, key: &Entry, sequence: u32, iv: u64, text: &[u8]) -> Vec<u8> {
    let aad = aad(key.spi, iv, sequence);
    let sealed = Aes256Gcm::new(&key.key.into()).encrypt(&nonce(key, iv), Payload { msg: text, aad: &aad });
    let body = sealed.expect("AES-GCM seals any text that fits a packet");
    let esp = [&key.spi.to_be_bytes()[..], &sequence.to_be_bytes(), &iv.to_be_bytes(), &body].concat();
    frame(from, port_of(key.spi), &esp)
}

/// A whole frame from a site to the other's cipher port, with `esp` behind its headers.
pub fn frame(from: Side, port: u16, esp: &[u8]) -> Vec<u8> {
    let udp_length = (esp.len() + 8) as u16;
    let mut ip = vec![0x45, 0];
    ip.extend((udp_length + 20).to_be_bytes());
    ip.extend([0, 0, 0x40, 0, 64, 17, 0, 0]);
    ip.extend(from.cipher_v4().octets());
    ip.extend(from.peer().cipher_v4().octets());
    let checksum = checksum(&ip);
    ip[10..12].copy_from_slice(&checksum.to_be_bytes());
    let mut frame = [from.peer().cipher_mac(), from.cipher_mac()].concat();
    frame.extend([0x08, 0x00]);
    frame.extend(ip);
    [port, ESP_PORT, udp_length, 0].iter().for_each(|word| frame.extend(word.to_be_bytes()));
    frame.extend(esp);
    frame
}

/// The UDP source port that a receiver expects of an SPI; of one that no sender makes, any.
pub fn port_of(spi: u32) -> u16 {
    Spi::from_wire(spi).map_or(ESP_PORT, source_port)
}

/// The Internet checksum (RFC 1071) of a header whose checksum field is zero.
pub fn checksum(header: &[u8]) -> u16 {
    let words = header.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}

/// RFC 4106 section 5 with extended sequence numbers: SPI, then the 64-bit sequence number.
fn aad(spi: u32, iv: u64, sequence: u32) -> Vec<u8> {
    [spi, (iv >> 32) as u32, sequence].iter().flat_map(|word| word.to_be_bytes()).collect()
}

/// RFC 4106 section 4: salt, then IV.
fn nonce(key: &Entry, iv: u64) -> Nonce<aes_gcm::aead::consts::U12> {
    let mut nonce = [0; 12];
    nonce[..4].copy_from_slice(&key.salt);
    nonce[4..].copy_from_slice(&iv.to_be_bytes());
    nonce.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_and_what_is_changed_does_not() {
        let key = Entry { direction: "tx".into(), spi: 0x0400_0001, key: [7; 32], salt: [9; 4] };
        let sealed = seal(Side::A, &key, 5, 5, &with_trailer(b"payload", ETHERNET));
        let packet = Packet::parse(&sealed).unwrap();
        let source = IpAddr::from(Side::A.cipher_v4());
        assert_eq!((packet.source, packet.epoch(), packet.is_probe()), (source, 1, false));
        assert_eq!(packet.open(&key), Some((b"payload".to_vec(), ETHERNET)));
        assert_eq!(checksum(&sealed[14..34]), 0, "a header with its checksum sums up to zero");
        for at in ESP_AT..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(Packet::parse(&changed).unwrap().open(&key), None, "byte {at}");
        }
    }
}
