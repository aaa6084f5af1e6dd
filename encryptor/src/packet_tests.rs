//! The packet path as a whole, without a socket: what `protect` makes, `unprotect` opens, and nothing else.

mod any_iv;
mod policy;
mod routed;

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrayvec::ArrayVec;
use proptest::prelude::*;

use crate::aead::Engine;
use crate::budget::Budget;
use crate::drops::DropReason;
use crate::flows::{FlowLimits, RxEpoch, RxTable, RxTerms, TxEpoch, TxTable, TxTerms};
use crate::keylog::KeyLog;
use crate::keys::EpochKey;
use crate::ownership::Owners;
use crate::protect::{NextHop, Protect};
use crate::replay::WindowSize;
use crate::spi::{Epoch, Spi};
use crate::unprotect::Unprotect;
use crate::wire::{ClassMap, Dscp, Ecn, Encap, Ends, MacAddr, OuterTemplate};
use crate::xsk::{Frame, Umem};
use crate::{BURST, Verdict};

/// Bytes in front of the ciphertext over IPv4 in UDP.
const OUTER_LEN: usize = 58;

/// Both ends of a link and the frames between them.
struct Rig {
    umem: Umem,
    protect: Protect,
    unprotect: Unprotect,
    now: Instant,
}

fn key(epoch: Epoch) -> Arc<EpochKey> {
    Arc::new(EpochKey::new(&[u8::from(epoch); 32]).unwrap())
}

impl Rig {
    /// Between IPv4 addresses in UDP.
    fn new() -> Rig {
        Rig::between(Ends::V4([192, 0, 2, 1].into(), [192, 0, 2, 2].into()), Encap::Udp(4500))
    }

    fn between(ends: Ends, encap: Encap) -> Rig {
        let next_hop = NextHop::default();
        next_hop.set(Some(MacAddr([2, 0, 0, 0, 0, 2])));
        let template = OuterTemplate::new(
            MacAddr([2, 0, 0, 0, 0, 1]),
            ends,
            encap,
            64,
            ClassMap::new(&Dscp::Copy, Ecn::Copy),
        );
        Rig {
            umem: Umem::new(256, 4096).unwrap(),
            protect: Protect::new(template, next_hop, 3000),
            unprotect: Unprotect::new(ends.shape(encap), false, 2000, Budget::new(8, 8)),
            now: Instant::now(),
        }
    }

    /// With epoch 1 in use at both ends.
    fn linked() -> Rig {
        Rig::new().link()
    }

    fn link(mut self) -> Rig {
        self.install(Epoch::FIRST);
        assert!(self.protect.switch(Epoch::FIRST).0);
        self
    }

    fn install(&mut self, epoch: Epoch) {
        let expires = self.now + Duration::from_secs(60);
        let terms = TxTerms { lane: 0, flows: 8, expires, limits: FlowLimits::default(), log: KeyLog::off() };
        let tx = TxEpoch::new(TxTable::new(Engine::Ring, 8), epoch, key(epoch), terms).unwrap();
        self.protect.install(Box::new(tx));
        let terms = RxTerms {
            epoch,
            lanes: [0].into(),
            key: key(epoch),
            worker: 0,
            owners: Owners::sole(),
            log: KeyLog::off(),
        };
        let rx = RxEpoch::new(RxTable::new(Engine::Ring, 8, 8, WindowSize::default()), terms).unwrap();
        self.unprotect.install(Box::new(rx));
    }

    fn frame(&mut self, bytes: &[u8]) -> Frame {
        let mut frame = self.umem.alloc().unwrap();
        assert!(frame.fill_from(bytes));
        frame
    }

    fn protect(&mut self, plain: &[Vec<u8>]) -> Vec<Result<Vec<u8>, DropReason>> {
        let now = self.now;
        self.burst(plain, |rig, frames, verdicts| rig.protect.burst(frames, verdicts, now))
    }

    fn unprotect(&mut self, packets: &[Vec<u8>]) -> Vec<Result<Vec<u8>, DropReason>> {
        let now = self.now;
        self.burst(packets, |rig, frames, verdicts| rig.unprotect.burst(frames, verdicts, now))
    }

