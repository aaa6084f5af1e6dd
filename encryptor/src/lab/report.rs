//! What the demo found, as a table for people and a line for scripts.

use std::fmt::Write as _;

use super::demo::Findings;
use super::eavesdrop::Kind;
use super::measure::{Evidence, Figures, TCP_STREAMS};
use super::mixture::{UDP_RATE, UDP_STREAMS};
use super::ping::PingReport;
use super::plan::VLAN;

/// The last line, and whether it says pass.
pub(super) fn result_line(findings: &Findings) -> (String, bool) {
    let seen = &findings.evidence.seen;
    let passed = findings.evidence.passed;
    let numbers = format!(
        "sent={} received={} lost={} epochs={} flows={} plaintext={}",
        passed.sent,
        passed.received,
        passed.lost,
        seen.epochs(),
        seen.flows(),
        seen.plaintext
    );
    match fault(findings) {
        None => (format!("demo: pass {numbers}"), true),
        Some(reason) => (format!("demo: FAIL {reason} {numbers}"), false),
    }
}

/// The last line of a demo that did not get as far as numbers.
pub(super) fn failure_line(reason: &str) -> String {
    format!("demo: FAIL {reason} sent=0 received=0 lost=0 epochs=0 flows=0 plaintext=0")
}

/// The first thing that is not as it must be.
fn fault(findings: &Findings) -> Option<String> {
    let Findings { clear, mixture, evidence, switches, wanted_rotations, .. } = findings;
    let rotations = switches[0].min(switches[1]);
    let pings = [&findings.figures.rtt, &mixture.ping_v4, &mixture.ping_v6, &mixture.ping_vlan];
    let unanswered: u64 = pings.iter().map(|ping| ping.lost()).sum();
    let udp_lost = mixture.udp.lost.saturating_sub(mixture.udp_dropped_by_host);
    let (fetched, identical) = mixture.files;
    let checks = [
        (clear.1.seen.plaintext == 0, "the eavesdropper found nothing even in clear traffic".to_owned()),
        (
            evidence.seen.plaintext > 0,
            format!("{} frames with plaintext on the backhaul", evidence.seen.plaintext),
        ),
        (evidence.passed.lost > 0, format!("{} frames were lost", evidence.passed.lost)),
        (evidence.passed.surplus > 0, format!("{} frames arrived that nobody sent", evidence.passed.surplus)),
        (unanswered > 0, format!("{unanswered} pings without an answer")),
        (udp_lost > 0, format!("{udp_lost} UDP datagrams did not arrive")),
        (fetched == 0 || fetched != identical, format!("{identical} of {fetched} files arrived identical")),
        (rotations < *wanted_rotations, format!("{rotations} key rotations instead of {wanted_rotations}")),
        (evidence.seen.epochs() <= *wanted_rotations, "too few epochs on the backhaul".to_owned()),
        (
            evidence.seen.of_kind(Kind::Esp) + evidence.missed < evidence.passed.sent,
            "fewer ESP packets than frames".to_owned(),
        ),
    ];
    checks.into_iter().find(|(failed, _)| *failed).map(|(_, reason)| reason)
}

/// Figures side by side, then what the encrypted traffic and the eavesdropper showed.
pub(super) fn table(findings: &Findings) -> String {
    let mut table = Table::default();
    let (plain, with) = (&findings.clear.0, &findings.figures);
    table.row("", "without encryption", "with qhaul");
    add_figures(&mut table, plain, with);
    table.rule();
    add_traffic(&mut table, findings);
    table.rule();
    add_eavesdropper(&mut table, &findings.clear.1, &findings.evidence);
    table.text
}

fn add_figures(table: &mut Table, plain: &Figures, with: &Figures) {
    let ms = |value: Option<f64>| value.map_or("-".to_owned(), |us| format!("{:.3} ms", us / 1000.0));
    let mbit = |rate: f64| format!("{:.0} Mbit/s", rate / 1e6);
    table.row("Round trip, mean", &ms(plain.rtt.mean()), &ms(with.rtt.mean()));
    table.row("Round trip, median", &ms(plain.rtt.percentile(50)), &ms(with.rtt.percentile(50)));
    table.row("Round trip, 99 of 100 within", &ms(plain.rtt.percentile(99)), &ms(with.rtt.percentile(99)));
    let tcp = format!("TCP throughput, {TCP_STREAMS} streams");
    table.row(&tcp, &mbit(plain.tcp.bits_per_second), &mbit(with.tcp.bits_per_second));
}

fn add_traffic(table: &mut Table, findings: &Findings) {
    let Findings { mixture, evidence, switches, .. } = findings;
    let ping = |report: &PingReport| format!("{} sent, {} answered", report.sent, report.received);
    table.row("Ping over IPv4", "", &ping(&mixture.ping_v4));
    table.row("Ping over IPv6", "", &ping(&mixture.ping_v6));
    table.row(&format!("Ping on VLAN {VLAN}"), "", &ping(&mixture.ping_vlan));
    let udp = format!("UDP, {UDP_STREAMS} streams, {} Mbit/s", UDP_RATE / 1_000_000);
    table.row(&udp, "", &format!("{} sent, {} lost", mixture.udp.datagrams, mixture.udp.lost));
    if mixture.udp_dropped_by_host > 0 {
        let dropped = format!("{} of the lost", mixture.udp_dropped_by_host);
        table.row("  dropped by host b itself, too slow to read", "", &dropped);
    }
    let (fetched, identical) = mixture.files;
    table.row("Files of 8 MiB over HTTP", "", &format!("{fetched} fetched, {identical} identical"));
    table.row("Ethernet frames sent by both hosts", "", &evidence.passed.sent.to_string());
    table.row("  received", "", &evidence.passed.received.to_string());
    table.row("  lost", "", &evidence.passed.lost.to_string());
    for (side, name, count) in &findings.drops {
        table.row(&format!("  dropped by encryptor {side}: {name}"), "", &count.to_string());
    }
    table.row("Key rotations meanwhile", "", &format!("{} a to b, {} b to a", switches[0], switches[1]));
    let flows = evidence.seen.flows();
    table.row("Flows, each under keys of its own", "", &flows.to_string());
}

fn add_eavesdropper(table: &mut Table, clear: &Evidence, sealed: &Evidence) {
    let count = |evidence: &Evidence, kind| evidence.seen.of_kind(kind).to_string();
    let (before, after) = (&clear.seen, &sealed.seen);
    table.row("The eavesdropper saw, frames", &before.frames.to_string(), &after.frames.to_string());
    for kind in [Kind::Esp, Kind::Channel, Kind::Arp, Kind::Neighbour, Kind::Icmp, Kind::Unexpected] {
        table.row(&format!("  {kind}"), &count(clear, kind), &count(sealed, kind));
    }
    let epochs = |evidence: &Evidence| evidence.seen.epochs().to_string();
    table.row("  key epochs, by the SPIs", &epochs(clear), &epochs(sealed));
    table.row("  with any plaintext", &before.plaintext.to_string(), &after.plaintext.to_string());
    for (finding, frames) in &after.findings {
        table.row(&format!("    {finding}"), "", &frames.to_string());
    }
    table.row("  missed by the capture itself", &clear.missed.to_string(), &sealed.missed.to_string());
}

#[derive(Default)]
struct Table {
    text: String,
}

impl Table {
    fn row(&mut self, what: &str, plain: &str, with: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "  {what:<44} {plain:>18}   {with}");
    }

    fn rule(&mut self) {
        self.text.push_str(&format!("  {}\n", "-".repeat(90)));
    }
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
