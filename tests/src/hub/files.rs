//! The files of the lab's encryptors and key servers.

use super::{Place, Plan, cipher, name, network};

/// Name of the link to a spoke.
pub(super) fn link(spoke: Place) -> String {
    format!("hub-{}", name(spoke))
}

/// The hub's: what its links share, and a peer for each of `spokes`, told apart by their networks.
pub(super) fn hub(plan: Plan, spokes: &[Place]) -> String {
    let mut text = shared(plan, 0, "", "");
    for &spoke in spokes {
        let (link, name, address) = (link(spoke), name(spoke), cipher(spoke, plan.ipv6));
        let network = network::network_of(spoke);
        text += &format!(
            r#"
[[peers]]
link = "{link}"
sae = "sae-{name}"
address = "{address}"

[[peers.policy]]
action = "protect"
destination = "{network}"
"#
        );
    }
    text
}

/// A spoke's: one link, which carries all.
pub(super) fn spoke(plan: Plan, spoke: Place) -> String {
    let peer = format!("peer = \"{}\"", cipher(0, plan.ipv6));
    let head = format!("link = \"{}\"", link(spoke));
    shared(plan, spoke, &head, &peer).replacen("[plain]", "peer_sae = \"sae-hub\"\n\n[plain]", 1)
}

fn shared(plan: Plan, place: Place, head: &str, peer: &str) -> String {
    let (name, address, mode) = (name(place), cipher(place, plan.ipv6), plan.mode);
    let kme = u8::from(place > 0);
    let (kme_address, kme_port, kme_name) = (network::kme(kme), network::kme_port(kme), super::name(kme));
    let (cores, ring) = match place {
        0 => ((0..plan.workers).collect(), 1024),
        spoke => (vec![spoke % 2], 256),
    };
    format!(
        r#"{head}
mode = "{mode}"

[site]
sae = "sae-{name}"
control = "{name}.sock"
[plain]
interface = "plain"

[cipher]
interface = "cipher"
address = "{address}"
{peer}

[channel]
ca = "channel-ca.pem"
cert = "channel-{name}.pem"
key = "channel-{name}.key"

[kme]
url = "https://{kme_address}:{kme_port}"
name = "kme-{kme_name}"
ca = "kme-ca.pem"
cert = "sae-{name}.pem"
key = "sae-{name}.key"
startup = "60s"

[keys]
rotate = "2s"
hard_limit = "120s"
pool = 8

[worker]
cores = {cores:?}
polling = "adaptive"
flows = 128
ring = {ring}
"#
    )
}

/// A key server's: 0 is the hub's, 1 serves all spokes.
pub(super) fn kme(plan: Plan, place: Place) -> String {
    let spokes: Vec<String> = (2..=plan.spokes).map(|spoke| format!("\"sae-{}\"", name(spoke))).collect();
    let others = spokes.join(", ");
    let (own, peer) = (name(place), name(1 - place));
    let (own_more, peer_more) = match place {
        0 => (String::new(), format!("additional_sae_ids = [{others}]")),
        _ => (format!("additional = [{others}]"), String::new()),
    };
    let ([address, peer_address], port) = ([place, 1 - place].map(network::kme), network::kme_port(place));
    let [link_port, peer_link_port] = [place, 1 - place].map(|place| network::kme_port(place) + 1);
    format!(
        r#"[kme]
id = "kme-{own}"
listen = "{address}:{port}"

[tls]
ca = "kme-ca.pem"
cert = "kme-{own}.pem"
key = "kme-{own}.key"

[sae]
id = "sae-{own}"
{own_more}

[peer]
kme_id = "kme-{peer}"
sae_id = "sae-{peer}"
{peer_more}
listen = "{address}:{link_port}"
address = "{peer_address}:{peer_link_port}"

[keys]
rate = 200.0
"#
    )
}
