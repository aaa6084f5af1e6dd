//! The kernel's MACsec between the gateways' cipher ports, under which they route.

use anyhow::Result;
use qhaul::lab::plan::{Node, Side, mac_text};
use qhaul::lab::{Sites, Topology, run};

use super::options::INNER_MTU;
use super::peer::Peer;
use super::private::random_hex;
use super::routes;
use super::standing::Standing;
use super::tools;

const DEVICE: &str = "macsec0";
const CIPHER: &str = "gcm-aes-256";

/// IEEE 802.1AE by the kernel.
pub(super) struct Macsec;

impl Peer for Macsec {
    fn name(&self) -> &'static str {
        "macsec"
    }

    fn lacks(&self, topology: &Topology) -> Option<String> {
        let gateway = topology.namespace(Node::Gateway(Side::A));
        let words = |line: &str| {
            run(&["ip", "-n", &gateway, "link"]
                .into_iter()
                .chain(line.split_whitespace())
                .collect::<Vec<_>>())
        };
        let tried = words(&add()).and_then(|_| words(&format!("del {DEVICE}")));
        tried.err().map(|error| format!("this kernel has no MACsec with {CIPHER} ({})", tools::said(&error)))
    }

    fn version(&self) -> Result<String> {
        tools::kernel()
    }

    fn configuration(&self) -> String {
        format!("{CIPHER}, encrypted, replay protection off, MTU {INNER_MTU}")
    }

    fn put(&self, sites: &mut Sites, standing: &mut Standing) -> Result<()> {
        let topology = sites.topology();
        let keys = [random_hex(32)?, random_hex(32)?];
        for side in Side::BOTH {
            let gateway = Node::Gateway(side);
            standing.ip(topology, gateway, &format!("link {}", add()), &format!("link del {DEVICE}"))?;
            let file = format!("macsec-{side}.batch");
            sites.write(&file, &batch(side, &keys))?;
            let path = topology.dir().join(&file);
            standing.ip(topology, gateway, &format!("-batch {}", path.display()), "")?;
            // The device's own network: nobody on it answers ARP for the other host.
            let (there, mac) = (side.peer().host_v4(), mac_text(side.peer().cipher_mac()));
            let neighbour = format!("neigh replace {there} lladdr {mac} dev {DEVICE} nud permanent");
            standing.ip(topology, gateway, &neighbour, "")?;
        }
        routes::lay(topology, standing, |_| format!("dev {DEVICE} scope link"))
    }
}

fn add() -> String {
    format!("add link cipher {DEVICE} type macsec cipher {CIPHER} encrypt on")
}

/// What `ip -batch` is told at one side; `keys` are those of the frames that each side sends.
fn batch(side: Side, keys: &[String; 2]) -> String {
    let (mac, peer) = (mac_text(side.peer().cipher_mac()), side.peer().index());
    let (own, others) = (&keys[side.index()], &keys[peer]);
    let (id, peer_id) = (side.index() + 1, peer + 1);
    format!(
        "macsec add {DEVICE} tx sa 0 pn 1 on key {id:02} {own}\n\
         macsec add {DEVICE} rx port 1 address {mac}\n\
         macsec add {DEVICE} rx port 1 address {mac} sa 0 pn 1 on key {peer_id:02} {others}\n\
         link set {DEVICE} mtu {INNER_MTU} up\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_side_receives_with_the_key_that_the_other_sends_with() {
        let keys = ["aa".repeat(32), "bb".repeat(32)];
        let [a, b] = Side::BOTH.map(|side| batch(side, &keys));
        assert!(a.contains(&format!("tx sa 0 pn 1 on key 01 {}\n", keys[0])), "{a}");
        assert!(b.contains(&format!("address 02:00:5e:99:00:01 sa 0 pn 1 on key 01 {}\n", keys[0])), "{b}");
        assert!(a.contains(&format!("address 02:00:5e:99:00:02 sa 0 pn 1 on key 02 {}\n", keys[1])), "{a}");
    }
}
