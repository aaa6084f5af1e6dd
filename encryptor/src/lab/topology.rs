//! Host a, encryptor a, backhaul, encryptor b, host b, and the management network with both key servers: namespaces,
//! cables and addresses, made in one go and removed without a trace.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::command::{require_tools, run, run_in, words, words_in};
use super::error::{LabError, Result};
use super::plan::{
    BACKHAUL_MTU, IPV6_BACKHAUL_MTU, Node, PLAIN_MTU, Side, VLAN, VLAN_INTERFACE, check_prefix, mac_text,
};
use super::process::Process;
use super::wait::wait_for;
use super::{removal, run_dir};

/// The standing network; dropping it removes it with every process inside.
#[derive(Debug)]
pub struct Topology {
    prefix: String,
    queues: u16,
    dir: PathBuf,
    vlan_taps: Vec<Process>,
    stays: bool,
    keeps_files: bool,
}

impl Topology {
    /// Makes the network with one queue per interface; what an aborted run of the same prefix left is removed first.
    pub fn up(prefix: &str) -> Result<Self> {
        Self::with_queues(prefix, 1)
    }

    /// The same with `queues` receive and transmit queues at every end of the data path.
    pub fn with_queues(prefix: &str, queues: u16) -> Result<Self> {
        check_prefix(prefix)?;
        if !nix::unistd::geteuid().is_root() {
            return Err(LabError::NotRoot);
        }
        require_tools()?;
        if run_dir::is_abandoned(prefix) {
            removal::remove(prefix)?;
        }
        if !removal::namespaces(prefix)?.is_empty() {
            return Err(LabError::Exists(prefix.to_owned()));
        }
        let dir = run_dir::create(prefix)?;
        // From here on a failure drops `topology`, which removes what was made so far.
        let mut topology = Self {
            prefix: prefix.to_owned(),
            queues,
            dir,
            vlan_taps: Vec::new(),
            stays: false,
            keeps_files: false,
        };
        topology.build()?;
        Ok(topology)
    }

    /// The network of a lab that was left standing. Dropping this value leaves it as it is.
    pub fn standing(prefix: &str) -> Result<Self> {
        check_prefix(prefix)?;
        if !nix::unistd::geteuid().is_root() {
            return Err(LabError::NotRoot);
        }
        if removal::namespaces(prefix)?.len() < Node::ALL.len() {
            return Err(LabError::Absent(prefix.to_owned()));
        }
        Ok(Self {
            prefix: prefix.to_owned(),
            queues: 1,
            dir: run_dir::path(prefix),
            vlan_taps: Vec::new(),
            stays: true,
            keeps_files: true,
        })
    }

    /// The prefix of its namespaces.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Its directory for configurations, logs and captures, mode 0700.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The namespace of a node.
    pub fn namespace(&self, node: Node) -> String {
        node.namespace(&self.prefix)
    }

    /// Runs a command on a node to its end and returns its standard output.
    pub fn exec(&self, node: Node, argv: &[&str]) -> Result<String> {
        run_in(&self.namespace(node), argv)
    }

    /// Starts a command on a node; its output and log are files in [`Self::dir`].
    pub fn start(&self, node: Node, name: &str, argv: &[&str]) -> Result<Process> {
        Process::start(&self.namespace(node), name, &self.dir, argv)
    }

    /// Joins the plain and cipher ports by a kernel bridge, as if no encryptor stood there, or parts them again.
    pub fn set_clear(&self, side: Side, clear: bool) -> Result<()> {
        let ns = self.namespace(Node::Gateway(side));
        if !clear {
            return words(&format!("ip -n {ns} link del clear")).map(drop);
        }
        words(&format!(
            "ip -n {ns} link add clear type bridge forward_delay 0 stp_state 0 mcast_snooping 0"
        ))?;
        for port in ["plain", "cipher"] {
            words(&format!("ip -n {ns} link set {port} master clear"))?;
        }
        words(&format!("ip -n {ns} link set clear up")).map(drop)
    }

    /// Tells the hosts each other's hardware addresses, so that they send whether they are heard or not, and never ask.
    pub fn introduce_hosts(&self) -> Result<()> {
        Side::BOTH.into_iter().try_for_each(|side| {
            let (address, mac) = (side.peer().host_v4(), mac_text(side.peer().host_mac()));
            let neighbour = format!("ip neigh replace {address} lladdr {mac} dev eth0 nud permanent");
            words_in(&self.namespace(Node::Host(side)), &[&neighbour])
        })
    }

    /// Takes the hosts' addresses away, so that their kernels answer nothing and say nothing by themselves.
    pub fn silence_hosts(&self) -> Result<()> {
        Side::BOTH.into_iter().try_for_each(|side| {
            let ns = self.namespace(Node::Host(side));
            let no_ipv6 = "net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1";
            words_in(&ns, &[&format!("sysctl -qw {no_ipv6}"), "ip addr flush scope global"])
        })
    }

