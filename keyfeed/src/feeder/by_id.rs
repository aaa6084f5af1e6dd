use std::collections::HashMap;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::{FeedReply, Outbox};
use crate::secret::{DeliveredKey, KeyId};
use crate::source::{KeySource, SourceError};

type Item = (u64, KeyId);
type Answered = (u64, KeyId, Result<DeliveredKey, SourceError>);

/// Fetches batch after batch by key_ID until the feeder is gone.
pub(super) fn serve(
    mut source: Box<dyn KeySource>,
    batches: &Receiver<Vec<Item>>,
    out: &Outbox,
    ended: &Receiver<()>,
) {
    for batch in batches {
        if !fetch(source.as_mut(), batch, out, ended) {
            return;
        }
    }
}

/// Answers every item once. A key_ID that is not found is asked again for [`RELAY_TIME`]: KMEs answer the master before
/// the key has reached its slave's KME. False when the feeder is gone.
fn fetch(source: &mut dyn KeySource, batch: Vec<Item>, out: &Outbox, ended: &Receiver<()>) -> bool {
    let Round { mut answered, mut missing } = first_round(source, batch);
    let deadline = Instant::now() + RELAY_TIME;
    let mut pause = FIRST_PAUSE;
    loop {
        if !answered.is_empty() && !out.put(FeedReply::ById(answered)) {
            return false;
        }
        if missing.is_empty() {
            return true;
        }
        if ended.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
            return false;
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
        let last = Instant::now() >= deadline;
        // Another key goes first each time, so that one that never comes does not hide the others.
        missing.rotate_left(1);
        let again = missing.into_iter().map(|(place, id, _)| (place, id)).collect();
        Round { answered, missing } = one_by_one(source, again, if last { AskAll } else { StopAtMissing });
        if last {
            answered.append(&mut missing);
        }
    }
}

/// What one key that is not found says of the keys behind it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sweep {
    /// Nothing: each is asked for.
    AskAll,
    /// Most likely they are not there yet either: the KME is spared the requests.
    StopAtMissing,
}
use Sweep::{AskAll, StopAtMissing};

struct Round {
    /// Done, well or badly.
    answered: Vec<Answered>,
    /// Not found so far.
    missing: Vec<Answered>,
}

/// All key_IDs at once; where the KME refuses the batch, for which one bad key_ID suffices (clause 6.4), one by one.
fn first_round(source: &mut dyn KeySource, batch: Vec<Item>) -> Round {
    let ids: Vec<KeyId> = batch.iter().map(|(_, id)| id.clone()).collect();
    let keys = match source.keys_by_id(&ids) {
        Ok(keys) => keys,
        Err(error) if batch.len() > 1 && may_be_one_ids_fault(&error) => {
            return one_by_one(source, batch, AskAll);
        }
        Err(error) => return Round::of(batch.into_iter().map(|(place, id)| (place, id, Err(error.clone())))),
    };
    let mut keys: HashMap<KeyId, DeliveredKey> = keys.into_iter().map(|key| (key.id.clone(), key)).collect();
    let mut answered = Vec::with_capacity(batch.len());
    let mut rest = Vec::new();
    for (place, id) in batch {
        match keys.remove(&id) {
            Some(key) => answered.push((place, id, Ok(key))),
            None => rest.push((place, id)),
        }
    }
    let mut round = one_by_one(source, rest, AskAll);
    round.answered.append(&mut answered);
    round
}

/// Asks for each key alone. When the KME cannot be reached, or `sweep` says so, the remaining ones share that error
/// unasked.
fn one_by_one(source: &mut dyn KeySource, items: Vec<Item>, sweep: Sweep) -> Round {
    let mut stopped: Option<SourceError> = None;
    Round::of(items.into_iter().map(|(place, id)| {
        if let Some(error) = &stopped {
            return (place, id, Err(error.clone()));
        }
        let result = ask_one(source, &id);
        if let Err(error) = &result
            && (!concerns_one_id(error) || (sweep == StopAtMissing && is_not_found(error)))
        {
            stopped = Some(error.clone());
        }
        (place, id, result)
    }))
}

fn ask_one(source: &mut dyn KeySource, id: &KeyId) -> Result<DeliveredKey, SourceError> {
    let bad = || SourceError::BadAnswer { request: "a request by key_ID", reason: "no key came".into() };
    source.keys_by_id(std::slice::from_ref(id))?.pop().ok_or_else(bad)
}

impl Round {
    fn of(results: impl Iterator<Item = Answered>) -> Self {
        let (missing, answered) =
            results.partition(|(_, _, result)| result.as_ref().is_err_and(is_not_found));
        Round { answered, missing }
    }
}

fn is_not_found(error: &SourceError) -> bool {
    matches!(error, SourceError::NotFound { .. })
}

/// Whether a batch may have been refused for the sake of one key_ID: unknown, another SAE's, or simply too many.
fn may_be_one_ids_fault(error: &SourceError) -> bool {
    match error {
        SourceError::NotFound { .. } | SourceError::Unauthorised { .. } => true,
        SourceError::Refused { status, .. } => (400..500).contains(status),
        _ => false,
    }
}

/// Whether another key_ID may fare better right now.
fn concerns_one_id(error: &SourceError) -> bool {
    may_be_one_ids_fault(error) || matches!(error, SourceError::BadAnswer { .. })
}

/// How long a key may take from the master's KME to ours: servers' own demonstrations wait up to 3 s, most need none.
const RELAY_TIME: Duration = Duration::from_secs(2);
const FIRST_PAUSE: Duration = Duration::from_millis(25);
const LONGEST_PAUSE: Duration = Duration::from_millis(400);
