//! From plain frames to ESP packets, a burst at a time: ask the policy, classify, take a sequence number, frame, seal.
//!
//! With few flows each group of frames is looked at when its turn comes; with many the whole burst is looked at first, so that memory
//! can be asked for ahead. The steps of a packet are `inline(always)`, for else one of the two ways has them as calls, which
//! costs some eighty instructions a packet.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use arrayvec::ArrayVec;

use crate::aead::{SealJob, seal_burst};
use crate::classify::{FlowId, Granularity, classify, classify_common};
use crate::drops::DropReason;
use crate::esp::{largest_payload, tail_len, write_trailer};
use crate::flows::{Admission, FlowHash, TxEpoch};
use crate::icmp::Voice;
use crate::policy::{Decision, Direction, Policy};
use crate::spi::{Epoch, Spi};
use crate::tunnel::{Entry, Ingress, strip};
use crate::wire::{MAX_OUTER_LEN, MacAddr, NextHeader, OuterTemplate, View};
use crate::xsk::Frame;
use crate::{AHEAD, BURST, GROUP, Verdict};

/// The next hop's hardware address, as the control thread last read it from the kernel.
#[derive(Clone, Debug, Default)]
pub struct NextHop(Arc<AtomicU64>);

impl NextHop {
    /// Publishes an address, or that there is none.
    pub fn set(&self, mac: Option<MacAddr>) {
        let value = mac.map_or(0, |MacAddr([a, b, c, d, e, f])| u64::from_be_bytes([0, 1, a, b, c, d, e, f]));
        self.0.store(value, Ordering::Relaxed);
    }

    /// The address, if there is one.
    pub fn get(&self) -> Option<MacAddr> {
        let [_, known, mac @ ..] = self.0.load(Ordering::Relaxed).to_be_bytes();
        (known == 1).then_some(MacAddr(mac))
    }
}

/// A packet that is framed and waits to be sealed.
struct Framed {
    flow: usize,
    spi: Spi,
    sequence: u64,
}

/// A group's packets, or what becomes of the frames instead.
type Outcomes = ArrayVec<Result<Framed, Verdict>, GROUP>;

/// What packets carry.
#[derive(Debug)]
pub enum Inside {
    /// Whole frames.
    Frames,
    /// IP packets, for which we are the router.
    Packets(Box<Ingress>),
}

impl Inside {
    /// What of a frame is carried, or why it is not.
    fn admit(&self, frame: &[u8]) -> Result<Entry, DropReason> {
        match self {
            Inside::Frames => Ok(Entry { next: NextHeader::Ethernet, length: frame.len() }),
            Inside::Packets(ingress) => ingress.admit(frame),
        }
    }

    /// Who tells senders of errors, where we are their router.
    pub fn voice_mut(&mut self) -> Option<&mut Voice> {
        match self {
            Inside::Frames => None,
            Inside::Packets(ingress) => Some(ingress.voice_mut()),
        }
    }

    fn refuse(&mut self, frame: &mut Frame, reason: DropReason) -> Verdict {
        match self {
            Inside::Frames => Verdict::Drop(reason),
            Inside::Packets(ingress) => ingress.refuse(frame, reason),
        }
    }
}

/// The sending side of one worker.
#[derive(Debug)]
pub struct Protect {
    inside: Inside,
    template: OuterTemplate,
    next_hop: NextHop,
    /// Bytes of an IP packet at the most.
    cipher_mtu: usize,
    policy: Arc<Policy>,
    active: Option<Box<TxEpoch>>,
    next: Option<Box<TxEpoch>>,
    /// The slot of the epoch in use that is to be carried over to the next one next.
    carry_at: usize,
    ahead: usize,
}

impl Protect {
    /// A sender without keys and with the built-in policy. `cipher_mtu` in bytes, as the interface has it.
    pub fn new(template: OuterTemplate, next_hop: NextHop, cipher_mtu: usize) -> Protect {
        let policy = Arc::new(Policy::new(Vec::new(), None));
        let inside = Inside::Frames;
        Protect {
            inside,
            template,
            next_hop,
            cipher_mtu,
            policy,
            active: None,
            next: None,
            carry_at: 1,
            ahead: AHEAD,
        }
    }

    /// Asks for memory so many packets ahead, not [`AHEAD`]; 0: not at all.
    pub fn set_prefetch(&mut self, packets: usize) {
        self.ahead = packets;
    }

