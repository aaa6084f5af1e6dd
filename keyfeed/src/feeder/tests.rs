use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::*;
use crate::secret::QkdKey;

/// Knows keys by number; a number in `late` is found only at the n-th call for it alone.
#[derive(Default)]
struct Script {
    known: Vec<u8>,
    late: HashMap<u8, usize>,
    calls: usize,
    broken: bool,
}

#[derive(Clone, Default)]
struct Scripted(Arc<Mutex<Script>>);

impl KeySource for Scripted {
    fn kind(&self) -> &'static str {
        "scripted"
    }

    fn status(&mut self) -> Result<SourceStatus, SourceError> {
        Err(SourceError::Empty { message: "scripted".into() })
    }

    fn new_keys(&mut self, number: usize) -> Result<Vec<DeliveredKey>, SourceError> {
        Ok((1..=number as u8).map(key).collect())
    }

    fn keys_by_id(&mut self, ids: &[KeyId]) -> Result<Vec<DeliveredKey>, SourceError> {
        let mut script = self.0.lock().unwrap();
        if script.broken {
            return Err(SourceError::Unreachable { address: "kme:1".into(), reason: "scripted".into() });
        }
        script.calls += 1;
        let not_found = || SourceError::NotFound { message: "scripted".into() };
        let mut keys = Vec::new();
        for id in ids {
            let number: u8 = id.as_str().parse().map_err(|_| not_found())?;
            if let Some(calls) = script.late.get_mut(&number).filter(|calls| **calls > 0) {
                *calls -= 1;
                return Err(not_found());
            }
            let known = script.known.contains(&number);
            keys.push(if known { key(number) } else { return Err(not_found()) });
        }
        Ok(keys)
    }
}

fn key(number: u8) -> DeliveredKey {
    DeliveredKey { id: id(number), key: QkdKey::new([number; 32]).unwrap() }
}

fn id(number: u8) -> KeyId {
    KeyId::new(number.to_string()).unwrap()
}

fn start(script: Script) -> (Feeder, Receiver<()>) {
    start_shared(&Scripted(Arc::new(Mutex::new(script))))
}

fn start_shared(source: &Scripted) -> (Feeder, Receiver<()>) {
    let source = source.clone();
    let (wake, woken) = bounded(100);
    let make = move || Ok(Box::new(source.clone()) as Box<dyn KeySource>);
    (Feeder::start(make, move || wake.send(()).unwrap_or_default()).unwrap(), woken)
}

fn next(feeder: &Feeder, woken: &Receiver<()>) -> FeedReply {
    woken.recv_timeout(Duration::from_secs(10)).expect("a reply in time");
    feeder.poll().expect("a wake-up means that a reply is there")
}

/// Outcome by place, of as many replies as it takes to answer `count` items.
fn outcomes(feeder: &Feeder, woken: &Receiver<()>, count: usize) -> HashMap<u64, Result<u8, SourceError>> {
    let mut all = HashMap::new();
    while all.len() < count {
        let FeedReply::ById(items) = next(feeder, woken) else { panic!("not a reply by key_ID") };
        for (place, id, result) in items {
            let result = result.map(|key| {
                assert_eq!(key.id, id);
                key.key.as_bytes()[0]
            });
            assert!(all.insert(place, result).is_none(), "place {place} answered twice");
        }
    }
    all
}

#[test]
fn new_keys_and_status_come_back_one_at_a_time() {
    let (feeder, woken) = start(Script::default());
    assert!(feeder.poll().is_none());
    assert!(feeder.ask_new(3));
    assert!(!feeder.ask_new(3), "one is under way until its reply is polled");
    assert!(matches!(next(&feeder, &woken), FeedReply::New(Ok(keys)) if keys.len() == 3));
    assert!(feeder.ask_status());
    assert!(matches!(next(&feeder, &woken), FeedReply::Status(Err(SourceError::Empty { .. }))));
    assert!(feeder.ask_new(1));
    assert!(matches!(next(&feeder, &woken), FeedReply::New(Ok(keys)) if keys.len() == 1));
}

#[test]
fn one_missing_key_does_not_sink_the_others() {
    let (feeder, woken) = start(Script { known: vec![1, 2, 4], ..Script::default() });
    assert!(feeder.ask_by_id(vec![(10, id(1)), (11, id(2)), (12, id(3)), (13, id(4))]));
    let all = outcomes(&feeder, &woken, 4);
    assert_eq!((&all[&10], &all[&11], &all[&13]), (&Ok(1), &Ok(2), &Ok(4)));
    assert!(matches!(all[&12], Err(SourceError::NotFound { .. })));
}

#[test]
fn a_key_that_comes_late_is_found() {
    let (feeder, woken) =
        start(Script { known: vec![1, 2], late: HashMap::from([(2, 4)]), ..Script::default() });
    assert!(feeder.ask_by_id(vec![(0, id(1)), (1, id(2))]));
    let all = outcomes(&feeder, &woken, 2);
    assert_eq!((&all[&0], &all[&1]), (&Ok(1), &Ok(2)));
}

#[test]
fn late_keys_behind_one_that_never_comes_are_found() {
    let late = HashMap::from([(2, 3), (3, 3), (4, 3)]);
    let (feeder, woken) = start(Script { known: vec![2, 3, 4], late, ..Script::default() });
    assert!(feeder.ask_by_id((1..=4).map(|n| (u64::from(n), id(n))).collect()));
    let all = outcomes(&feeder, &woken, 4);
    assert!(matches!(all[&1], Err(SourceError::NotFound { .. })));
    assert_eq!((&all[&2], &all[&3], &all[&4]), (&Ok(2), &Ok(3), &Ok(4)));
}

#[test]
fn keys_that_never_come_cost_the_kme_few_requests() {
    let source = Scripted::default();
    let (feeder, woken) = start_shared(&source);
    assert!(feeder.ask_by_id((0..100).map(|n| (u64::from(n), id(n))).collect()));
    let all = outcomes(&feeder, &woken, 100);
    assert!(all.values().all(|result| matches!(result, Err(SourceError::NotFound { .. }))));
    let calls = source.0.lock().unwrap().calls;
    assert!((200..250).contains(&calls), "the batch, each key first and last, some probes between: {calls}");
}

#[test]
fn an_unreachable_kme_answers_every_item() {
    let (feeder, woken) = start(Script { broken: true, ..Script::default() });
    assert!(feeder.ask_by_id((0..50).map(|n| (u64::from(n), id(n))).collect()));
    let all = outcomes(&feeder, &woken, 50);
    assert!(all.values().all(|result| matches!(result, Err(SourceError::Unreachable { .. }))));
}

#[test]
fn the_queue_is_bounded_and_dropping_ends_the_threads() {
    let (feeder, woken) = start(Script::default());
    let accepted = (0..1000).filter(|n| feeder.ask_by_id(vec![(*n, id(9))])).count();
    assert!((QUEUED_BATCHES..1000).contains(&accepted), "{accepted} batches were taken");
    drop(feeder);
    // `wake` lives on the two threads alone: when they end, the channel disconnects.
    let limit = Instant::now() + Duration::from_secs(10);
    while woken.recv_deadline(limit) != Err(crossbeam_channel::RecvTimeoutError::Disconnected) {
        assert!(Instant::now() < limit, "the threads live on after the feeder");
    }
}

#[test]
fn errors_of_the_maker_come_out_of_start() {
    let make = || Err(SourceError::Empty { message: "made".into() });
    assert!(matches!(Feeder::start(make, || ()), Err(SourceError::Empty { .. })));
}
