//! From ESP packets to plain frames, a burst at a time, in the order of `docs/protocol.md`, section 5.
//!
//! Nothing that a forged packet carries changes any state: flow state is stored and the replay window marked only
//! after the packet proved genuine. Only then, and only in mode `ip`, can there be a reply: an ICMP error, through the tunnel.

use std::borrow::Borrow;
use std::sync::Arc;
use std::time::Instant;

use arrayvec::ArrayVec;

use crate::aead::{ICV_LEN, OpenJob, open_burst};
use crate::budget::Budget;
use crate::drops::DropReason;
use crate::esn::IvRule;
use crate::esp::read_trailer;
use crate::flows::{FlowRef, Lookup, RxEpoch};
use crate::ownership::Arrivals;
use crate::policy::Policy;
use crate::spi::{Epoch, Spi};
use crate::tunnel::Egress;
use crate::wire::{
    ETH_HLEN, Ecn, EspHeader, NextHeader, OuterError, OuterShape, View, is_congested, leave_tunnel, may_mark,
    parse_outer, source_port,
};
use crate::xsk::Frame;
use crate::{AHEAD, BURST, GROUP, Verdict};

/// A packet that passed the checks in front of the AEAD. `H`: its header, or where that is.
struct Candidate<H> {
    header: H,
    /// As it claims.
    sequence: u64,
    flow: FlowRef,
}

/// Why a packet goes no further here.
enum Refusal {
    Drop(DropReason),
    /// Its flow belongs to another worker.
    Owner(u8),
}

impl Refusal {
    fn verdict(self, origin: Origin<'_>) -> Verdict {
        match (self, origin) {
            (Refusal::Drop(reason), _) => Verdict::Drop(reason),
            (Refusal::Owner(owner), Origin::Queue) => Verdict::HandOver(owner),
            // An epoch is one and the same at all workers, unless it comes or goes at this moment.
            (Refusal::Owner(_), Origin::Workers(_)) => Verdict::Drop(DropReason::EpochUnknown),
        }
    }
}

impl From<DropReason> for Refusal {
    fn from(reason: DropReason) -> Refusal {
        Refusal::Drop(reason)
    }
}

/// What was read of a packet, or why it ends here.
type Header = Result<EspHeader, DropReason>;

/// Where the packets of a burst come from.
#[derive(Clone, Copy)]
enum Origin<'a> {
    /// A queue of this worker.
    Queue,
    /// For each packet the worker whose queue it arrived on.
    Workers(&'a [u8]),
}

impl Origin<'_> {
    /// The same without the first `count` packets.
    fn behind(self, count: usize) -> Self {
        match self {
            Origin::Queue => Origin::Queue,
            Origin::Workers(from) => Origin::Workers(&from[count..]),
        }
    }
}

/// The receiving side of one worker.
#[derive(Debug)]
pub struct Unprotect {
    shape: OuterShape,
    nat: bool,
    iv: IvRule,
    ecn: Ecn,
    /// Bytes of an Ethernet frame that the plain port takes at the most.
    plain_frame: usize,
    policy: Arc<Policy>,
    /// In mode `ip` the way out.
    egress: Option<Box<Egress>>,
    epochs: [Option<Box<RxEpoch>>; Epoch::COUNT],
    budget: Budget,
    derivations: u64,
    /// With several workers: this one's number, and where packets arrive.
    arrivals: Option<(u8, Arrivals)>,
    ahead: usize,
}

impl Unprotect {
    /// A receiver without keys of packets of this `shape`, with the built-in policy. `nat`: the backhaul rewrites UDP source ports,
    /// so they are not checked. `plain_frame`: bytes of a frame that fits the plain port.
    pub fn new(shape: OuterShape, nat: bool, plain_frame: usize, budget: Budget) -> Unprotect {
        Unprotect {
            shape,
            nat,
            iv: IvRule::Sequence,
            ecn: Ecn::Copy,
            plain_frame,
            policy: Arc::new(Policy::new(Vec::new(), None)),
            egress: None,
            epochs: Default::default(),
            budget,
            derivations: 0,
            arrivals: None,
            ahead: AHEAD,
        }
    }

    /// Asks for memory so many packets ahead, not [`AHEAD`]; 0: not at all.
    pub fn set_prefetch(&mut self, packets: usize) {
        self.ahead = packets;
    }

    /// The same receiver of IP packets, for which we are the router.
    pub fn through(self, egress: Egress) -> Unprotect {
        Unprotect { egress: Some(Box::new(egress)), ..self }
    }

