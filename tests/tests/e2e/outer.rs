//! What carries ESP across the backhaul: both families, with UDP and without, by a next hop that moves.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use qhaul::lab::for_each_frame;
use qhaul::lab::plan::{Node, Side};
use qhaul::lab::wait::{pause, wait_for};
use qhaul_tests::TestLab;
use qhaul_tests::backhaul::Backhaul;
use qhaul_tests::books::drops_since;
use qhaul_tests::esp::{ETHERNET, Packet};
use qhaul_tests::lab::PATIENCE;
use qhaul_tests::oracle::open_all;
use qhaul_tests::traffic::Traffic;

#[test]
fn ipv6_with_udp_carries_traffic_through_rotations() -> Result<()> {
    carries(TestLab::up_over_ipv6("eo6udp", |_| ())?, |frame| {
        frame[12..14] == [0x86, 0xdd] && frame[20..22] == [17, 64] && frame[60..62] == [0, 0]
    })
}

#[test]
fn ipv6_with_bare_esp_carries_traffic_through_rotations() -> Result<()> {
    let lab = TestLab::up_over_ipv6("eo6esp", |config| config.encap = "none".into())?;
    carries(lab, |frame| frame[12..14] == [0x86, 0xdd] && frame[20..22] == [50, 64])
}

#[test]
fn ipv4_with_bare_esp_carries_traffic_through_rotations() -> Result<()> {
    let lab = TestLab::up("eo4esp", |config| config.encap = "none".into())?;
    // DF, no other fragment bits, TTL 64, ESP.
    carries(lab, |frame| frame[12..14] == [8, 0] && frame[20..24] == [0x40, 0, 64, 50])
}

/// Traffic both ways, of which nothing is lost, nothing is readable, every packet looks as it should and opens elsewhere.
fn carries(lab: TestLab, looks_right: fn(&[u8]) -> bool) -> Result<()> {
    let before = [lab.status(Side::A)?, lab.status(Side::B)?];
    let backhaul = Backhaul::listen(lab.topology())?;
    let traffic =
        [Traffic::start(lab.topology(), Side::A, 200)?, Traffic::start(lab.topology(), Side::B, 200)?];
    for (side, before) in Side::BOTH.into_iter().zip(&before) {
        let enough = before.tx.switches + 3;
        lab.wait_status(side, "three rotations did not come", |status| status.tx.switches >= enough)?;
    }
    for (side, traffic) in Side::BOTH.into_iter().zip(traffic) {
        let passed = traffic.finish()?;
        ensure!(passed.sent.len() > 200, "only {} datagrams were sent from {side}", passed.sent.len());
        ensure!(passed.lost().is_empty(), "lost from {side}: {:?} of {}", passed.lost(), passed.sent.len());
    }
    let after = lab.settled()?;
    let heard = backhaul.finish()?;
    heard.sealed()?;
    for ((side, file), (after, before)) in
        Side::BOTH.into_iter().zip(&heard.files).zip(after.iter().zip(&before))
    {
        let drops = drops_since(after, before);
        ensure!(drops.is_empty(), "dropped at {side}: {drops:?}");
        let packets = check_looks(file, looks_right)?;
        let opened = open_all(file, &lab.key_log(side))?;
        ensure!(opened.len() == packets, "of {packets} packets from {side} {} open", opened.len());
        ensure!(opened.iter().filter(|packet| packet.next == ETHERNET).count() > 200, "the tap was deaf");
    }
    lab.finish()
}

/// How many ESP packets there are; fails with the first that does not look right.
fn check_looks(capture: &Path, looks_right: fn(&[u8]) -> bool) -> Result<usize> {
    let (mut packets, mut wrong) = (0, None);
    for_each_frame(capture, |frame| {
        if Packet::parse(frame).is_some() {
            packets += 1;
            if !looks_right(frame) && wrong.is_none() {
                wrong = Some(frame[..62.min(frame.len())].to_vec());
            }
        }
    })?;
    ensure!(wrong.is_none(), "an unexpected header: {:02x?}", wrong.unwrap_or_default());
    Ok(packets)
}

/// First the peer gets another hardware address, then a router comes in between, then it goes: the packets follow, and none is lost.
#[test]
fn a_next_hop_that_moves_is_followed() -> Result<()> {
    let lab = TestLab::up("ehop", |_| ())?;
    follow(&lab, Side::B.cipher_v4().into(), "192.0.2.254")?;
    lab.finish()
}

#[test]
fn a_next_hop_that_moves_is_followed_over_ipv6() -> Result<()> {
    let lab = TestLab::up_over_ipv6("ehop6", |_| ())?;
    follow(&lab, Side::B.cipher_v6().into(), "fe80::254")?;
    lab.finish()
}

fn follow(lab: &TestLab, peer: IpAddr, router: &str) -> Result<()> {
    const MOVED: &str = "02:00:5e:99:00:42";
    const ROUTER: &str = "02:00:5e:99:00:fe";
    let on = |side, command: &str| {
        let argv: Vec<&str> = command.split(' ').collect();
        lab.topology().exec(Node::Gateway(side), &argv).with_context(|| command.to_owned())
    };
    let is_at = |mac: &str| {
        lab.wait_status(Side::A, &format!("the next hop was not at {mac}"), |status| {
            status.next_hop.as_deref() == Some(mac)
        })
    };
    let before = lab.status(Side::A)?;
    let backhaul = Backhaul::listen(lab.topology())?;
    let traffic = Traffic::start(lab.topology(), Side::A, 200)?;
    // Routers announce a new hardware address, by gratuitous ARP or an unsolicited advertisement.
    on(Side::B, "sysctl -qw net.ipv4.conf.cipher.arp_notify=1 net.ipv6.conf.cipher.ndisc_notify=1")?;
    on(Side::B, &format!("ip link set dev cipher address {MOVED}"))?;
    is_at(MOVED)?;
    pause(Duration::from_millis(500))?;
    // Nobody answers for this router; the bridge floods what is for it, and the encryptor at b takes it.
    on(Side::A, &format!("ip neigh replace {router} lladdr {ROUTER} dev cipher nud permanent"))?;
    on(Side::A, &format!("ip route add {peer} via {router} dev cipher"))?;
    is_at(ROUTER)?;
    pause(Duration::from_millis(500))?;
    on(Side::A, &format!("ip route del {peer} via {router} dev cipher"))?;
    is_at(MOVED)?;
    pause(Duration::from_millis(500))?;
    let passed = traffic.finish()?;
    ensure!(passed.lost().is_empty(), "lost: {:?} of {}", passed.lost(), passed.sent.len());
    let heard = backhaul.finish()?;
    let mut targets = Vec::new();
    for_each_frame(&heard.files[0], |frame| {
        if Packet::parse(frame).is_some() && targets.last() != Some(&frame[..6].to_vec()) {
            targets.push(frame[..6].to_vec());
        }
    })?;
    let mac = |text: &str| -> Vec<u8> {
        text.split(':').map(|part| u8::from_str_radix(part, 16).unwrap_or_default()).collect()
    };
    let expected = [Side::B.cipher_mac().to_vec(), mac(MOVED), mac(ROUTER), mac(MOVED)];
    ensure!(targets == expected, "the packets went to {targets:02x?}");
    wait_for("the link channel did not come back", PATIENCE, || {
        Ok(lab.status(Side::A).ok().filter(|status| status.channel))
    })?;
    let drops = drops_since(&lab.status(Side::A)?, &before);
    ensure!(drops.is_empty(), "dropped: {drops:?}");
    Ok(())
}
