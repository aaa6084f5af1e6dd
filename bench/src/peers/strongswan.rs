//! strongSwan's ESP in user space: charon with the kernel-libipsec plug-in, which the traffic reaches through a TUN device.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result};
use qhaul::lab::plan::{Node, Side};
use qhaul::lab::wait::wait_for;
use qhaul::lab::{Sites, Topology};

use super::options::INNER_MTU;
use super::peer::Peer;
use super::private::{Private, random_hex};
use super::routes;
use super::standing::Standing;
use super::tools::{self, Tool};

const TOOLS: [Tool; 5] = [
    Tool::new("charon", "strongswan-charon"),
    Tool::new("swanctl", "strongswan-swanctl"),
    Tool::new("/usr/lib/ipsec/plugins/libstrongswan-vici.so", "strongswan-swanctl"),
    Tool::new("/usr/lib/ipsec/plugins/libstrongswan-kernel-libipsec.so", "libcharon-extra-plugins"),
    Tool::new("/usr/lib/ipsec/plugins/libstrongswan-openssl.so", "libstrongswan-standard-plugins"),
];
/// The name is the plug-in's.
const DEVICE: &str = "ipsec0";
const ESP: &str = "aes256gcm16";
const IKE: &str = "aes256gcm16-prfsha256-ecp256";
const ENCAP_PORT: u16 = 4500;

/// charon with kernel-libipsec.
pub(super) struct StrongSwan;

impl Peer for StrongSwan {
    fn name(&self) -> &'static str {
        "strongswan"
    }

    fn tools(&self) -> &'static [Tool] {
        &TOOLS
    }

    fn version(&self) -> Result<String> {
        tools::version("charon", &["--version"])
    }

    fn configuration(&self) -> String {
        format!("libipsec, ESP {ESP} in UDP port {ENCAP_PORT}, IKEv2 {IKE}, MTU {INNER_MTU}")
    }

    fn put(&self, sites: &mut Sites, standing: &mut Standing) -> Result<()> {
        let topology = sites.topology();
        let secret = random_hex(32)?;
        let mut ends = Vec::new();
        for side in Side::BOTH {
            let own = gateway(side);
            let (add, del) = (format!("addr add {own}/32 dev plain"), format!("addr del {own}/32 dev plain"));
            standing.ip(topology, Node::Gateway(side), &add, &del)?;
            ends.push(start(topology, standing, side, &secret)?);
        }
        let [initiator, _] = &ends[..] else { unreachable!("there are two sides") };
        let swanctl = tools::path("swanctl")?;
        initiator
            .exec(topology, &[&swanctl, "--initiate", "--child", "hosts", "--timeout", "15"])
            .context("no association came about")?;
        for side in Side::BOTH {
            standing.ip(
                topology,
                Node::Gateway(side),
                &format!("link set {DEVICE} mtu {INNER_MTU} up"),
                "",
            )?;
        }
        routes::lay(topology, standing, |_| format!("dev {DEVICE}"))
    }
}

/// The plug-in refuses policies whose local part holds no address of the gateway, so each host shares a /31 with its own.
fn gateway(side: Side) -> Ipv4Addr {
    Ipv4Addr::from_bits(side.host_v4().to_bits() ^ 1)
}

/// The first address of that /31.
fn network(side: Side) -> Ipv4Addr {
    side.host_v4().min(gateway(side))
}

/// charon at one side, with its connection loaded. Files are seen where its AppArmor profile lets it read them.
fn start(topology: &Topology, standing: &mut Standing, side: Side, secret: &str) -> Result<Private> {
    let private = Private::new(topology, "charon", side)?.showing("strongswan.conf", "/etc/strongswan.conf");
    private.write("strongswan.conf", DAEMON)?;
    private.write("swanctl.conf", &connection(side, secret))?;
    let charon = tools::path("charon")?;
    let mut process = private.start(topology, &format!("charon-{side}"), &[&charon])?;
    let socket = private.dir().join("charon.vici");
    let waited = wait_for("charon did not open its socket", Duration::from_secs(15), || {
        process.check_running()?;
        Ok(socket.exists().then_some(()))
    });
    standing.keep(process);
    waited?;
    private.exec(topology, &[&tools::path("swanctl")?, "--load-all", "--file", "/run/swanctl.conf"])?;
    Ok(private)
}

/// The first plug-in that can does it: OpenSSL the AES-GCM, as by the distribution's own order, and libipsec the associations.
const DAEMON: &str = "\
charon {
  load = random nonce openssl sha2 hmac kdf kernel-libipsec kernel-netlink socket-default vici
  plugins {
    vici {
      socket = unix:///run/charon.vici
    }
  }
  filelog {
    stderr {
      default = 1
    }
  }
}
swanctl {
  load = random openssl
  socket = unix:///run/charon.vici
}
";

fn connection(side: Side, secret: &str) -> String {
    let peer = side.peer();
    let ([here, there], [id, peer_id]) = ([side, peer].map(Side::cipher_v4), [side, peer].map(Side::sae));
    let [network, peer_network] = [side, peer].map(network);
    format!(
        "\
connections {{
  peer {{
    version = 2
    local_addrs = {here}
    remote_addrs = {there}
    proposals = {IKE}
    encap = yes
    local {{
      auth = psk
      id = {id}
    }}
    remote {{
      auth = psk
      id = {peer_id}
    }}
    children {{
      hosts {{
        local_ts = {network}/31
        remote_ts = {peer_network}/31
        esp_proposals = {ESP}
      }}
    }}
  }}
}}
secrets {{
  ike-peer {{
    secret = 0x{secret}
  }}
}}
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_connections_mirror_each_other() {
        let [a, b] = Side::BOTH.map(|side| connection(side, "00ff"));
        for (text, words) in [
            (&a, ["local_addrs = 192.0.2.1\n", "remote_addrs = 192.0.2.2\n", "local_ts = 10.77.0.0/31\n"]),
            (&b, ["local_addrs = 192.0.2.2\n", "remote_addrs = 192.0.2.1\n", "local_ts = 10.77.0.2/31\n"]),
        ] {
            assert!(words.iter().all(|word| text.contains(word)), "{text}");
            assert!(text.contains("secret = 0x00ff\n") && text.contains("esp_proposals = aes256gcm16\n"));
            assert_eq!(text.matches('{').count(), text.matches('}').count());
        }
    }

    #[test]
    fn a_gateway_has_an_address_that_no_host_has() {
        let addresses = Side::BOTH.map(|side| (gateway(side), network(side)));
        let [a, b] = [[10, 77, 0, 0], [10, 77, 0, 3]].map(Ipv4Addr::from);
        assert_eq!(addresses, [(a, a), (b, Side::B.host_v4())]);
    }

    #[test]
    fn libipsec_makes_the_associations() {
        assert!(DAEMON.find("kernel-libipsec").unwrap() < DAEMON.find("kernel-netlink").unwrap());
        assert_eq!(DAEMON.matches('{').count(), DAEMON.matches('}').count());
    }
}