    /// Goes by another policy from the next burst on; gives back the old one.
    pub fn set_policy(&mut self, policy: Arc<Policy>) -> Arc<Policy> {
        std::mem::replace(&mut self.policy, policy)
    }

    /// The policy that it goes by.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Bytes of the largest plain frame, or in mode `ip` packet, that one packet carries.
    pub fn largest_frame(&self) -> usize {
        largest_payload(self.cipher_mtu.saturating_sub(self.template.shape().ip_overhead()))
    }

    /// The same sender of other contents.
    pub fn carrying(self, inside: Inside) -> Protect {
        Protect { inside, ..self }
    }

    /// What packets carry.
    pub fn inside_mut(&mut self) -> &mut Inside {
        &mut self.inside
    }

    /// Installs an epoch to be probed; gives back one that was installed before and never used.
    pub fn install(&mut self, epoch: Box<TxEpoch>) -> Option<Box<TxEpoch>> {
        self.carry_at = 1;
        self.next.replace(epoch)
    }

    /// Takes up to `count` flows of the epoch in use over to the installed one, so that their keys are there before the switch.
    /// Whether more are left.
    pub fn carry(&mut self, count: usize) -> bool {
        let (Some(active), Some(next)) = (&self.active, &mut self.next) else { return false };
        let end = (self.carry_at + count).min(active.flow_count() + 1);
        (self.carry_at..end).for_each(|slot| next.carry(active, slot));
        self.carry_at = end;
        end <= active.flow_count()
    }

    /// Puts the installed epoch `epoch` to use; gives back the old one. False: it is not installed.
    pub fn switch(&mut self, epoch: Epoch) -> (bool, Option<Box<TxEpoch>>) {
        match self.next.take_if(|next| next.epoch() == epoch) {
            Some(next) => (true, self.active.replace(next)),
            None => (false, None),
        }
    }

    /// Gives up all epochs: what is in use, and what is installed.
    pub fn withdraw(&mut self) -> [Option<Box<TxEpoch>>; 2] {
        [self.active.take(), self.next.take()]
    }

    /// The epoch in use.
    pub fn active_mut(&mut self) -> Option<&mut TxEpoch> {
        self.active.as_deref_mut()
    }

    /// Whether the epoch in use, or the one installed, asks to be replaced.
    pub fn take_rotation_wish(&mut self) -> bool {
        self.active_mut().is_some_and(TxEpoch::take_rotation_wish)
    }

    /// Encrypts `frames` in place, one verdict each.
    pub fn burst(&mut self, frames: &mut [Frame], verdicts: &mut ArrayVec<Verdict, BURST>, now: Instant) {
        verdicts.clear();
        let refusal = match (&self.active, self.next_hop.get()) {
            (None, _) => Err(DropReason::NoEpoch),
            (Some(epoch), _) if epoch.expired(now) => Err(DropReason::EpochExpired),
            (Some(_), None) => Err(DropReason::NoNeighbour),
            (Some(_), Some(mac)) => Ok(mac),
        };
        let (Ok(mac), Some(epoch)) = (refusal, &mut self.active) else {
            let reason = refusal.err().unwrap_or(DropReason::NoEpoch);
            verdicts.extend(frames.iter().map(|frame| without_keys(&self.policy, frame.data(), reason)));
            return;
        };
        if let Inside::Packets(ingress) = &mut self.inside {
            ingress.refill(now);
        }
        let (all, policy, inside) = (self.policy.protects_all(), &self.policy, &mut self.inside);
        let framing = Framing::new(&self.template, self.cipher_mtu, mac);
        if self.ahead == 0 || !epoch.has_many_flows() {
            for frames in frames.chunks_mut(GROUP) {
                let mut outcomes = Outcomes::new();
                outcomes.extend(frames.iter_mut().map(|frame| {
                    let seen = look(policy, all, frame.data())?;
                    let framed =
                        framing.wrap(inside, frame, seen.class, |size| epoch.admit(&seen.flow, size));
                    framed.map_err(Verdict::Drop)
                }));
                seal_group(inside, epoch, framing.header_len, frames, &outcomes, verdicts);
            }
            return;
        }
        let mut looked_at = ArrayVec::<Result<Hashed, Verdict>, BURST>::new();
        looked_at.extend(frames.iter().map(|frame| {
            let seen = look(policy, all, frame.data())?;
            let hash = epoch.hash(&seen.flow);
            epoch.prefetch_index(hash);
            Ok(Hashed { hash, seen })
        }));
        let ahead = Ahead { looked_at: &looked_at, packets: self.ahead };
        ahead.begin(epoch);
        let groups = frames.chunks_mut(GROUP).zip(looked_at.chunks(GROUP));
        for (number, (frames, group)) in groups.enumerate() {
            ahead.go_on(epoch, number);
            let mut outcomes = Outcomes::new();
            outcomes.extend(frames.iter_mut().zip(group).map(|(frame, looked_at)| {
                let Hashed { seen, hash } = looked_at.as_ref().map_err(|verdict| *verdict)?;
                let admit = |size| epoch.admit_hashed(&seen.flow, *hash, size);
                framing.wrap(inside, frame, seen.class, admit).map_err(Verdict::Drop)
            }));
            seal_group(inside, epoch, framing.header_len, frames, &outcomes, verdicts);
        }
    }

