//! A worker: one core, its share of the queues of both ports, five steps: receive, transform, transmit, recycle, apply key changes.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrayvec::ArrayVec;
use crossbeam::channel::{Receiver, Sender};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use tracing::error;

use crate::config::Polling;
use crate::counters::{Counters, Gauge, Tally};
use crate::drops::DropReason;
use crate::flows::{RxEpoch, TxEpoch};
use crate::protect::Protect;
use crate::spi::Epoch;
use crate::unprotect::Unprotect;
use crate::xsk::{Frame, Port, PortCounters, Statistics, Umem};
use crate::{BURST, Verdict};

/// How long an adaptive worker spins with nothing to do before it sleeps: longer than a packet's time at rates where the
/// wake-up would be felt, short beside a scheduler's slice.
const SPIN: Duration = Duration::from_micros(50);
/// The longest sleep. Frames and commands end it early.
const SLEEP: Duration = Duration::from_secs(1);
/// The longest sleep while frames wait to be sent.
const SHORT_SLEEP: Duration = Duration::from_millis(1);
const WAKE: Token = Token(usize::MAX);

/// What the control thread tells the worker. Applied between bursts, in order.
#[derive(Debug)]
pub enum Command {
    /// Install an epoch for sending; it is probed, then switched to.
    InstallTx(Box<TxEpoch>),
    /// Send a probe of the installed epoch.
    Probe(Epoch),
    /// Send in the installed epoch from now on.
    SwitchTx(Epoch),
    /// Send in no epoch.
    WithdrawTx,
    /// Receive in this epoch too.
    InstallRx(Box<RxEpoch>),
    /// Receive in this epoch no more.
    RetireRx(Epoch),
    /// Tell how the ports do.
    Report,
    /// Give everything back and end.
    Stop,
}

/// What the worker tells the control thread.
#[derive(Debug)]
pub enum Event {
    /// Traffic is sent in this epoch.
    TxSwitched(Epoch),
    /// A sending epoch that is no longer used, to be wiped.
    TxRetired(Box<TxEpoch>),
    /// Packets of this epoch can be opened.
    RxInstalled(Epoch),
    /// A receiving epoch that is no longer used, to be wiped.
    RxRetired(Box<RxEpoch>),
    /// A probe of this epoch proved genuine. Told once for each epoch installed.
    Probed(Epoch),
    /// A soft limit asks for the next epoch.
    RotationWish,
    /// How the ports do.
    Report(Vec<PortReport>),
    /// The worker cannot go on.
    Failed(String),
}

/// How one queue of one port does.
#[derive(Clone, Debug)]
pub struct PortReport {
    /// The interface.
    pub interface: String,
    /// The queue.
    pub queue: u32,
    /// What the port counted.
    pub port: PortCounters,
    /// What the kernel counted.
    pub kernel: Statistics,
}

/// The packet path of a worker.
#[derive(Debug)]
pub struct Transforms {
    /// Plain to cipher.
    pub protect: Protect,
    /// Cipher to plain.
    pub unprotect: Unprotect,
}

/// The memory and the queues of a worker.
#[derive(Debug)]
pub struct Queues {
    /// The frames of all ports.
    pub umem: Umem,
    /// Its queues of the plain port.
    pub plain: Vec<Port>,
    /// Its queues of the cipher port.
    pub cipher: Vec<Port>,
    /// Entries that each fill ring is kept at.
    pub fill: u32,
}

impl Queues {
    /// Lets go of the ports.
    pub fn close(self) {
        let Queues { mut umem, plain, cipher, .. } = self;
        for port in plain.into_iter().chain(cipher) {
            port.close(&mut umem);
        }
    }
}

/// How a worker and the control thread reach each other.
#[derive(Debug)]
pub struct Wiring {
    /// The worker's number, from 0 on. It is also the lane that it sends in.
    pub number: u8,
    /// What to do.
    pub commands: Receiver<Command>,
    /// What happened, and to which worker.
    pub events: Sender<(u8, Event)>,
    /// Wakes the control thread for events.
    pub control: Arc<Waker>,
    /// What is counted.
    pub counters: Arc<Counters>,
}

/// One worker. It is made on the control thread and runs on its own.
#[derive(Debug)]
pub struct Worker {
    queues: Queues,
    transforms: Transforms,
    wiring: Wiring,
    polling: Polling,
    poll: Poll,
    batch: Vec<Frame>,
    outbox: Vec<Frame>,
    verdicts: ArrayVec<Verdict, BURST>,
    /// Epochs, by number, whose probe was told of.
    told: u32,
    stopped: bool,
}

