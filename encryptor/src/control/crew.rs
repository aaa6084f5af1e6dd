//! The workers as the control thread sees them: told as one, heard as one.
//!
//! Whatever is agreed with a peer holds for all workers: an epoch is installed, switched to or gone once each of them
//! has said so ([`Rolls`]).

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crossbeam::channel::{Receiver, Sender, TryRecvError, unbounded};
use mio::Waker;
use tracing::{debug, warn};

use super::{RunError, io_error};
use crate::config::Config;
use crate::counters::Counters;
use crate::fit::Fit;
use crate::handover::Handover;
use crate::spi::Epoch;
use crate::worker::{Bed, Command, Event, LinkWork, Queues, Wiring, Worker};
use crate::xsk::ask_for_short_slices;

/// Packets that wait for one worker at the most, handed over by all others.
const PARCELS: usize = 1024;

/// One worker.
#[derive(Debug)]
struct Hand {
    core: usize,
    commands: Sender<Command>,
    waker: Arc<Waker>,
    /// Of frames of no link, written by the worker.
    strays: Arc<Counters>,
    /// Of links that are gone, written here.
    past: Counters,
    thread: JoinHandle<()>,
}

/// What a worker starts with.
pub(super) struct Work {
    pub(super) queues: Queues,
    pub(super) links: Vec<LinkWork>,
    pub(super) fit: Fit,
}

/// All workers.
#[derive(Debug)]
pub(super) struct Crew {
    hands: Vec<Hand>,
    events: Receiver<(u8, Event)>,
}

impl Crew {
    /// Starts a worker on each of the configuration's cores. `packet`: bytes of the longest packet; `control` wakes the control thread
    /// for events.
    pub(super) fn start(
        config: &Config,
        works: Vec<Work>,
        packet: usize,
        control: Arc<Waker>,
    ) -> Result<Crew, RunError> {
        let (to_control, events) = unbounded();
        let mut crew = Crew { hands: Vec::new(), events };
        let beds: Result<Vec<_>, _> = works.iter().map(|_| Bed::new()).collect();
        let (beds, wakers): (Vec<_>, Vec<_>) = beds.map_err(io_error("a worker's poll"))?.into_iter().unzip();
        let wakers: Vec<Arc<Waker>> = wakers.into_iter().map(Arc::new).collect();
        let mut handovers = if works.len() > 1 {
            Handover::between(&wakers, PARCELS.min(config.ring as usize), packet)
        } else {
            Vec::new()
        };
        for (number, (Work { queues, links, fit }, bed)) in works.into_iter().zip(beds).enumerate().rev() {
            let (commands, to_worker) = unbounded();
            let strays = Arc::new(Counters::new());
            let wiring = Wiring {
                number: number as u8,
                commands: to_worker,
                events: to_control.clone(),
                control: control.clone(),
                strays: strays.clone(),
                handover: handovers.pop(),
            };
            let worker = Worker::new(queues, links, fit, wiring, config.polling, bed);
            let core = config.cores[number];
            let thread = spawn(worker, core)?;
            let (waker, past) = (wakers[number].clone(), Counters::new());
            crew.hands.insert(0, Hand { core, commands, waker, strays, past, thread });
        }
        Ok(crew)
    }

    /// The workers' cores, in the order of their numbers.
    pub(super) fn cores(&self) -> impl Iterator<Item = usize> {
        self.hands.iter().map(|hand| hand.core)
    }

    /// What a worker counts beside its links: frames of none, and those of links that are gone.
    pub(super) fn rest(&self, worker: usize) -> [&Counters; 2] {
        let hand = &self.hands[worker];
        [&hand.strays, &hand.past]
    }

    /// Keeps what a worker counted of a link that it has given back.
    pub(super) fn keep(&self, worker: u8, counters: &Counters) {
        self.hands[usize::from(worker)].past.add_all(counters);
    }

    /// Tells all workers.
    pub(super) fn tell_all(&self, command: impl Fn() -> Command) {
        self.tell_each(self.hands.iter().map(|_| command()));
    }

    /// Tells each worker its own.
    pub(super) fn tell_each(&self, commands: impl IntoIterator<Item = Command>) {
        for (hand, command) in self.hands.iter().zip(commands) {
            // A worker that is gone has said so by an event, which is handled in this turn or the next.
            let _ = hand.commands.send(command);
            let _ = hand.waker.wake();
        }
    }

