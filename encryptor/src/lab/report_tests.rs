//! The verdict: a pass needs every single number to be right.

use super::*;
use crate::lab::eavesdrop::Sightings;
use crate::lab::iperf::IperfReport;
use crate::lab::ledger::Passed;
use crate::lab::mixture::MixtureReport;
use crate::lab::trail::Trail;

fn pinged(count: u64) -> PingReport {
    PingReport { sent: count, received: count, rtt_us: vec![150.0; 10] }
}

fn figures() -> Figures {
    Figures {
        rtt: pinged(200),
        tcp: IperfReport { bits_per_second: 9e8, datagrams: 0, lost: 0, retransmits: 0 },
    }
}

fn evidence(plaintext: u64, epochs: u32) -> Evidence {
    let mut trail = Trail::default();
    (1..=epochs).for_each(|epoch| trail.note(epoch << 26 | 1));
    let kinds = [(Kind::Esp, 1000)].into();
    let seen =
        Sightings { frames: 1000, kinds, plaintext, trails: [trail.clone(), trail], ..Sightings::default() };
    Evidence { passed: Passed { sent: 900, received: 900, lost: 0, surplus: 0 }, seen, missed: 0 }
}

fn good() -> Findings {
    Findings {
        clear: (figures(), evidence(500, 0)),
        figures: figures(),
        mixture: MixtureReport {
            ping_v4: pinged(300),
            ping_v6: pinged(300),
            ping_vlan: pinged(300),
            udp: IperfReport { bits_per_second: 6e7, datagrams: 5000, lost: 0, retransmits: 0 },
            udp_dropped_by_host: 0,
            files: (3, 3),
        },
        evidence: evidence(0, 12),
        switches: [11, 12],
        wanted_rotations: 10,
        drops: Vec::new(),
    }
}

#[test]
fn all_right_is_a_pass_in_the_agreed_words() {
    let (line, passed) = result_line(&good());
    assert_eq!(line, "demo: pass sent=900 received=900 lost=0 epochs=12 flows=2 plaintext=0");
    assert!(passed);
}

#[test]
fn each_fault_alone_is_a_failure_that_names_it() {
    type Break = fn(&mut Findings);
    let faults: [(Break, &str); 12] = [
        (|f| f.clear.1.seen.plaintext = 0, "nothing even in clear"),
        (|f| f.evidence.seen.plaintext = 2, "2 frames with plaintext"),
        (|f| f.evidence.passed.lost = 1, "1 frames were lost"),
        (|f| f.evidence.passed.surplus = 1, "nobody sent"),
        (|f| f.figures.rtt.received -= 1, "1 pings"),
        (|f| f.mixture.ping_vlan.received -= 3, "3 pings"),
        (|f| f.mixture.udp.lost = 4, "4 UDP datagrams"),
        (|f| f.mixture.files = (3, 2), "2 of 3 files"),
        (|f| f.mixture.files = (0, 0), "0 of 0 files"),
        (|f| f.switches[1] = 9, "9 key rotations instead of 10"),
        (|f| f.evidence.seen.trails[1] = Trail::default(), "too few epochs"),
        (|f| f.evidence.passed.sent = 1001, "fewer ESP packets"),
    ];
    for (break_it, reason) in faults {
        let mut findings = good();
        break_it(&mut findings);
        let (line, passed) = result_line(&findings);
        assert!(!passed && line.starts_with("demo: FAIL ") && line.contains(reason), "{line}");
        assert!(line.contains(" sent=") && line.contains(" plaintext="), "{line}");
    }
}

#[test]
fn a_datagram_that_the_receiving_host_dropped_is_not_held_against_the_path() {
    let mut findings = good();
    (findings.mixture.udp.lost, findings.mixture.udp_dropped_by_host) = (4, 4);
    assert!(result_line(&findings).1);
    assert!(table(&findings).contains("dropped by host b itself"));
}

#[test]
fn the_table_states_both_columns_and_every_drop() {
    let mut findings = good();
    findings.drops = vec![(crate::lab::plan::Side::B, "replay".to_owned(), 7)];
    let table = table(&findings);
    for expected in
        ["without encryption", "with qhaul", "900 Mbit/s", "0.150 ms", "encryptor b: replay", "link channel"]
    {
        assert!(table.contains(expected), "{expected} is not in\n{table}");
    }
}