impl Worker {
    /// A worker and what wakes it from its sleep.
    pub fn new(
        queues: Queues,
        transforms: Transforms,
        wiring: Wiring,
        polling: Polling,
    ) -> io::Result<(Worker, Waker)> {
        let poll = Poll::new()?;
        for (number, port) in queues.plain.iter().chain(&queues.cipher).enumerate() {
            let fd = port.as_fd().as_raw_fd();
            // Readable only: a transmit ring is nearly always ready, and the loop would spin.
            poll.registry().register(&mut SourceFd(&fd), Token(number), Interest::READABLE)?;
        }
        let waker = Waker::new(poll.registry(), WAKE)?;
        let (batch, outbox) = (Vec::with_capacity(BURST), Vec::with_capacity(BURST));
        let verdicts = ArrayVec::new();
        let worker = Worker {
            queues,
            transforms,
            wiring,
            polling,
            poll,
            batch,
            outbox,
            verdicts,
            told: 0,
            stopped: false,
        };
        Ok((worker, waker))
    }

    /// Works until told to stop, then closes the ports.
    pub fn run(mut self) {
        let mut idle_since = None;
        while !self.stopped {
            let now = Instant::now();
            match self.turn(now) {
                Ok(true) => idle_since = None,
                Ok(false) => self.rest(now, &mut idle_since),
                Err(error) => {
                    self.tell(Event::Failed(error.to_string()));
                    break;
                }
            }
        }
        self.close();
    }

    /// One turn of the loop. Whether there was anything to do.
    fn turn(&mut self, now: Instant) -> Result<bool, crate::xsk::Error> {
        let mut busy = false;
        for queue in 0..self.queues.plain.len() {
            busy |= self.protect_burst(queue, now)?;
        }
        for queue in 0..self.queues.cipher.len() {
            busy |= self.unprotect_burst(queue, now)?;
        }
        self.recycle();
        busy |= self.apply_commands()?;
        Ok(busy)
    }

    fn protect_burst(&mut self, queue: usize, now: Instant) -> Result<bool, crate::xsk::Error> {
        let Queues { umem, plain, .. } = &mut self.queues;
        let received = plain[queue].receive(umem, &mut self.batch, BURST);
        if received == 0 {
            return Ok(false);
        }
        let counters = &self.wiring.counters;
        counters.add(Tally::PlainIn, received as u64);
        counters.add(Tally::BytesOut, self.batch.iter().map(|frame| frame.len() as u64).sum());
        self.transforms.protect.burst(&mut self.batch, &mut self.verdicts, now);
        if self.transforms.protect.take_rotation_wish() {
            self.tell(Event::RotationWish);
        }
        let flows = self.transforms.protect.active_mut().map_or(0, |epoch| epoch.flow_count());
        self.wiring.counters.set(Gauge::TxFlows, flows as u64);
        let out = queue % self.queues.cipher.len();
        let sent = self.settle(Side::Cipher, out)?;
        self.wiring.counters.add(Tally::CipherOut, sent);
        Ok(true)
    }

    fn unprotect_burst(&mut self, queue: usize, now: Instant) -> Result<bool, crate::xsk::Error> {
        let Queues { umem, cipher, .. } = &mut self.queues;
        let received = cipher[queue].receive(umem, &mut self.batch, BURST);
        if received == 0 {
            return Ok(false);
        }
        self.transforms.unprotect.burst(&mut self.batch, &mut self.verdicts, now);
        let unprotect = &mut self.transforms.unprotect;
        let counters = &self.wiring.counters;
        counters.add(Tally::CipherIn, received as u64);
        counters.add(Tally::Derivations, unprotect.take_derivations());
        counters.set(Gauge::RxFlows, unprotect.flow_count() as u64);
        let out = queue % self.queues.plain.len();
        let sent = self.settle(Side::Plain, out)?;
        self.wiring.counters.add(Tally::PlainOut, sent);
        Ok(true)
    }

    /// Turns verdicts into actions: what may go goes out of a port, all else goes home. How many went.
    fn settle(&mut self, side: Side, queue: usize) -> Result<u64, crate::xsk::Error> {
        let (umem, counters) = (&mut self.queues.umem, &self.wiring.counters);
        let mut probed = ArrayVec::<Epoch, BURST>::new();
        for (frame, verdict) in self.batch.drain(..).zip(&self.verdicts) {
            match *verdict {
                Verdict::Send => {
                    if side == Side::Plain {
                        counters.add(Tally::BytesIn, frame.len() as u64);
                    }
                    self.outbox.push(frame);
                }
                Verdict::Dummy(epoch) => {
                    counters.add(Tally::Dummies, 1);
                    probed.push(epoch);
                    umem.free(frame);
                }
                Verdict::Drop(reason) => {
                    counters.add_dropped(reason, 1);
                    umem.free(frame);
                }
            }
        }
        for epoch in probed {
            self.tell_probed(epoch);
        }
        self.send(side, queue)
    }

    /// Sends the outbox; what finds no room, even after a kick, is dropped under its name. How many went.
    fn send(&mut self, side: Side, queue: usize) -> Result<u64, crate::xsk::Error> {
        let (port, reason) = match side {
            Side::Cipher => (&mut self.queues.cipher[queue], DropReason::CipherRingFull),
            Side::Plain => (&mut self.queues.plain[queue], DropReason::PlainRingFull),
        };
        let umem = &mut self.queues.umem;
        let mut sent = port.transmit(umem, &mut self.outbox);
        kick(port)?;
        if !self.outbox.is_empty() {
            port.complete(umem);
            sent += port.transmit(umem, &mut self.outbox);
            kick(port)?;
        }
        self.wiring.counters.add_dropped(reason, self.outbox.len() as u64);
        self.outbox.drain(..).for_each(|frame| umem.free(frame));
        Ok(sent as u64)
    }

