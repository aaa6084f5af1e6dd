//! Gateways that route: forwarding, neighbours that nobody has to ask for, and the way to the other host.

use anyhow::{Context, Result};
use qhaul::lab::Topology;
use qhaul::lab::plan::{Node, Side, mac_text};

use super::standing::Standing;

/// Packets that came through a tunnel have a source that the plain port's network holds: no reverse path filter. Before tunnels
/// are made, which take the default.
pub(super) fn open(topology: &Topology, standing: &mut Standing) -> Result<()> {
    for side in Side::BOTH {
        let filters =
            ["all", "default", "plain", "cipher"].map(|port| format!("net.ipv4.conf.{port}.rp_filter=0"));
        let set = format!("net.ipv4.conf.all.send_redirects=0 {} net.ipv4.ip_forward=1", filters.join(" "));
        standing.sysctl(topology, Node::Gateway(side), &set, "net.ipv4.ip_forward=0")?;
    }
    Ok(())
}

/// Routes from host to host; `hop` says how a gateway reaches the other side, such as `dev tun0`.
pub(super) fn lay(topology: &Topology, standing: &mut Standing, hop: impl Fn(Side) -> String) -> Result<()> {
    for side in Side::BOTH {
        let (here, there) = (side.host_v4(), side.peer().host_v4());
        let mac = mac_text(side.host_mac());
        let mut ip = |add: &str, undo: &str| standing.ip(topology, Node::Gateway(side), add, undo);
        ip(
            &format!("neigh replace {here} lladdr {mac} dev plain nud permanent"),
            &format!("neigh del {here} dev plain"),
        )?;
        ip(&format!("route add {here}/32 dev plain scope link"), &format!("route del {here}/32 dev plain"))?;
        let hop = hop(side);
        ip(&format!("route add {there}/32 {hop}"), &format!("route del {there}/32 {hop}"))?;
    }
    tell_hosts(topology, standing)
}

/// To each host the other one is where its gateway is. The generator takes the hosts' ports and answers no ARP, so neighbours are
/// told.
pub(super) fn tell_hosts(topology: &Topology, standing: &mut Standing) -> Result<()> {
    for side in Side::BOTH {
        let (there, router) = (side.peer().host_v4(), mac_text(plain_mac(topology, side)?));
        standing.ip(
            topology,
            Node::Host(side),
            &format!("neigh replace {there} lladdr {router} dev eth0 nud permanent"),
            &format!("neigh del {there} dev eth0"),
        )?;
    }
    Ok(())
}

/// The hardware address of a gateway's plain port.
pub(super) fn plain_mac(topology: &Topology, side: Side) -> Result<[u8; 6]> {
    let text = topology.exec(Node::Gateway(side), &["cat", "/sys/class/net/plain/address"])?;
    parse_mac(text.trim()).with_context(|| format!("the plain port's address reads {text}"))
}

fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let bytes: Option<Vec<u8>> = text.split(':').map(|byte| u8::from_str_radix(byte, 16).ok()).collect();
    bytes?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hardware_addresses_are_read() {
        assert_eq!(parse_mac("02:00:5e:77:00:ff"), Some([2, 0, 0x5e, 0x77, 0, 0xff]));
        for bad in ["", "02:00:5e:77:00", "02:00:5e:77:00:1ff", "02:00:5e:77:00:zz"] {
            assert_eq!(parse_mac(bad), None, "{bad}");
        }
    }
}
