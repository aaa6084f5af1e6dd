//! Rules against frames in both directions, by table.

use std::path::Path;

use super::*;
use crate::config::Config;

const SAMPLE: &str = include_str!("../../site.example.toml");

fn with_rules(rules: &str) -> Result<Policy, String> {
    Config::parse(&format!("{SAMPLE}\n{rules}"), Path::new("/etc/qhaul"))
        .map(|mut config| config.links.remove(0).policy)
}

fn policy(rules: &str) -> Policy {
    with_rules(rules).unwrap()
}

/// An Ethernet frame to `destination`, its addresses in front of `behind`.
fn to(destination: [u8; 6], behind: &[u8]) -> Vec<u8> {
    [&destination[..], &[2, 0, 0, 0, 0, 9], behind].concat()
}

fn frame(behind: &[u8]) -> Vec<u8> {
    to([2, 0, 0, 0, 0, 1], behind)
}

/// IPv4 from 10.1.0.x to 10.2.0.y.
fn v4([x, y]: [u8; 2], protocol: u8, fragment: u16, segment: &[u8]) -> Vec<u8> {
    let [a, b] = (20 + segment.len() as u16).to_be_bytes();
    let [c, d] = fragment.to_be_bytes();
    let head = [8, 0, 0x45, 0xb8, a, b, 0, 0, c, d, 64, protocol, 0, 0, 10, 1, 0, x, 10, 2, 0, y];
    [&head[..], segment].concat()
}

fn udp(ports: [u16; 2], payload: &[u8]) -> Vec<u8> {
    let words = [ports[0], ports[1], 8 + payload.len() as u16, 0].map(u16::to_be_bytes);
    [words.as_flattened(), payload].concat()
}

fn gtpu(teid: u8, qfi: u8) -> Vec<u8> {
    let message = [0x34, 255, 0, 8, 0, 0, 0, teid, 0, 0, 0, 0x85, 1, 0, qfi, 0];
    v4([1, 1], 17, 0, &udp([2152, 2152], &message))
}

fn out(policy: &Policy, frame: &[u8]) -> Decision {
    policy.decide(&View::of_frame(frame).unwrap(), Direction::Outbound)
}

fn back(policy: &Policy, frame: &[u8]) -> Decision {
    policy.decide(&View::of_frame(frame).unwrap(), Direction::Inbound)
}

const FINE: Decision = Decision::Protect(Granularity::FiveTuple);

#[test]
fn without_rules_everything_is_protected_and_with_rules_the_rest_is_discarded() {
    let arp = frame(&[8, 6, 0, 0]);
    assert_eq!(out(&policy(""), &arp), FINE);
    assert!(policy("").admits_opened(&arp) && !policy("").admits_clear(&arp) && !policy("").bypasses());
    let ip_only = policy("[[policy]]\naction = \"protect\"\nethertype = [\"ipv4\", \"ipv6\"]");
    assert_eq!(out(&ip_only, &arp), Decision::Discard);
    assert!(!ip_only.admits_opened(&arp));
    assert_eq!(out(&ip_only, &frame(&gtpu(1, 1))), FINE);
}

