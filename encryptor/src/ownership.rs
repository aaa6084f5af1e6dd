//! Which worker a received flow belongs to.
//!
//! A flow's replay window exists once, at its owner; a packet that arrives elsewhere is handed to it. The owner is a fixed
//! function of the SPI for as long as the epoch lives, so that no packet, genuine or forged, can move a flow to a fresh window.
//! The function is chosen anew for each epoch: a network card spreads packets by their UDP source port, which is itself made of
//! the SPI, so a port goes to the worker that genuine packets of it arrived at last. Few packets then need to be handed over.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::spi::Spi;
use crate::wire::source_port;

/// Source ports that there are: 49152 to 65535.
const PORTS: usize = 1 << 14;

/// Where genuine packets arrive, as the workers see it.
#[derive(Clone, Debug)]
pub struct Arrivals {
    last: Arc<[AtomicU8]>,
    workers: usize,
}

/// The owners of one epoch's flows.
#[derive(Clone, Debug)]
pub struct Owners(Option<Arc<[u8]>>);

impl Arrivals {
    /// For `workers` workers, which have seen nothing yet: ports are dealt out in turn.
    pub fn new(workers: usize) -> Arrivals {
        let dealt = (0..PORTS).map(|port| AtomicU8::new((port % workers.max(1)) as u8));
        Arrivals { last: dealt.collect(), workers }
    }

    /// A genuine packet of `spi` arrived at a worker's queue.
    pub fn note(&self, spi: Spi, worker: u8) {
        let last = &self.last[port(spi)];
        // The line is shared by all workers: it is written only when the network changes its mind.
        if last.load(Ordering::Relaxed) != worker {
            last.store(worker, Ordering::Relaxed);
        }
    }

    /// The owners of a new epoch. No worker gets more than five quarters of its share of ports, however uneven the arrivals are:
    /// its table has room for that.
    pub fn owners(&self) -> Owners {
        if self.workers == 1 {
            return Owners::sole();
        }
        let most = (PORTS / self.workers) * 5 / 4;
        let mut counts = vec![0; self.workers];
        let mut owner = |last: &AtomicU8| {
            let mut worker = usize::from(last.load(Ordering::Relaxed));
            if counts[worker] >= most {
                worker = (0..self.workers).min_by_key(|&other| counts[other]).unwrap_or(worker);
            }
            counts[worker] += 1;
            worker as u8
        };
        Owners(Some(self.last.iter().map(&mut owner).collect()))
    }
}

impl Owners {
    /// With one worker all flows are its own.
    pub const fn sole() -> Owners {
        Owners(None)
    }

    /// The owner of a flow.
    pub fn of(&self, spi: Spi) -> u8 {
        self.0.as_ref().map_or(0, |owners| owners[port(spi)])
    }
}

/// Flows that each of `workers` workers must have room for when all own `flows`: ports vary in how many flows fall on them.
pub fn share(flows: u32, workers: u32) -> u32 {
    if workers == 1 { flows } else { (flows / workers * 3 / 2 + 64).min(flows) }
}

fn port(spi: Spi) -> usize {
    usize::from(source_port(spi)) % PORTS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spi::Epoch;

    fn counts(owners: &Owners, workers: usize) -> Vec<usize> {
        let mut counts = vec![0; workers];
        (1..=100_000).for_each(|slot| {
            counts[usize::from(owners.of(Spi::new(Epoch::FIRST, 0, slot)))] += 1;
        });
        counts
    }

    #[test]
    fn a_port_belongs_to_the_worker_that_saw_it_last_from_the_next_epoch_on() {
        let arrivals = Arrivals::new(3);
        let (before, spi) = (arrivals.owners(), Spi::new(Epoch::FIRST, 1, 7));
        let old = before.of(spi);
        let new = (old + 1) % 3;
        arrivals.note(spi, new);
        assert_eq!(before.of(spi), old, "within an epoch nothing moves");
        assert_eq!(arrivals.owners().of(spi), new);
    }

    #[test]
    fn no_worker_owns_more_flows_than_it_has_room_for() {
        for workers in [2, 3, 8, 32] {
            let arrivals = Arrivals::new(workers);
            for slot in 1..=200_000 {
                arrivals.note(Spi::new(Epoch::FIRST, 0, slot), 1);
            }
            let most = counts(&arrivals.owners(), workers).into_iter().max().unwrap();
            assert!(most <= share(100_000, workers as u32) as usize, "{most} of {workers} workers");
        }
    }

    #[test]
    fn one_worker_owns_all() {
        assert_eq!(counts(&Arrivals::new(1).owners(), 1), [100_000]);
        assert_eq!(share(16_384, 1), 16_384);
    }
}
