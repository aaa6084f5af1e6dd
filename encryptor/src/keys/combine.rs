//! Which inputs an epoch secret must have.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The policy: which inputs an epoch secret is made of, no more and no less. Both ends state the same.
///
/// Written as the inputs joined by '+', in the order of the key schedule: `qkd+pqc` (default), `qkd`, `pqc`, each also with
/// `+psk` behind it. A pre-shared key alone is refused: without a fresh input there is no forward secrecy.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Combine {
    qkd: bool,
    pqc: bool,
    psk: bool,
}

/// The policies that there are, by name.
const POLICIES: [(&str, Combine); 6] = [
    ("qkd+pqc", Combine::QKD_PQC),
    ("qkd", Combine::QKD),
    ("pqc", Combine::PQC),
    ("qkd+pqc+psk", Combine { psk: true, ..Combine::QKD_PQC }),
    ("qkd+psk", Combine { psk: true, ..Combine::QKD }),
    ("pqc+psk", Combine { psk: true, ..Combine::PQC }),
];

impl Combine {
    /// A QKD key and a post-quantum secret; breaking one of them does not break the epoch.
    pub const QKD_PQC: Combine = Combine { qkd: true, pqc: true, psk: false };
    /// A QKD key alone.
    pub const QKD: Combine = Combine { qkd: true, pqc: false, psk: false };
    /// A post-quantum secret alone, for sites that have no key server yet.
    pub const PQC: Combine = Combine { qkd: false, pqc: true, psk: false };

    /// Whether a key from the key server goes in.
    pub fn needs_qkd(self) -> bool {
        self.qkd
    }

    /// Whether the link channel's exporter goes in.
    pub fn needs_pqc(self) -> bool {
        self.pqc
    }

    /// Whether the pre-shared key goes in.
    pub fn needs_psk(self) -> bool {
        self.psk
    }

    /// The policy's name.
    pub fn name(self) -> &'static str {
        POLICIES.iter().find(|(_, policy)| *policy == self).map_or("", |(name, _)| name)
    }
}

impl FromStr for Combine {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = POLICIES.iter().find(|(name, _)| *name == text).map(|(_, policy)| *policy);
        found.ok_or_else(|| {
            let names: Vec<String> = POLICIES.iter().map(|(name, _)| format!("\"{name}\"")).collect();
            format!("\"{text}\" is no policy: write one of {}", names.join(", "))
        })
    }
}

impl TryFrom<String> for Combine {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Combine> for String {
    fn from(policy: Combine) -> String {
        policy.name().to_string()
    }
}

impl fmt::Display for Combine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_policy_comes_back_by_its_name_and_no_other_is_taken() {
        for (name, policy) in POLICIES {
            assert_eq!(name.parse(), Ok(policy));
            assert_eq!(policy.name(), name);
            let inputs =
                [("qkd", policy.needs_qkd()), ("pqc", policy.needs_pqc()), ("psk", policy.needs_psk())];
            for (input, needed) in inputs {
                assert_eq!(name.split('+').any(|part| part == input), needed, "{name} {input}");
            }
        }
        for name in ["", "psk", "pqc+qkd", "none", "QKD", "qkd+pqc+psk+"] {
            assert!(name.parse::<Combine>().is_err(), "{name}");
        }
    }
}
