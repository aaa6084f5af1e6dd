use serde::Deserialize;

use super::{KeySource, SourceError};
use crate::etsi014::{Etsi014, Etsi014Config};
use crate::failover::{Failover, Pauses};
use crate::file::{Directory, DirectoryConfig, Fifo, FifoConfig};
use crate::https::TlsVersion;
use crate::skip::{Skip, SkipConfig};

/// Any source by its configuration: a table with `kind` and that kind's settings.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum SourceConfig {
    /// ETSI GS QKD 014.
    Etsi014 {
        /// The client's settings.
        #[serde(flatten)]
        config: Etsi014Config,
        /// Lowest TLS version, `"1.3"` or `"1.2"`.
        #[serde(default)]
        tls: TlsVersion,
    },
    /// draft-cisco-skip-02.
    Skip(SkipConfig),
    /// A directory of key files.
    Directory(DirectoryConfig),
    /// A FIFO of lines.
    Fifo(FifoConfig),
    /// Several sources of one kind, in order of preference.
    Failover {
        /// The sources.
        sources: Vec<SourceConfig>,
    },
}

/// Makes instances of one source, as [`Feeder::start`](crate::feeder::Feeder::start) wants two. What instances must
/// share, such as an open FIFO, they share.
pub struct SourceMaker(Prepared);

enum Prepared {
    Independent(SourceConfig),
    Shared(Fifo),
    Several(Vec<SourceMaker>),
}

impl SourceConfig {
    /// Opens what the source's instances share.
    ///
    /// # Errors
    /// [`SourceError::File`] naming the FIFO.
    pub fn prepare(self) -> Result<SourceMaker, SourceError> {
        Ok(SourceMaker(match self {
            SourceConfig::Fifo(config) => Prepared::Shared(Fifo::new(config)?),
            SourceConfig::Failover { sources } => Prepared::Several(
                sources.into_iter().map(SourceConfig::prepare).collect::<Result<Vec<_>, _>>()?,
            ),
            other => Prepared::Independent(other),
        }))
    }
}

impl SourceMaker {
    /// A new instance.
    ///
    /// # Errors
    /// [`SourceError::File`] naming the file, [`SourceError::Setting`] naming the setting.
    pub fn make(&self) -> Result<Box<dyn KeySource>, SourceError> {
        Ok(match &self.0 {
            Prepared::Shared(fifo) => Box::new(fifo.clone()),
            Prepared::Several(makers) => {
                let sources = makers.iter().map(SourceMaker::make).collect::<Result<Vec<_>, _>>()?;
                Box::new(Failover::new(sources, Pauses::default())?)
            }
            Prepared::Independent(config) => match config.clone() {
                SourceConfig::Etsi014 { config, tls } => Box::new(Etsi014::with_lowest_tls(config, tls)?),
                SourceConfig::Skip(config) => Box::new(Skip::new(config)?),
                SourceConfig::Directory(config) => Box::new(Directory::new(config)?),
                shared @ (SourceConfig::Fifo(_) | SourceConfig::Failover { .. }) => {
                    shared.prepare()?.make()?
                }
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ETSI: &str = r#"url = "https://kme-a:8443"
        ca = "/none/ca.pem"
        cert = "/none/sae.pem"
        key = "/none/sae.key"
        "#;

    fn made(text: &str) -> Result<&'static str, String> {
        let config: SourceConfig = toml::from_str(text).map_err(|e| e.message().to_owned())?;
        let maker = config.prepare().map_err(|e| e.to_string())?;
        maker.make().map(|source| source.kind()).map_err(|e| e.to_string())
    }

    #[test]
    fn each_kind_is_chosen_by_its_name() {
        let etsi =
            made(&format!("kind = \"etsi014\"\n{ETSI}peer_sae = \"sae-b\"\ntimeout = 2.5\ntls = \"1.2\""));
        assert!(etsi.unwrap_err().contains("/none/"), "its files are read");
        let skip = made(&format!("kind = \"skip\"\n{ETSI}remote_system = \"KP-B\""));
        assert!(skip.unwrap_err().contains("/none/"));
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        let path = folder.path().display();
        let directory = format!("kind = \"directory\"\ndirectory = \"{path}\"\nhalf = \"first\"");
        assert_eq!(made(&directory).unwrap(), "file");
        let several = format!("kind = \"failover\"\n[[sources]]\n{directory}\n[[sources]]\n{directory}");
        assert_eq!(made(&several).unwrap(), "file");
        assert!(
            made("kind = \"fifo\"\nfifo = \"/none/fifo\"\nhalf = \"all\"")
                .unwrap_err()
                .contains("/none/fifo")
        );
        assert!(made("kind = \"pigeon\"").unwrap_err().contains("pigeon"));
    }

    #[test]
    fn instances_share_one_fifo() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let text = format!("kind = \"fifo\"\nfifo = \"{}\"\nhalf = \"all\"", path.display());
        let maker = toml::from_str::<SourceConfig>(&text).unwrap().prepare().unwrap();
        let (mut one, mut other) = (maker.make().unwrap(), maker.make().unwrap());
        std::fs::write(&path, "a MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI=\nb YjIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI=\n").unwrap();
        assert_eq!(one.new_keys(1).unwrap()[0].id.as_str(), "a");
        assert_eq!(other.new_keys(1).unwrap()[0].id.as_str(), "b");
    }
}
