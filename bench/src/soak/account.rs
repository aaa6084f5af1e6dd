//! Where each frame of a stretch of time was left.
//!
//! From host to host a frame passes places that count by themselves. Between two neighbouring places nothing may be
//! missing, unless it has a drop counter, or the process between them was not there, or the wire was cut.

use std::collections::BTreeSet;

use qhaul::lab::plan::Side;
use qhaul::status::Rows;

use super::counts::Counts;

/// What may be missing between two places.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Licence {
    /// This site's process was not there for some of the time.
    pub(super) down: Option<Side>,
    /// The wire was cut for some of the time.
    pub(super) cut: bool,
    /// Packets from a to b that neither site sent.
    pub(super) forged: u64,
}

/// What became of the frames of both directions.
#[derive(Clone, Default, Debug, PartialEq, Eq)]
pub(super) struct Account {
    /// Frames that the hosts sent, and that their programs received.
    pub(super) sent: u64,
    pub(super) received: u64,
    /// Probes that the sites sent, and that the other did not open.
    pub(super) probes_lost: u64,
    /// Where frames, probes and forged packets were left.
    pub(super) left_at: Rows,
    /// What two places do not agree about.
    pub(super) unexplained: u64,
    /// The same in words.
    pub(super) wrong: Vec<String>,
}

impl Account {
    /// Between two moments at which nothing was under way.
    pub(super) fn between(from: &Counts, to: &Counts, licence: Licence) -> Account {
        let mut account = Account::default();
        Side::BOTH.into_iter().for_each(|side| account.add(side, from, to, licence));
        account.left_at.retain(|_, count| *count > 0);
        let left: u64 = account.left_at.values().sum();
        let missing =
            account.sent + account.probes_lost + licence.forged - account.received.min(account.sent);
        if account.unexplained == 0 {
            account.blame(left.abs_diff(missing), format!("between {missing} missing and {left} left"));
        }
        account
    }

    /// Frames that did not arrive.
    pub(super) fn lost(&self) -> u64 {
        self.sent.saturating_sub(self.received)
    }

    /// Notes something that nobody can explain.
    pub(super) fn blame(&mut self, count: u64, what: String) {
        if count > 0 {
            self.unexplained += count;
            self.wrong.push(format!("{count} {what}"));
        }
    }

    /// The direction that begins at host `s`.
    fn add(&mut self, s: Side, from: &Counts, to: &Counts, licence: Licence) {
        let p = s.peer();
        let (host, far) = (grown_host(s, from, to), grown_host(p, from, to));
        let row = |side: Side, name: &str| grown(&from.sites[side.index()], &to.sites[side.index()], name);
        let wire = |counts: &Counts| counts.wire[s.index()];
        let traffic = wire(to).traffic as i64 - wire(from).traffic as i64;
        let probes = wire(to).probes as i64 - wire(from).probes as i64;
        let forged = if s == Side::A { licence.forged as i64 } else { 0 };

        // At each place, what came beyond what the next one saw of it.
        let at_plain = host.sent - host.dropped - row(s, "plain:received");
        let beyond_books = traffic - row(s, "cipher_out");
        let on_wire = traffic + probes + forged - arrived(p, from, to);
        let beyond_out = far.received - row(p, "plain_out");

        self.left(&format!("site_{s}_down"), at_plain - beyond_books, licence.down == Some(s));
        if licence.down != Some(s) {
            self.must_agree(at_plain, s, "host and plain port");
            self.must_agree(probes - row(s, "probes_out"), s, "probes and wire");
        }
        match (licence.down == Some(p), licence.cut) {
            (true, _) => self.left(&format!("site_{p}_down"), on_wire - beyond_out, true),
            (false, cut) => {
                self.left("wire_cut", on_wire, cut);
                self.must_agree(beyond_out, s, "plain port and far host");
            }
        }
        self.left("host_queue", host.dropped, true);
        self.left("host_socket", far.refused, true);
        self.name_drops(s, from, to);
        self.sent += host.sent as u64;
        self.received += (far.received - far.refused) as u64;
        self.probes_lost += (probes - row(p, "dummies_in")).max(0) as u64;
    }

    /// Frames that were left where they may be left, or that nobody may have lost.
    fn left(&mut self, name: &str, count: i64, allowed: bool) {
        match count {
            0.. if allowed => *self.left_at.entry(name.to_owned()).or_default() += count as u64,
            0.. => self.blame(count as u64, format!("as if {name}, which was not so")),
            _ => self.blame(count.unsigned_abs(), format!("that nobody sent, where {name} may lose some")),
        }
    }

    fn must_agree(&mut self, difference: i64, from: Side, places: &str) {
        self.blame(difference.unsigned_abs(), format!("between {places}, of what host {from} sent"));
    }

    fn name_drops(&mut self, s: Side, from: &Counts, to: &Counts) {
        for (side, ways) in [(s, ["tx:", "plain:"]), (s.peer(), ["rx:", "cipher:"])] {
            let (then, now) = (&from.sites[side.index()], &to.sites[side.index()]);
            let names: BTreeSet<&String> = then.keys().chain(now.keys()).collect();
            let drops = names
                .into_iter()
                .filter(|name| is_drop(name) && ways.iter().any(|way| name.starts_with(way)));
            for name in drops {
                *self.left_at.entry(name.clone()).or_default() += grown(then, now, name).max(0) as u64;
            }
        }
    }
}

/// What the cipher port's program saw that was for the encryptor, or from nobody who may send.
fn arrived(side: Side, from: &Counts, to: &Counts) -> i64 {
    let (then, now) = (&from.sites[side.index()], &to.sites[side.index()]);
    let ours = |name: &&String| **name == "cipher:to_socket" || name.starts_with("cipher:") && is_drop(name);
    now.keys().filter(ours).map(|name| grown(then, now, name)).sum()
}

/// Whether a row counts frames that went nowhere.
fn is_drop(name: &str) -> bool {
    match name.split_once(':') {
        Some(("plain" | "cipher", what)) => {
            what != "received" && what != "ptp_forwarded" && !what.starts_with("to_")
        }
        Some(_) => true,
        None => false,
    }
}

struct Grown {
    sent: i64,
    dropped: i64,
    received: i64,
    refused: i64,
}

fn grown_host(side: Side, from: &Counts, to: &Counts) -> Grown {
    let [then, now] = [from, to].map(|counts| counts.hosts[side.index()]);
    let since = |then: u64, now: u64| now as i64 - then as i64;
    Grown {
        sent: since(then.sent, now.sent),
        dropped: since(then.dropped, now.dropped),
        received: since(then.received, now.received),
        refused: since(then.refused, now.refused),
    }
}

fn grown(then: &Rows, now: &Rows, name: &str) -> i64 {
    let count = |rows: &Rows| rows.get(name).copied().unwrap_or_default() as i64;
    count(now) - count(then)
}

#[cfg(test)]
#[path = "account_tests.rs"]
mod tests;
