//! What the gateways tell senders: that a packet is too big for the tunnel, and that its hops ran out, on either side.

use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use qhaul::counters::Tally;
use qhaul::lab::plan::{Node, Side, mac_text};
use qhaul::status::Status;
use qhaul_tests::TestLab;
use qhaul_tests::backhaul::Backhaul;
use qhaul_tests::books::dropped;
use qhaul_tests::esp::checksum;
use qhaul_tests::tap::{Direction, Tap};

use super::{routed, routed_over, start_routed};

/// MTUs of the plain sides and of a backhaul without room for the overhead.
const SMALL: (u16, u16) = (1500, 1500);
/// Bytes of an IP packet that fits there: 1,500 - 60, down to 16s, but for padding's two.
const FITS: usize = 1438;
/// The link layer's header.
const ETHERNET: usize = 14;

#[test]
fn senders_learn_from_their_gateway_what_the_tunnel_carries_and_get_through_with_it() -> Result<()> {
    let lab = routed_over("ipptb", SMALL, |_| ())?;
    let before = lab.settled()?;
    let tap = |direction, name| Tap::start(lab.topology(), Node::Host(Side::A), "eth0", direction, name);
    let (left, told) = (tap(Direction::Out, "left")?, tap(Direction::In, "told")?);
    learn(&lab, FITS)?;
    let (left, told) = (left.finish()?, told.finish()?);
    let plain_mac = lab.topology().exec(Node::Gateway(Side::A), &["cat", "/sys/class/net/plain/address"])?;
    for error in [&ERROR_V4, &ERROR_V6] {
        let about = left.iter().find(|frame| frame.len() == 1514 && error.is_family(frame));
        let about = about.context("a packet as large as the link takes left the host")?;
        let answer = told.iter().find(|frame| error.is(frame)).context("its sender was told")?;
        ensure!(answer[..6] == Side::A.host_mac() && answer[12..14] == about[12..14], "{answer:02x?}");
        let from = answer[6..12].first_chunk().map(|mac| mac_text(*mac));
        ensure!(from.as_deref() == Some(plain_mac.trim()), "from {from:?}, not {plain_mac}");
        let addresses = &answer[error.addresses_at..error.at];
        ensure!(addresses == error.between(), "between {addresses:02x?}");
        let (message, most) = (&answer[error.at..], error.most - (error.at - ETHERNET) - 8);
        ensure!(message[..2] == error.kind, "type and code {:?}", &message[..2]);
        ensure!(message[4..8] == (FITS as u32).to_be_bytes(), "MTU {:?}", &message[4..8]);
        ensure!(message[8..] == about[ETHERNET..ETHERNET + most], "it quotes {:02x?}", &message[8..]);
    }
    let after = lab.settled()?;
    let grown = |count: &dyn Fn(&Status) -> u64| count(&after[0]) - count(&before[0]);
    ensure!(grown(&|status| dropped(status, "too_big")) == 2, "{:?}", after[0].counters);
    ensure!(grown(&|status| tally(status, Tally::IcmpOut)) == 2, "{:?}", after[0].counters);
    lab.finish()
}

/// Has host a learn in both families that packets of `mtu` bytes get through, and none of 1,500.
fn learn(lab: &TestLab, mtu: usize) -> Result<()> {
    for (target, headers) in [(IpAddr::from(Side::B.far_v4()), 28), (Side::B.far_v6().into(), 48)] {
        // The first one is lost, and says so.
        let said = ping(lab, target, &["-M", "do", "-s", &(1500 - headers).to_string()]);
        let route = lab.topology().exec(Node::Host(Side::A), &["ip", "route", "get", &target.to_string()])?;
        ensure!(route.contains(&format!("mtu {mtu}")), "{target}: {route} after {said}");
        let said = ping(lab, target, &["-M", "do", "-s", &(mtu - headers).to_string()]);
        ensure!(said.contains(" 0% packet loss"), "what fits does not pass: {said}");
    }
    Ok(())
}

/// "Packet too big" of one family, as it stands in a frame.
struct PacketTooBig {
    ethertype: [u8; 2],
    protocol: u8,
    protocol_at: usize,
    addresses_at: usize,
    /// Where the ICMP message begins.
    at: usize,
    kind: [u8; 2],
    /// Bytes of the packet.
    most: usize,
}

/// RFC 1191; RFC 1812 section 4.3.2.3.
const ERROR_V4: PacketTooBig = PacketTooBig {
    ethertype: [0x08, 0x00],
    protocol: 1,
    protocol_at: 23,
    addresses_at: 26,
    at: 34,
    kind: [3, 4],
    most: 576,
};
/// RFC 4443 section 3.2.
const ERROR_V6: PacketTooBig = PacketTooBig {
    ethertype: [0x86, 0xdd],
    protocol: 58,
    protocol_at: 20,
    addresses_at: 22,
    at: 54,
    kind: [2, 0],
    most: 1280,
};

impl PacketTooBig {
    fn is_family(&self, frame: &[u8]) -> bool {
        frame[12..14] == self.ethertype
    }

    fn is(&self, frame: &[u8]) -> bool {
        let icmp = self.is_family(frame) && frame.get(self.protocol_at) == Some(&self.protocol);
        icmp && frame.get(self.at) == Some(&self.kind[0])
    }

    /// The addresses of gateway and host at site a.
    fn between(&self) -> Vec<u8> {
        match self.protocol {
            1 => [Side::A.router_v4(), Side::A.near_v4()].map(|address| address.octets()).concat(),
            _ => [Side::A.router_v6(), Side::A.near_v6()].map(|address| address.octets()).concat(),
        }
    }
}