    /// In mode `ip` the way out.
    pub fn egress_mut(&mut self) -> Option<&mut Egress> {
        self.egress.as_deref_mut()
    }

    /// The same receiver with another rule for IVs.
    pub fn with_iv(self, iv: IvRule) -> Unprotect {
        Unprotect { iv, ..self }
    }

    /// The same receiver with another rule for the marks of the outer header.
    pub fn with_ecn(self, ecn: Ecn) -> Unprotect {
        Unprotect { ecn, ..self }
    }

    /// Becomes worker `number` of several.
    pub fn share(&mut self, number: u8, arrivals: Arrivals) {
        self.arrivals = Some((number, arrivals));
    }

    /// Goes by another policy from the next burst on; gives back the old one.
    pub fn set_policy(&mut self, policy: Arc<Policy>) -> Arc<Policy> {
        std::mem::replace(&mut self.policy, policy)
    }

    /// Installs an epoch; gives back what was held under its number.
    pub fn install(&mut self, epoch: Box<RxEpoch>) -> Option<Box<RxEpoch>> {
        self.epochs[epoch.epoch().index()].replace(epoch)
    }

    /// Gives up an epoch.
    pub fn retire(&mut self, epoch: Epoch) -> Option<Box<RxEpoch>> {
        self.epochs[epoch.index()].take()
    }

    /// Derives up to `count` keys ahead for an epoch. Whether more are left.
    pub fn derive_ahead(&mut self, epoch: Epoch, count: usize) -> bool {
        self.epochs[epoch.index()].as_deref_mut().is_some_and(|epoch| epoch.derive_ahead(count))
    }

    /// Flows of the fullest epoch held.
    pub fn flow_count(&self) -> usize {
        self.epochs.iter().flatten().map(|epoch| epoch.flow_count()).max().unwrap_or(0)
    }

    /// Keys derived for unseen flows since the last call.
    pub fn take_derivations(&mut self) -> u64 {
        std::mem::take(&mut self.derivations)
    }

    /// Decrypts `frames` in place, one verdict each.
    pub fn burst(&mut self, frames: &mut [Frame], verdicts: &mut ArrayVec<Verdict, BURST>, now: Instant) {
        self.work(frames, Origin::Queue, verdicts, now);
    }

    /// The same for packets that arrived at other workers' queues: `from` tells which.
    pub fn burst_handed_over(
        &mut self,
        frames: &mut [Frame],
        from: &[u8],
        verdicts: &mut ArrayVec<Verdict, BURST>,
        now: Instant,
    ) {
        self.work(frames, Origin::Workers(from), verdicts, now);
    }

    fn work(
        &mut self,
        frames: &mut [Frame],
        origin: Origin<'_>,
        verdicts: &mut ArrayVec<Verdict, BURST>,
        now: Instant,
    ) {
        verdicts.clear();
        self.budget.refill(now);
        if let Some(egress) = &mut self.egress {
            egress.refill(now);
        }
        // Memory is asked for ahead as on the way out.
        let (ahead, shape) = (self.ahead, self.shape);
        if ahead > 0 && self.epochs.iter().flatten().any(|epoch| epoch.has_many_flows()) {
            let mut headers = ArrayVec::<Header, BURST>::new();
            headers.extend(frames.iter().map(|frame| {
                let header = look_at(frame.data(), shape);
                self.for_flow(&header, |epoch, header| epoch.prefetch_index(header.spi));
                header
            }));
            self.prefetch(&headers, 0, ahead);
            for (number, (frames, group)) in frames.chunks_mut(GROUP).zip(headers.chunks(GROUP)).enumerate() {
                let first = number * GROUP;
                self.prefetch(&headers, first + ahead, GROUP);
                self.group(
                    frames,
                    |place, _| group[place].as_ref().map_err(|reason| *reason),
                    origin.behind(first),
                    verdicts,
                );
            }
            return;
        }
        for (number, frames) in frames.chunks_mut(GROUP).enumerate() {
            self.group(frames, |_, frame| look_at(frame, shape), origin.behind(number * GROUP), verdicts);
        }
    }

    /// Asks for the memory of the flows of `count` packets from `first` on.
    #[inline]
    fn prefetch(&self, headers: &[Header], first: usize, count: usize) {
        let end = headers.len().min(first + count);
        let some = headers.get(first..end).unwrap_or_default();
        for header in some {
            self.for_flow(header, |epoch, header| epoch.prefetch_flow(header.spi, header.sequence_low));
        }
    }

