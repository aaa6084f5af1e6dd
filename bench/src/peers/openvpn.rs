//! OpenVPN in user space, point to point, with the certificates that the lab made for the link channel.

use std::time::Duration;

use anyhow::Result;
use qhaul::lab::Sites;
use qhaul::lab::plan::{Node, Side};
use qhaul::lab::wait::wait_for;

use super::options::INNER_MTU;
use super::peer::Peer;
use super::routes;
use super::standing::Standing;
use super::tools::{self, Tool};

const TOOLS: [Tool; 1] = [Tool::new("openvpn", "openvpn")];
const PORT: u16 = 1194;
const DEVICE: &str = "tun0";
const CIPHER: &str = "AES-256-GCM";

/// OpenVPN without its kernel module.
pub(super) struct OpenVpn;

impl Peer for OpenVpn {
    fn name(&self) -> &'static str {
        "openvpn"
    }

    fn tools(&self) -> &'static [Tool] {
        &TOOLS
    }

    fn version(&self) -> Result<String> {
        tools::version("openvpn", &["--version"])
    }

    fn configuration(&self) -> String {
        format!("{CIPHER}, TLS, UDP port {PORT}, tun-mtu {INNER_MTU}, disable-dco")
    }

    fn put(&self, sites: &mut Sites, standing: &mut Standing) -> Result<()> {
        let program = tools::path("openvpn")?;
        let mut ends = Vec::new();
        for side in Side::BOTH {
            let file = format!("openvpn-{side}.conf");
            sites.write(&file, &configured(side))?;
            let argv = [program.as_str(), "--config", &file];
            let name = format!("openvpn-{side}");
            ends.push((side, sites.topology().start(Node::Gateway(side), &name, &argv)?));
        }
        for (side, mut process) in ends {
            let waited = wait_for("OpenVPN did not connect", Duration::from_secs(20), || {
                process.check_running()?;
                Ok(process.output().contains("Initialization Sequence Completed").then_some(()))
            });
            standing.keep(process);
            waited?;
            standing.ip(sites.topology(), Node::Gateway(side), &format!("link set {DEVICE} up"), "")?;
        }
        routes::lay(sites.topology(), standing, |_| format!("dev {DEVICE}"))
    }
}

/// The file of one side. A key that is set by hand knows no AES-GCM: it takes TLS.
fn configured(side: Side) -> String {
    let (here, there) = (side.cipher_v4(), side.peer().cipher_v4());
    let role = match side {
        Side::A => "tls-server\ndh none",
        Side::B => "tls-client",
    };
    format!(
        "dev {DEVICE}\ndev-type tun\nproto udp4\nlocal {here}\nremote {there}\nport {PORT}\n{role}\nca channel-ca.pem\n\
         cert channel-{side}.pem\nkey channel-{side}.key\ndata-ciphers {CIPHER}\ndisable-dco\ntun-mtu {INNER_MTU}\n\
         mssfix 0\nverb 1\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_side_serves_and_both_name_the_other() {
        let [a, b] = Side::BOTH.map(configured);
        assert!(a.contains("local 192.0.2.1\nremote 192.0.2.2\n") && a.contains("tls-server\n"), "{a}");
        assert!(b.contains("local 192.0.2.2\nremote 192.0.2.1\n") && b.contains("tls-client\n"), "{b}");
        assert!([a, b].iter().all(|text| text.contains("\ndata-ciphers AES-256-GCM\ndisable-dco\n")));
    }
}
