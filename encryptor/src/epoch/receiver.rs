//! The receiving end of a direction: derives what is offered, tells when a probe came through, and forgets old epochs.

use std::time::{Duration, Instant};

use qhaul_keyfeed::ReceivePool;

use super::{Action, Direction, Exporter, STEP_TIMEOUT, Terms, derive};
use crate::keys::{EpochKey, SessionId};
use crate::link::{Hello, Message, OfferedKey};
use crate::spi::{Epoch, MAX_LANES};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// Installed or about to be; no packet has proved its key yet.
    Pending,
    /// Proved by a probe.
    Active,
    /// The sender has left it; it goes at this moment.
    Leaving(Instant),
    /// On its way out of the worker.
    Gone,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    stage: Stage,
    since: Instant,
}

/// The receiving end.
#[derive(Debug)]
pub struct Receiver {
    terms: Terms,
    peer: Option<SessionId>,
    /// The epoch that the sender said last that it uses.
    used: Option<Epoch>,
    held: [Option<Held>; Epoch::COUNT],
}

impl Receiver {
    /// A receiver without epochs.
    pub fn new(terms: Terms) -> Receiver {
        Receiver { terms, peer: None, used: None, held: [None; Epoch::COUNT] }
    }

    /// A connection to the peer stands and its terms are ours. What its sender does not use is given up; keys of a
    /// process that is gone at once.
    pub fn connected(&mut self, now: Instant, hello: &Hello) -> Vec<Action> {
        let restarted = self.peer.replace(hello.session) != Some(hello.session);
        self.used = hello.sends.filter(|_| !restarted);
        if !restarted {
            self.leave_all_but(self.used, now);
        }
        let gone = |held: &Held| restarted || held.stage == Stage::Pending;
        self.retire_where(gone)
    }

    /// The sender offers an epoch; `bytes` are the offer's own.
    pub fn offered(
        &mut self,
        now: Instant,
        (epoch, lanes, key): (Epoch, Vec<u32>, Option<OfferedKey>),
        bytes: &[u8],
        pool: &mut ReceivePool,
        exporter: &mut Exporter<'_>,
    ) -> Vec<Action> {
        if self.held[epoch.index()].is_some() {
            return refuse(epoch, "keys of an epoch of this number are still held");
        }
        if !(1..=MAX_LANES).contains(&lanes.len()) {
            return refuse(epoch, "a sender has 1 to 32 lanes");
        }
        // An offer replaces all that the sender does not use: it offers only when no other agreement is under way, so what
        // was not proved, or was proved too late for it, was given up.
        self.leave_all_but(self.used, now);
        let mut actions = self.retire_where(|held| held.stage == Stage::Pending);
        match self.derive(epoch, key.as_ref(), bytes, pool, exporter) {
            Ok(key) => {
                self.held[epoch.index()] = Some(Held { stage: Stage::Pending, since: now });
                actions.push(Action::InstallRx { epoch, lanes, key });
            }
            Err(reason) => actions.extend(refuse(epoch, &reason)),
        }
        actions
    }

    /// The worker can open the epoch's packets.
    pub fn installed(&mut self, epoch: Epoch) -> Vec<Action> {
        match self.held[epoch.index()] {
            Some(Held { stage: Stage::Pending, .. }) => vec![Action::Say(Message::Ready { epoch })],
            _ => Vec::new(),
        }
    }

    /// A probe proved genuine.
    pub fn probed(&mut self, epoch: Epoch) -> Vec<Action> {
        match &mut self.held[epoch.index()] {
            Some(held) if held.stage == Stage::Pending => {
                held.stage = Stage::Active;
                vec![Action::Say(Message::Active { epoch })]
            }
            _ => Vec::new(),
        }
    }

    /// The sender uses this epoch and no other.
    pub fn switched(&mut self, now: Instant, epoch: Epoch) {
        self.used = Some(epoch);
        self.leave_all_but(self.used, now);
    }

    /// The worker has given up the epoch's keys.
    pub fn retired(&mut self, epoch: Epoch) {
        self.held[epoch.index()] = None;
    }

    /// Lets time pass. Keys that their sender can no longer use go, whatever became of the channel.
    pub fn tick(&mut self, now: Instant) -> Vec<Action> {
        let longest = self.longest();
        self.retire_where(|held| match held.stage {
            Stage::Leaving(moment) => now >= moment,
            Stage::Pending | Stage::Active => now >= held.since + longest,
            Stage::Gone => false,
        })
    }

    /// When [`Receiver::tick`] has something to do at the latest.
    pub fn next_deadline(&self) -> Option<Instant> {
        let longest = self.longest();
        let moments = self.held.iter().flatten().filter_map(|held| match held.stage {
            Stage::Leaving(moment) => Some(moment),
            Stage::Pending | Stage::Active => Some(held.since + longest),
            Stage::Gone => None,
        });
        moments.min()
    }

    /// Epochs whose packets can be opened, for `hello`.
    pub fn holds(&self) -> Vec<Epoch> {
        self.each(|held| matches!(held.stage, Stage::Active | Stage::Leaving(_)))
    }

    /// A sender uses an epoch for its hard limit at the most, once it has agreed on it in three steps.
    fn longest(&self) -> Duration {
        self.terms.hard_limit + 3 * STEP_TIMEOUT + self.terms.grace
    }

    fn derive(
        &self,
        epoch: Epoch,
        offered: Option<&OfferedKey>,
        bytes: &[u8],
        pool: &mut ReceivePool,
        exporter: &mut Exporter<'_>,
    ) -> Result<EpochKey, String> {
        let peer = self.peer.ok_or("no hello was received")?;
        let taken = match offered {
            Some(offered) => {
                let key = pool.take(offered.place, &offered.key_id);
                let lacking = || format!("the key at place {} is not in the pool", offered.place);
                Some((offered, key.ok_or_else(lacking)?))
            }
            None => None,
        };
        let (sender, receiver) = ((&*self.terms.peer_sae, peer), (&*self.terms.sae, self.terms.session));
        let qkd = taken.as_ref().map(|(offered, key)| (*offered, key.key.as_bytes()));
        derive(&self.terms, &Direction { sender, receiver }, epoch, qkd, bytes, exporter)
            .map_err(|error| error.to_string())
    }

    fn leave_all_but(&mut self, used: Option<Epoch>, now: Instant) {
        let used = used.map(Epoch::index);
        for (index, held) in self.held.iter_mut().enumerate() {
            let Some(held) = held else { continue };
            held.stage = match held.stage {
                Stage::Active if Some(index) != used => Stage::Leaving(now + self.terms.grace),
                // A hello may have been written just before the switch that this message tells of.
                Stage::Leaving(_) if Some(index) == used => Stage::Active,
                stage => stage,
            };
        }
    }

    fn retire_where(&mut self, gone: impl Fn(&Held) -> bool) -> Vec<Action> {
        let going = self.each(|held| held.stage != Stage::Gone && gone(held));
        for epoch in &going {
            if let Some(held) = &mut self.held[epoch.index()] {
                held.stage = Stage::Gone;
            }
        }
        going.into_iter().map(Action::RetireRx).collect()
    }

    fn each(&self, wanted: impl Fn(&Held) -> bool) -> Vec<Epoch> {
        let numbers = (0..Epoch::COUNT as u8).filter_map(|number| Epoch::try_from(number).ok());
        numbers.filter(|epoch| self.held[epoch.index()].as_ref().is_some_and(&wanted)).collect()
    }
}

fn refuse(epoch: Epoch, reason: &str) -> Vec<Action> {
    vec![Action::Say(Message::Refuse { epoch, reason: reason.to_string() })]
}