    #[inline]
    fn for_flow(&self, header: &Header, act: impl Fn(&RxEpoch, &EspHeader)) {
        let Ok(header) = header else { return };
        if let Some(epoch) = self.epochs[header.spi.epoch().index()].as_deref() {
            act(epoch, header);
        }
    }

    /// One verdict each. `header_of`: what is read of a frame, by its place in the group.
    #[inline(always)]
    fn group<H: Borrow<EspHeader>>(
        &mut self,
        frames: &mut [Frame],
        header_of: impl Fn(usize, &[u8]) -> Result<H, DropReason>,
        origin: Origin<'_>,
        verdicts: &mut ArrayVec<Verdict, BURST>,
    ) {
        let derivations = self.derivations;
        let mut outcomes = ArrayVec::<Result<Candidate<H>, Verdict>, GROUP>::new();
        outcomes.extend(frames.iter().enumerate().map(|(place, frame)| {
            let frame = frame.data();
            match self.policy.takes_as_clear(frame) {
                true => Err(self.judge_clear(frame)),
                false => self.examine(header_of(place, frame)).map_err(|refusal| refusal.verdict(origin)),
            }
        }));
        let genuine = self.open(frames, &outcomes);
        for (place, (frame, outcome)) in frames.iter_mut().zip(&outcomes).enumerate() {
            verdicts.push(match outcome {
                Ok(candidate) => match self.conclude(candidate, genuine[place]) {
                    Ok(()) => {
                        self.note_arrival(candidate.header.borrow().spi, place, origin);
                        self.unwrap(frame, candidate.header.borrow())
                    }
                    Err(reason) => Verdict::Drop(reason),
                },
                Err(verdict) => *verdict,
            });
        }
        if self.derivations != derivations {
            self.epochs.iter_mut().flatten().for_each(|epoch| epoch.forget_fresh());
        }
    }

    /// A frame that is not to us: it goes on if a bypass rule means it.
    #[inline(never)]
    pub fn judge_clear(&self, frame: &[u8]) -> Verdict {
        match self.policy.admits_clear(frame) {
            true if frame.len() <= self.plain_frame => Verdict::Bypass,
            true => Verdict::Drop(DropReason::InnerSize),
            false => Verdict::Drop(DropReason::PolicyClear),
        }
    }

    /// All checks in front of the AEAD.
    #[inline(always)]
    fn examine<H: Borrow<EspHeader>>(
        &mut self,
        read: Result<H, DropReason>,
    ) -> Result<Candidate<H>, Refusal> {
        let read = read?;
        let header = read.borrow();
        if !self.nat && header.source_port.is_some_and(|port| port != source_port(header.spi)) {
            return Err(DropReason::SourcePort.into());
        }
        let epoch = self.epochs[header.spi.epoch().index()].as_deref_mut().ok_or(DropReason::EpochUnknown)?;
        let flow = match epoch.lookup(header.spi) {
            Lookup::OutOfRange => return Err(DropReason::BadSpi.into()),
            Lookup::Owner(owner) => return Err(Refusal::Owner(owner)),
            Lookup::Full => return Err(DropReason::RxTableFull.into()),
            Lookup::Known(flow) => flow,
            Lookup::Unseen => {
                if !self.budget.take() {
                    return Err(DropReason::DerivationBudget.into());
                }
                self.derivations += 1;
                epoch.derive(header.spi).map_err(|_| DropReason::DerivationBudget)?
            }
        };
        let window = epoch.window(flow);
        let sequence = self.iv.sequence(header, window.highest(), epoch.window_size().packets());
        let sequence = sequence.filter(|&sequence| window.may_come(sequence)).ok_or(DropReason::Replayed)?;
        Ok(Candidate { header: read, sequence, flow })
    }