#[test]
fn what_may_be_cut_crosses_in_fragments_that_are_one_hop_on_at_each_gateway() -> Result<()> {
    let lab = routed_over("ipcut", SMALL, |_| ())?;
    let before = lab.settled()?;
    let arrived = Tap::start(lab.topology(), Node::Host(Side::B), "eth0", Direction::In, "arrived")?;
    // 3,008 bytes of ICMP leave the host in fragments of 1,480, 1,480 and 48; the large ones are cut again, and so is the answer.
    let said = ping(&lab, Side::B.far_v4().into(), &["-M", "dont", "-s", "3000"]);
    ensure!(said.contains(" 0% packet loss"), "{said}");
    let mut parts = Vec::new();
    for frame in arrived.finish()? {
        let ends = [Side::A.near_v4(), Side::B.far_v4()].map(|address| address.octets()).concat();
        if frame[12..14] != [0x08, 0x00] || frame[26..34] != ends {
            continue;
        }
        let (header, payload) = frame[ETHERNET..].split_at(20);
        ensure!(header[8] == 62 && checksum(header) == 0, "its header is {header:02x?}");
        parts.push((usize::from(u16::from_be_bytes([header[6] & 0x1f, header[7]])) * 8, payload.len()));
    }
    parts.sort_unstable();
    ensure!(parts == [(0, 1416), (1416, 64), (1480, 1416), (2896, 64), (2960, 48)], "{parts:?}");
    for (after, before) in lab.settled()?.iter().zip(&before) {
        let added = tally(after, Tally::FragmentsAdded) - tally(before, Tally::FragmentsAdded);
        ensure!(added == 2, "{:?}", after.counters);
    }
    lab.finish()
}

#[test]
fn a_host_is_told_when_the_hops_run_out_at_either_gateway_in_both_families() -> Result<()> {
    let lab = routed("ipttl", |_| ())?;
    let backhaul = Backhaul::listen(lab.topology())?;
    let routers = |side: Side| [IpAddr::from(side.router_v4()), side.router_v6().into()];
    let words = ["Time to live exceeded", "Time exceeded: Hop limit"];
    for (family, target) in [IpAddr::from(Side::B.far_v4()), Side::B.far_v6().into()].into_iter().enumerate()
    {
        for (hops, router) in [("1", routers(Side::A)[family]), ("2", routers(Side::B)[family])] {
            let said = ping(&lab, target, &["-t", hops]);
            let told = said.contains(words[family]) && said.contains(&format!("From {router} "));
            ensure!(told, "hop limit {hops} to {target}: {said}");
        }
        let said = ping(&lab, target, &["-t", "3"]);
        ensure!(said.contains(" 0% packet loss"), "hop limit 3 to {target}: {said}");
    }
    let [a, b] = lab.settled()?;
    ensure!(dropped(&a, "ttl_expired") == 2 && tally(&a, Tally::IcmpOut) == 2, "{:?}", a.counters);
    ensure!(dropped(&b, "inner_ttl") == 2 && tally(&b, Tally::IcmpAdded) == 2, "{:?}", b.counters);
    ensure!(tally(&b, Tally::IcmpOut) == 0, "{:?}", b.counters);
    backhaul.finish()?.sealed()?;
    lab.finish()
}

#[test]
fn senders_learn_through_the_tunnel_what_the_far_plain_side_carries() -> Result<()> {
    let lab = TestLab::prepare("ipfar")?;
    for (node, interface) in [(Node::Host(Side::B), "eth0"), (Node::Gateway(Side::B), "plain")] {
        lab.topology().exec(node, &["ip", "link", "set", interface, "mtu", "1400"])?;
    }
    let lab = start_routed(lab, |_| ())?;
    let backhaul = Backhaul::listen(lab.topology())?;
    learn(&lab, 1400)?;
    let b = &lab.settled()?[1];
    ensure!(dropped(b, "inner_size") == 2 && tally(b, Tally::IcmpAdded) == 2, "{:?}", b.counters);
    backhaul.finish()?.sealed()?;
    lab.finish()
}

/// Keeps the gateway of site b from being heard.
const MUTE: &str = r#"
[[policy]]
name = "gateway"
action = "discard"
source = "10.78.2.254/32"

[[policy]]
name = "rest"
action = "protect"
ethertype = ["ipv4", "ipv6"]
"#;

#[test]
fn an_error_for_the_far_side_needs_a_rule_that_protects_it_and_is_in_the_books_without() -> Result<()> {
    let lab = routed("ipmute", |config| config.more = MUTE.into())?;
    let before = lab.settled()?[1].clone();
    let said = ping(&lab, Side::B.far_v4().into(), &["-t", "2"]);
    ensure!(!said.contains("exceeded"), "{said}");
    let after = lab.settled()?[1].clone();
    for reason in ["inner_ttl", "policy_discard"] {
        ensure!(dropped(&after, reason) == dropped(&before, reason) + 1, "{reason}: {:?}", after.counters);
    }
    ensure!(tally(&after, Tally::IcmpAdded) == 1, "{:?}", after.counters);
    lab.finish()
}

/// What one ping of host a, from its address on the plain port's network, says, whether it is answered or not.
fn ping(lab: &TestLab, target: IpAddr, options: &[&str]) -> String {
    let source = match target {
        IpAddr::V4(_) => IpAddr::from(Side::A.near_v4()),
        IpAddr::V6(_) => Side::A.near_v6().into(),
    };
    let (source, target) = (source.to_string(), target.to_string());
    let argv = [&["ping", "-n", "-c", "1", "-W", "2", "-I", &source], options, &[&target]].concat();
    match lab.topology().exec(Node::Host(Side::A), &argv) {
        Ok(said) => said,
        Err(error) => error.to_string(),
    }
}

fn tally(status: &Status, tally: Tally) -> u64 {
    status.counters.tallies.get(tally.name()).copied().unwrap_or_default()
}
