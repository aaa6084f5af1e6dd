use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use super::super::tests::SAMPLE;
use super::*;

/// The sample's shared part, with two peers of which the first is told by its VLAN.
fn hub() -> String {
    let shared = SAMPLE
        .replacen("link = \"madrid-lisbon\"", "", 1)
        .replacen("peer_sae = \"sae-b\"", "", 1)
        .replacen("peer = \"192.0.2.2\"", "", 1)
        .replacen("control = \"/run/qhaul/a.sock\"", "", 1);
    format!("{shared}\n{FIRST}\n{SECOND}")
}

const FIRST: &str = r#"
[[peers]]
link = "hub-north"
sae = "sae-n"
address = "192.0.2.11"
next_hop = "192.0.2.250"
channel_name = "north.example"
flows = 128
kme = { url = "https://kme-n:1", ca = "c", cert = "c", key = "k" }
keys = { rotate = "5s" }

[[peers.policy]]
action = "protect"
vlan = 101
"#;
const SECOND: &str = r#"
[[peers]]
link = "hub-south"
sae = "sae-0"
address = "192.0.2.12"
"#;

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(text, Path::new("/etc/qhaul"))
}

#[test]
fn each_peer_has_its_own_settings_and_for_the_rest_those_of_the_file() {
    let config = parse(&hub()).unwrap();
    assert_eq!(config.control, Path::new("/run/qhaul/sae-a.sock"));
    let [north, south] = &config.links[..] else { panic!("two links") };
    assert_eq!((&*north.name, north.peer_sae.as_str(), north.flows), ("hub-north", "sae-n", 128));
    assert_eq!(north.ends.peer(), "192.0.2.11".parse::<IpAddr>().unwrap());
    assert_eq!(north.next_hop, "192.0.2.250".parse().ok());
    assert_eq!((&*north.channel.peer_name, &*south.channel.peer_name), ("north.example", "sae-0"));
    assert_eq!([north.rotate, south.rotate].map(|time| time.as_secs()), [5, 60]);
    assert_eq!(north.grace, Duration::from_secs(1), "what it does not say of [keys] is the file's");
    assert_eq!((south.flows, south.next_hop), (16_384, None));
    assert_eq!([north.listens, south.listens], [true, false], "by the SAE IDs");
    assert!(!north.policy.protects_whatever_comes() && south.policy.protects_whatever_comes());
    let urls = config.links.iter().map(|link| format!("{:?}", link.feed));
    let urls: Vec<String> = urls.collect();
    assert!(urls[0].contains("kme-n:1") && urls[1].contains("kme-a.example"), "{urls:?}");
}

#[test]
fn rules_of_the_site_stand_in_front_of_each_peers_own() {
    let site = "[[policy]]\naction = \"bypass\"\nframe = \"lldp\"\n[[policy]]\naction = \"discard\"\nethertype = 0x88b5\n";
    let config = parse(&format!("{}\n{site}", hub())).unwrap();
    for link in &config.links {
        let rules: Vec<String> = link.policy.rules().iter().map(ToString::to_string).collect();
        assert_eq!(rules.len(), 3, "{rules:?}");
        assert!(rules[0].starts_with("bypass") && rules[1].starts_with("discard"), "{rules:?}");
    }
    assert_eq!(config.policy_warnings().len(), 1, "told once");
}

#[test]
fn each_mistake_is_one_line_that_names_the_peer() {
    let cases = [
        (
            "link = \"hub-south\"",
            "link = \"hub-north\"",
            "peers 1 (\"hub-north\") and 2 (\"hub-north\") have one link name",
        ),
        ("192.0.2.12", "192.0.2.11", "have one address"),
        ("sae = \"sae-0\"", "sae = \"sae-n\"", "have one sae"),
        (
            "address = \"192.0.2.12\"",
            "address = \"192.0.2.1\"",
            "peers 2 (\"hub-south\"): cipher.address and address",
        ),
        ("address = \"192.0.2.12\"", "address = \"2001:db8::2\"", "peers 2 (\"hub-south\")"),
        ("address = \"192.0.2.12\"", "adress = \"192.0.2.12\"", "adress"),
        ("sae = \"sae-0\"", "sae = \"sae-a\"", "peers 2 (\"hub-south\"): site.sae and sae are the same"),
        ("flows = 128", "flows = 0", "peers 1 (\"hub-north\"): flows"),
        ("keys = { rotate = \"5s\" }", "keys = { rotate = \"5ms\" }", "peers 1 (\"hub-north\"): keys.rotate"),
        ("keys = { rotate = \"5s\" }", "keys = { rotat = \"5s\" }", "rotat"),
        ("vlan = 101", "", "put it last"),
        ("action = \"protect\"\nvlan = 101", "action = \"bypass\"\nvlan = 101", "put it into [[policy]]"),
        ("ttl = 64", "ttl = 0", "cipher.ttl"),
        ("ttl = 64", "ttl = 64\npeer = \"192.0.2.2\"", "cipher.peer is set beside [[peers]]"),
        (
            "[[peers]]\nlink = \"hub-north\"",
            "[[policy]]\naction = \"protect\"\n[[peers]]\nlink = \"hub-north\"",
            "[[peers.policy]]",
        ),
    ];
    for (right, wrong, named) in cases {
        assert!(hub().contains(right), "{right}");
        let line = parse(&hub().replacen(right, wrong, 1)).unwrap_err();
        assert!(line.contains(named) && !line.contains('\n'), "{wrong}: {line}");
    }
    let everywhere = parse(&hub().replacen("ttl = 64", "ttl = 0", 1)).unwrap_err();
    assert!(everywhere.starts_with("cipher.ttl"), "it is no peer's own: {everywhere}");
    let none = parse("peers = []\n").unwrap_err();
    assert!(none.contains("missing field"), "{none}");
}

#[test]
fn a_reload_tells_the_settings_of_a_peer_from_those_of_all() {
    let old = parse(&hub()).unwrap();
    let new =
        parse(&hub().replacen("flows = 128", "flows = 256", 1).replacen("ttl = 64", "ttl = 9", 1)).unwrap();
    assert_eq!(old.changed_settings(&new), ["cipher.ttl"]);
    let changed = |name: &str| old.link(name).unwrap().changed_settings(new.link(name).unwrap());
    assert_eq!((changed("hub-north"), changed("hub-south")), (vec!["flows".to_string()], Vec::new()));
    let other_rules = parse(&hub().replacen("vlan = 101", "vlan = 102", 1)).unwrap();
    let north = |config: &Config| config.link("hub-north").unwrap().clone();
    assert!(north(&old).changed_settings(&north(&other_rules)).is_empty(), "the policy is no setting");
}

#[test]
fn one_link_may_become_one_of_several() {
    let alone = parse(SAMPLE).unwrap();
    let peers = "[[peers]]\nlink = \"madrid-lisbon\"\nsae = \"sae-b\"\naddress = \"192.0.2.2\"\n";
    let among = parse(&hub().replacen(FIRST, "", 1).replacen(SECOND, peers, 1)).unwrap();
    assert!(alone.links[0].changed_settings(&among.links[0]).is_empty());
    let waiting = alone.changed_settings(&among);
    assert_eq!(waiting, ["site.control"], "which this test has taken away");
}
