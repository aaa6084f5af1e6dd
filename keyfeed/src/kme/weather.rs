mod change;
mod control;
mod fibre;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::{Map, Value, json};

pub use change::{Change, Scheduled, What};
pub use control::{Command, command};
pub(super) use control::{listen, serve};
pub use fibre::Fibre;

/// What befalls a KME now and later. Free of I/O; time is the caller's.
#[derive(Debug)]
pub(super) struct Weather {
    source: RateSource,
    /// In order of time.
    ahead: VecDeque<(Instant, Change)>,
    conditions: Vec<Condition>,
}

/// Where the key rate comes from in fair weather.
#[derive(Debug)]
pub(super) enum RateSource {
    /// Keys per second.
    ByHand(f64),
    /// Of keys of so many bits.
    Fibre(Fibre, u32),
}

/// One condition that holds.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Condition {
    #[serde(flatten)]
    change: Change,
    #[serde(skip)]
    until: Option<Instant>,
}

impl Weather {
    pub(super) fn new(source: RateSource, schedule: &[Scheduled], start: Instant) -> Self {
        let mut ahead: Vec<_> =
            schedule.iter().map(|it| (start + Duration::from_secs_f64(it.at), it.change())).collect();
        ahead.sort_by_key(|(at, _)| *at);
        Weather { source, ahead: ahead.into(), conditions: Vec::new() }
    }

    /// The next thing that has happened by `now`: when, and whether all keys were lost. Call until `None`.
    pub(super) fn step(&mut self, now: Instant) -> Option<(Instant, bool)> {
        let comes = self.ahead.front().map(|(at, _)| *at);
        let ends = self.conditions.iter().filter_map(|condition| condition.until).min();
        let next = [comes, ends].into_iter().flatten().min().filter(|at| *at <= now)?;
        if ends == Some(next) {
            self.conditions.retain(|condition| condition.until != Some(next));
            return Some((next, false));
        }
        let (at, change) = self.ahead.pop_front()?;
        Some((at, self.apply(change, at)))
    }

    /// Lets the change come now. Whether all keys are lost by it.
    pub(super) fn apply(&mut self, change: Change, now: Instant) -> bool {
        if change.what == What::Restart {
            return true;
        }
        self.clear(Some(change.what));
        let until = change.lasts.map(|seconds| now + Duration::from_secs_f64(seconds));
        self.conditions.push(Condition { change, until });
        false
    }

    /// Ends one condition, or all.
    pub(super) fn clear(&mut self, what: Option<What>) {
        self.conditions.retain(|condition| what.is_some_and(|what| condition.change.what != what));
    }

    pub(super) fn has(&self, what: What) -> bool {
        self.conditions.iter().any(|condition| condition.change.what == what)
    }

    pub(super) fn value(&self, what: What) -> Option<f64> {
        self.conditions.iter().find(|condition| condition.change.what == what)?.change.value
    }

    pub(super) fn conditions(&self) -> &[Condition] {
        &self.conditions
    }

    /// New keys per second.
    pub(super) fn rate(&self) -> f64 {
        if self.has(What::Outage) || self.qber() > self.qber_limit() {
            return 0.0;
        }
        let made = match &self.source {
            RateSource::ByHand(rate) => *rate,
            RateSource::Fibre(fibre, bits) => {
                self.fibre_now(fibre).yields(self.intercepted()).bits_per_second / f64::from(*bits)
            }
        };
        self.value(What::Rate).unwrap_or(made)
    }

    /// Bit error rate of the quantum channel.
    pub(super) fn qber(&self) -> f64 {
        match &self.source {
            RateSource::ByHand(_) => fibre::resent(Fibre::default().misalignment, self.intercepted()),
            RateSource::Fibre(fibre, _) => self.fibre_now(fibre).yields(self.intercepted()).qber,
        }
    }

    /// What status says of a quantum channel in trouble (`status_extension`); nothing in fair weather.
    pub(super) fn alarm(&self) -> Option<Map<String, Value>> {
        let (qber, limit) = (self.qber(), self.qber_limit());
        let alarm = if self.has(What::Outage) {
            "the quantum channel is down"
        } else if qber > limit {
            "QBER above its limit: an eavesdropper cannot be ruled out, no keys are made"
        } else {
            return None;
        };
        let fields = [
            ("qhaul_alarm", json!(alarm)),
            ("qhaul_qber", json!((qber * 1e4).round() / 1e4)),
            ("qhaul_qber_limit", json!(limit)),
            ("qhaul_key_rate", json!(self.rate())),
        ];
        Some(fields.map(|(name, value)| (name.to_owned(), value)).into_iter().collect())
    }

    fn intercepted(&self) -> f64 {
        self.value(What::Eavesdropper).unwrap_or_default()
    }

    fn qber_limit(&self) -> f64 {
        match &self.source {
            RateSource::ByHand(_) => Fibre::default().qber_limit,
            RateSource::Fibre(fibre, _) => fibre.qber_limit,
        }
    }

    fn fibre_now(&self, fibre: &Fibre) -> Fibre {
        let length_km = self.value(What::Length).unwrap_or(fibre.length_km);
        Fibre { length_km, ..fibre.clone() }
    }
}

#[cfg(test)]
mod tests;
