//! A line of the log, and how it holds on to the one before.

use std::fmt::Write as _;

use aws_lc_rs::digest::{SHA256, digest};
use qhaul_keyfeed::KeyId;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::event::{Direction, Event, Kind};
use crate::spi::Epoch;

/// `prev` of a chain's first line.
pub(super) const ROOT: &str = "0000000000000000000000000000000000000000000000000000000000000000";
/// How each line begins.
pub(super) const BEGINS: &[u8] = br#"{"seq":"#;
/// Bytes of a reason.
const LONGEST_REASON: usize = 400;

/// Where a chain has got to: what the next line needs to know of all before it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Head {
    /// Sequence number of the last line.
    pub(super) seq: u64,
    /// Its SHA-256 in hexadecimal.
    pub(super) hash: String,
}

/// What is left of a line that was not wholly written, because the process or the machine died or the disk was full.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Torn {
    pub(super) bytes: u64,
    pub(super) sha256: String,
}

impl Torn {
    /// Of all that follows the line feed of the last whole line, if anything does.
    pub(super) fn of(rest: &[u8]) -> Option<Torn> {
        (!rest.is_empty()).then(|| Torn::of_text(rest.strip_suffix(b"\n").unwrap_or(rest)))
    }

    /// Of the text between the line feeds of two whole lines.
    pub(super) fn of_text(text: &[u8]) -> Torn {
        Torn { bytes: text.len() as u64, sha256: sha256(text) }
    }
}

/// What a line that no [`Event`] asked for says of the log itself.
#[derive(Clone, Default, Debug, Serialize, Deserialize)]
pub(super) struct Remark {
    /// A file starts here: the chain's random id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) chain: Option<String>,
    /// What stands above since the last whole line is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) torn: Option<Torn>,
    /// So many events before this one could not be written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) lost: Option<u64>,
}

/// As written, without its line feed.
#[derive(Serialize)]
struct Written<'a> {
    seq: u64,
    time: String,
    event: Label,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    link: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    direction: Option<Direction>,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<Epoch>,
    #[serde(rename = "key_IDs", skip_serializing_if = "<[_]>::is_empty")]
    key_ids: &'a [&'a KeyId],
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(flatten)]
    remark: &'a Remark,
    prev: &'a str,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Label {
    Key(Kind),
    Log(&'static str),
}

/// As read: what the chain depends on. The rest is held by the hash.
#[derive(Deserialize, Debug)]
pub(super) struct Read {
    pub(super) seq: u64,
    pub(super) time: String,
    #[serde(flatten)]
    pub(super) remark: Remark,
    pub(super) prev: String,
}

/// The line of an event after `head`, without line feed, and the head that it becomes.
pub(super) fn of_event(head: Option<&Head>, event: &Event<'_>) -> (Vec<u8>, Head) {
    let nothing = Remark::default();
    let written = Written {
        event: Label::Key(event.kind),
        state: event.state,
        link: event.link,
        direction: event.direction,
        epoch: event.epoch,
        key_ids: &event.key_ids,
        reason: event.reason.map(shortened),
        ..Written::new(head, &nothing)
    };
    written.sealed()
}

/// The line of a remark after `head`; a chain that starts has none.
pub(super) fn of_remark(head: Option<&Head>, remark: &Remark) -> (Vec<u8>, Head) {
    Written::new(head, remark).sealed()
}

/// The log's own event names, by what is remarked.
fn label(head: Option<&Head>, remark: &Remark) -> &'static str {
    match remark {
        _ if head.is_none() => "chain",
        Remark { torn: Some(_), .. } => "torn",
        Remark { lost: Some(_), .. } => "lost",
        _ => "continued",
    }
}

impl<'a> Written<'a> {
    fn new(head: Option<&'a Head>, remark: &'a Remark) -> Written<'a> {
        let (seq, prev) = head.map_or((0, ROOT), |head| (head.seq + 1, &*head.hash));
        let event = Label::Log(label(head, remark));
        let time = rfc3339(OffsetDateTime::now_utc());
        Written {
            seq,
            time,
            event,
            state: None,
            link: None,
            direction: None,
            epoch: None,
            key_ids: &[],
            reason: None,
            remark,
            prev,
        }
    }

    fn sealed(&self) -> (Vec<u8>, Head) {
        let line = serde_json::to_vec(self).expect("strings and integers always serialize");
        let head = Head { seq: self.seq, hash: sha256(&line) };
        (line, head)
    }
}

/// SHA-256 in lower-case hexadecimal.
pub(super) fn sha256(bytes: &[u8]) -> String {
    hex(digest(&SHA256, bytes).as_ref())
}

/// Lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    bytes.iter().for_each(|byte| {
        let _ = write!(text, "{byte:02x}");
    });
    text
}

/// RFC 3339, UTC, to the millisecond: `2026-01-31T23:59:59.999Z`.
fn rfc3339(moment: OffsetDateTime) -> String {
    let (date, time) = (moment.date(), moment.time());
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        date.year(),
        u8::from(date.month()),
        date.day(),
        time.hour(),
        time.minute(),
        time.second(),
        time.millisecond()
    )
}

fn shortened(text: &str) -> &str {
    &text[..text.floor_char_boundary(LONGEST_REASON)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_rfc_3339() {
        let moment = OffsetDateTime::from_unix_timestamp_nanos(1_234_567_890_007_999_999).unwrap();
        assert_eq!(rfc3339(moment), "2009-02-13T23:31:30.007Z");
    }

    #[test]
    fn sha256_is_the_fips_180_example() {
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256(b"abc"), expected);
    }

    #[test]
    fn reasons_end_at_a_character() {
        assert_eq!(shortened("short"), "short");
        assert_eq!(shortened(&"é".repeat(400)).len(), 400);
        assert_eq!(shortened(&format!("x{}", "é".repeat(400))).len(), 399);
    }
}
