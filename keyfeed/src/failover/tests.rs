use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::*;
use crate::secret::QkdKey;

/// What a scripted source does, changed while it is in use.
#[derive(Clone)]
struct Script(Arc<Mutex<(SourceError, bool)>>, Arc<Mutex<usize>>, u8, Arc<Mutex<Instant>>);

/// A source that fails like this, taking two seconds if it is silent, until told otherwise.
impl Script {
    fn works(&self, works: bool) {
        self.0.lock().unwrap().1 = works;
    }

    fn fails_with(&self, error: SourceError) {
        *self.0.lock().unwrap() = (error, false);
    }

    fn calls(&self) -> usize {
        std::mem::take(&mut *self.1.lock().unwrap())
    }

    fn ask(&self) -> Result<(), SourceError> {
        *self.1.lock().unwrap() += 1;
        let (error, works) = self.0.lock().unwrap().clone();
        if !works && matches!(error, SourceError::Silent { .. }) {
            *self.3.lock().unwrap() += HANG;
        }
        if works { Ok(()) } else { Err(error) }
    }

    fn key(&self, id: KeyId) -> DeliveredKey {
        DeliveredKey { id, key: QkdKey::new([self.2; 32]).unwrap() }
    }
}

impl KeySource for Script {
    fn kind(&self) -> &'static str {
        if self.2 == 99 { "other" } else { "scripted" }
    }

    fn status(&mut self) -> Result<SourceStatus, SourceError> {
        self.ask().map(|()| SourceStatus::local(std::path::Path::new("scripted"), self.2.into()))
    }

    fn new_keys(&mut self, number: usize) -> Result<Vec<DeliveredKey>, SourceError> {
        self.ask()?;
        Ok((0..number).map(|n| self.key(KeyId::new(format!("{}-{n}", self.2)).unwrap())).collect())
    }

    fn keys_by_id(&mut self, ids: &[KeyId]) -> Result<Vec<DeliveredKey>, SourceError> {
        self.ask()?;
        let own = |id: &KeyId| id.as_str().starts_with(&format!("{}-", self.2));
        if ids.iter().all(own) {
            Ok(ids.iter().map(|id| self.key(id.clone())).collect())
        } else {
            Err(not_found())
        }
    }
}

/// A failover over sources 1 to `count`, their scripts, and the clock.
fn rig(count: u8) -> (Failover, Vec<Script>, Arc<Mutex<Instant>>) {
    let now = Arc::new(Mutex::new(Instant::now()));
    let script = |n| Script(Arc::new(Mutex::new((silent(), true))), Arc::default(), n, now.clone());
    let scripts: Vec<Script> = (1..=count).map(script).collect();
    let clock = now.clone();
    let sources = scripts.iter().map(|script| Box::new(script.clone()) as Box<dyn KeySource>).collect();
    let failover = Failover::with_clock(sources, PAUSES, Box::new(move || *clock.lock().unwrap())).unwrap();
    (failover, scripts, now)
}

fn giver(failover: &mut Failover) -> u8 {
    failover.new_keys(1).unwrap()[0].key.as_bytes()[0]
}

fn pass(now: &Mutex<Instant>, time: Duration) {
    *now.lock().unwrap() += time;
}

fn silent() -> SourceError {
    SourceError::Silent { address: "kme:1".into(), step: "its answer", millis: 2000 }
}

fn not_found() -> SourceError {
    SourceError::NotFound { message: "scripted".into() }
}

const SECOND: Duration = Duration::from_secs(1);
const HANG: Duration = Duration::from_secs(2);
const PAUSES: Pauses = Pauses { first: SECOND, longest: Duration::from_secs(8) };

#[test]
fn the_next_source_steps_in_and_the_first_is_returned_to() {
    let (mut failover, scripts, now) = rig(3);
    assert_eq!(giver(&mut failover), 1);
    scripts[0].works(false);
    scripts[1].works(false);
    assert_eq!(giver(&mut failover), 3);
    scripts[1].works(true);
    pass(&now, 2 * SECOND);
    assert_eq!(giver(&mut failover), 2);
    scripts[0].works(true);
    pass(&now, 10 * SECOND);
    assert_eq!(giver(&mut failover), 1);
    assert_eq!(failover.status().unwrap().stored_key_count, 1);
}

#[test]
fn a_source_that_hangs_costs_its_limit_once_per_pause() {
    let (mut failover, scripts, now) = rig(2);
    scripts[0].works(false);
    assert_eq!(giver(&mut failover), 2);
    scripts[0].calls();
    let mut asked = 0;
    // Ten minutes, ten requests a second.
    for _ in 0..6_000 {
        assert_eq!(giver(&mut failover), 2);
        asked += scripts[0].calls();
        pass(&now, SECOND / 10);
    }
    // Two seconds of hanging and six to ten of rest each time, after a few shorter ones.
    assert!((48..=80).contains(&asked), "{asked} attempts");
}

#[test]
fn all_that_rest_tell_the_first_ones_error_unasked() {
    let (mut failover, scripts, _now) = rig(2);
    scripts[0].works(false);
    scripts[1].fails_with(SourceError::Empty { message: "scripted".into() });
    assert_eq!(failover.new_keys(1).unwrap_err(), silent());
    scripts.iter().for_each(|script| assert_eq!(script.calls(), 1));
    assert_eq!(failover.new_keys(1).unwrap_err(), silent());
    scripts.iter().for_each(|script| assert_eq!(script.calls(), 0));
}

#[test]
fn a_lying_source_is_left_too() {
    let (mut failover, scripts, _now) = rig(2);
    scripts[0].fails_with(SourceError::BadAnswer { request: "enc_keys", reason: "scripted".into() });
    assert_eq!(giver(&mut failover), 2);
    assert_eq!(giver(&mut failover), 2);
    assert_eq!(scripts[0].calls(), 1);
}

#[test]
fn a_named_key_is_asked_of_each_source_and_its_absence_is_no_failure() {
    let (mut failover, scripts, _now) = rig(3);
    let id = |text: &str| KeyId::new(text).unwrap();
    for _ in 0..3 {
        assert_eq!(failover.keys_by_id(&[id("3-7")]).unwrap()[0].key.as_bytes(), &[3; 32]);
    }
    assert_eq!((scripts[0].calls(), scripts[1].calls()), (3, 3), "nobody rests for not having it");
    assert_eq!(failover.keys_by_id(&[id("9-7")]).unwrap_err(), not_found());
    scripts[0].works(false);
    assert_eq!(failover.keys_by_id(&[id("1-7")]).unwrap_err(), not_found(), "the feeder asks again then");
    assert_eq!(failover.keys_by_id(&[id("2-7")]).unwrap()[0].key.as_bytes(), &[2; 32]);
}

#[test]
fn sources_of_different_kinds_and_none_are_refused() {
    let (_, scripts, _) = rig(1);
    let other = Script(scripts[0].0.clone(), Arc::default(), 99, scripts[0].3.clone());
    let mixed: Vec<Box<dyn KeySource>> = vec![Box::new(scripts[0].clone()), Box::new(other)];
    for (sources, named) in [(mixed, "scripted and other"), (Vec::new(), "there is none")] {
        let error = Failover::new(sources, PAUSES).err().unwrap().to_string();
        assert!(error.contains(named), "{error}");
    }
}
