//! Both directions of a worker's packet path, with frames but without sockets.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use arrayvec::ArrayVec;

use qhaul::aead::Engine;
use qhaul::budget::Budget;
use qhaul::flows::{FlowLimits, RxEpoch, RxTable, RxTerms, TxEpoch, TxTable, TxTerms};
use qhaul::keylog::KeyLog;
use qhaul::keys::EpochKey;
use qhaul::ownership::Owners;
use qhaul::protect::{NextHop, Protect};
use qhaul::replay::WindowSize;
use qhaul::spi::Epoch;
use qhaul::unprotect::Unprotect;
use qhaul::wire::{ClassMap, Dscp, Ecn, Encap, Ends, MacAddr, OuterTemplate};
use qhaul::xsk::{Frame, Umem};
use qhaul::{BURST, Verdict};

const ENCAP: Encap = Encap::Udp(4500);
const ENDS: Ends = Ends::V4(Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2));

/// The largest plain frame.
pub(crate) const LARGEST: usize = 9000;

/// A sender and a receiver, and a burst of frames.
pub(crate) struct Rig {
    umem: Umem,
    protect: Protect,
    unprotect: Unprotect,
    frames: Vec<Frame>,
    verdicts: ArrayVec<Verdict, BURST>,
    now: Instant,
    flows: u32,
    /// In use.
    epoch: Epoch,
    next: Option<Next>,
    /// Memory of the next epoch.
    spare: Option<(TxTable, RxTable)>,
}

/// An epoch on its way into use.
enum Next {
    /// The receiver derives its keys; the sender's part waits.
    Deriving(Box<TxEpoch>),
    /// The sender takes its flows over.
    Carrying,
    /// It is in use, and this is what the sender gave up for it.
    Switched(Box<TxEpoch>),
}

/// What a turn did for the next epoch.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The receiver derived keys.
    Deriving,
    /// The sender took flows over.
    Carrying,
    /// The sender switched, or had done so.
    Switched,
}

impl Rig {
    /// For `flows` flows and plain frames of `largest` bytes at the most.
    pub(crate) fn new(engine: Engine, flows: u32, largest: usize) -> Result<Rig> {
        let mut umem = Umem::with_jumbos(2 * BURST as u32, 4096, BURST as u32)?;
        let next_hop = NextHop::default();
        next_hop.set(Some(MacAddr([2, 0, 0, 0, 0, 2])));
        let mac = MacAddr([2, 0, 0, 0, 0, 1]);
        let template = OuterTemplate::new(mac, ENDS, ENCAP, 64, ClassMap::new(&Dscp::Copy, Ecn::Copy));
        let frames: Option<Vec<Frame>> = (0..BURST).map(|_| umem.alloc_for(largest)).collect();
        let mut rig = Rig {
            umem,
            protect: Protect::new(template, next_hop, LARGEST + 200),
            unprotect: Unprotect::new(ENDS.shape(ENCAP), false, LARGEST, Budget::new(u32::MAX, u32::MAX)),
            frames: frames.context("the UMEM has a burst of frames")?,
            verdicts: ArrayVec::new(),
            now: Instant::now(),
            flows,
            epoch: Epoch::FIRST,
            next: None,
            spare: None,
        };
        let tables =
            || (TxTable::new(engine, flows), RxTable::new(engine, flows, flows, WindowSize::default()));
        let (tx, rx) = rig.epoch(Epoch::FIRST, tables(), 0)?;
        rig.unprotect.install(Box::new(rx));
        rig.protect.install(Box::new(tx));
        ensure!(rig.protect.switch(Epoch::FIRST).0, "the epoch is installed");
        Ok(rig)
    }

    /// Has both directions ask for memory so many packets ahead; 0: not at all.
    pub(crate) fn set_prefetch(&mut self, packets: usize) {
        self.protect.set_prefetch(packets);
        self.unprotect.set_prefetch(packets);
    }

    /// Memory for a second epoch, so that [`Rig::begin_rotation`] takes none.
    pub(crate) fn reserve(&mut self, engine: Engine) {
        let flows = self.flows;
        let rx = RxTable::new(engine, flows, flows, WindowSize::default());
        self.spare = Some((TxTable::new(engine, flows), rx));
    }