#[test]
fn each_condition_meets_what_it_says_and_nothing_else() {
    let tagged = |tags: &[u8]| frame(&[tags, &v4([1, 1], 6, 0, &[0, 80, 0, 90])].concat());
    let qinq = tagged(&[0x88, 0xa8, 0, 7, 0x81, 0, 0, 100]);
    let tag = tagged(&[0x81, 0, 0, 7]);
    let tcp = tagged(&[]);
    let mpls = frame(&[0x88, 0x47, 0, 1, 0, 64, 0, 2, 1, 64, 0, 0, 0, 0]);
    let (tunnel, other) = (frame(&gtpu(7, 9)), frame(&gtpu(8, 5)));
    let arp = frame(&[8, 6, 0, 0]);
    type Frames<'a> = &'a [&'a [u8]];
    let table: &[(&str, Frames<'_>, Frames<'_>)] = &[
        ("ethertype = \"arp\"", &[&arp], &[&tcp, &mpls]),
        ("ethertype = [0x8847, \"0x800-0x801\"]", &[&mpls, &tcp, &tag], &[&arp]),
        ("vlan = 7", &[&qinq, &tag], &[&tcp, &arp]),
        ("vlan = \"untagged\"", &[&tcp, &arp, &mpls], &[&tag, &qinq]),
        ("inner_vlan = \"100-199\"", &[&qinq], &[&tag, &tcp]),
        ("mpls = 16", &[&mpls], &[&tcp, &arp]),
        ("mpls = 32", &[], &[&mpls]),
        ("inner_mpls = 32", &[&mpls], &[&tcp]),
        ("source = \"10.1.0.0/16\"", &[&tcp, &qinq, &tunnel], &[&arp]),
        ("source = [\"10.3.0.0/16\", \"::/0\"]", &[], &[&tcp]),
        ("destination = \"10.2.0.1\"", &[&tcp], &[&arp]),
        ("destination = \"10.2.0.2\"", &[], &[&tcp]),
        ("protocol = \"tcp\"", &[&tcp], &[&tunnel, &arp]),
        ("protocol = [17, \"6-7\"]", &[&tcp, &tunnel], &[&arp]),
        ("port = 90", &[&tcp, &qinq], &[&tunnel, &arp]),
        ("source_port = 80", &[&tcp], &[&tunnel]),
        ("destination_port = 80", &[], &[&tcp]),
        ("dscp = \"ef\"", &[&tcp, &tunnel], &[&arp]),
        ("dscp = \"0-45\"", &[], &[&tcp]),
        ("teid = 7", &[&tunnel], &[&other, &tcp, &arp]),
        ("teid = \"0x1-0xff\"", &[&tunnel, &other], &[&tcp]),
        ("qfi = 9", &[&tunnel], &[&other, &tcp]),
        ("teid = 7\nqfi = 5", &[], &[&tunnel, &other]),
    ];
    for (condition, meant, spared) in table {
        let policy = policy(&format!(
            "[[policy]]\naction = \"bypass\"\nframe = \"lldp\"\n[[policy]]\naction = \"protect\"\n{condition}"
        ));
        for one in *meant {
            assert_eq!(out(&policy, one), FINE, "{condition}: {one:02x?}");
        }
        for one in *spared {
            let decision = out(&policy, one);
            assert!(decision == Decision::Discard, "{condition}: {decision:?} for {one:02x?}");
        }
    }
}

#[test]
fn rules_are_seen_from_the_plain_side_and_mirrored_inbound() {
    let policy = policy(
        "[[policy]]\naction = \"protect\"\nsource = \"10.1.0.0/16\"\ndestination = \"10.2.0.0/16\"\n\
         protocol = \"udp\"\nsource_port = 1000\ndestination_port = 2000",
    );
    let there = frame(&v4([1, 1], 17, 0, &udp([1000, 2000], &[])));
    let mut answer = frame(&v4([1, 1], 17, 0, &udp([2000, 1000], &[])));
    answer[26..34].rotate_left(4);
    assert_eq!([out(&policy, &there), back(&policy, &answer)], [FINE; 2]);
    assert_eq!([out(&policy, &answer), back(&policy, &there)], [Decision::Discard; 2]);
    assert!(policy.admits_opened(&answer) && !policy.admits_opened(&there));
}

#[test]
fn what_is_not_shown_never_goes_in_clear() {
    let fragment = frame(&v4([1, 1], 17, 0x2000, &udp([1, 319], &[])));
    let cut = frame(&[8, 0, 0x45, 0, 0, 40, 0, 0]);
    let guessed =
        frame(&[&[0x88, 0x47, 0, 1, 1, 64][..], &v4([1, 1], 17, 0, &udp([1, 319], &[]))[2..]].concat());
    let deep = frame(&[[0x81, 0, 0, 1].repeat(6), vec![8, 0]].concat());
    assert_eq!(
        out(&policy("[[policy]]\naction = \"bypass\"\nvlan = \"untagged\""), &frame(&[0x81, 0, 0])),
        Decision::Discard
    );
    let later = "[[policy]]\naction = \"bypass\"\nvlan = [\"untagged\", 1]";
    for rule in ["port = 319", "frame = \"ptp\"", "protocol = \"udp\"\nport = 319"] {
        for action in ["protect", "discard", "bypass"] {
            let policy = policy(&format!("[[policy]]\naction = \"{action}\"\n{rule}\n{later}"));
            let sure = frame(&v4([1, 1], 17, 0, &udp([1, 319], &[])));
            for hidden in [&fragment, &cut, &guessed, &deep] {
                let expected = match action {
                    "protect" => FINE,
                    "discard" => Decision::Unclear,
                    // Both would let it through: whichever it is, it was meant to go in clear.
                    _ => Decision::Bypass,
                };
                assert_eq!(out(&policy, hidden), expected, "{action} {rule}: {hidden:02x?}");
                assert_eq!(policy.admits_clear(hidden), action == "bypass");
            }
            let expected = match action {
                "protect" => FINE,
                "discard" => Decision::Discard,
                _ => Decision::Bypass,
            };
            assert_eq!(out(&policy, &sure), expected, "{action} {rule}");
        }
        let alone = policy(&format!("[[policy]]\naction = \"bypass\"\n{rule}"));
        for hidden in [&fragment, &cut, &guessed, &deep] {
            assert_eq!(out(&alone, hidden), Decision::Discard, "{rule}: {hidden:02x?}");
        }
        let protected =
            policy(&format!("[[policy]]\naction = \"bypass\"\n{rule}\n[[policy]]\naction = \"protect\""));
        assert_eq!(out(&protected, &fragment), FINE);
    }
}

#[test]
fn presets_are_no_wider_than_their_frames() {
    let group = |last: u8| [0x01, 0x80, 0xc2, 0, 0, last];
    let frames = [
        ("lldp", to(group(0x0e), &[0x88, 0xcc, 2, 7])),
        ("lacp", to(group(0x02), &[0x88, 0x09, 1, 1])),
        ("esmc", to(group(0x02), &[0x88, 0x09, 0x0a, 0])),
        ("stp", to(group(0x00), &[0, 38, 0x42, 0x42, 3])),
        ("pause", to(group(0x01), &[0x88, 0x08, 0, 1])),
        ("ptp", to([1, 0x1b, 0x19, 0, 0, 0], &[0x88, 0xf7, 0, 2])),
        ("ptp", frame(&v4([1, 1], 17, 0, &udp([9, 320], &[])))),
        ("none", to(group(0x02), &[0x88, 0x09, 3, 0])),
        ("none", frame(&[0x88, 0xcc, 2, 7])),
        ("none", to(group(0x0e), &[0x81, 0, 0, 1, 0x88, 0xcc, 2, 7])),
        ("none", frame(&v4([1, 1], 17, 0, &udp([320, 9], &[])))),
        ("none", frame(&v4([1, 1], 6, 0, &udp([9, 320], &[])))),
        ("none", frame(&[8, 6, 0, 0])),
    ];
    for preset in Preset::ALL.map(Preset::name) {
        let policy = policy(&format!("[[policy]]\naction = \"bypass\"\nframe = \"{preset}\""));
        for (name, frame) in &frames {
            let expected = if *name == preset { Decision::Bypass } else { Decision::Discard };
            assert_eq!([out(&policy, frame), back(&policy, frame)], [expected; 2], "{preset} {frame:02x?}");
        }
    }
}

#[test]
fn the_kernel_forwards_ptp_only_if_no_earlier_rule_might_mean_it() {
    let ptp = "[[policy]]\naction = \"bypass\"\nframe = \"ptp\"\n";
    let table = [
        ("", true),
        ("[[policy]]\naction = \"protect\"\nprotocol = \"sctp\"\n", true),
        ("[[policy]]\naction = \"discard\"\nvlan = 5\nsource = \"10.0.0.0/8\"\n", true),
        ("[[policy]]\naction = \"bypass\"\nframe = [\"lldp\", \"lacp\"]\n", true),
        ("[[policy]]\naction = \"protect\"\nteid = 5\n", true),
        ("[[policy]]\naction = \"protect\"\nsource = \"10.0.0.0/8\"\n", false),
        ("[[policy]]\naction = \"protect\"\nprotocol = \"udp\"\nport = 5\n", false),
        ("[[policy]]\naction = \"protect\"\nethertype = 0x88f7\n", false),
        ("[[policy]]\naction = \"discard\"\n", false),
    ];
    for (first, forwards) in table {
        assert_eq!(policy(&format!("{first}{ptp}")).forwards_ptp_in_kernel(), forwards, "{first}");
    }
    assert!(!policy("").forwards_ptp_in_kernel());
    assert!(!policy(&format!("{ptp}vlan = 5")).forwards_ptp_in_kernel(), "not all of it");
}

#[test]
fn the_program_lets_in_no_more_types_than_the_rules_name() {
    let table: [(&str, ClearTypes); 6] = [
        ("action = \"protect\"", ClearTypes::These(vec![])),
        ("action = \"bypass\"\nframe = [\"lldp\", \"stp\"]", ClearTypes::These(vec![0, 0x88cc])),
        ("action = \"bypass\"\nvlan = 7", ClearTypes::These(vec![0x8100, 0x88a8, 0x9100])),
        ("action = \"bypass\"\nethertype = 0x88b5", ClearTypes::These(vec![0x8100, 0x88a8, 0x88b5, 0x9100])),
        ("action = \"bypass\"\nethertype = \"0x1000-0x2000\"", ClearTypes::Any),
        ("action = \"bypass\"\nprotocol = \"ospf\"", ClearTypes::Any),
    ];
    for (rule, types) in table {
        assert_eq!(policy(&format!("[[policy]]\n{rule}")).clear_types(), types, "{rule}");
    }
}

#[test]
fn what_is_to_the_cipher_port_itself_is_never_taken_as_clear() {
    let policy = policy("[[policy]]\naction = \"bypass\"\nprotocol = \"udp\"");
    let mut own = frame(&v4([1, 1], 17, 0, &udp([1, 4500], &[])));
    assert!(policy.takes_as_clear(&own));
    own[30..34].copy_from_slice(&[192, 0, 2, 1]);
    assert!(!policy.takes_as_clear(&own));
    assert!(!self::policy("").takes_as_clear(&frame(&[8, 6, 0, 0])));
}

#[test]
fn each_mistake_is_one_line_that_names_it() {
    let table = [
        ("action = \"encrypt\"", "encrypt"),
        ("action = \"bypass\"", "without a condition"),
        ("action = \"bypass\"\nethertype = \"arp\"", "ARP"),
        ("action = \"bypass\"\nvlan = 5\ngranularity = \"teid\"", "granularity"),
        ("action = \"protect\"\ngranularity = \"6-tuple\"", "6-tuple"),
        ("action = \"protect\"\nvlan = 4096", "vlan"),
        ("action = \"protect\"\nvlan = \"9-1\"", "vlan"),
        ("action = \"protect\"\nvlan = []", "vlan"),
        ("action = \"protect\"\nqfi = -1", "qfi"),
        ("action = \"protect\"\nteid = \"seven\"", "teid"),
        ("action = \"protect\"\nprotocol = \"ipx\"", "sctp"),
        ("action = \"protect\"\nsource = \"10.0.0.0/33\"", "source"),
        ("action = \"protect\"\nsauce = \"10.0.0.0/8\"", "sauce"),
        ("action = \"protect\"\nframe = \"lldb\"", "line"),
    ];
    for (rule, named) in table {
        let line = with_rules(&format!("[[policy]]\n{rule}")).unwrap_err();
        assert!(line.contains(named) && !line.contains('\n'), "{rule}: {line}");
    }
}

#[test]
fn a_difference_names_what_goes_comes_and_moves() {
    let rule = |name: &str, vlan: u16| {
        format!("[[policy]]\nname = \"{name}\"\naction = \"protect\"\nvlan = {vlan}\n")
    };
    let old = policy(&[rule("a", 1), rule("b", 2), rule("c", 3)].concat());
    let new = policy(&[rule("a", 1), rule("c", 3), rule("b", 4)].concat());
    let difference = Difference::between(&old, &new);
    let lines: Vec<String> = difference.lines().collect();
    assert_eq!(lines, ["- 2. b: protect vlan=2 by 5-tuple", "+ 3. b: protect vlan=4 by 5-tuple"]);
    let turned = policy(&[rule("b", 2), rule("a", 1), rule("c", 3)].concat());
    assert_eq!(Difference::between(&old, &turned).moved.len(), 2);
    assert!(Difference::between(&old, &old).is_empty());
}