    /// Gives both plain sides and the backhaul other MTUs, in bytes. For before the encryptors start.
    pub fn set_mtus(&self, plain: u16, backhaul: u16) -> Result<()> {
        let set = |node: Node, interface: &str, mtu: u16| {
            words(&format!("ip -n {} link set {interface} mtu {mtu}", self.namespace(node))).map(drop)
        };
        for side in Side::BOTH {
            set(Node::Host(side), "eth0", plain)?;
            set(Node::Gateway(side), "plain", plain)?;
            set(Node::Gateway(side), "cipher", backhaul)?;
            set(Node::Backhaul, &format!("wan-{side}"), backhaul)?;
        }
        set(Node::Backhaul, "br0", backhaul)
    }

    /// Gives the cipher ports IPv6 addresses as well, and the backhaul the MTU that a tunnel over IPv6 needs. For before the
    /// encryptors start.
    pub fn add_ipv6_backhaul(&self) -> Result<()> {
        for side in Side::BOTH {
            let address = format!("ip addr add {}/64 dev cipher", side.cipher_v6());
            words_in(
                &self.namespace(Node::Gateway(side)),
                &["sysctl -qw net.ipv6.conf.cipher.disable_ipv6=0", &address],
            )?;
        }
        self.set_mtus(PLAIN_MTU, IPV6_BACKHAUL_MTU)
    }

    /// True if VLAN frames are tagged by a user-space TAP, because this kernel has no 802.1Q.
    pub fn vlan_is_tap(&self) -> bool {
        !self.vlan_taps.is_empty()
    }

    /// Leaves the network and its processes standing when this value is dropped; [`removal::remove`] takes them away.
    pub fn leave_standing(mut self) -> Result<()> {
        run_dir::mark_standing(&self.dir)?;
        self.stays = true;
        std::mem::take(&mut self.vlan_taps).into_iter().for_each(Process::leave_running);
        Ok(())
    }

    /// Keeps the directory when the network goes, for its logs and captures, until the next lab of this prefix.
    pub fn keep_files(&mut self) {
        self.keeps_files = true;
    }

    /// Removes everything now, and says if something resisted.
    pub fn down(mut self) -> Result<()> {
        self.take_down()
    }

