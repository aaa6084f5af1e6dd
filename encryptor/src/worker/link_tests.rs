use super::*;
use crate::budget::Budget;
use crate::classify::Granularity;
use crate::policy::{Action, Condition, Policy, Prefix, Ranges, Rule};
use crate::protect::NextHop;
use crate::wire::{ClassMap, Dscp, Ecn, Encap, Ends, MacAddr, OuterTemplate};

const OWN: [u8; 4] = [192, 0, 2, 1];

fn rule(action: Action, conditions: Vec<Condition>) -> Rule {
    Rule { name: String::new(), action, conditions, granularity: Granularity::FiveTuple }
}

fn ethertype(number: u32) -> Condition {
    Condition::Ethertype(Ranges(vec![(number, number)]))
}

fn to(network: [u8; 4]) -> Condition {
    Condition::Destination(vec![Prefix::new(network.into(), 24).unwrap()])
}

/// Link `number` to 192.0.2.`peer`. In front of its own rules stand the site's: beacons in clear.
fn link(number: LinkNumber, peer: u8, own: Vec<Rule>) -> LinkWork {
    let ends = Ends::V4(OWN.into(), [192, 0, 2, peer].into());
    let classes = ClassMap::new(&Dscp::Copy, Ecn::Copy);
    let encap = Encap::Udp(4500);
    let template = OuterTemplate::new(MacAddr([2; 6]), ends, encap, 64, classes);
    let mut protect = Protect::new(template, NextHop::default(), 1600);
    let mut unprotect = Unprotect::new(ends.shape(encap), false, 1522, Budget::new(8, 8));
    let site = rule(Action::Bypass, vec![ethertype(0x88b5)]);
    let rules = [vec![site], own].concat();
    let policy = Arc::new(Policy::new(rules, Some(OWN.into())));
    unprotect.set_policy(policy.clone());
    protect.set_policy(policy);
    Box::new(WorkerLink::new(number, ends.peer(), protect, unprotect, Arc::default()))
}

/// Number 7 has 10.1.1.0/24 but for UDP, number 3 has 10.1.2.0/24, and number 9 the rest of 10.1.0.0/16.
fn links() -> Links {
    let udp = Condition::Protocol(Ranges(vec![(17, 17)]));
    let discard = rule(Action::Discard, vec![udp, to([10, 1, 1, 0])]);
    let rest = Condition::Destination(vec![Prefix::new([10, 1, 0, 0].into(), 16).unwrap()]);
    Links::new(vec![
        link(7, 12, vec![discard, rule(Action::Protect, vec![to([10, 1, 1, 0])])]),
        link(3, 11, vec![rule(Action::Protect, vec![to([10, 1, 2, 0])])]),
        link(9, 13, vec![rule(Action::Protect, vec![rest])]),
    ])
}

fn ipv4(source: [u8; 4], destination: [u8; 4], protocol: u8) -> Vec<u8> {
    let head = [0x45, 0, 0, 40, 0, 0, 0, 0, 64, protocol, 0, 0];
    [&[2; 12][..], &[8, 0], &head, &source, &destination, &[0; 20]].concat()
}

fn carrier(links: &Links, destination: [u8; 4], protocol: u8) -> Result<LinkNumber, Verdict> {
    let place = links.carrier(&ipv4([10, 9, 0, 1], destination, protocol))?;
    Ok(links.links[place].number)
}

#[test]
fn the_first_link_whose_policy_protects_a_frame_carries_it() {
    let mut links = links();
    let discarded = Err(Verdict::Drop(DropReason::PolicyDiscard));
    assert_eq!(carrier(&links, [10, 1, 1, 5], 6), Ok(7));
    assert_eq!(carrier(&links, [10, 1, 2, 5], 6), Ok(3));
    assert_eq!(carrier(&links, [10, 1, 3, 5], 6), Ok(9));
    assert_eq!(carrier(&links, [10, 1, 1, 5], 17), Ok(9), "a discard rule speaks for its own link");
    assert_eq!(carrier(&links, [10, 2, 0, 5], 6), discarded, "what no link protects does not cross");
    links.arrange(|number| if number == 9 { 0 } else { 1 });
    assert_eq!(carrier(&links, [10, 1, 2, 5], 6), Ok(9), "in the new order");
    let place = links.place(9).unwrap();
    assert_eq!(links.remove(place).number(), 9);
    assert_eq!(carrier(&links, [10, 1, 3, 5], 6), discarded);
}