    fn burst(
        &mut self,
        input: &[Vec<u8>],
        transform: impl Fn(&mut Rig, &mut [Frame], &mut ArrayVec<Verdict, BURST>),
    ) -> Vec<Result<Vec<u8>, DropReason>> {
        let mut frames: Vec<Frame> = input.iter().map(|bytes| self.frame(bytes)).collect();
        let mut verdicts = ArrayVec::new();
        transform(self, &mut frames, &mut verdicts);
        assert_eq!(verdicts.len(), frames.len(), "one verdict each");
        let outcome = frames.iter().zip(&verdicts).map(|(frame, verdict)| match verdict {
            Verdict::Send | Verdict::Bypass => Ok(frame.data().to_vec()),
            Verdict::Drop(reason) | Verdict::Answer(reason) => Err(*reason),
            Verdict::Dummy(_) => Ok(Vec::new()),
            Verdict::HandOver(owner) => panic!("handed to worker {owner}"),
        });
        let outcome = outcome.collect();
        frames.into_iter().for_each(|frame| self.umem.free(frame));
        outcome
    }

    fn sealed(&mut self, plain: &[u8]) -> Vec<u8> {
        self.protect(&[plain.to_vec()]).remove(0).unwrap()
    }

    fn fate(&mut self, packet: &[u8]) -> Result<Vec<u8>, DropReason> {
        self.unprotect(&[packet.to_vec()]).remove(0)
    }
}

fn plain(flow: u8, length: usize) -> Vec<u8> {
    let mut frame = vec![2; 12];
    frame.extend_from_slice(&[
        8, 0, 0x45, 0, 0, 28, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0, flow, 0, 9,
    ]);
    frame.resize(length.max(38), flow);
    frame
}

#[test]
fn bursts_of_mixed_flows_come_back_whole_and_in_order() {
    let mut rig = Rig::linked();
    for round in 0..20usize {
        let sent: Vec<Vec<u8>> =
            (0..BURST).map(|i| plain((i % 5) as u8, 60 + 23 * ((i + round) % 60))).collect();
        let packets: Vec<Vec<u8>> = rig.protect(&sent).into_iter().map(Result::unwrap).collect();
        let received: Vec<Vec<u8>> = rig.unprotect(&packets).into_iter().map(Result::unwrap).collect();
        assert_eq!(received, sent);
    }
    assert_eq!(rig.umem.available(), rig.umem.capacity());
}

#[test]
fn every_outer_shape_carries_the_same_frames() {
    let v4 = Ends::V4([192, 0, 2, 1].into(), [192, 0, 2, 2].into());
    let v6 = Ends::V6(1.into(), 2.into());
    for (ends, encap) in [v4, v6].into_iter().flat_map(|ends| [(ends, Encap::Udp(4500)), (ends, Encap::None)])
    {
        let mut rig = Rig::between(ends, encap).link();
        let sent: Vec<Vec<u8>> = (0..BURST).map(|i| plain((i % 5) as u8, 60 + 20 * i)).collect();
        let packets: Vec<Vec<u8>> = rig.protect(&sent).into_iter().map(Result::unwrap).collect();
        assert!(
            packets
                .iter()
                .zip(&sent)
                .all(|(packet, frame)| packet.len() > frame.len() + ends.shape(encap).header_len())
        );
        let received: Vec<Vec<u8>> = rig.unprotect(&packets).into_iter().map(Result::unwrap).collect();
        assert_eq!(received, sent, "{ends:?} {encap:?}");
    }
}

/// The whole way for each mark that a sender sets and each that the backhaul makes of it, over both families.
#[test]
fn marks_of_the_backhaul_reach_the_inner_header_or_drop_the_frame() {
    let v4 = Ends::V4([192, 0, 2, 1].into(), [192, 0, 2, 2].into());
    for (ends, tagged) in [(v4, false), (v4, true), (Ends::V6(1.into(), 2.into()), true)] {
        let mut rig = Rig::between(ends, Encap::Udp(4500)).link();
        for (inner, outer) in (0..4u8).flat_map(|inner| (0..4u8).map(move |outer| (inner, outer))) {
            let mut frame = plain(1, 80);
            let at = if tagged { 18 } else { 14 };
            if tagged {
                frame.splice(12..12, [0x81, 0, 0, 100]);
            }
            frame[at + 1] = 0xb8 | inner;
            let packet = marked(rig.sealed(&frame), ends, outer);
            let fate = rig.fate(&packet);
            match (inner, outer) {
                (0, 3) => assert_eq!(fate, Err(DropReason::EcnNotCapable)),
                (1 | 2, 3) | (2, 1) => {
                    let received = fate.unwrap();
                    assert_eq!(received[at + 1], 0xb8 | outer, "{inner} inside {outer}");
                    assert_eq!((&received[..at], &received[at + 12..]), (&frame[..at], &frame[at + 12..]));
                }
                _ => assert_eq!(fate, Ok(frame), "{inner} inside {outer}"),
            }
        }
        let arp = [&[2; 12][..], &[8, 6], &[0; 46]].concat();
        let packet = marked(rig.sealed(&arp), ends, 3);
        assert_eq!(rig.fate(&packet), Err(DropReason::EcnNotCapable), "nobody to tell");
    }
}