    fn recycle(&mut self) {
        let Queues { umem, plain, cipher, fill } = &mut self.queues;
        for port in plain.iter_mut().chain(cipher) {
            port.complete(umem);
            port.refill(umem, *fill);
        }
    }

    fn apply_commands(&mut self) -> Result<bool, crate::xsk::Error> {
        let mut busy = false;
        while let Ok(command) = self.wiring.commands.try_recv() {
            busy = true;
            self.apply(command)?;
        }
        Ok(busy)
    }

    fn apply(&mut self, command: Command) -> Result<(), crate::xsk::Error> {
        let Transforms { protect, unprotect } = &mut self.transforms;
        match command {
            Command::InstallTx(epoch) => {
                if let Some(unused) = protect.install(epoch) {
                    self.tell(Event::TxRetired(unused));
                }
            }
            Command::Probe(epoch) => self.probe(epoch)?,
            Command::SwitchTx(epoch) => {
                let (switched, old) = protect.switch(epoch);
                if let Some(old) = old {
                    self.tell(Event::TxRetired(old));
                }
                if switched {
                    self.tell(Event::TxSwitched(epoch));
                }
            }
            Command::WithdrawTx => {
                for epoch in protect.withdraw().into_iter().flatten() {
                    self.tell(Event::TxRetired(epoch));
                }
            }
            Command::InstallRx(epoch) => {
                let number = epoch.epoch();
                self.told &= !(1 << number.index());
                if let Some(old) = unprotect.install(epoch) {
                    self.tell(Event::RxRetired(old));
                }
                self.tell(Event::RxInstalled(number));
            }
            Command::RetireRx(epoch) => {
                if let Some(old) = unprotect.retire(epoch) {
                    self.tell(Event::RxRetired(old));
                }
            }
            Command::Report => self.report(),
            Command::Stop => self.stopped = true,
        }
        Ok(())
    }

    fn probe(&mut self, epoch: Epoch) -> Result<(), crate::xsk::Error> {
        let Some(mut frame) = self.queues.umem.alloc() else { return Ok(()) };
        if !self.transforms.protect.probe(epoch, &mut frame) {
            self.queues.umem.free(frame);
            return Ok(());
        }
        self.outbox.push(frame);
        let sent = self.send(Side::Cipher, 0)?;
        self.wiring.counters.add(Tally::Probes, sent);
        Ok(())
    }

    fn tell_probed(&mut self, epoch: Epoch) {
        let bit = 1 << epoch.index();
        if self.told & bit == 0 {
            self.told |= bit;
            self.tell(Event::Probed(epoch));
        }
    }

    fn report(&mut self) {
        let ports = self.queues.plain.iter().chain(&self.queues.cipher);
        let report = ports.map(|port| PortReport {
            interface: port.interface().to_string(),
            queue: port.queue(),
            port: port.counters(),
            kernel: port.statistics().unwrap_or_default(),
        });
        let report = report.collect();
        self.tell(Event::Report(report));
    }

    /// With nothing to do: spins for a while, then sleeps until a frame or a command comes.
    fn rest(&mut self, now: Instant, idle_since: &mut Option<Instant>) {
        let since = *idle_since.get_or_insert(now);
        if self.polling == Polling::Busy || now.saturating_duration_since(since) < SPIN {
            std::hint::spin_loop();
            return;
        }
        let ports = self.queues.plain.iter().chain(&self.queues.cipher);
        let sending = ports.into_iter().any(|port| port.outstanding().tx > 0);
        let longest = if sending { SHORT_SLEEP } else { SLEEP };
        let mut events = Events::with_capacity(16);
        match self.poll.poll(&mut events, Some(longest)) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => error!("the worker cannot sleep: {error}"),
        }
    }

    fn tell(&self, event: Event) {
        self.wiring.tell(event);
    }

    fn close(mut self) {
        for epoch in self.transforms.protect.withdraw().into_iter().flatten() {
            self.tell(Event::TxRetired(epoch));
        }
        self.queues.close();
    }
}

impl Wiring {
    fn tell(&self, event: Event) {
        // The control thread outlives the worker; if it is gone, so is the process soon.
        let _ = self.events.send((self.number, event));
        let _ = self.control.wake();
    }
}

/// A worker that panics says so: the others run on, so that nobody would notice by their silence.
impl Drop for Wiring {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.tell(Event::Failed("it panicked; the log says where".into()));
        }
    }
}

/// A port that is down keeps its frames until it is up again, or its ring is full: no reason to end.
fn kick(port: &mut Port) -> Result<(), crate::xsk::Error> {
    match port.kick() {
        Err(crate::xsk::Error::Down { .. }) => Ok(()),
        result => result,
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Plain,
    Cipher,
}
