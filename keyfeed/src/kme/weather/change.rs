use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// What can befall a KME and its quantum channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// The quantum channel is cut: no new keys
    Outage,
    /// VALUE (0 to 1) of the pulses are measured and resent: the error rate rises, above its limit the key rate is 0
    Eavesdropper,
    /// VALUE new keys per second, whatever the configuration says
    Rate,
    /// The fibre is VALUE km long
    Length,
    /// The link between the KMEs is cut
    LinkDown,
    /// The KME closes every connection without an answer
    Down,
    /// The KME takes requests and does not answer
    Hang,
    /// Answers take VALUE seconds longer
    Delay,
    /// Every request is answered 503
    #[value(name = "error-503")]
    #[serde(rename = "error-503")]
    Error503,
    /// Every request is answered 400
    #[value(name = "error-400")]
    #[serde(rename = "error-400")]
    Error400,
    /// Keys given to this site's SAEs are wrong
    WrongKey,
    /// Keys given to this site's SAEs are all the same
    DuplicateKey,
    /// Keys from the peer KME are confirmed and lost
    LostKey,
    /// All keys of this KME are lost, once
    Restart,
}

/// One change of the weather.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// What befalls the KME.
    pub what: What,
    /// How much, where there is a how much.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// How long, seconds; until it is cleared unless given.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub lasts: Option<f64>,
}

/// `[[weather]]`: a change that comes by itself.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scheduled {
    /// Seconds after the start of the KME.
    pub at: f64,
    /// What befalls the KME.
    pub what: What,
    /// How much, where there is a how much.
    #[serde(default)]
    pub value: Option<f64>,
    /// How long, seconds; to the end unless given.
    #[serde(default, rename = "for")]
    pub lasts: Option<f64>,
}

impl Change {
    /// What no type can say. The error names the remedy.
    pub(in crate::kme) fn check(&self) -> Result<(), String> {
        let name = self.what.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        let (range, unit) = match self.what {
            What::Eavesdropper => (0.0..=1.0, "a share of the pulses, 0 to 1"),
            What::Rate => (0.0..=1e6, "keys per second, 0 to 1000000"),
            What::Length => (0.0..=1e4, "km, 0 to 10000"),
            What::Delay => (0.0..=600.0, "seconds, 0 to 600"),
            _ if self.value.is_some() => return Err(format!("{name} takes no value")),
            _ => return self.check_time(&name),
        };
        if !self.value.is_some_and(|value| range.contains(&value)) {
            return Err(format!("{name} needs a value: {unit}"));
        }
        self.check_time(&name)
    }

    fn check_time(&self, name: &str) -> Result<(), String> {
        if self.lasts.is_some_and(|seconds| !(0.0..=MAX_SECONDS).contains(&seconds)) {
            return Err(format!("{name} lasts for 0 to {MAX_SECONDS} seconds"));
        }
        Ok(())
    }
}

impl Scheduled {
    pub(in crate::kme) fn change(&self) -> Change {
        Change { what: self.what, value: self.value, lasts: self.lasts }
    }

    pub(in crate::kme) fn check(&self) -> Result<(), String> {
        if !(0.0..=MAX_SECONDS).contains(&self.at) {
            return Err(format!("[[weather]] at must be 0 to {MAX_SECONDS} seconds"));
        }
        self.change().check().map_err(|reason| format!("[[weather]]: {reason}"))
    }
}

/// Ten years.
const MAX_SECONDS: f64 = 315_360_000.0;