    /// What a worker has to say, and its number.
    pub(super) fn next_event(&self) -> Result<Option<(u8, Event)>, RunError> {
        match self.events.try_recv() {
            Ok(event) => Ok(Some(event)),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(RunError::Worker("the log says why".into())),
        }
    }

    /// Waits for all to end. The first that panicked, by its core.
    pub(super) fn join(self) -> Result<(), RunError> {
        let ends: Vec<(usize, bool)> =
            self.hands.into_iter().map(|hand| (hand.core, hand.thread.join().is_ok())).collect();
        match ends.into_iter().find(|(_, fine)| !fine) {
            Some((core, _)) => {
                Err(RunError::Worker(format!("the one on core {core} panicked; the log says where")))
            }
            None => Ok(()),
        }
    }
}

/// What the workers have said of the epochs of one link.
#[derive(Debug)]
pub(super) struct Rolls {
    workers: usize,
    installed: Roll,
    switched: Roll,
    tx_retired: Roll,
    rx_retired: Roll,
}

impl Rolls {
    /// For so many workers.
    pub(super) fn new(workers: usize) -> Rolls {
        let [installed, switched, tx_retired, rx_retired] = Default::default();
        Rolls { workers, installed, switched, tx_retired, rx_retired }
    }

    /// Whether all workers can open the epoch's packets, now that one more can.
    pub(super) fn all_installed(&mut self, epoch: Epoch) -> bool {
        self.installed.said(epoch, self.workers)
    }

    /// Whether all workers send in the epoch, now that one more does.
    pub(super) fn all_switched(&mut self, epoch: Epoch) -> bool {
        self.switched.said(epoch, self.workers)
    }

    /// Whether all workers have given back the sending epoch, now that one more has.
    pub(super) fn all_gave_back_tx(&mut self, epoch: Epoch) -> bool {
        self.tx_retired.said(epoch, self.workers)
    }

    /// Whether all workers have given back the receiving epoch, now that one more has.
    pub(super) fn all_gave_back_rx(&mut self, epoch: Epoch) -> bool {
        self.rx_retired.said(epoch, self.workers)
    }

    /// A new epoch of this number is installed for receiving.
    pub(super) fn begin_rx(&mut self, epoch: Epoch) {
        self.installed.begin(epoch);
    }

    /// The workers are told to send in this epoch.
    pub(super) fn begin_switch(&mut self, epoch: Epoch) {
        self.switched.begin(epoch);
    }
}

/// How many workers have said a thing of each epoch.
#[derive(Debug, Default)]
struct Roll([usize; Epoch::COUNT]);

impl Roll {
    fn begin(&mut self, epoch: Epoch) {
        self.0[epoch.index()] = 0;
    }

    /// One more says it. True, and all begins anew, when it was the last.
    fn said(&mut self, epoch: Epoch, workers: usize) -> bool {
        let count = &mut self.0[epoch.index()];
        *count += 1;
        let all = *count >= workers;
        if all {
            *count = 0;
        }
        all
    }
}

fn spawn(worker: Worker, core: usize) -> Result<JoinHandle<()>, RunError> {
    let pinned = move || {
        if !core_affinity::set_for_current(core_affinity::CoreId { id: core }) {
            warn!("a worker cannot be pinned to core {core}");
        }
        if let Err(error) = ask_for_short_slices() {
            debug!("a worker's slices stay as they are: {error}");
        }
        worker.run();
    };
    thread::Builder::new().name(format!("worker-{core}")).spawn(pinned).map_err(io_error("starting a worker"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_one_counts_and_each_epoch_counts_apart() {
        let (mut roll, next) = (Roll::default(), Epoch::FIRST.next());
        assert_eq!([roll.said(Epoch::FIRST, 2), roll.said(next, 2)], [false, false]);
        assert_eq!([roll.said(Epoch::FIRST, 2), roll.said(next, 2)], [true, true]);
        assert!(!roll.said(Epoch::FIRST, 2), "it has begun anew");
        roll.begin(Epoch::FIRST);
        assert_eq!([1, 2, 3].map(|_| roll.said(Epoch::FIRST, 3)), [false, false, true]);
    }
}
