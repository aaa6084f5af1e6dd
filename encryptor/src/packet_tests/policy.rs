//! The policy on the packet path: what crosses in clear, what does not cross, and what may not have come.

use std::sync::Arc;

use super::*;
use crate::classify::Granularity;
use crate::policy::{Action, Condition, Policy, Ranges, Rule};

fn rule(action: Action, ethertype: u32) -> Rule {
    let conditions = vec![Condition::Ethertype(Ranges(vec![(ethertype, ethertype)]))];
    Rule { name: String::new(), action, conditions, granularity: Granularity::Link }
}

/// Beacons in clear, IPv4 encrypted in one flow, nothing else.
fn set_policy(rig: &mut Rig) {
    let rules = vec![rule(Action::Bypass, 0x88b5), rule(Action::Protect, 0x0800)];
    let policy = Arc::new(Policy::new(rules, Some([192, 0, 2, 2].into())));
    rig.protect.set_policy(policy.clone());
    rig.unprotect.set_policy(policy);
}

fn of_type(ethertype: u16) -> Vec<u8> {
    [&[2; 12][..], &ethertype.to_be_bytes(), &[7; 46]].concat()
}

#[test]
fn bypass_needs_no_keys_and_all_else_does() {
    let mut rig = Rig::new();
    set_policy(&mut rig);
    let fates = rig.protect(&[of_type(0x88b5), plain(1, 60), of_type(0x0806)]);
    assert_eq!(fates, [Ok(of_type(0x88b5)), Err(DropReason::NoEpoch), Err(DropReason::NoEpoch)]);
    let fates = rig.unprotect(&[of_type(0x88b5), plain(1, 60), of_type(0x0806)]);
    assert_eq!(fates, [Ok(of_type(0x88b5)), Err(DropReason::PolicyClear), Err(DropReason::PolicyClear)]);
}

#[test]
fn in_one_burst_each_frame_goes_its_way() {
    let mut rig = Rig::linked();
    set_policy(&mut rig);
    let mut fates = rig.protect(&[plain(1, 60), of_type(0x88b5), of_type(0x0806), plain(2, 70)]);
    let [first, beacon, refused, last] = [(); 4].map(|()| fates.remove(0));
    assert_eq!((beacon, refused), (Ok(of_type(0x88b5)), Err(DropReason::PolicyDiscard)));
    let (first, last) = (first.unwrap(), last.unwrap());
    let back = rig.unprotect(&[first, of_type(0x88b5), last]);
    assert_eq!(back, [Ok(plain(1, 60)), Ok(of_type(0x88b5)), Ok(plain(2, 70))]);
    assert_eq!(rig.unprotect.flow_count(), 1, "one for the whole link");
}

#[test]
fn what_was_decrypted_must_be_what_a_protect_rule_means() {
    let mut rig = Rig::linked();
    let (beacon, arp) = (rig.sealed(&of_type(0x88b5)), rig.sealed(&of_type(0x0806)));
    set_policy(&mut rig);
    assert_eq!(rig.fate(&beacon), Err(DropReason::PolicyInbound), "it should have come in clear");
    assert_eq!(rig.fate(&arp), Err(DropReason::PolicyInbound));
}
