//! Both directions of a worker's packet path, with frames but without sockets.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
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

/// A sender and a receiver of one epoch, and a burst of frames.
pub(crate) struct Rig {
    umem: Umem,
    protect: Protect,
    unprotect: Unprotect,
    frames: Vec<Frame>,
    verdicts: ArrayVec<Verdict, BURST>,
    now: Instant,
}

impl Rig {
    /// For `flows` flows.
    pub(crate) fn new(engine: Engine, flows: u32) -> Result<Rig> {
        let mut umem = Umem::new(2 * BURST as u32, 4096)?;
        let next_hop = NextHop::default();
        next_hop.set(Some(MacAddr([2, 0, 0, 0, 0, 2])));
        let template = OuterTemplate::new(
            MacAddr([2, 0, 0, 0, 0, 1]),
            ENDS,
            ENCAP,
            64,
            ClassMap::new(&Dscp::Copy, Ecn::Copy),
        );
        let mut protect = Protect::new(template, next_hop, 3500);
        let mut unprotect = Unprotect::new(ENDS.shape(ENCAP), false, 3500, Budget::new(u32::MAX, u32::MAX));
        let now = Instant::now();
        let expires = now + Duration::from_secs(86_400);
        let terms = TxTerms { lane: 0, flows, expires, limits: FlowLimits::default(), log: KeyLog::off() };
        let key = Arc::new(EpochKey::new(&[7; 32])?);
        let tx = TxEpoch::new(TxTable::new(engine, flows), Epoch::FIRST, key.clone(), terms)?;
        protect.install(Box::new(tx));
        ensure!(protect.switch(Epoch::FIRST).0, "the epoch is installed");
        let (lanes, owners) = ([0].into(), Owners::sole());
        let terms = RxTerms { epoch: Epoch::FIRST, lanes, key, worker: 0, owners, log: KeyLog::off() };
        let rx = RxEpoch::new(RxTable::new(engine, flows, flows, WindowSize::default()), terms)?;
        unprotect.install(Box::new(rx));
        let frames: Option<Vec<Frame>> = (0..BURST).map(|_| umem.alloc()).collect();
        let frames = frames.context("the UMEM has a burst of frames")?;
        Ok(Rig { umem, protect, unprotect, frames, verdicts: ArrayVec::new(), now })
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
