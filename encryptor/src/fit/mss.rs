//! MSS clamping: what a TCP end says that it can take (RFC 9293 section 3.7.1) is lowered to what one packet on the backhaul
//! carries, so that TCP never meets the limit.

use crate::wire::{EtherType, Ipv4, Ipv6, L2, update_checksum};

const TCP: u8 = 6;
const TCP_HLEN: usize = 20;
const SYN: u8 = 0x02;
const END_OF_OPTIONS: u8 = 0;
const NO_OPERATION: u8 = 1;
const MAXIMUM_SEGMENT_SIZE: u8 = 2;

/// Lowers the MSS option of a TCP SYN, in either family, to packets of `mtu` bytes, and keeps the checksum right. All else is
/// left as it is: a SYN without the option, or with a lower value, says less than fits.
pub(super) fn clamp(frame: &mut [u8], l2: &L2, mtu: usize) {
    let Some((at, network)) = tcp_at(frame, l2) else { return };
    let segment = &mut frame[at..];
    let most = u16::try_from(mtu.saturating_sub(network + TCP_HLEN)).unwrap_or(u16::MAX);
    let Some(option) = mss_at(segment) else { return };
    let old = u16::from_be_bytes([segment[option], segment[option + 1]]);
    if old <= most {
        return;
    }
    segment[option..option + 2].copy_from_slice(&most.to_be_bytes());
    let sum = u16::from_be_bytes([segment[16], segment[17]]);
    // At an odd place the value's bytes belong to two words, which the sum sees as one value with its bytes swapped.
    let sum = match option % 2 {
        0 => update_checksum(sum, old, most),
        _ => update_checksum(sum, old.swap_bytes(), most.swap_bytes()),
    };
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
}

/// Where a SYN's TCP header begins, and how long the IP header is without options and extensions.
fn tcp_at(frame: &[u8], l2: &L2) -> Option<(usize, usize)> {
    let packet = frame.get(l2.payload..)?;
    let (at, network) = match l2.ethertype {
        EtherType::IPV4 => {
            let ip = Ipv4::parse(packet)?;
            let is_whole = ip.offset() == 0 && !ip.more_fragments();
            (ip.protocol() == TCP && is_whole).then_some((ip.header.len(), 20))?
        }
        EtherType::IPV6 => match Ipv6::parse(packet)?.upper()? {
            (TCP, at) => (40 + at, 40),
            _ => return None,
        },
        _ => return None,
    };
    let flags = *packet.get(at..)?.get(13)?;
    (flags & SYN != 0).then_some((l2.payload + at, network))
}

