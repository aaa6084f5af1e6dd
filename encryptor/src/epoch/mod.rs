//! Epochs: how a direction gets from one key to the next (`docs/protocol.md`, section 4).
//!
//! Two state machines without clocks, sockets or threads: each takes `now` and what happened, and returns what to do.
//! The sender of a direction leads; the receiver agrees or refuses. No message that is lost, late or repeated can make
//! the two ends use different keys for one epoch, because every offer derives anew from a fresh nonce and a fresh key.

mod receiver;
mod sender;

use std::time::Duration;

pub use receiver::{Receiver, ReceiverAction};
pub use sender::{Sender, SenderAction, SenderState};

use crate::keys::{Combine, EpochContext, EpochKey, EpochSecret, Inputs, KeyError, PqSecret, SessionId};
use crate::link::OfferedKey;
use crate::spi::Epoch;

/// What both machines of a site know of the link.
#[derive(Clone, Debug)]
pub struct Terms {
    /// The link's name.
    pub link: String,
    /// Our SAE ID.
    pub sae: String,
    /// The peer's SAE ID.
    pub peer_sae: String,
    /// Kind of the key source.
    pub key_source: String,
    /// What epoch secrets are made of.
    pub combine: Combine,
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
    let inputs = Inputs { qkd: key.map(|(_, bytes)| bytes), pq: pq.as_ref() };
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
    };
    secret.epoch_key(&context)
}
