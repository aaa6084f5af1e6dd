//! The books that each encryptor keeps over its frames: what came in went out or has a reason why not.

use crate::counters::{Tally, is_tx};
use crate::drops::DropReason;
use crate::status::{Rows, Status};

/// Ports' counters of what must never happen: descriptors that one side of a ring found wrong, and frames that the packet
/// path should have refused by name.
const DEFECTS: [&str; 4] = ["rx_invalid", "tx_short", "kernel_rx_invalid_descs", "kernel_tx_invalid_descs"];

/// The first account of an encryptor that does not balance, in words; `None` while no frame is under way and all is well.
pub fn imbalance(status: &Status) -> Option<String> {
    let reported = |port: &str| status.queues.keys().any(|queue| queue.starts_with(port));
    if !reported("plain/") || !reported("cipher/") {
        return Some("the sockets' counters are not told yet".to_owned());
    }
    if let Some(defect) = defect(status) {
        return Some(defect);
    }
    let tally = |tally: Tally| row(&status.counters.tallies, tally.name());
    let dropped = |tx: bool| -> u64 {
        let reasons = DropReason::ALL.iter().filter(|reason| is_tx(**reason) == tx);
        reasons.map(|reason| row(&status.counters.drops, reason.name())).sum()
    };
    let to_send = tally(Tally::PlainIn) + tally(Tally::FragmentsAdded) + tally(Tally::IcmpAdded);
    let sent = tally(Tally::CipherOut) + dropped(true);
    let received = tally(Tally::PlainOut) + tally(Tally::Dummies) + dropped(false);
    let accounts = [
        ("plain_in, fragments_added and icmp_added against cipher_out and TX drops", to_send, sent),
        ("cipher_in against plain_out, dummies_in and RX drops", tally(Tally::CipherIn), received),
        ("handed_over against taken_over", tally(Tally::HandedOver), tally(Tally::TakenOver)),
        program(status, "plain"),
        program(status, "cipher"),
        ("the plain program's to_socket against plain_in", xdp(status, "plain", "to_socket"), {
            tally(Tally::PlainIn) + lost_at_socket(status, "plain/")
        }),
        ("the plain sockets' frames against plain_in", queues(status, "plain/", &["rx_frames"]), {
            tally(Tally::PlainIn)
        }),
        ("the cipher program's to_socket against cipher_in", xdp(status, "cipher", "to_socket"), {
            tally(Tally::CipherIn) + lost_at_socket(status, "cipher/")
        }),
    ];
    let wrong = accounts.into_iter().find(|(_, left, right)| left != right);
    wrong.map(|(account, left, right)| format!("{account}: {left} is not {right}"))
}

/// A counter of one port's program; a name that it does not have is the caller's mistake.
pub fn xdp(status: &Status, port: &str, counter: &str) -> u64 {
    *status
        .xdp
        .get(port)
        .and_then(|rows| rows.get(counter))
        .unwrap_or_else(|| panic!("no counter {port}.{counter}"))
}

/// A drop counter of the worker, 0 if it never struck.
pub fn dropped(status: &Status, reason: &str) -> u64 {
    assert!(DropReason::ALL.iter().any(|known| known.name() == reason), "no drop reason {reason}");
    row(&status.counters.drops, reason)
}

/// Drops of the worker since an earlier status, by reason.
pub fn drops_since(now: &Status, then: &Status) -> Rows {
    let grown =
        |(reason, count): (&String, &u64)| (reason.clone(), count - row(&then.counters.drops, reason));
    now.counters.drops.iter().map(grown).filter(|(_, count)| *count > 0).collect()
}

/// Everything that the program received against everything that became of it.
fn program(status: &Status, port: &'static str) -> (&'static str, u64, u64) {
    let account = if port == "plain" { "the plain program's frames" } else { "the cipher program's frames" };
    let rows = status.xdp.get(port).cloned().unwrap_or_default();
    let outcomes = rows.iter().filter(|(name, _)| *name != "received").map(|(_, count)| count).sum();
    (account, row(&rows, "received"), outcomes)
}

/// Frames that the kernel dropped in front of the worker, or that the port found unusable.
fn lost_at_socket(status: &Status, port: &str) -> u64 {
    let names = ["kernel_rx_dropped", "kernel_rx_ring_full", "rx_no_jumbo", "rx_too_long", "rx_invalid"];
    queues(status, port, &names)
}

/// Counters of all queues of a port together.
fn queues(status: &Status, port: &str, names: &[&str]) -> u64 {
    let rows = status.queues.iter().filter(|(queue, _)| queue.starts_with(port)).map(|(_, rows)| rows);
    rows.flat_map(|rows| names.iter().map(|name| row(rows, name))).sum()
}

fn defect(status: &Status) -> Option<String> {
    let mut counters =
        status.queues.iter().flat_map(|(queue, rows)| DEFECTS.map(|name| (queue, name, row(rows, name))));
    let (queue, name, count) = counters.find(|(.., count)| *count > 0)?;
    Some(format!("{queue}: {name} is {count}, and must never be anything but 0"))
}

fn row(rows: &Rows, name: &str) -> u64 {
    rows.get(name).copied().unwrap_or_default()
}
