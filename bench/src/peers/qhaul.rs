//! qhaul itself, as in the wire bench: it carries whole frames.

use anyhow::Result;
use qhaul::lab::plan::Side;
use qhaul::lab::{Process, SiteConfig, Sites};

use super::peer::Peer;
use super::standing::Standing;

pub(super) const NAME: &str = "qhaul";

/// The encryptor of this workspace.
pub(super) struct Qhaul;

impl Peer for Qhaul {
    fn name(&self) -> &'static str {
        NAME
    }

    fn version(&self) -> Result<String> {
        let build = if cfg!(debug_assertions) { " (debug build)" } else { "" };
        Ok(format!("{}{build}", env!("CARGO_PKG_VERSION")))
    }

    fn configuration(&self) -> String {
        let config = configured(Side::A);
        format!(
            "mode {}, AES-256-GCM, encap {}, keys {}, rotate {}, {} core a site, {} polling",
            config.mode,
            config.encap,
            config.combine,
            config.rotate,
            config.cores.len(),
            config.polling
        )
    }

    fn routes(&self) -> bool {
        false
    }

    fn put(&self, sites: &mut Sites, standing: &mut Standing) -> Result<()> {
        for side in Side::BOTH {
            sites.configure(&configured(side))?;
            sites.start_encryptor(side)?;
        }
        for side in Side::BOTH {
            sites.wait_active(side)?;
            standing.count(sites.encryptor(side).map(|process| process.pid()));
        }
        Ok(())
    }

    fn take(&self, sites: &mut Sites) -> Result<()> {
        for side in Side::BOTH {
            // In good order: a port of a killed encryptor stays shut.
            sites.encryptor(side).map(Process::stop).transpose()?;
        }
        Ok(())
    }
}

/// As in the wire bench, keys rotate each minute, and a slow machine's late rotation stops nothing.
fn configured(side: Side) -> SiteConfig {
    let mut config = SiteConfig::new(side);
    (config.rotate, config.hard_limit) = ("60s".to_owned(), "1h".to_owned());
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_what_is_configured() {
        let said = Qhaul.configuration();
        assert!(said.contains("mode ethernet") && said.contains("rotate 60s"), "{said}");
        assert!(configured(Side::B).to_toml().contains("rotate = \"60s\""));
    }
}
