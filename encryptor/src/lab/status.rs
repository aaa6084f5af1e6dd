//! What `qhaul status --json` says, as far as the lab needs it.

use std::collections::BTreeMap;

use serde_json::Value;

use super::error::{LabError, Result};

/// One encryptor's state. Fields that it does not report are zero or empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// `active` while both directions have live keys.
    pub state: String,
    /// The transmit epoch in use, 1 to 31.
    pub tx_epoch: u64,
    /// How often transmission has switched to a new epoch.
    pub switches: u64,
    /// Flows with live keys.
    pub flows: u64,
    /// Drops by reason; reasons with none may be absent.
    pub drops: BTreeMap<String, u64>,
}

impl Status {
    /// Reads the JSON text.
    pub fn parse(json: &str) -> Result<Self> {
        let root: Value = serde_json::from_str(json).map_err(|error| LabError::Unreadable {
            what: "the answer of `qhaul status`".to_owned(),
            detail: error.to_string(),
        })?;
        let number = |pointer: &str| root.pointer(pointer).and_then(Value::as_u64).unwrap_or_default();
        let drops = root.pointer("/counters/drops").and_then(Value::as_object);
        let counted = |(name, count): (&String, &Value)| Some((name.clone(), count.as_u64()?));
        Ok(Self {
            state: root.pointer("/state").and_then(Value::as_str).unwrap_or_default().to_owned(),
            tx_epoch: number("/tx/epoch"),
            switches: number("/tx/switches"),
            flows: number("/flows"),
            drops: drops.map(|drops| drops.iter().filter_map(counted).collect()).unwrap_or_default(),
        })
    }

    /// True if traffic passes.
    pub fn is_active(&self) -> bool {
        self.state == "active"
    }

    /// All drops together.
    pub fn dropped(&self) -> u64 {
        self.drops.values().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_fields_are_read_and_others_ignored() {
        let status = Status::parse(
            r#"{"state":"active","new":[1],"tx":{"epoch":7,"switches":38},"flows":12,
                "counters":{"plain_in":9,"drops":{"replay":2,"bad_icv":3}}}"#,
        )
        .unwrap();
        assert!(status.is_active());
        assert_eq!((status.tx_epoch, status.switches, status.flows, status.dropped()), (7, 38, 12, 5));
        assert_eq!(Status::parse("{}").unwrap(), Status::default());
        assert!(Status::parse("starting").unwrap_err().to_string().starts_with("cannot read the answer"));
    }
}