    /// Makes a probe of the installed epoch in an empty frame: a dummy packet in slot 0. False: it is not installed, or
    /// there is nowhere to send it.
    pub fn probe(&mut self, epoch: Epoch, frame: &mut Frame) -> bool {
        let installed = self.next.as_mut().filter(|next| next.epoch() == epoch);
        let (Some(epoch), Some(mac)) = (installed, self.next_hop.get()) else { return false };
        dummy(&self.template, epoch, mac, tail_len(0), frame)
    }

    /// Makes a padded dummy packet of the epoch in use in an empty frame, to see whether the path carries it: `packet` bytes
    /// with its outer IP header, rounded down to what ESP can have. False: it cannot be sent.
    pub fn path_probe(&mut self, packet: usize, frame: &mut Frame) -> bool {
        let (Some(epoch), Some(mac)) = (&mut self.active, self.next_hop.get()) else { return false };
        // RFC 4303 section 2.4: the ciphertext ends on 4 bytes.
        let body = packet.min(self.cipher_mtu).saturating_sub(self.template.shape().ip_overhead()) & !3;
        body >= tail_len(0) && dummy(&self.template, epoch, mac, body, frame)
    }
}

/// A dummy packet (RFC 4303 section 2.6) in slot 0 whose ciphertext and ICV are `body` bytes.
fn dummy(
    template: &OuterTemplate,
    epoch: &mut TxEpoch,
    mac: MacAddr,
    body: usize,
    frame: &mut Frame,
) -> bool {
    frame.reset(MAX_OUTER_LEN);
    let Some(text) = frame.append(body) else { return false };
    let (zeros, trailer) = text.split_at_mut(body - tail_len(0));
    zeros.fill(0);
    write_trailer(trailer, NextHeader::None);
    let Admission::Granted { index, spi, sequence } = epoch.admit_probe(body) else { return false };
    let start = template.shape().header_len();
    let header = frame.prepend(start).zip(u16::try_from(body).ok());
    if header.and_then(|(header, body)| template.write(header, mac, 0, body, spi, sequence)).is_none() {
        return false;
    }
    seal_burst(&mut [seal_job(epoch, frame, start, &Framed { flow: index, spi, sequence })]);
    true
}

/// Bypass works without keys; all else waits for them.
fn without_keys(policy: &Policy, frame: &[u8], reason: DropReason) -> Verdict {
    let bypasses = |view: View| policy.decide(&view, Direction::Outbound) == Decision::Bypass;
    match policy.bypasses() && View::of_frame(frame).is_some_and(bypasses) {
        true => Verdict::Bypass,
        false => Verdict::Drop(reason),
    }
}

/// What packets wait for from memory comes while others are worked on: the index of flows in a pass over the burst, the flows
/// during the work on the groups before theirs.
struct Ahead<'a> {
    looked_at: &'a [Result<Hashed, Verdict>],
    packets: usize,
}

impl Ahead<'_> {
    #[inline]
    fn begin(&self, epoch: &TxEpoch) {
        self.fetch(epoch, 0, self.packets);
    }

    #[inline]
    fn go_on(&self, epoch: &TxEpoch, group: usize) {
        self.fetch(epoch, group * GROUP + self.packets, GROUP);
    }

    #[inline]
    fn fetch(&self, epoch: &TxEpoch, first: usize, count: usize) {
        let some = self.looked_at.iter().skip(first).take(count);
        some.flatten().for_each(|frame| epoch.prefetch_flow(frame.hash));
    }
}

/// A frame that is to be protected, as it was looked at.
struct Seen {
    flow: FlowId,
    class: u8,
}

/// The same with the flow's hash.
struct Hashed {
    seen: Seen,
    hash: FlowHash,
}

