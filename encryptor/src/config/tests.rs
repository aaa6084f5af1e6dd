use std::path::Path;
use std::time::Duration;

use super::*;

pub(super) const SAMPLE: &str = include_str!("../../site.example.toml");

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(text, Path::new("/etc/qhaul"))
}

#[test]
fn the_sample_is_complete_and_valid() {
    let config = parse(SAMPLE).unwrap();
    let [link] = &config.links[..] else { panic!("one link") };
    assert_eq!(link.rotate, Duration::from_secs(60));
    assert_eq!(link.channel.ca, Path::new("/etc/qhaul/channel-ca.pem"));
    assert_eq!(link.channel.peer_name, link.peer_sae.as_str());
    assert_eq!(config.control, Path::new("/run/qhaul/a.sock"));
    assert!(link.listens);
}

#[test]
fn each_mistake_is_one_line_that_names_it() {
    let cases = [
        ("rotate = \"60s\"", "rotatee = \"60s\"", "rotatee"),
        ("rotate = \"60s\"", "rotate = \"soon\"", "soon"),
        ("rotate = \"60s\"", "rotate = \"10ms\"", "keys.rotate"),
        ("combine = \"qkd+pqc\"", "combine = \"none\"", "qkd+pqc"),
        ("combine = \"qkd+pqc\"", "combine = \"pqc\"", "[kme]"),
        ("peer_sae = \"sae-b\"", "peer_sae = \"sae-a\"", "site.peer_sae"),
        ("interface = \"eth2\"", "interface = \"eth1\"", "cipher.interface"),
        ("peer = \"192.0.2.2\"", "peer = \"192.0.2.1\"", "cipher.peer"),
        ("peer = \"192.0.2.2\"", "peer = \"peer.example\"", "line"),
        ("https://", "http://", "kme.url"),
        ("iv = \"sequence\"", "iv = \"random\"", "random"),
        ("replay_window = 1024", "replay_window = 1000", "cipher.replay_window"),
        ("replay_window = 1024", "replay_window = 131072", "cipher.replay_window"),
        ("ring = 2048", "ring = 1000", "worker.ring"),
        ("ring = 2048", "wake_latency_us = 10001", "worker.wake_latency_us"),
        ("core = 1", "core = 1\ncores = [1, 2]", "worker.cores"),
        ("core = 1", "cores = [1, 1]", "worker.cores"),
        ("core = 1", "cores = []", "worker.cores"),
        ("engine = \"auto\"", "engine = \"openssl\"", "ipsec-mb"),
        ("oversize = \"fragment\"", "oversize = \"squeeze\"", "squeeze"),
        ("hard_limit = \"600s\"", "hard_limit = \"30s\"", "keys.hard_limit"),
        ("mode = \"ethernet\"", "mode = \"mpls\"", "mpls"),
        ("link = \"madrid-lisbon\"", "", "link"),
        ("[kme]", "[kmee]", "kme"),
    ];
    for (right, wrong, named) in cases {
        assert!(SAMPLE.contains(right), "{right}");
        let line = parse(&SAMPLE.replacen(right, wrong, 1)).unwrap_err();
        assert!(line.contains(named) && !line.contains('\n'), "{wrong}: {line}");
    }
}

#[test]
fn one_core_or_several_are_named() {
    let cores = |line: &str| parse(&SAMPLE.replacen("core = 1 ", line, 1)).unwrap().cores;
    assert_eq!([cores("core = 3 "), cores("cores = [2, 1] "), cores("")], [vec![3], vec![2, 1], vec![0]]);
}

