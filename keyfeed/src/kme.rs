mod answer;
mod api;
mod bucket;
mod config;
mod container;
mod exposure;
mod identity;
mod link;
mod quirk;
mod request;
mod server;
mod site;
mod skip;
mod store;
mod weather;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use tokio::net::{TcpListener, UnixListener};
use tokio_rustls::TlsAcceptor;

pub use crate::https::TlsVersion;
use crate::source::SourceError;
use api::Core;
pub use config::{KeysConfig, KmeConfig, KmeSection, PeerSection, SaeSection, SkipSection, TlsSection};
pub use quirk::Quirk;
pub use weather::{Change, Command, Fibre, Scheduled, What, command};

/// One site's key server: serves ETSI GS QKD 014 to its SAE, and trades keys with the KME of the other site over a
/// mutually authenticated link. Keys come from the system's RNG; everything else is as with a QKD system behind it.
pub struct Kme {
    core: Arc<Core>,
    api: Listener,
    link: Listener,
    skip: Option<(SkipSection, Listener)>,
    control: Option<UnixListener>,
}

/// Why a KME does not start. Displays as one line that names the cause and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum KmeError {
    /// The configuration cannot be used.
    #[error("{0}")]
    Config(String),
    /// A certificate or key file cannot be used.
    #[error("[tls]: {0}")]
    Tls(#[from] SourceError),
    /// A listener does not come up.
    #[error(
        "cannot listen on {address} ({setting}): {source}; choose an address of this host and a free port"
    )]
    Listen {
        /// The setting's name.
        setting: &'static str,
        /// Its value.
        address: SocketAddr,
        /// The system's answer.
        source: io::Error,
    },
}

struct Listener {
    tcp: TcpListener,
    tls: TlsAcceptor,
}

impl Kme {
    /// Reads the certificate files and opens both listeners.
    ///
    /// # Errors
    /// [`KmeError`].
    pub async fn bind(config: KmeConfig) -> Result<Self, KmeError> {
        let tls = TlsAcceptor::from(Arc::new(config.tls.files().server_config(config.kme.tls)?));
        let link_tls = TlsAcceptor::from(Arc::new(config.tls.files().server_config(TlsVersion::V1_3)?));
        let skip = match &config.skip {
            Some(skip) => {
                let tls = TlsAcceptor::from(Arc::new(config.tls.files().server_config(TlsVersion::V1_3)?));
                Some((skip.clone(), Listener { tcp: listen("[skip] listen", skip.listen).await?, tls }))
            }
            None => None,
        };
        let control = config.kme.control.as_deref().map(weather::listen).transpose()?;
        let api = Listener { tcp: listen("[kme] listen", config.kme.listen).await?, tls };
        let link = Listener { tcp: listen("[peer] listen", config.peer.listen).await?, tls: link_tls };
        Ok(Kme { core: Arc::new(Core::new(config, Instant::now())?), api, link, skip, control })
    }

    /// What the KME serves, to whom and where, in one line.
    ///
    /// # Errors
    /// When the system does not tell the listener's address.
    pub fn ready_line(&self) -> io::Result<String> {
        let config = &self.core.config;
        Ok(format!("{} serves SAE {} on {}", config.kme.id, config.sae.id, self.api.tcp.local_addr()?))
    }

    /// Serves until `stop` is done, then closes all connections and erases all keys.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let Kme { core, api, link, skip, control } = self;
        let (api_core, skip_core) = (Arc::clone(&core), Arc::clone(&core));
        let serve_control = weather::serve(Arc::clone(&core), control);
        let serve_api = server::serve(api.tcp, api.tls, move |caller, request| {
            let core = Arc::clone(&api_core);
            async move { api::handle(&core, &caller, request).await }
        });
        let serve_link = server::serve(link.tcp, link.tls, move |caller, request| {
            let core = Arc::clone(&core);
            async move { link::handle(&core, &caller, &request) }
        });
        let serve_skip = serve_skip(skip_core, skip);
        tokio::select! {
            () = serve_api => {}
            () = serve_link => {}
            () = serve_skip => {}
            () = serve_control => {}
            () = stop => {}
        }
    }
}

/// Serves SKIP if it is configured; otherwise waits for ever.
async fn serve_skip(core: Arc<Core>, skip: Option<(SkipSection, Listener)>) {
    let Some((section, listener)) = skip else { return std::future::pending().await };
    let section = Arc::new(section);
    server::serve(listener.tcp, listener.tls, move |caller, request| {
        let (core, section) = (Arc::clone(&core), Arc::clone(&section));
        async move { skip::handle(&core, &section, &caller, &request).await }
    })
    .await;
}

async fn listen(setting: &'static str, address: SocketAddr) -> Result<TcpListener, KmeError> {
    TcpListener::bind(address).await.map_err(|source| KmeError::Listen { setting, address, source })
}
