//! DPDK's example gateway on AF_XDP ports, with ipsec-mb. Debian's packages come without the examples, so it is there only for
//! those who have built it, without the receive checksum offload that it asks of each port and AF_XDP has not.

use std::time::Duration;

use anyhow::{Result, bail};
use qhaul::lab::plan::{Node, Side, mac_text};
use qhaul::lab::wait::wait_for;
use qhaul::lab::{Process, SiteConfig, Sites, Topology};

use super::peer::Peer;
use super::private::{Private, random_hex};
use super::routes;
use super::standing::Standing;
use super::tools::{self, Tool};

/// As DPDK's own build names it.
const PROGRAM: &str = "dpdk-ipsec-secgw";
const TOOLS: [Tool; 1] = [Tool::new(PROGRAM, "")];
/// RFC 4106: 32 bytes of AES-256 and 4 of salt.
const KEY: usize = 36;
/// Ports in the order of the devices on the command line.
const PLAIN: usize = 0;
const CIPHER: usize = 1;

/// ipsec-secgw.
pub(super) struct Secgw;

impl Peer for Secgw {
    fn name(&self) -> &'static str {
        "ipsec-secgw"
    }

    fn lacks(&self, _topology: &Topology) -> Option<String> {
        tools::missing(&TOOLS)?;
        Some(format!(
            "`{PROGRAM}` not found, and no package has it: `apt-get install libdpdk-dev`, and build DPDK's examples/ipsec-secgw without \
             the receive offloads in its `port_conf`"
        ))
    }

    fn version(&self) -> Result<String> {
        tools::version(PROGRAM, &["-v", "-h"])
    }

    fn configuration(&self) -> String {
        "net_af_xdp, crypto_aesni_mb, ESP aes-256-gcm, tunnel mode, replay window 128, one polling core a site".to_owned()
    }

    fn put(&self, sites: &mut Sites, standing: &mut Standing) -> Result<()> {
        let topology = sites.topology();
        let keys = [random_hex(KEY)?, random_hex(KEY)?];
        for side in Side::BOTH {
            for port in ["plain", "cipher"] {
                // One that is killed leaves its programs on the ports, which then pass nothing to the kernel.
                let (up, off) = (format!("link set {port} up"), format!("link set {port} xdp off"));
                standing.ip(topology, Node::Gateway(side), &up, &off)?;
            }
            standing.keep(start(topology, side, &keys)?);
        }
        routes::tell_hosts(topology, standing)
    }
}

/// The program at one side, at work.
fn start(topology: &Topology, side: Side, keys: &[String; 2]) -> Result<Process> {
    let private = Private::new(topology, "secgw", side)?;
    private.write("secgw.cfg", &configured(side, keys))?;
    let core = SiteConfig::new(side).cores[0];
    let command = format!("{} {}", tools::path(PROGRAM)?, arguments(core));
    let argv: Vec<&str> = command.split_whitespace().collect();
    let mut process = private.start(topology, &format!("secgw-{side}"), &argv)?;
    let waited = wait_for("ipsec-secgw did not begin", Duration::from_secs(30), || {
        process.check_running()?;
        let said = process.output() + &process.log();
        Ok(said.contains("entering main loop").then_some(()))
    });
    match (waited, cause(&process.log())) {
        (Ok(()), _) => Ok(process),
        (Err(_), Some(cause)) => bail!("{cause}"),
        (Err(error), None) => Err(error.into()),
    }
}

/// Why it ended, which is not the last that it says.
fn cause(log: &str) -> Option<&str> {
    Some(log.lines().rev().find_map(|line| line.trim().strip_prefix("Cause:"))?.trim())
}

/// What stands behind the program's name.
fn arguments(core: usize) -> String {
    format!(
        "-l {core} --no-pci --no-huge -m 512 --no-shconf --no-telemetry --vdev net_af_xdp0,iface=plain \
         --vdev net_af_xdp1,iface=cipher --vdev crypto_aesni_mb -- -P -p 0x3 -u {:#x} -l -w 128 --rxoffload 0x0 --txoffload 0x0 \
         --config=({PLAIN},0,{core}),({CIPHER},0,{core}) -f /run/secgw.cfg",
        1 << CIPHER
    )
}

/// The file of one side; `keys` are those of the packets that each side sends.
fn configured(side: Side, keys: &[String; 2]) -> String {
    let peer = side.peer();
    let association = |direction: &str, from: Side| {
        format!(
            "sa {direction} {} aead_algo aes-256-gcm aead_key {} mode ipv4-tunnel src {} dst {}\n",
            spi(from),
            with_colons(&keys[from.index()]),
            from.cipher_v4(),
            from.peer().cipher_v4()
        )
    };
    let policy = |direction: &str, from: Side| {
        let (source, destination) = (from.host_v4(), from.peer().host_v4());
        let all = "sport 0:65535 dport 0:65535";
        format!(
            "sp ipv4 {direction} esp protect {} pri 1 src {source}/32 dst {destination}/32 {all}\n",
            spi(from)
        )
    };
    [
        policy("out", side),
        policy("in", peer),
        association("out", side),
        association("in", peer),
        format!("rt ipv4 dst {}/32 port {PLAIN}\n", side.host_v4()),
        format!("rt ipv4 dst {}/32 port {CIPHER}\n", peer.cipher_v4()),
        format!("neigh port {PLAIN} {}\n", mac_text(side.host_mac())),
        format!("neigh port {CIPHER} {}\n", mac_text(peer.cipher_mac())),
    ]
    .concat()
}

fn spi(from: Side) -> usize {
    0x1001 + from.index()
}

fn with_colons(hex: &str) -> String {
    let bytes: Vec<String> =
        hex.as_bytes().chunks(2).map(|byte| String::from_utf8_lossy(byte).into()).collect();
    bytes.join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_side_seals_the_other_opens() {
        let keys = ["aa".repeat(KEY), "bb".repeat(KEY)];
        let [a, b] = Side::BOTH.map(|side| configured(side, &keys));
        let of = |direction: &str| {
            format!(
                "sa {direction} 4097 aead_algo aes-256-gcm aead_key {} mode ipv4-tunnel src 192.0.2.1 dst 192.0.2.2\n",
                ["aa"; KEY].join(":")
            )
        };
        assert!(a.contains(&of("out")), "{a}");
        assert!(b.contains(&of("in")), "{b}");
        assert!(
            a.contains("rt ipv4 dst 192.0.2.2/32 port 1\n") && a.contains("neigh port 0 02:00:5e:77:00:01\n")
        );
    }

    #[test]
    fn the_cipher_port_is_the_one_that_is_not_protected() {
        assert!(arguments(1).contains("-u 0x2 ") && arguments(1).contains("--config=(0,0,1),(1,0,1) "));
    }

    #[test]
    fn keys_are_written_with_colons() {
        assert_eq!(with_colons("00ff7f"), "00:ff:7f");
    }

    #[test]
    fn the_cause_is_found_before_what_is_said_last() {
        let log = "EAL: Error - exiting with code: 1\n  Cause: Error: port 0 required RX offloads: 0xe\nCRYPTODEV: Closing\n";
        assert_eq!(cause(log), Some("Error: port 0 required RX offloads: 0xe"));
        assert_eq!(cause("EAL: Detected CPU lcores: 2\n"), None);
    }
}