#[test]
fn in_doubt_nothing_crosses_and_in_clear_only_what_the_site_says() {
    let links = Links::new(vec![
        link(0, 11, vec![rule(Action::Discard, vec![Condition::Port(Ranges(vec![(1, 9)]))])]),
        link(1, 12, vec![rule(Action::Protect, vec![to([10, 1, 2, 0])])]),
    ]);
    let fragment = |destination: [u8; 4]| {
        let mut fragment = ipv4([10, 9, 0, 1], destination, 17);
        fragment[20] = 0x20;
        links.carrier(&fragment)
    };
    assert_eq!(fragment([10, 1, 2, 5]), Ok(1));
    assert_eq!(fragment([10, 1, 3, 5]), Err(Verdict::Drop(DropReason::PolicyUnclear)));
    let beacon = [&[2; 12][..], &[0x88, 0xb5], &[7; 46]].concat();
    assert_eq!(links.carrier(&beacon), Err(Verdict::Bypass));
    assert_eq!(links.sender(&beacon), Err(Verdict::Bypass));
    assert_eq!(links.carrier(&beacon[..13]), Err(Verdict::Drop(DropReason::Runt)));
}

#[test]
fn what_may_be_one_peers_is_given_to_no_other() {
    let port = || Condition::Port(Ranges(vec![(2152, 2152)]));
    let users =
        |number, peer, network| link(number, peer, vec![rule(Action::Protect, vec![port(), to(network)])]);
    let rest = link(2, 13, vec![rule(Action::Protect, Vec::new())]);
    let mut links = Links::new(vec![users(0, 11, [10, 1, 1, 0]), users(1, 12, [10, 1, 2, 0]), rest]);
    let unclear = Err(Verdict::Drop(DropReason::PolicyUnclear));
    let fragment = |destination: [u8; 4]| {
        let mut fragment = ipv4([10, 9, 0, 1], destination, 17);
        fragment[20] = 0x20;
        fragment
    };
    let behind_labels = [&[2; 12][..], &[0x88, 0x47, 0, 1, 1, 64, 0x45], &[7; 60]].concat();
    assert_eq!(links.carrier(&fragment([10, 1, 1, 5])), unclear, "the first link's, or the last one's");
    assert_eq!(links.carrier(&fragment([10, 1, 3, 5])), Ok(2), "surely the last one's");
    assert_eq!(links.carrier(&behind_labels), unclear);
    links.remove(2);
    assert_eq!(links.carrier(&fragment([10, 1, 2, 5])), Ok(1), "nobody else's");
    assert_eq!(links.carrier(&behind_labels), unclear, "one of two");
}

#[test]
fn a_packet_is_of_the_link_whose_peer_sent_it() {
    let mut links = links();
    let sender = |links: &Links, from: u8| {
        links.sender(&ipv4([192, 0, 2, from], OWN, 17)).map(|place| links.links[place].number)
    };
    let stranger = Err(Verdict::Drop(DropReason::NoLink));
    assert_eq!([11, 12, 13].map(|from| sender(&links, from)), [Ok(3), Ok(7), Ok(9)]);
    assert_eq!(sender(&links, 14), stranger);
    links.remove(links.place(3).unwrap());
    assert_eq!([11, 12, 13].map(|from| sender(&links, from)), [stranger, Ok(7), Ok(9)]);
    links.add(link(3, 14, Vec::new()));
    assert_eq!([11, 14].map(|from| sender(&links, from)), [stranger, Ok(3)]);
    let to_another = ipv4([192, 0, 2, 12], [192, 0, 2, 200], 17);
    let clear = Err(Verdict::Drop(DropReason::PolicyClear));
    assert_eq!(links.sender(&to_another), clear, "where bypass rules are, it is one in clear");
}

#[test]
fn ipv6_sources_are_read_whole() {
    let mut frame = [&[2; 12][..], &[0x86, 0xdd], &[0x60; 8], &[0; 32]].concat();
    frame[22..38].copy_from_slice(&[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9]);
    let address: IpAddr = "2001:db8::9".parse().unwrap();
    assert_eq!(source_in(&frame), Some(source_of(address)));
    assert_eq!((source_in(&frame[..37]), source_in(&[0; 60])), (None, None));
}
