mod breaker;

use std::time::Instant;

use aws_lc_rs::rand;
use tracing::{info, warn};

use crate::secret::{DeliveredKey, KeyId};
use crate::source::{KeySource, SourceError, SourceStatus};
use breaker::Breaker;
pub use breaker::Pauses;

/// Several sources of one kind in order of preference: keys come from the first that gives any.
///
/// A source that fails is left alone for a pause that grows with its failures, so one that hangs costs its time limit
/// once per pause; then it is asked first again. A key that the peer names is asked of each source in turn, since only
/// the KME on the peer's path has it.
pub struct Failover {
    members: Vec<Member>,
    /// The source that gave keys last.
    giving: usize,
    clock: Clock,
}

/// One source of a [`Failover`].
struct Member {
    source: Box<dyn KeySource>,
    breaker: Breaker,
    /// Why it rests.
    error: Option<SourceError>,
}

type Clock = Box<dyn Fn() -> Instant + Send>;

impl Failover {
    /// Takes the sources in order of preference.
    ///
    /// # Errors
    /// [`SourceError::Setting`] when there is none, or when they are of different kinds: the kind enters key derivation,
    /// so both sites must know it beforehand.
    pub fn new(sources: Vec<Box<dyn KeySource>>, pauses: Pauses) -> Result<Self, SourceError> {
        Self::with_clock(sources, pauses, Box::new(Instant::now))
    }

    fn with_clock(
        sources: Vec<Box<dyn KeySource>>,
        pauses: Pauses,
        clock: Clock,
    ) -> Result<Self, SourceError> {
        let wrong = |reason: String| Err(SourceError::Setting { name: "sources", reason });
        let Some(first) = sources.first() else {
            return wrong("there is none; name at least one key server".into());
        };
        if let Some(other) = sources.iter().find(|source| source.kind() != first.kind()) {
            let kinds = (first.kind(), other.kind());
            return wrong(format!(
                "{} and {} are of different kinds; name sources of one kind",
                kinds.0, kinds.1
            ));
        }
        let member = |source| Member { source, breaker: Breaker::new(pauses), error: None };
        Ok(Failover { members: sources.into_iter().map(member).collect(), giving: 0, clock })
    }

    /// The first source that may be asked and answers.
    fn first<T>(
        &mut self,
        mut ask: impl FnMut(&mut dyn KeySource) -> Result<T, SourceError>,
    ) -> Result<(usize, T), SourceError> {
        let mut told = None;
        for (place, member) in self.members.iter_mut().enumerate() {
            match member.ask(&self.clock, &mut ask) {
                Ok(answer) => return Ok((place, answer)),
                // The preferred source's error is the one to tell.
                Err(error) => told = told.or(Some(error)),
            }
        }
        Err(told.unwrap_or_else(no_member))
    }
}

impl Member {
    /// Asks unless the source rests, and draws the consequences of an error.
    fn ask<T>(
        &mut self,
        clock: &Clock,
        ask: impl FnOnce(&mut dyn KeySource) -> Result<T, SourceError>,
    ) -> Result<T, SourceError> {
        if let Some(error) = &self.error
            && !self.breaker.allows(clock())
        {
            return Err(error.clone());
        }
        let result = ask(self.source.as_mut());
        match &result {
            Ok(_) => self.recovered(),
            Err(error) if concerns_a_key(error) => {}
            Err(error) => {
                match error {
                    // The pause begins now, after the time that the call took.
                    SourceError::Empty { .. } => self.breaker.was_empty(clock(), chance()),
                    _ => self.breaker.failed(clock(), chance()),
                }
                self.error = Some(error.clone());
            }
        }
        result
    }

    fn recovered(&mut self) {
        self.breaker.succeeded();
        self.error = None;
    }
}

impl KeySource for Failover {
    fn kind(&self) -> &'static str {
        self.members[0].source.kind()
    }

    fn status(&mut self) -> Result<SourceStatus, SourceError> {
        self.first(|source| source.status()).map(|(_, status)| status)
    }

    fn new_keys(&mut self, number: usize) -> Result<Vec<DeliveredKey>, SourceError> {
        let (place, keys) = self.first(|source| source.new_keys(number))?;
        if place > self.giving {
            let error = self.members[self.giving].error.as_ref().map(ToString::to_string).unwrap_or_default();
            warn!("key source {} fails, keys come from source {} now: {error}", self.giving + 1, place + 1);
        } else if place < self.giving {
            info!("key source {} gives keys again", place + 1);
        }
        self.giving = place;
        Ok(keys)
    }

    fn keys_by_id(&mut self, ids: &[KeyId]) -> Result<Vec<DeliveredKey>, SourceError> {
        let (mut not_found, mut told) = (None, None);
        for member in &mut self.members {
            match member.ask(&self.clock, |source| source.keys_by_id(ids)) {
                Ok(keys) => return Ok(keys),
                Err(error @ SourceError::NotFound { .. }) => not_found = not_found.or(Some(error)),
                Err(error) => told = told.or(Some(error)),
            }
        }
        // "Not found" makes the feeder ask again for a while: the source that rests may be back by then.
        Err(not_found.or(told).unwrap_or_else(no_member))
    }
}

/// Whether an error is about one key rather than about the source.
fn concerns_a_key(error: &SourceError) -> bool {
    matches!(error, SourceError::NotFound { .. })
        || matches!(error, SourceError::Refused { status, request, .. }
            if (400..500).contains(status) && *request == crate::etsi014::DEC_KEYS)
        || matches!(error, SourceError::Unauthorised { request } if *request == crate::etsi014::DEC_KEYS)
}

fn no_member() -> SourceError {
    SourceError::Setting { name: "sources", reason: "there is none; name at least one key server".into() }
}

/// 0 to 1. Without an RNG there is no chance, and the pauses are all the same.
fn chance() -> f64 {
    let mut byte = [128];
    rand::fill(&mut byte).unwrap_or_default();
    f64::from(byte[0]) / 255.0
}

#[cfg(test)]
mod tests;