#[test]
fn keys_come_from_one_server_several_or_files() {
    let section = SAMPLE.find("[kme]").unwrap()..SAMPLE.find("[keys]").unwrap();
    let with =
        |sections: &str| parse(&[&SAMPLE[..section.start], sections, "\n", &SAMPLE[section.end..]].concat());
    let server = |protocol: &str, more: &str| {
        format!(
            "url = \"https://k:1\"\nca = \"c\"\ncert = \"c\"\nkey = \"k\"\nprotocol = \"{protocol}\"\n{more}\n"
        )
    };
    let kind = |sections: &str| with(sections).unwrap().links[0].key_source();
    let (etsi, skip) = (server("etsi014", ""), server("skip", "remote_system = \"KP-B\""));
    assert_eq!(kind(&format!("[kme]\n{etsi}")), "etsi014");
    assert_eq!(kind(&format!("[[kme]]\n{etsi}[[kme]]\n{etsi}")), "etsi014");
    assert_eq!(kind(&format!("[kme]\n{skip}")), "skip");
    assert_eq!(kind("[key_files]\ndirectory = \"d\"\nhalf = \"first\""), "file");
    let mistakes = [
        (format!("[[kme]]\n{etsi}[[kme]]\n{skip}"), "same protocol"),
        (format!("[kme]\n{}", server("skip", "")), "remote_system"),
        (format!("[kme]\n{}", server("etsi014", "remote_system = \"x\"")), "remote_system"),
        (format!("[kme]\n{}", server("etsi014", "tiemout = \"1s\"")), "tiemout"),
        (format!("[kme]\n{}", server("etsi014", "timeout = \"2h\"")), "kme.timeout"),
        ("[key_files]\nhalf = \"first\"".into(), "directory or fifo"),
        (format!("[kme]\n{etsi}[key_files]\nfifo = \"f\"\nhalf = \"first\""), "[key_files]"),
        (String::new(), "[kme]"),
    ];
    for (sections, named) in mistakes {
        let line = with(&sections).unwrap_err();
        assert!(line.contains(named) && !line.contains('\n'), "{sections}: {line}");
    }
}

#[test]
fn the_pool_is_a_number_or_a_time() {
    let pool = |value: &str| {
        parse(&SAMPLE.replacen("pool = 16", &format!("pool = {value}"), 1)).map(|config| config.links[0].pool)
    };
    assert_eq!(pool("120"), Ok(120));
    assert_eq!(pool("\"10m\""), Ok(10), "at a rotation of 60 s");
    assert_eq!(pool("\"61s\""), Ok(2));
    for wrong in ["0", "-1", "\"many\"", "\"60days\"", "1.5"] {
        let line = pool(wrong).unwrap_err();
        assert!(line.contains("keys.pool") && !line.contains('\n'), "{wrong}: {line}");
    }
}

#[test]
fn a_reload_names_the_settings_that_it_cannot_change() {
    let old = parse(SAMPLE).unwrap();
    let new = SAMPLE.replacen("flows = 16384", "flows = 8192", 1).replacen("nat = false", "", 1);
    let new = parse(&format!("{new}\n[[policy]]\naction = \"protect\"")).unwrap();
    assert_eq!(old.changed_settings(&new), ["cipher.nat", "worker.flows"]);
    assert!(old.changed_settings(&old).is_empty());
    let moved = parse(&SAMPLE.replacen("192.0.2.2", "192.0.2.9", 1)).unwrap();
    assert!(old.changed_settings(&moved).is_empty(), "it is the link's");
    assert_eq!(old.links[0].changed_settings(&moved.links[0]), ["address"]);
}

#[test]
fn a_fingerprint_is_read_with_or_without_colons() {
    let pinned = |text: &str| {
        parse(&SAMPLE.replacen("# peer_fingerprint = \"...\"", &format!("peer_fingerprint = \"{text}\""), 1))
    };
    assert_eq!(pinned(&"ab".repeat(32)).unwrap().links[0].channel.peer_fingerprint, Some([0xab; 32]));
    assert_eq!(pinned(&["AB"; 32].join(":")).unwrap().links[0].channel.peer_fingerprint, Some([0xab; 32]));
    assert!(pinned("abcd").unwrap_err().contains("channel.peer_fingerprint"));
}
