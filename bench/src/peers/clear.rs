//! The control: the gateways' kernels route in clear.

use anyhow::Result;
use qhaul::lab::Sites;

use super::peer::Peer;
use super::routes;
use super::standing::Standing;
use super::tools;

pub(super) const NAME: &str = "clear";

/// Kernel forwarding with the peers' routes and no encryption.
pub(super) struct Clear;

impl Peer for Clear {
    fn name(&self) -> &'static str {
        NAME
    }

    fn version(&self) -> Result<String> {
        tools::kernel()
    }

    fn configuration(&self) -> String {
        "the kernel routes between the gateways, nothing encrypted".to_owned()
    }

    fn put(&self, sites: &mut Sites, standing: &mut Standing) -> Result<()> {
        routes::lay(sites.topology(), standing, |side| {
            format!("via {} dev cipher onlink", side.peer().cipher_v4())
        })
    }
}