    /// Which of the frames, by their places in the group, are genuine; those are opened.
    #[inline(always)]
    fn open<H: Borrow<EspHeader>>(
        &self,
        frames: &mut [Frame],
        outcomes: &[Result<Candidate<H>, Verdict>],
    ) -> [bool; GROUP] {
        let (mut jobs, mut places) = (ArrayVec::<OpenJob<'_>, GROUP>::new(), ArrayVec::<usize, GROUP>::new());
        for (place, (frame, outcome)) in frames.iter_mut().zip(outcomes).enumerate() {
            let Ok(Candidate { header, sequence, flow }) = outcome else { continue };
            let header = header.borrow();
            let Some(epoch) = self.epochs[header.spi.epoch().index()].as_deref() else { continue };
            let body = &mut frame.data_mut()[header.start()..][..header.body()];
            let sequence = sequence & !0xffff_ffff | u64::from(header.sequence_low);
            let key = epoch.key(*flow);
            jobs.push(OpenJob { key, spi: header.spi, iv: header.iv, sequence, body, genuine: false });
            places.push(place);
        }
        open_burst(&mut jobs);
        let mut genuine = [false; GROUP];
        places.iter().zip(&jobs).for_each(|(&place, job)| genuine[place] = job.genuine);
        genuine
    }

    /// What a genuine packet changes: its flow is stored, its number marked.
    #[inline(always)]
    fn conclude<H: Borrow<EspHeader>>(
        &mut self,
        candidate: &Candidate<H>,
        genuine: bool,
    ) -> Result<(), DropReason> {
        let header = candidate.header.borrow();
        if !genuine {
            return Err(DropReason::Icv);
        }
        if candidate.sequence as u32 != header.sequence_low {
            return Err(DropReason::SequenceMismatch);
        }
        let epoch = self.epochs[header.spi.epoch().index()].as_deref_mut().ok_or(DropReason::EpochUnknown)?;
        let (index, new) = epoch.store(candidate.flow);
        if new {
            self.budget.refund();
        }
        match epoch.mark(index, candidate.sequence) {
            true => Ok(()),
            false => Err(DropReason::Replayed),
        }
    }

    /// Where the packets of a flow arrive is where the flow belongs in the next epoch.
    #[inline]
    fn note_arrival(&self, spi: Spi, place: usize, origin: Origin<'_>) {
        let Some((own, arrivals)) = &self.arrivals else { return };
        let at = match origin {
            Origin::Queue => *own,
            Origin::Workers(from) => from[place],
        };
        arrivals.note(spi, at);
    }

    /// Strips everything around the plain frame, or makes one of the packet.
    #[inline(always)]
    fn unwrap(&mut self, frame: &mut Frame, header: &EspHeader) -> Verdict {
        let (start, body) = (header.start(), header.body());
        let (payload, next) = match read_trailer(&frame.data()[start..start + body - ICV_LEN]) {
            Ok(trailer) => trailer,
            Err(reason) => return Verdict::Drop(reason),
        };
        let verdict = match (next, &mut self.egress) {
            (NextHeader::None, _) => return Verdict::Dummy(header.spi.epoch()),
            (NextHeader::Ethernet, None) if (ETH_HLEN..=self.plain_frame).contains(&payload) => {
                let stripped = frame.advance(start);
                debug_assert!(stripped, "its headers were read from it");
                frame.truncate(payload);
                Verdict::Send
            }
            (NextHeader::Ethernet, None) => Verdict::Drop(DropReason::InnerSize),
            (NextHeader::Ipv4 | NextHeader::Ipv6, Some(egress)) => egress.emit(frame, start, payload, next),
            (NextHeader::Ethernet, Some(_)) | (NextHeader::Ipv4 | NextHeader::Ipv6, None) => {
                Verdict::Drop(DropReason::NextHeader)
            }
        };
        if verdict != Verdict::Send {
            return verdict;
        }
        if !self.policy.admits_opened(frame.data()) {
            return Verdict::Drop(DropReason::PolicyInbound);
        }
        let outer = header.class;
        match self.ecn == Ecn::Off || !may_mark(outer) || pass_mark_on(frame.data_mut(), outer) {
            true => Verdict::Send,
            false => Verdict::Drop(DropReason::EcnNotCapable),
        }
    }
}

/// Reads the headers.
#[inline(always)]
fn look_at(frame: &[u8], shape: OuterShape) -> Header {
    parse_outer(frame, shape).map_err(|error| match error {
        OuterError::Truncated => DropReason::Truncated,
        OuterError::Malformed => DropReason::Malformed,
        OuterError::Spi => DropReason::BadSpi,
    })
}

/// Combines the mark of the outer header with the inner one, found where the sender's side found the class to show. A frame
/// without an IP header has no sender that could be told. False: it is to be dropped.
#[inline(never)]
fn pass_mark_on(frame: &mut [u8], outer: u8) -> bool {
    match View::of_frame(frame).and_then(|view| view.ip_header_at()) {
        Some(at) => leave_tunnel(&mut frame[at..], outer),
        None => !is_congested(outer),
    }
}