fn marked(mut packet: Vec<u8>, ends: Ends, ecn: u8) -> Vec<u8> {
    match ends {
        Ends::V4(..) => packet[15] = packet[15] & 0xfc | ecn,
        Ends::V6(..) => packet[15] = packet[15] & 0xcf | ecn << 4,
    }
    packet
}

#[test]
fn without_an_epoch_nothing_passes() {
    let mut rig = Rig::new();
    assert_eq!(rig.protect(&[plain(1, 60)]), [Err(DropReason::NoEpoch)]);
    rig.install(Epoch::FIRST);
    assert_eq!(rig.protect(&[plain(1, 60)]), [Err(DropReason::NoEpoch)], "installed is not in use");
    rig.protect.switch(Epoch::FIRST);
    assert!(rig.protect(&[plain(1, 60)])[0].is_ok());
    rig.now += Duration::from_secs(60);
    assert_eq!(rig.protect(&[plain(1, 60)]), [Err(DropReason::EpochExpired)]);
    rig.protect.withdraw();
    assert_eq!(rig.protect(&[plain(1, 60)]), [Err(DropReason::NoEpoch)]);
}

#[test]
fn a_padded_probe_has_the_size_asked_for_and_is_a_dummy() {
    let mut rig = Rig::linked();
    for (asked, size) in [(1500, 1500), (1501, 1500), (1503, 1500), (3000, 3000), (9000, 3000), (600, 600)] {
        let mut frame = rig.umem.alloc().unwrap();
        assert!(rig.protect.path_probe(asked, &mut frame));
        let packet = frame.data().to_vec();
        rig.umem.free(frame);
        assert_eq!(packet.len() - 14, size, "{asked}");
        assert_eq!(rig.fate(&packet), Ok(Vec::new()), "a dummy, which ends there");
    }
    let mut frame = rig.umem.alloc().unwrap();
    assert!(!rig.protect.path_probe(40, &mut frame), "smaller than any packet");
    rig.protect.withdraw();
    assert!(!rig.protect.path_probe(1500, &mut frame), "without keys");
    rig.umem.free(frame);
}

#[test]
fn a_replay_is_dropped_within_a_burst_and_later() {
    let mut rig = Rig::linked();
    let packet = rig.sealed(&plain(1, 100));
    let fates = rig.unprotect(&[packet.clone(), packet.clone()]);
    assert!(fates[0].is_ok());
    assert_eq!(fates[1], Err(DropReason::Replayed));
    assert_eq!(rig.fate(&packet), Err(DropReason::Replayed));
}

#[test]
fn every_flipped_bit_is_dropped_and_changes_nothing() {
    let mut rig = Rig::linked();
    let frame = plain(1, 60);
    let packet = rig.sealed(&frame);
    for bit in (OUTER_LEN - 16) * 8..packet.len() * 8 {
        let mut flipped = packet.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(rig.fate(&flipped).is_err(), "bit {bit}");
        rig.now += Duration::from_millis(200);
    }
    assert_eq!(rig.unprotect.flow_count(), 0, "forged packets leave no flow behind");
    assert_eq!(rig.fate(&packet), Ok(frame), "and move no window");
}

#[test]
fn each_fault_is_dropped_under_its_own_name() {
    let mut rig = Rig::linked();
    let packet = rig.sealed(&plain(1, 60));
    let changed = |at: usize, with: &[u8]| {
        let mut bytes = packet.clone();
        bytes[at..at + with.len()].copy_from_slice(with);
        bytes
    };
    let other_epoch = Spi::new(Epoch::FIRST.next(), 0, 1);
    let epoch_packet = {
        let mut bytes = changed(42, &other_epoch.value().to_be_bytes());
        bytes[34..36].copy_from_slice(&crate::wire::source_port(other_epoch).to_be_bytes());
        bytes
    };
    assert_eq!(rig.fate(&packet[..70]), Err(DropReason::Truncated));
    assert_eq!(rig.fate(&changed(38, &[0, 9])), Err(DropReason::Malformed));
    assert_eq!(rig.fate(&changed(42, &[0x80])), Err(DropReason::BadSpi));
    assert_eq!(rig.fate(&changed(34, &[0, 1])), Err(DropReason::SourcePort));
    assert_eq!(rig.fate(&epoch_packet), Err(DropReason::EpochUnknown));
    assert_eq!(rig.fate(&changed(50, &[0; 8])), Err(DropReason::Replayed), "sequence number 0 never comes");
    assert_eq!(rig.fate(&changed(60, &[0xff, 0xff])), Err(DropReason::Icv));
    assert_eq!(rig.protect(&[vec![1; 13]]), [Err(DropReason::Runt)]);
    assert_eq!(rig.protect(&[plain(1, 2990)]), [Err(DropReason::TooBig)]);
    for flow in 2..=8 {
        assert!(rig.protect(&[plain(flow, 60)])[0].is_ok());
    }
    assert_eq!(rig.protect(&[plain(9, 60)]), [Err(DropReason::FlowTableFull)]);
}

