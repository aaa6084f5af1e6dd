//! The messages of the link channel.

use serde::{Deserialize, Serialize};

use qhaul_keyfeed::KeyId;

use crate::config::Payload;
use crate::keys::{Combine, SessionId};
use crate::spi::Epoch;

/// Version of the messages and of the key schedule; both ends must state the same.
pub const PROTOCOL_VERSION: u32 = 2;

/// One message. JSON within a length-prefixed record; unknown fields are refused, so that the two ends can never
/// disagree silently about what was said.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Message {
    /// First on every connection, from both ends.
    Hello(Hello),
    /// The sender's pool holds these keys; the receiver fetches them from its own KME now.
    Keys {
        /// The keys with their absolute places.
        keys: Vec<OfferedKey>,
    },
    /// The receiver holds, or cannot get, these keys.
    KeyState {
        /// Places of keys that are held.
        held: Vec<u64>,
        /// Keys that cannot be had; the sender drops them.
        missing: Vec<MissingKey>,
    },
    /// The sender wants to make an epoch. Its bytes are the context of the TLS exporter.
    Offer {
        /// The epoch.
        epoch: Epoch,
        /// The QKD key, unless `combine` needs none.
        key: Option<OfferedKey>,
        /// 16 random bytes in hexadecimal, so that no two offers of one connection are alike.
        nonce: String,
        /// Flows in use in each of the sender's lanes: their keys in the new epoch are worth deriving ahead.
        lanes: Vec<u32>,
    },
    /// The receiver derived the epoch's keys and can open its packets.
    Ready {
        /// The epoch.
        epoch: Epoch,
    },
    /// The receiver will not make this epoch.
    Refuse {
        /// The epoch.
        epoch: Epoch,
        /// Why, for people.
        reason: String,
    },
    /// A probe of this epoch proved genuine.
    Active {
        /// The epoch.
        epoch: Epoch,
    },
    /// The sender uses this epoch now, and no other.
    Switched {
        /// The epoch.
        epoch: Epoch,
    },
    /// A padded probe of so many bytes, its outer IP header included, proved genuine: the path carries it.
    Path {
        /// Bytes.
        bytes: u32,
    },
    /// Asks for a sign of life.
    Ping,
    /// The sign of life.
    Pong,
    /// The connection ends, and why.
    Bye {
        /// Why, for people.
        reason: String,
    },
}

/// A key_ID and its absolute place in the sender's pool.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OfferedKey {
    /// Counts from 0 for each process of the sender, and never names two keys.
    pub place: u64,
    /// The key_ID as the sender's KME gave it.
    #[serde(rename = "key_ID")]
    pub key_id: KeyId,
}

/// A key that the receiver cannot get.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MissingKey {
    /// Its place.
    pub place: u64,
    /// Why, for people.
    pub reason: String,
}

/// Who an end is, and on which terms it links.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hello {
    /// [`PROTOCOL_VERSION`].
    pub version: u32,
    /// The link's name.
    pub link: String,
    /// The sender's SAE ID.
    pub sae: String,
    /// The SAE ID that it expects at the other end.
    pub peer_sae: String,
    /// What its epoch secrets are made of.
    pub combine: Combine,
    /// What its packets carry.
    pub mode: Payload,
    /// Kind of its key source.
    pub key_source: String,
    /// Flows that it can receive in one epoch.
    pub flows: u32,
    /// Age in milliseconds up to which it lets an epoch be used.
    pub hard_limit_ms: u64,
    /// Random for each process, 16 bytes in hexadecimal.
    #[serde(with = "session_hex")]
    pub session: SessionId,
    /// Epochs that it holds receive keys of.
    pub holds: Vec<Epoch>,
    /// The epoch that it sends in.
    pub sends: Option<Epoch>,
}

impl Hello {
    /// Compares the peer's terms with ours: the first that differs, with the remedy.
    pub fn mismatch(&self, ours: &Hello) -> Option<String> {
        let differs = |what: &str, theirs: &str, ours: &str, remedy: &str| {
            (theirs != ours).then(|| format!("the peer's {what} is \"{theirs}\", ours \"{ours}\": {remedy}"))
        };
        let (theirs_version, ours_version) = (self.version.to_string(), ours.version.to_string());
        let (theirs_mode, ours_mode) = (self.mode.to_string(), ours.mode.to_string());
        let (theirs_combine, ours_combine) = (self.combine.to_string(), ours.combine.to_string());
        differs("protocol version", &theirs_version, &ours_version, "run the same release at both sites")
            .or_else(|| differs("link name", &self.link, &ours.link, "set the same `link` at both sites"))
            .or_else(|| {
                differs("SAE ID", &self.sae, &ours.peer_sae, "set `site.peer_sae` to the peer's `site.sae`")
            })
            .or_else(|| {
                differs("peer_sae", &self.peer_sae, &ours.sae, "set its `site.peer_sae` to our `site.sae`")
            })
            .or_else(|| {
                differs(
                    "key policy",
                    &theirs_combine,
                    &ours_combine,
                    "set the same `keys.combine` at both sites",
                )
            })
            .or_else(|| differs("mode", &theirs_mode, &ours_mode, "set the same `mode` at both sites"))
            .or_else(|| {
                differs("key source", &self.key_source, &ours.key_source, "use the same kind of key source")
            })
    }
}

mod session_hex {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use crate::keys::SessionId;

    pub(super) fn serialize<S: Serializer>(id: &SessionId, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&id.to_string())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SessionId, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello() -> Hello {
        Hello {
            version: PROTOCOL_VERSION,
            link: "l".into(),
            sae: "a".into(),
            peer_sae: "b".into(),
            combine: Combine::QKD_PQC,
            mode: Payload::Ethernet,
            key_source: "etsi014".into(),
            flows: 16,
            hard_limit_ms: 60_000,
            session: SessionId([0xab; 16]),
            holds: vec![Epoch::FIRST],
            sends: None,
        }
    }

    #[test]
    fn terms_that_differ_are_named_with_the_remedy() {
        let ours = Hello { sae: "b".into(), peer_sae: "a".into(), ..hello() };
        assert_eq!(hello().mismatch(&ours), None);
        let cases = [
            (Hello { version: 9, ..hello() }, "release"),
            (Hello { link: "m".into(), ..hello() }, "`link`"),
            (Hello { sae: "x".into(), ..hello() }, "site.peer_sae"),
            (Hello { peer_sae: "x".into(), ..hello() }, "site.peer_sae"),
            (Hello { combine: Combine::QKD, ..hello() }, "keys.combine"),
            (Hello { mode: Payload::Ip, ..hello() }, "`mode`"),
            (Hello { key_source: "skip".into(), ..hello() }, "key source"),
        ];
        for (theirs, remedy) in cases {
            let line = theirs.mismatch(&ours).unwrap();
            assert!(line.contains(remedy) && !line.contains('\n'), "{line}");
        }
    }

    #[test]
    fn messages_come_back_and_strangers_are_refused() {
        let bytes = serde_json::to_vec(&Message::Hello(hello())).unwrap();
        assert_eq!(serde_json::from_slice::<Message>(&bytes).unwrap(), Message::Hello(hello()));
        for text in [
            r#"{"type":"ready","epoch":0}"#,
            r#"{"type":"ready","epoch":32}"#,
            r#"{"type":"ready","epoch":1,"more":2}"#,
            r#"{"type":"reset"}"#,
            r#"{"epoch":1}"#,
        ] {
            assert!(serde_json::from_str::<Message>(text).is_err(), "{text}");
        }
    }
}