    /// Both ends of an epoch. `announced`: flows that the sender has in use.
    fn epoch(
        &self,
        epoch: Epoch,
        (tx, rx): (TxTable, RxTable),
        announced: u32,
    ) -> Result<(TxEpoch, RxEpoch)> {
        let key = Arc::new(EpochKey::new(&[epoch.index() as u8; 32])?);
        let (flows, expires) = (self.flows, self.now + Duration::from_secs(86_400));
        let terms = TxTerms { lane: 0, flows, expires, limits: FlowLimits::default(), log: KeyLog::off() };
        let tx = TxEpoch::new(tx, epoch, key.clone(), terms)?;
        let (lanes, owners) = ([announced].into(), Owners::sole());
        let rx = RxEpoch::new(rx, RxTerms { epoch, lanes, key, worker: 0, owners, log: KeyLog::off() })?;
        Ok((tx, rx))
    }

    /// Installs the next epoch for receiving, with all flows announced.
    pub(crate) fn begin_rotation(&mut self) -> Result<()> {
        let tables = self.spare.take().context("memory for a second epoch")?;
        let (tx, rx) = self.epoch(self.epoch.next(), tables, self.flows)?;
        self.unprotect.install(Box::new(rx));
        self.next = Some(Next::Deriving(Box::new(tx)));
        Ok(())
    }

    /// What a worker does for a rotation in one turn of its loop: keys of `count` flows, and in the end the switch.
    pub(crate) fn rotate(&mut self, count: usize) -> Result<Stage> {
        let epoch = self.epoch.next();
        let (stage, next) = match self.next.take().context("no rotation was begun")? {
            Next::Deriving(tx) if self.unprotect.derive_ahead(epoch, count) => {
                (Stage::Deriving, Next::Deriving(tx))
            }
            Next::Deriving(tx) => {
                self.protect.install(tx);
                (Stage::Deriving, Next::Carrying)
            }
            Next::Carrying if self.protect.carry(count) => (Stage::Carrying, Next::Carrying),
            Next::Carrying => {
                let (switched, old) = self.protect.switch(epoch);
                ensure!(switched, "the epoch is installed");
                (Stage::Switched, Next::Switched(old.context("the old epoch was in use")?))
            }
            Next::Switched(old) => (Stage::Switched, Next::Switched(old)),
        };
        self.next = Some(next);
        Ok(stage)
    }

    /// Wipes the old epoch, which the control thread does in the product.
    pub(crate) fn end_rotation(&mut self) -> Result<()> {
        let Some(Next::Switched(tx)) = self.next.take() else { bail!("the sender has not switched") };
        let rx = self.unprotect.retire(self.epoch).context("the old epoch was in use")?;
        self.spare = Some((tx.retire(self.flows), rx.retire()));
        self.epoch = self.epoch.next();
        Ok(())
    }

    /// Writes plain frames, of the lengths that `length` gives by their number and of the flows that `flow` names.
    pub(crate) fn load(
        &mut self,
        length: impl Fn(usize) -> usize,
        mut flow: impl FnMut() -> u32,
    ) -> Result<()> {
        for (number, frame) in self.frames.iter_mut().enumerate() {
            let length = length(number);
            ensure!(frame.fill_from(&udp(length, flow())), "a frame of {length} bytes does not fit");
        }
        Ok(())
    }

    /// Encrypts the burst.
    pub(crate) fn protect(&mut self) -> Result<()> {
        self.protect.burst(&mut self.frames, &mut self.verdicts, self.now);
        self.all_sent()
    }

    /// Decrypts the burst.
    pub(crate) fn unprotect(&mut self) -> Result<()> {
        self.unprotect.burst(&mut self.frames, &mut self.verdicts, self.now);
        self.all_sent()
    }

    fn all_sent(&self) -> Result<()> {
        ensure!(
            self.verdicts.iter().all(|verdict| *verdict == Verdict::Send),
            "a frame was dropped: {:?}",
            self.verdicts
        );
        Ok(())
    }

    /// Gives the frames back.
    pub(crate) fn close(mut self) {
        self.frames.drain(..).for_each(|frame| self.umem.free(frame));
    }
}

/// An Ethernet frame with IPv4 and UDP; the flow shows in addresses and ports.
fn udp(size: usize, flow: u32) -> Vec<u8> {
    let [a, b, c, d] = flow.to_be_bytes();
    let mut frame = vec![2; 12];
    frame.extend_from_slice(&[8, 0, 0x45, 0, 0, 28, 0, 0, 0x40, 0, 64, 17, 0, 0]);
    frame.extend_from_slice(&[10, a, b, 1, 10, 0, 0, 2, c, d, 8, 104]);
    frame.resize(size.max(frame.len()), 0x5a);
    frame
}
