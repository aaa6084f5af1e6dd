//! Writes to the audit log what is said and heard about keys, and what became of epochs.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Instant;

use qhaul_keyfeed::KeyId;

use crate::audit::{Audit, Direction, Event, Kind, Limit};
use crate::epoch::{Sender, SenderState, Supply};
use crate::link::{Message, MissingKey, OfferedKey};
use crate::spi::Epoch;

/// What one link has to say in the audit log, which all links share, and the states of which only changes are told.
#[derive(Debug)]
pub(super) struct Witness {
    audit: Rc<RefCell<Audit>>,
    link: String,
    supply: Supply,
    expired: bool,
}

impl Witness {
    pub(super) fn new(audit: Rc<RefCell<Audit>>, link: &str) -> Witness {
        let mut witness = Witness { audit, link: link.to_string(), supply: Supply::Filling, expired: false };
        witness.note(Event::new(Kind::Start));
        witness
    }

    /// The process ends, for this reason.
    pub(super) fn stop(&mut self, reason: &str) {
        self.note(Event::new(Kind::Stop).reason(reason));
    }

    /// Our key server delivered keys to send with.
    pub(super) fn obtained<'k>(&mut self, key_ids: impl IntoIterator<Item = &'k KeyId>) {
        let keys: Vec<KeyId> = key_ids.into_iter().cloned().collect();
        self.note(Event::new(Kind::Obtained).direction(Direction::Tx).keys(&keys));
    }

    /// We said this: of the keys that we send with what a sender says, of the others what a receiver says.
    pub(super) fn said(&mut self, message: &Message) {
        self.message(message, Direction::Tx, Direction::Rx);
    }

    /// The peer said this.
    pub(super) fn heard(&mut self, message: &Message) {
        self.message(message, Direction::Rx, Direction::Tx);
    }

    /// Keys of an epoch were wiped.
    pub(super) fn retired(&mut self, direction: Direction, epoch: Epoch) {
        self.note(Event::new(Kind::Retired).direction(direction).epoch(epoch));
    }

    /// Traffic is sent in no epoch.
    pub(super) fn withdrawn(&mut self) {
        self.note(Event::new(Kind::Withdrawn).direction(Direction::Tx));
    }

    /// Another policy is in force.
    pub(super) fn policy(&mut self, change: &str) {
        self.note(Event::new(Kind::Policy).reason(change));
    }

    /// A soft limit asks for the next epoch.
    pub(super) fn soft_limit(&mut self) {
        self.note(Event::limit(Limit::Soft).direction(Direction::Tx));
    }

    /// Tells changes of the supply and of the hard limit.
    pub(super) fn watch(&mut self, sender: &Sender, now: Instant) {
        let supply = sender.supply();
        if std::mem::replace(&mut self.supply, supply) != supply {
            self.note(Event::alarm(supply).direction(Direction::Tx));
        }
        let expired = sender.state(now).0 == SenderState::Expired;
        if expired && !std::mem::replace(&mut self.expired, expired) {
            self.note(Event::limit(Limit::Expired).direction(Direction::Tx));
        }
        self.expired = expired;
    }

    /// `leading`: of what the speaker says as a sender; `following`: of what it says as a receiver.
    fn message(&mut self, message: &Message, leading: Direction, following: Direction) {
        let new = |kind, direction| Event::new(kind).direction(direction);
        match message {
            Message::Keys { keys } => self.note(new(Kind::Announced, leading).keys(ids(keys))),
            Message::KeyState { held, missing } => {
                if !held.is_empty() {
                    self.note(new(Kind::Confirmed, following).reason(&places(held)));
                }
                for MissingKey { place, reason } in missing {
                    self.note(new(Kind::Missing, following).reason(&format!("place {place}: {reason}")));
                }
            }
            Message::Offer { epoch, key, .. } => {
                self.note(new(Kind::Offered, leading).epoch(*epoch).keys(ids(key)))
            }
            Message::Ready { epoch } => self.note(new(Kind::Ready, following).epoch(*epoch)),
            Message::Refuse { epoch, reason } => {
                self.note(new(Kind::Refused, following).epoch(*epoch).reason(reason));
            }
            Message::Active { epoch } => self.note(new(Kind::Active, following).epoch(*epoch)),
            Message::Switched { epoch } => self.note(new(Kind::Switched, leading).epoch(*epoch)),
            Message::Hello(_)
            | Message::Path { .. }
            | Message::Ping
            | Message::Pong
            | Message::Bye { .. } => {}
        }
    }

    fn note(&mut self, event: Event<'_>) {
        self.audit.borrow_mut().note(&event.link(&self.link));
    }
}

fn ids<'k>(keys: impl IntoIterator<Item = &'k OfferedKey>) -> impl Iterator<Item = &'k KeyId> {
    keys.into_iter().map(|offered| &offered.key_id)
}

/// Absolute places, as the messages name keys that are held.
fn places(held: &[u64]) -> String {
    let places: Vec<String> = held.iter().map(u64::to_string).collect();
    format!("places {}", places.join(", "))
}