    fn take_down(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.stays, true) {
            return Ok(());
        }
        self.vlan_taps.clear();
        removal::remove_network(&self.prefix)?;
        if self.keeps_files { Ok(()) } else { run_dir::remove(&self.prefix) }
    }

    fn build(&mut self) -> Result<()> {
        Node::ALL.into_iter().try_for_each(|node| self.add_namespace(node))?;
        for (node, mtu) in [(Node::Backhaul, BACKHAUL_MTU), (Node::Mgmt, PLAIN_MTU)] {
            let ns = self.namespace(node);
            words(&format!(
                "ip -n {ns} link add br0 mtu {mtu} type bridge forward_delay 0 stp_state 0 mcast_snooping 0"
            ))?;
            words(&format!("ip -n {ns} link set br0 up"))?;
        }
        for side in Side::BOTH {
            self.connect_data_path(side)?;
            self.connect_management(Node::Gateway(side), side.mgmt_v4().to_string())?;
            self.connect_management(Node::Kme(side), side.kme_v4().to_string())?;
            self.address_hosts(side)?;
        }
        Ok(())
    }

    fn add_namespace(&self, node: Node) -> Result<()> {
        let ns = self.namespace(node);
        words(&format!("ip netns add {ns}"))?;
        let ipv6_off = u8::from(!matches!(node, Node::Host(_)));
        // Bridges pass frames on and leave judging IP to the far end (-e: br_netfilter may not be loaded).
        let call = "net.bridge.bridge-nf-call";
        let bridges_only = format!("sysctl -eqw {call}-iptables=0 {call}-ip6tables=0 {call}-arptables=0");
        // Addresses serve at once (no DAD), routers are not asked for, and a gateway's kernel neither forwards, nor answers
        // ARP for another port's address, nor speaks IPv6 on its own: what is on its ports was put there by the encryptor.
        words_in(
            &ns,
            &[
                &format!("sysctl -qw net.ipv6.conf.all.disable_ipv6={ipv6_off}"),
                &format!("sysctl -qw net.ipv6.conf.default.disable_ipv6={ipv6_off}"),
                "sysctl -qw net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0",
                "sysctl -qw net.ipv6.conf.default.accept_ra=0 net.ipv6.conf.default.router_solicitations=0",
                "sysctl -qw net.ipv4.ip_forward=0 net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2",
                &bridges_only,
                "ip link set lo up",
            ],
        )
    }

    /// host `eth0` - `plain` gateway `cipher` - `wan-SIDE` on the backhaul's bridge.
    fn connect_data_path(&self, side: Side) -> Result<()> {
        let (host, gateway) = (self.namespace(Node::Host(side)), self.namespace(Node::Gateway(side)));
        let (backhaul, wan) = (self.namespace(Node::Backhaul), format!("wan-{side}"));
        let eth0 = format!("name eth0 address {}", mac_text(side.host_mac()));
        let cipher = format!("name cipher address {}", mac_text(side.cipher_mac()));
        self.add_cable(&host, &eth0, &format!("name plain netns {gateway}"), PLAIN_MTU)?;
        self.add_cable(&gateway, &cipher, &format!("name {wan} netns {backhaul}"), BACKHAUL_MTU)?;
        words(&format!("ip -n {backhaul} link set {wan} master br0"))?;
        for (ns, interface) in [(&host, "eth0"), (&gateway, "plain"), (&gateway, "cipher"), (&backhaul, &wan)]
        {
            tune(ns, interface)?;
        }
        words(&format!("ip -n {gateway} addr add {}/24 dev cipher", side.cipher_v4())).map(drop)
    }

    /// Made from inside `ns`: old kernels (6.1 does) refuse a name that the machine itself has, such as its own eth0, even if the
    /// interface is to go elsewhere.
    fn add_cable(&self, ns: &str, end: &str, other_end: &str, mtu: u16) -> Result<()> {
        // Unequal numbers of queues make the native attachment of XDP programs fail with ENOSPC.
        let queues = format!("numrxqueues {0} numtxqueues {0}", self.queues);
        words(&format!(
            "ip -n {ns} link add {end} mtu {mtu} {queues} type veth peer {other_end} mtu {mtu} {queues}"
        ))
        .map(drop)
    }

    fn connect_management(&self, node: Node, address: String) -> Result<()> {
        let (ns, mgmt) = (self.namespace(node), self.namespace(Node::Mgmt));
        words(&format!("ip -n {ns} link add name mgmt type veth peer name {node} netns {mgmt}"))?;
        words(&format!("ip -n {mgmt} link set {node} master br0 up"))?;
        words(&format!("ip -n {ns} addr add {address}/24 dev mgmt"))?;
        words(&format!("ip -n {ns} link set mgmt up")).map(drop)
    }

    fn address_hosts(&mut self, side: Side) -> Result<()> {
        let ns = self.namespace(Node::Host(side));
        words(&format!("ip -n {ns} addr add {}/24 dev eth0", side.host_v4()))?;
        words(&format!("ip -n {ns} addr add {}/64 dev eth0 nodad", side.host_v6()))?;
        self.add_vlan(side)?;
        words(&format!("ip -n {ns} addr add {}/24 dev {VLAN_INTERFACE}", side.vlan_v4()))?;
        words(&format!("ip -n {ns} link set {VLAN_INTERFACE} up")).map(drop)
    }

    fn add_vlan(&mut self, side: Side) -> Result<()> {
        let ns = self.namespace(Node::Host(side));
        let kernel =
            words(&format!("ip -n {ns} link add link eth0 name {VLAN_INTERFACE} type vlan id {VLAN}"));
        match kernel {
            // What iproute2 says when the kernel has no 8021q.
            Err(LabError::Command { stderr, .. }) if stderr.contains("Unknown device type") => {}
            other => return other.map(drop),
        }
        let vlan = VLAN.to_string();
        let argv = ["python3", "-c", include_str!("vlan_tap.py"), "eth0", &vlan, VLAN_INTERFACE];
        let mut tap = self.start(Node::Host(side), &format!("vlan-tap-{side}"), &argv)?;
        wait_for("the VLAN's TAP interface did not appear", Duration::from_secs(10), || {
            tap.check_running()?;
            Ok(run(&["ip", "-n", &ns, "link", "show", "dev", VLAN_INTERFACE]).ok())
        })?;
        self.vlan_taps.push(tap);
        let mac = mac_text(side.host_mac());
        words(&format!("ip -n {ns} link set {VLAN_INTERFACE} address {mac}")).map(drop)
    }
}

impl Drop for Topology {
    fn drop(&mut self) {
        if let Err(error) = self.take_down() {
            eprintln!(
                "the lab was not removed whole: {error}; try `qhaul lab down --prefix {}`",
                self.prefix
            );
        }
    }
}

/// Makes a veth end behave like a cable: whole frames with real checksums and tags in place, and a queueing discipline, so
/// that a full ring pushes back on the sender (Linux 6.16 and later) instead of losing frames.
fn tune(namespace: &str, interface: &str) -> Result<()> {
    words_in(
        namespace,
        &[
            &format!(
                "ethtool -K {interface} gso off tso off gro off tx off rx off sg off rxvlan off txvlan off"
            ),
            &format!("tc qdisc replace dev {interface} root pfifo limit 10000"),
            &format!("ip link set {interface} up"),
        ],
    )
}