/// Where the value of the MSS option lies in a TCP segment.
fn mss_at(segment: &[u8]) -> Option<usize> {
    let end = usize::from(*segment.get(12)? >> 4) * 4;
    let options = segment.get(..end)?;
    let mut at = TCP_HLEN;
    loop {
        match options.get(at..)? {
            [MAXIMUM_SEGMENT_SIZE, 4, _, _, ..] => return Some(at + 2),
            [NO_OPERATION, ..] => at += 1,
            [END_OF_OPTIONS, ..] => return None,
            [_, length, ..] if *length >= 2 => at += usize::from(*length),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::checksum;

    fn segment(flags: u8, options: &[u8]) -> Vec<u8> {
        let words = (20 + options.len()) / 4;
        let mut segment = vec![0x12, 0x34, 0, 80, 1, 2, 3, 4, 0, 0, 0, 0, (words as u8) << 4, flags];
        segment.extend([0xfa, 0xf0, 0, 0, 0, 0]);
        segment.extend(options);
        segment
    }

    fn v4(fragment: u16, mut tcp: Vec<u8>) -> Vec<u8> {
        let length = (20 + tcp.len() as u16).to_be_bytes();
        let [high, low] = fragment.to_be_bytes();
        let mut header = vec![0x45, 0, length[0], length[1], 0, 0, high, low, 64, TCP, 0, 0];
        header.extend([10, 0, 0, 1, 10, 0, 0, 2]);
        let sum = checksum(&[&header]);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        let sum = tcp_sum(&header[12..], &tcp);
        tcp[16..18].copy_from_slice(&sum.to_be_bytes());
        [&[2; 12][..], &[8, 0], &header, &tcp].concat()
    }

    fn v6(extensions: &[u8], mut tcp: Vec<u8>) -> Vec<u8> {
        let length = ((extensions.len() + tcp.len()) as u16).to_be_bytes();
        let first = if extensions.is_empty() { TCP } else { 60 };
        let mut header = vec![0x60, 0, 0, 0, length[0], length[1], first, 64];
        header.extend([0xfd; 32]);
        let sum = tcp_sum(&header[8..], &tcp);
        tcp[16..18].copy_from_slice(&sum.to_be_bytes());
        [&[2; 12][..], &[0x86, 0xdd], &header, extensions, &tcp].concat()
    }

    fn tcp_sum(addresses: &[u8], tcp: &[u8]) -> u16 {
        let length = (tcp.len() as u32).to_be_bytes();
        checksum(&[addresses, &length, &[0, 0, 0, TCP], tcp])
    }

    fn clamped(frame: &[u8], mtu: usize) -> Vec<u8> {
        let mut frame = frame.to_vec();
        let l2 = L2::parse(&frame).unwrap();
        clamp(&mut frame, &l2, mtu);
        frame
    }

    #[test]
    fn a_syn_is_lowered_in_both_families_and_stays_valid() {
        for options in
            [&[2, 4, 5, 180][..], &[1, 2, 4, 5, 180, 0, 0, 0], &[3, 3, 7, 1, 1, 2, 4, 5, 180, 1, 1, 1]]
        {
            for flags in [SYN, SYN | 0x10] {
                let (syn4, syn6) = (v4(0x4000, segment(flags, options)), v6(&[], segment(flags, options)));
                let behind = v6(&[TCP, 0, 0, 0, 0, 0, 0, 0], segment(flags, options));
                for (frame, at, mtu, mss) in
                    [(&syn4, 34, 1400, 1360_u16), (&syn6, 54, 1400, 1340), (&behind, 62, 1400, 1340)]
                {
                    let after = clamped(frame, mtu);
                    let place = at + mss_at(&after[at..]).unwrap();
                    assert_eq!(after[place..place + 2], mss.to_be_bytes());
                    let addresses = if at == 34 { &after[26..34] } else { &after[22..54] };
                    assert_eq!(tcp_sum(addresses, &after[at..]), 0, "{options:?}");
                    assert_eq!(after.len(), frame.len());
                    assert_eq!(clamped(frame, 1520), *frame, "what fits is not touched");
                }
            }
        }
    }

    #[test]
    fn all_else_is_left_alone() {
        let mss = [2, 4, 5, 180];
        for frame in [
            v4(0x4000, segment(0x10, &mss)),
            v4(0x2000, segment(SYN, &mss)),
            v4(0, segment(SYN, &[])),
            v4(0, segment(SYN, &[0, 2, 4, 5])),
            v4(0, segment(SYN, &[3, 0, 2, 4])),
            v4(0, segment(SYN, &[1, 1, 2, 4])),
            v6(&[], segment(0x10, &mss)),
        ] {
            assert_eq!(clamped(&frame, 576), frame);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 22..120), v6: bool, first: u8) {
            let mut frame = bytes;
            frame[12..14].copy_from_slice(if v6 { &[0x86, 0xdd] } else { &[8, 0] });
            frame[14] = if v6 { 0x60 } else { 0x45 };
            frame[20] = first;
            let _ = clamped(&frame, 100);
            let _ = mss_at(&frame);
        }

        #[test]
        fn any_options_are_read_without_panic(options in prop::collection::vec(any::<u8>(), 40)) {
            let _ = mss_at(&segment(SYN, &options));
        }
    }
}