/// What flow a frame is of, or what becomes of it instead. `all`: how finely flows are told apart, if all frames are protected.
#[inline(always)]
fn look(policy: &Policy, all: Option<Granularity>, frame: &[u8]) -> Result<Seen, Verdict> {
    let common = all.and_then(|granularity| classify_common(frame, granularity));
    let (flow, class) = match common {
        Some(common) => common,
        None => look_closer(policy, frame)?,
    };
    Ok(Seen { flow, class })
}

/// The same for frames that are to be seen whole: the flow, and the traffic class.
#[inline(never)]
fn look_closer(policy: &Policy, frame: &[u8]) -> Result<(FlowId, u8), Verdict> {
    let view = View::of_frame(frame).ok_or(Verdict::Drop(DropReason::Runt))?;
    match policy.decide(&view, Direction::Outbound) {
        Decision::Protect(granularity) => Ok((classify(&view, granularity), view.class())),
        Decision::Bypass => Err(Verdict::Bypass),
        Decision::Discard => Err(Verdict::Drop(DropReason::PolicyDiscard)),
        Decision::Unclear => Err(Verdict::Drop(DropReason::PolicyUnclear)),
    }
}

/// By what the frames of a burst become packets.
struct Framing<'a> {
    template: &'a OuterTemplate,
    header_len: usize,
    /// Bytes of ciphertext and ICV at the most.
    largest_body: usize,
    mac: MacAddr,
}

impl<'a> Framing<'a> {
    fn new(template: &'a OuterTemplate, cipher_mtu: usize, mac: MacAddr) -> Framing<'a> {
        let shape = template.shape();
        let largest_body = cipher_mtu.saturating_sub(shape.ip_overhead());
        Framing { template, header_len: shape.header_len(), largest_body, mac }
    }

    /// Headers and trailer around the frame or its packet. A sequence number is taken last, so that none is skipped by a frame that
    /// cannot go; until then the frame stays as it is.
    #[inline(always)]
    fn wrap(
        &self,
        inside: &Inside,
        frame: &mut Frame,
        class: u8,
        admit: impl FnOnce(usize) -> Admission,
    ) -> Result<Framed, DropReason> {
        let Entry { next, length } = inside.admit(frame.data())?;
        let tail = tail_len(length);
        let body = u16::try_from(length + tail).map_err(|_| DropReason::TooBig)?;
        if usize::from(body) > self.largest_body
            || frame.headroom() < self.header_len
            || frame.tailroom() < tail
        {
            return Err(DropReason::TooBig);
        }
        let (flow, spi, sequence) = match admit(length) {
            Admission::Granted { index, spi, sequence } => (index, spi, sequence),
            Admission::FlowExhausted => return Err(DropReason::FlowExhausted),
            Admission::TableFull => return Err(DropReason::FlowTableFull),
        };
        if let Inside::Packets(_) = inside {
            strip(frame, length);
        }
        let packet = frame.surround(self.header_len, tail).ok_or(DropReason::TooBig)?;
        let (header, behind) = packet.split_at_mut(self.header_len);
        write_trailer(&mut behind[length..], next);
        let written = self.template.write(header, self.mac, class, body, spi, sequence);
        written.map(|()| Framed { flow, spi, sequence }).ok_or(DropReason::TooBig)
    }
}

/// Seals what was framed, and tells what becomes of each.
#[inline(always)]
fn seal_group(
    inside: &mut Inside,
    epoch: &TxEpoch,
    start: usize,
    frames: &mut [Frame],
    outcomes: &Outcomes,
    verdicts: &mut ArrayVec<Verdict, BURST>,
) {
    let mut jobs = ArrayVec::<SealJob<'_>, GROUP>::new();
    for (frame, outcome) in frames.iter_mut().zip(outcomes) {
        verdicts.push(match outcome {
            Ok(framed) => {
                jobs.push(seal_job(epoch, frame, start, framed));
                Verdict::Send
            }
            Err(Verdict::Drop(reason)) => inside.refuse(frame, *reason),
            Err(verdict) => *verdict,
        });
    }
    seal_burst(&mut jobs);
}

/// `start`: where the ciphertext begins.
#[inline]
fn seal_job<'a>(epoch: &'a TxEpoch, frame: &'a mut Frame, start: usize, framed: &Framed) -> SealJob<'a> {
    let Framed { flow, spi, sequence } = *framed;
    SealJob { key: epoch.key(flow), spi, sequence, body: &mut frame.data_mut()[start..] }
}
