//! The lab itself, without encryptors: the network carries everything, and the eavesdropper reads it. Needs root.

use super::*;
use crate::lab::fetch::FileServer;

#[test]
fn a_clear_path_loses_nothing_and_hides_nothing() {
    let topology = Topology::up("tclear").unwrap();
    Side::BOTH.into_iter().for_each(|side| topology.set_clear(side, true).unwrap());
    wait_connected(&topology).unwrap();
    let (replies, evidence) = observe(&topology, "test", |_| {
        assert!(
            FileServer::start(&topology)?.fetch(&topology)?.finish()?,
            "the file did not arrive identical"
        );
        let targets = [IpAddr::from(Side::B.host_v4()), Side::B.host_v6().into(), Side::B.vlan_v4().into()];
        targets.into_iter().try_fold(0, |replies, target| {
            let interval = Duration::from_millis(5);
            let ping = Ping::start(&topology, Node::Host(Side::A), "ping", target, interval, Some(20))?;
            Ok(replies + ping.wait(Duration::from_secs(10))?.received)
        })
    })
    .unwrap();
    assert_eq!(replies, 60);
    assert_eq!((evidence.passed.lost, evidence.passed.surplus, evidence.missed), (0, 0, 0));
    let seen = &evidence.seen;
    assert!(evidence.passed.sent > 5000, "8 MiB are {} frames?", evidence.passed.sent);
    assert_eq!(seen.frames, evidence.passed.sent, "the eavesdropper hears every frame once");
    assert_eq!(seen.plaintext, seen.frames, "{:?}", seen.findings);
    assert!(seen.findings["a payload's marker"] > 5000, "{:?}", seen.findings);
    topology.down().unwrap();
}

#[test]
fn parted_gateways_pass_nothing() {
    let topology = Topology::up("tparted").unwrap();
    let target = Side::B.host_v4().into();
    let interval = Duration::from_millis(50);
    let (report, evidence) = observe(&topology, "test", |_| {
        let ping = Ping::start(&topology, Node::Host(Side::A), "ping", target, interval, Some(5))?;
        ping.wait(Duration::from_secs(10))
    })
    .unwrap();
    assert_eq!((report.sent, report.received), (5, 0));
    assert!(evidence.passed.sent > 0 && evidence.passed.received == 0, "{:?}", evidence.passed);
    assert_eq!(evidence.seen.plaintext, 0, "the gateways' kernels forward nothing: {:?}", evidence.seen);
}
