//! WireGuard: in user space as wireguard-go, and the kernel's own; told by `wg` in the same way.

use std::time::Duration;

use anyhow::Result;
use qhaul::lab::plan::{Node, Side};
use qhaul::lab::wait::wait_for;
use qhaul::lab::{Sites, Topology, run};

use super::options::INNER_MTU;
use super::peer::Peer;
use super::private::Private;
use super::routes;
use super::standing::Standing;
use super::tools::{self, Tool};

const GO: [Tool; 2] = [Tool::new("wireguard-go", "wireguard-go"), Tool::new("wg", "wireguard-tools")];
const PORT: u16 = 51820;
const DEVICE: &str = "wg0";

/// wireguard-go.
pub(super) struct Go;

/// The kernel's module.
pub(super) struct Kernel;

impl Peer for Go {
    fn name(&self) -> &'static str {
        "wireguard-go"
    }

    fn tools(&self) -> &'static [Tool] {
        &GO
    }

    fn version(&self) -> Result<String> {
        tools::version("wireguard-go", &["--version"])
    }

    fn configuration(&self) -> String {
        configuration()
    }

    fn put(&self, sites: &mut Sites, standing: &mut Standing) -> Result<()> {
        put(sites.topology(), standing, |topology, standing, private, side| {
            let program = tools::path("wireguard-go")?;
            let name = format!("wireguard-go-{side}");
            let mut process = private.start(topology, &name, &[&program, "--foreground", DEVICE])?;
            let socket = private.dir().join(format!("wireguard/{DEVICE}.sock"));
            let waited = wait_for("wireguard-go did not open its socket", Duration::from_secs(10), || {
                process.check_running()?;
                Ok(socket.exists().then_some(()))
            });
            standing.keep(process);
            Ok(waited?)
        })
    }
}

impl Peer for Kernel {
    fn name(&self) -> &'static str {
        "wireguard"
    }

    fn tools(&self) -> &'static [Tool] {
        &GO[1..]
    }

    fn lacks(&self, topology: &Topology) -> Option<String> {
        let gateway = topology.namespace(Node::Gateway(Side::A));
        let made = run(&["ip", "-n", &gateway, "link", "add", DEVICE, "type", "wireguard"]);
        let gone = made.and_then(|_| run(&["ip", "-n", &gateway, "link", "del", DEVICE]));
        gone.err().map(|error| format!("this kernel has no WireGuard ({})", tools::said(&error)))
    }

    fn version(&self) -> Result<String> {
        tools::kernel()
    }

    fn configuration(&self) -> String {
        configuration()
    }

    fn put(&self, sites: &mut Sites, standing: &mut Standing) -> Result<()> {
        put(sites.topology(), standing, |topology, standing, _, side| {
            let (add, del) = (format!("link add {DEVICE} type wireguard"), format!("link del {DEVICE}"));
            standing.ip(topology, Node::Gateway(side), &add, &del)
        })
    }
}

fn configuration() -> String {
    format!("ChaCha20-Poly1305, UDP port {PORT}, MTU {INNER_MTU}")
}

/// Makes a device at each side with `device`, and joins the two.
fn put(
    topology: &Topology,
    standing: &mut Standing,
    device: impl Fn(&Topology, &mut Standing, &Private, Side) -> Result<()>,
) -> Result<()> {
    let mut ends = Vec::new();
    for side in Side::BOTH {
        let private = Private::new(topology, "wireguard", side)?;
        device(topology, standing, &private, side)?;
        private.exec(topology, &["sh", "-c", "umask 077; wg genkey >/run/key"])?;
        let public = private.exec(topology, &["sh", "-c", "wg pubkey </run/key"])?;
        ends.push((side, private, public.trim().to_owned()));
    }
    for (side, private, _) in &ends {
        let (_, _, public) = &ends[side.peer().index()];
        let command = peer_of(*side, public);
        private.exec(topology, &command.split_whitespace().collect::<Vec<_>>())?;
        standing.ip(topology, Node::Gateway(*side), &format!("link set {DEVICE} mtu {INNER_MTU} up"), "")?;
    }
    routes::lay(topology, standing, |_| format!("dev {DEVICE}"))
}

/// What `wg` is told at `side` of a peer with the key `public`.
fn peer_of(side: Side, public: &str) -> String {
    let (address, host) = (side.peer().cipher_v4(), side.peer().host_v4());
    format!(
        "wg set {DEVICE} listen-port {PORT} private-key /run/key peer {public} endpoint {address}:{PORT} allowed-ips {host}/32"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_side_names_the_other() {
        let told = peer_of(Side::A, "KEY=");
        assert!(told.contains("peer KEY= endpoint 192.0.2.2:51820 allowed-ips 10.77.0.2/32"), "{told}");
    }
}
