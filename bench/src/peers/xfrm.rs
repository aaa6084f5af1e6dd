//! The kernel's ESP: associations with keys of the run's own, as a key daemon would set them, and policies for the two hosts.

use anyhow::Result;
use qhaul::lab::plan::{Node, Side};
use qhaul::lab::{Sites, Topology, run};

use super::peer::Peer;
use super::private::random_hex;
use super::routes;
use super::standing::Standing;
use super::tools;

/// RFC 4106: 32 bytes of AES-256 and 4 of salt.
const KEY: usize = 36;
const ALGORITHM: &str = "rfc4106(gcm(aes))";

/// ESP in tunnel mode by the kernel.
pub(super) struct Xfrm;

impl Peer for Xfrm {
    fn name(&self) -> &'static str {
        "xfrm"
    }

    fn lacks(&self, topology: &Topology) -> Option<String> {
        let gateway = topology.namespace(Node::Gateway(Side::A));
        let tried = try_association(&gateway);
        tried.err().map(|error| format!("this kernel has no ESP with {ALGORITHM} ({})", tools::said(&error)))
    }

    fn version(&self) -> Result<String> {
        tools::kernel()
    }

    fn configuration(&self) -> String {
        format!("ESP {ALGORITHM} with 256 bits, tunnel mode, ESN, replay window 128, no UDP")
    }

    fn put(&self, sites: &mut Sites, standing: &mut Standing) -> Result<()> {
        let topology = sites.topology();
        let keys = [random_hex(KEY)?, random_hex(KEY)?];
        for side in Side::BOTH {
            let file = format!("xfrm-{side}.batch");
            sites.write(&file, &batch(side, &keys))?;
            let path = topology.dir().join(&file);
            // What is there already when the batch fails half way is flushed, too.
            let gateway = Node::Gateway(side);
            standing.ip(topology, gateway, "xfrm state flush", "xfrm state flush")?;
            standing.ip(topology, gateway, "xfrm policy flush", "xfrm policy flush")?;
            standing.ip(topology, gateway, &format!("-batch {}", path.display()), "")?;
        }
        routes::lay(topology, standing, |side| format!("via {} dev cipher onlink", side.peer().cipher_v4()))
    }
}

/// An association with a key of zeros, made and taken away.
fn try_association(gateway: &str) -> qhaul::lab::Result<()> {
    let key = format!("0x{}", "00".repeat(KEY));
    let id = ["src", "192.0.2.1", "dst", "192.0.2.2", "proto", "esp", "spi", "0x100"];
    let head = ["ip", "-n", gateway, "xfrm", "state"];
    let add = [&head[..], &["add"], &id[..], &["mode", "tunnel", "aead", ALGORITHM, &key, "128"]].concat();
    run(&add)?;
    run(&[&head[..], &["delete"], &id[..]].concat()).map(drop)
}

/// What `ip -batch` is told at one side; `keys` are those of the packets that each side sends.
fn batch(side: Side, keys: &[String; 2]) -> String {
    let state = |from: Side| {
        let (source, destination) = (from.cipher_v4(), from.peer().cipher_v4());
        let (spi, key) = (spi(from), &keys[from.index()]);
        format!(
            "xfrm state add src {source} dst {destination} proto esp spi {spi:#x} reqid {spi} mode tunnel replay-window 128 \
             flag esn aead {ALGORITHM} 0x{key} 128\n"
        )
    };
    let policy = |from: Side, direction: &str| {
        let (source, destination) = (from.host_v4(), from.peer().host_v4());
        let (outer, peer) = (from.cipher_v4(), from.peer().cipher_v4());
        format!(
            "xfrm policy add src {source}/32 dst {destination}/32 dir {direction} tmpl src {outer} dst {peer} proto esp reqid {} \
             mode tunnel\n",
            spi(from)
        )
    };
    [
        state(side),
        state(side.peer()),
        policy(side, "out"),
        policy(side.peer(), "fwd"),
        policy(side.peer(), "in"),
    ]
    .concat()
}

fn spi(from: Side) -> usize {
    0x1001 + from.index()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_side_sends_the_other_opens() {
        let keys = ["aa".repeat(KEY), "bb".repeat(KEY)];
        let [a, b] = Side::BOTH.map(|side| batch(side, &keys));
        let states = |text: &str| -> Vec<String> {
            let mut lines: Vec<String> =
                text.lines().filter(|line| line.starts_with("xfrm state")).map(str::to_owned).collect();
            lines.sort();
            lines
        };
        assert_eq!(states(&a), states(&b));
        assert!(a.contains("src 192.0.2.1 dst 192.0.2.2 proto esp spi 0x1001 reqid 4097 mode tunnel"), "{a}");
        assert!(a.contains(&format!("0x{} 128", keys[0])));
        assert!(a.contains("src 10.77.0.1/32 dst 10.77.0.2/32 dir out tmpl src 192.0.2.1 dst 192.0.2.2"));
        assert!(b.contains("src 10.77.0.1/32 dst 10.77.0.2/32 dir fwd tmpl src 192.0.2.1 dst 192.0.2.2"));
    }
}