#[test]
fn unseen_spis_are_held_to_the_budget_and_genuine_ones_give_it_back() {
    let mut rig = Rig::linked();
    let genuine: Vec<Vec<u8>> = (1..=8).map(|flow| rig.sealed(&plain(flow, 60))).collect();
    let forged: Vec<Vec<u8>> =
        genuine.iter().map(|packet| [&packet[..70], &[0; 74]].concat()[..packet.len()].to_vec()).collect();
    assert!(rig.unprotect(&genuine[..4]).iter().all(Result::is_ok));
    assert!(rig.unprotect(&forged[4..]).iter().all(|fate| *fate == Err(DropReason::Icv)));
    assert!(rig.unprotect(&forged[4..]).iter().all(|fate| *fate == Err(DropReason::Icv)));
    assert_eq!(rig.fate(&forged[4]), Err(DropReason::DerivationBudget));
    rig.now += Duration::from_secs(1);
    assert!(rig.unprotect(&genuine[4..]).iter().all(Result::is_ok));
}

#[test]
fn a_probe_proves_the_installed_epoch_and_no_other() {
    let mut rig = Rig::linked();
    let next = Epoch::FIRST.next();
    let mut frame = rig.umem.alloc().unwrap();
    assert!(!rig.protect.probe(next, &mut frame), "nothing is installed");
    rig.install(next);
    assert!(rig.protect.probe(next, &mut frame));
    let mut verdicts = ArrayVec::new();
    rig.unprotect.burst(std::slice::from_mut(&mut frame), &mut verdicts, rig.now);
    assert_eq!(verdicts[0], Verdict::Dummy(next));
    rig.umem.free(frame);
}

#[test]
fn both_epochs_open_through_a_switch_and_the_old_one_dies_with_its_keys() {
    let mut rig = Rig::linked();
    let late = rig.sealed(&plain(1, 60));
    let later = rig.sealed(&plain(1, 61));
    rig.install(Epoch::FIRST.next());
    let (switched, old) = rig.protect.switch(Epoch::FIRST.next());
    assert!(switched && old.unwrap().epoch() == Epoch::FIRST);
    let new = rig.sealed(&plain(1, 62));
    assert_eq!(rig.fate(&new), Ok(plain(1, 62)));
    assert_eq!(rig.fate(&late), Ok(plain(1, 60)));
    rig.unprotect.retire(Epoch::FIRST);
    assert_eq!(rig.fate(&later), Err(DropReason::EpochUnknown));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Any bytes as a plain frame: what is encrypted comes back bit for bit; what is not has a reason.
    #[test]
    fn any_frame_is_transparent(frame in prop::collection::vec(any::<u8>(), 1..1900)) {
        let mut rig = Rig::linked();
        match rig.protect(std::slice::from_ref(&frame)).remove(0) {
            Ok(packet) => prop_assert_eq!(rig.fate(&packet), Ok(frame)),
            Err(reason) => prop_assert_eq!((reason, frame.len() < 14), (DropReason::Runt, true)),
        }
    }

    /// Any bytes from the wire: never a panic, never a frame.
    #[test]
    fn no_noise_passes(packet in prop::collection::vec(any::<u8>(), 1..300), dress in any::<bool>()) {
        let mut rig = Rig::linked();
        let mut bytes = packet;
        if dress {
            let genuine = rig.sealed(&plain(1, 60));
            let length = bytes.len().min(genuine.len());
            let keep = length.min(OUTER_LEN);
            bytes[..keep].copy_from_slice(&genuine[..keep]);
        }
        prop_assert!(rig.fate(&bytes).is_err());
    }
}
