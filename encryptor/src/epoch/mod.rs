//! Epochs: how a direction gets from one key to the next (`docs/protocol.md`, section 4).
//!
//! State machines without clocks, sockets or threads: each takes `now` and what happened, and returns what to do.
//! [`Agreement`] is a site's whole part; in it, [`Sender`] leads a direction and [`Receiver`] agrees or refuses. No message that is lost, late or repeated can make
//! the two ends use different keys for one epoch, because every offer derives anew from a fresh nonce and a fresh key.

mod agreement;
mod keyring;
mod receiver;
mod sender;
mod supply;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use qhaul_keyfeed::KeyId;

pub use agreement::{Agreement, Disagreement};
pub use keyring::{KeyCounts, Keyring};
pub use receiver::Receiver;
pub use sender::{Sender, SenderState};
pub use supply::Supply;

use crate::config::Payload;
use crate::keys::{Combine, EpochContext, EpochKey, EpochSecret, Inputs, KeyError, PqSecret, Psk, SessionId};
use crate::link::{Message, OfferedKey};
use crate::spi::Epoch;

/// What is to be done.
#[derive(Debug)]
pub enum Action {
    /// Send a message to the peer.
    Say(Message),
    /// Send an offer, in the very bytes that its key was derived for.
    SayOffer {
        /// The offer.
        offer: Message,
        /// It as a record.
        record: Vec<u8>,
    },
    /// End the connection to the peer.
    HangUp,
    /// Fetch the keys of these places and key_IDs from our key server.
    Fetch(Vec<(u64, KeyId)>),
    /// Install an epoch for sending.
    InstallTx {
        /// Its number.
        epoch: Epoch,
        /// Its key.
        key: EpochKey,
        /// Flows that the receiver has room for.
        flows: u32,
        /// Age at which it is no longer used, counted from now.
        lifetime: Duration,
    },
    /// Send a probe of the installed epoch.
    Probe(Epoch),
    /// Send in the installed epoch.
    SwitchTx(Epoch),
    /// Send in no epoch at all: the peer has lost its keys.
    WithdrawTx,
    /// Install an epoch for receiving.
    InstallRx {
        /// Its number.
        epoch: Epoch,
        /// Flows in use in each of the sender's lanes, of which there are 1 to 32.
        lanes: Vec<u32>,
        /// Its key.
        key: EpochKey,
    },
    /// Give up an epoch's receiving keys.
    RetireRx(Epoch),
}

/// What both machines of a site know of the link.
#[derive(Clone, Debug)]
pub struct Terms {
    /// The link's name.
    pub link: String,
    /// Our SAE ID.
    pub sae: String,
    /// The peer's SAE ID.
    pub peer_sae: String,
    /// What packets carry.
    pub mode: Payload,
    /// Kind of the key source.
    pub key_source: String,
    /// What epoch secrets are made of.
    pub combine: Combine,
    /// The pre-shared key, if `combine` needs one.
    pub psk: Option<Arc<Psk>>,
    /// Our process.
    pub session: SessionId,
    /// Age at which an epoch is replaced.
    pub rotate: Duration,
    /// How long a receiver keeps an epoch that its sender has left.
    pub grace: Duration,
    /// Age at which an epoch is no longer used, successor or not.
    pub hard_limit: Duration,
}

/// How long one step of an agreement may take before it is given up.
const STEP_TIMEOUT: Duration = Duration::from_secs(2);

/// Gives the TLS exporter's secret for an offer's bytes; `None` when the connection cannot.
pub type Exporter<'a> = dyn FnMut(&[u8]) -> Option<PqSecret> + 'a;

/// Who sends and who receives in a direction.
struct Direction<'a> {
    sender: (&'a str, SessionId),
    receiver: (&'a str, SessionId),
}

/// From the inputs to the epoch key, the same at both ends.
fn derive(
    terms: &Terms,
    direction: &Direction<'_>,
    epoch: Epoch,
    key: Option<(&OfferedKey, &[u8; 32])>,
    offer: &[u8],
    exporter: &mut Exporter<'_>,
) -> Result<EpochKey, KeyError> {
    let pq = if terms.combine.needs_pqc() { exporter(offer) } else { None };
    let inputs = Inputs { qkd: key.map(|(_, bytes)| bytes), pq: pq.as_ref(), psk: terms.psk.as_deref() };
    let secret = EpochSecret::combine(terms.combine, direction.sender.1, direction.receiver.1, &inputs)?;
    let key_id = key.map(|(offered, _)| offered.key_id.to_string());
    let key_ids: Vec<&str> = key_id.iter().map(String::as_str).collect();
    let context = EpochContext {
        source: &terms.key_source,
        link: &terms.link,
        sender: direction.sender.0,
        receiver: direction.receiver.0,
        epoch,
        key_ids: &key_ids,
        offer,
    };
    secret.epoch_key(&context)
}
