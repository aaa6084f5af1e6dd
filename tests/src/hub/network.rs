//! The lab's network: a bridge for the backhaul, one for the key servers, and for each place a gateway and a host, each in a
//! namespace of its own.

use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::{Place, Plan, cipher, name, script};

/// It stands for as long as this value lives.
#[derive(Debug)]
pub(super) struct Network {
    prefix: String,
    plan: Plan,
    dir: PathBuf,
}

/// A spoke's network.
pub(super) fn network_of(spoke: Place) -> String {
    format!("10.90.{spoke}.0/24")
}

/// A place's host.
pub(super) fn host_of(place: Place) -> Ipv4Addr {
    Ipv4Addr::new(10, 90, place, 2)
}

/// A key server's address: 0 is the hub's, 1 the spokes'.
pub(super) fn kme(place: Place) -> IpAddr {
    Ipv4Addr::new(10, 88, 0, 100 + place).into()
}

/// Its port; the next one is for the other key server.
pub(super) fn kme_port(place: Place) -> u16 {
    8443 + 10 * u16::from(place)
}

impl Network {
    pub(super) fn up(prefix: &str, plan: Plan) -> Result<Network> {
        ensure!(nix::unistd::geteuid().is_root(), "this test makes network namespaces: run it as root");
        let dir = PathBuf::from(format!("/run/qhaul-hub-{prefix}"));
        let network = Network { prefix: prefix.to_owned(), plan, dir };
        network.remove()?;
        fs::DirBuilder::new().mode(0o700).create(&network.dir).context("the lab's directory")?;
        network.build()?;
        Ok(network)
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn gateway(&self, place: Place) -> String {
        format!("{}-gw-{}", self.prefix, name(place))
    }

    pub(super) fn host(&self, place: Place) -> String {
        format!("{}-host-{}", self.prefix, name(place))
    }

    pub(super) fn kme(&self) -> String {
        format!("{}-kme", self.prefix)
    }

    fn middle(&self) -> String {
        format!("{}-net", self.prefix)
    }

    fn namespaces(&self) -> Vec<String> {
        let places = (0..=self.plan.spokes).flat_map(|place| [self.gateway(place), self.host(place)]);
        places.chain([self.kme(), self.middle()]).collect()
    }

    fn build(&self) -> Result<()> {
        let mut lines = String::new();
        for ns in self.namespaces() {
            let _ = writeln!(lines, "ip netns add {ns}");
            let quiet = "net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1 net.ipv4.ip_forward=0 \
                         net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2 net.ipv6.conf.default.accept_dad=0";
            let _ = writeln!(lines, "ip netns exec {ns} sysctl -qw {quiet}");
        }
        let (net, kmes) = (self.middle(), self.kme());
        for bridge in ["wan", "mgmt"] {
            let options = "type bridge forward_delay 0 stp_state 0 mcast_snooping 0";
            let _ = writeln!(lines, "ip -n {net} link add {bridge} mtu 1700 {options}");
            let _ = writeln!(lines, "ip -n {net} link set {bridge} up");
        }
        let _ = writeln!(lines, "ip -n {kmes} link add mgmt type veth peer name kme netns {net}");
        let _ = writeln!(lines, "ip -n {net} link set kme master mgmt up");
        for place in 0..2 {
            let _ = writeln!(lines, "ip -n {kmes} addr add {}/24 dev mgmt", kme(place));
        }
        let _ = writeln!(lines, "ip -n {kmes} link set lo up\nip -n {kmes} link set mgmt up");
        for place in 0..=self.plan.spokes {
            self.connect(place, &mut lines);
            self.address(place, &mut lines);
        }
        script(&lines)
    }

    /// host `eth0` - `plain` gateway `cipher` - bridge `wan`, and the gateway's way to the key servers.
    fn connect(&self, place: Place, lines: &mut String) {
        let (net, gateway, host, name) = (self.middle(), self.gateway(place), self.host(place), name(place));
        let (eth0, plain) = (mac(place, 1), mac(place, 2));
        // Unequal numbers of queues make the native attachment of XDP programs fail.
        let count = if place == 0 { self.plan.workers } else { 1 };
        let queues = format!("numrxqueues {count} numtxqueues {count}");
        let _ = writeln!(
            lines,
            "ip -n {host} link add eth0 address {eth0} {queues} type veth peer name plain address {plain} {queues} netns {gateway}
             ip -n {gateway} link add cipher mtu 1700 {queues} type veth peer name w{name} mtu 1700 {queues} netns {net}
             ip -n {gateway} link add mgmt type veth peer name m{name} netns {net}
             ip -n {net} link set w{name} master wan
             ip -n {net} link set m{name} master mgmt up
             ip -n {gateway} addr add 10.88.0.{}/24 dev mgmt
             ip -n {gateway} link set mgmt up",
            1 + place
        );
        for (ns, port) in
            [(&host, "eth0"), (&gateway, "plain"), (&gateway, "cipher"), (&net, &*format!("w{name}"))]
        {
            let offloads = "gso off tso off gro off tx off rx off sg off rxvlan off txvlan off";
            let _ = writeln!(
                lines,
                "ip netns exec {ns} ethtool -K {port} {offloads} > /dev/null
                 ip netns exec {ns} tc qdisc replace dev {port} root pfifo limit 10000
                 ip -n {ns} link set {port} up"
            );
        }
    }

    fn address(&self, place: Place, lines: &mut String) {
        let (gateway, host) = (self.gateway(place), self.host(place));
        let outer = cipher(place, self.plan.ipv6);
        if self.plan.ipv6 {
            let _ = writeln!(lines, "ip netns exec {gateway} sysctl -qw net.ipv6.conf.cipher.disable_ipv6=0");
        }
        let prefix = if self.plan.ipv6 { 64 } else { 24 };
        let _ = writeln!(lines, "ip -n {gateway} addr add {outer}/{prefix} dev cipher");
        let own = host_of(place);
        if self.plan.mode == "ip" {
            // The gateway is its host's router, and the other way round all that it has is its host.
            let [a, b, c, _] = own.octets();
            let _ = writeln!(
                lines,
                "ip -n {gateway} addr add {a}.{b}.{c}.1/24 dev plain
                 ip -n {host} addr add {own}/24 dev eth0
                 ip -n {host} route add default via {a}.{b}.{c}.1"
            );
            return;
        }
        // One network of bridges that nobody sees; who is where is known, for what asks for it is told apart by nothing.
        let _ = writeln!(lines, "ip -n {host} addr add {own}/16 dev eth0");
        let others = if place == 0 { 1..=self.plan.spokes } else { 0..=0 };
        for other in others {
            let (address, mac) = (host_of(other), mac(other, 1));
            let _ =
                writeln!(lines, "ip -n {host} neigh replace {address} lladdr {mac} dev eth0 nud permanent");
        }
    }

    /// Whatever there is of it, also of an earlier run that was killed.
    fn remove(&self) -> Result<()> {
        let mut lines = String::new();
        for ns in self.namespaces() {
            let _ = writeln!(
                lines,
                "if [ -e /run/netns/{ns} ]; then
                     for pid in $(ip netns pids {ns}); do kill -9 $pid 2> /dev/null || true; done
                     ip netns del {ns}
                 fi"
            );
        }
        script(&lines)?;
        match self.dir.exists() {
            true => fs::remove_dir_all(&self.dir).context("the lab's directory"),
            false => Ok(()),
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            eprintln!("the lab {} was not removed whole: {error:#}", self.prefix);
        }
    }
}

/// Hardware addresses of the lab, by place and port.
fn mac(place: Place, port: u8) -> String {
    format!("02:00:5e:90:{port:02x}:{place:02x}")
}
