//! Packets of a standard peer, sealed by another library: the IV is arbitrary, the sequence's high half is not sent.

use aes_gcm::aead::{Aead, KeyInit, Payload};

use super::{Rig, key, plain};
use crate::drops::DropReason;
use crate::esn::IvRule;
use crate::replay::WindowSize;
use crate::spi::{Epoch, Spi};
use crate::wire::source_port;

const HIGH: u64 = 1 << 32;

/// An ESP packet in UDP as RFC 4303, RFC 4106 and RFC 3948 have it, padded to 4 bytes as other stacks do.
fn sealed_elsewhere(sequence: u64, iv: u64, payload: &[u8]) -> Vec<u8> {
    let spi = Spi::new(Epoch::FIRST, 0, 1);
    let flow = key(Epoch::FIRST).flow_key(spi).unwrap();
    let padding = (4 - (payload.len() + 2) % 4) % 4;
    let pad: Vec<u8> = (1..=padding as u8).collect();
    let text = [payload, &pad, &[padding as u8, 143]].concat();
    let nonce: [u8; 12] = [&flow.salt()[..], &iv.to_be_bytes()].concat().try_into().unwrap();
    let aad = [&spi.value().to_be_bytes()[..], &sequence.to_be_bytes()].concat();
    let cipher = aes_gcm::Aes256Gcm::new(&(*flow.key()).into());
    let body = cipher.encrypt(&nonce.into(), Payload { msg: &text, aad: &aad }).unwrap();
    let esp =
        [&spi.value().to_be_bytes()[..], &(sequence as u32).to_be_bytes(), &iv.to_be_bytes(), &body].concat();
    let udp_len = esp.len() as u16 + 8;
    let mut packet = vec![2; 12];
    packet.extend_from_slice(&[8, 0, 0x45, 0]);
    packet.extend_from_slice(&(udp_len + 20).to_be_bytes());
    packet.extend_from_slice(&[0, 0, 0x40, 0, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2]);
    let udp = [source_port(spi), 4500, udp_len, 0];
    udp.iter().for_each(|word| packet.extend_from_slice(&word.to_be_bytes()));
    [packet, esp].concat()
}

fn rig(rule: IvRule) -> Rig {
    let mut rig = Rig::linked();
    rig.unprotect = rig.unprotect.with_iv(rule);
    rig
}

#[test]
fn arbitrary_ivs_open_once_across_the_wrap_of_the_low_half() {
    let mut rig = rig(IvRule::Any);
    let start = HIGH - 700;
    let sequences = [1, 2, 1 << 20, start].into_iter().chain((1..1400).map(|ahead| start + ahead));
    let mut last = Vec::new();
    for sequence in sequences {
        let frame = plain(1, 60 + (sequence % 7) as usize);
        last = sealed_elsewhere(sequence, sequence.wrapping_mul(0x9e37_79b9_7f4a_7c15), &frame);
        assert_eq!(rig.fate(&last), Ok(frame), "sequence number {sequence:#x}");
        assert_eq!(rig.fate(&last), Err(DropReason::Replayed), "sequence number {sequence:#x} again");
    }
    let highest = start + 1399;
    let late = sealed_elsewhere(highest - WindowSize::default().packets(), 7, &plain(1, 60));
    assert_eq!(rig.fate(&late), Err(DropReason::Icv), "too old: it would belong to the next subspace");
    assert_eq!(rig.fate(&last), Err(DropReason::Replayed));
}

#[test]
fn the_first_packets_of_a_flow_may_come_in_any_order_but_not_from_before_the_first() {
    let mut rig = rig(IvRule::Any);
    for sequence in [3, 1, 2] {
        assert!(rig.fate(&sealed_elsewhere(sequence, 99 - sequence, &plain(1, 60))).is_ok());
    }
    assert_eq!(rig.fate(&sealed_elsewhere(0, 5, &plain(1, 60))), Err(DropReason::Replayed));
    assert_eq!(rig.fate(&sealed_elsewhere(HIGH - 1, 6, &plain(1, 60))), Err(DropReason::Replayed));
    let skipped = sealed_elsewhere(HIGH + 50, 8, &plain(1, 60));
    assert_eq!(rig.fate(&skipped), Err(DropReason::Icv), "a subspace cannot be skipped unseen");
}

#[test]
fn without_the_setting_an_iv_must_be_the_sequence_number() {
    let mut rig = rig(IvRule::Sequence);
    let frame = plain(1, 60);
    assert_eq!(rig.fate(&sealed_elsewhere(1, 7, &frame)), Err(DropReason::SequenceMismatch));
    assert_eq!(rig.fate(&sealed_elsewhere(1, (9 << 32) | 1, &frame)), Err(DropReason::Icv));
    assert_eq!(rig.fate(&sealed_elsewhere(1, 1, &frame)), Ok(frame));
}
