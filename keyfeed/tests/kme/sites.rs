use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::process;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use qhaul_keyfeed::kme::{Kme, KmeConfig};
use qhaul_keyfeed::{Etsi014, Etsi014Config, SaeId};
use tokio::sync::oneshot;

use crate::pki::{Identity, Pki};

/// Longest wait for anything that must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Two sites, A and B, on loopback addresses of their own.
pub(crate) struct Network {
    pub(crate) pki: Pki,
    hosts: [IpAddr; 2],
    keys: String,
    /// Lines of the `[kme]` section of both KMEs.
    kme: String,
    /// Further sections of both KMEs' files.
    sections: String,
}

/// Which site.
#[derive(Clone, Copy)]
pub(crate) enum Site {
    A,
    B,
}
use Site::{A, B};

/// A KME that serves until dropped.
pub(crate) struct Running {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Network {
    /// `keys`: lines of the `[keys]` section of both KMEs.
    pub(crate) fn new(keys: &str) -> Self {
        let pki = Pki::new();
        ["KME-A", "KME-B", "sae-a", "sae-b", "sae-a2", "sae-b2"]
            .iter()
            .for_each(|name| drop(pki.issue(name)));
        Network {
            pki,
            hosts: [own_host(), own_host()],
            keys: keys.to_owned(),
            kme: String::new(),
            sections: String::new(),
        }
    }

    /// `kme`: lines of the `[kme]` section of both KMEs; `HOST` in it becomes the site's address.
    pub(crate) fn with_kme(self, kme: &str) -> Self {
        Network { kme: kme.to_owned(), ..self }
    }

    /// `HOST` in it becomes the site's address.
    pub(crate) fn with_sections(self, sections: &str) -> Self {
        Network { sections: sections.to_owned(), ..self }
    }

    pub(crate) fn with_keys(self, keys: &str) -> Self {
        Network { keys: keys.to_owned(), ..self }
    }

    /// Both KMEs of a fresh network.
    pub(crate) fn up(keys: &str) -> (Self, [Running; 2]) {
        let network = Network::new(keys);
        let running = [network.start(A), network.start(B)];
        (network, running)
    }

    /// Writes a site's configuration file.
    pub(crate) fn config_file(&self, site: Site) -> PathBuf {
        let (own, peer) = (site.letter(), site.other().letter());
        let (host, peer_host) = (self.host(site), self.host(site.other()));
        let text = format!(
            r#"
            [kme]
            id = "KME-{own}"
            listen = "{host}:8443"
            {kme}
            [tls]
            ca = "ca.pem"
            cert = "KME-{own}.pem"
            key = "KME-{own}.key"
            [sae]
            id = "{sae}"
            additional = ["{sae}2"]
            [peer]
            kme_id = "KME-{peer}"
            address = "{peer_host}:9443"
            listen = "{host}:9443"
            sae_id = "{peer_sae}"
            additional_sae_ids = ["{peer_sae}2"]
            [keys]
            {keys}
            {sections}
            "#,
            sae = site.sae(),
            peer_sae = site.other().sae(),
            kme = self.kme.replace("HOST", &host.to_string()),
            sections = self.sections.replace("HOST", &host.to_string()),
            keys = self.keys,
        );
        let path = self.pki.folder().join(format!("kme-{own}.toml"));
        fs::write(&path, text).unwrap();
        path
    }

    /// Starts a site's KME and waits until it listens.
    pub(crate) fn start(&self, site: Site) -> Running {
        start(KmeConfig::load(&self.config_file(site)).unwrap())
    }

    pub(crate) fn host(&self, site: Site) -> IpAddr {
        self.hosts[site as usize]
    }

    /// The configuration of a site's SAE.
    pub(crate) fn client_config(&self, site: Site) -> Etsi014Config {
        let name = site.sae();
        Etsi014Config {
            url: format!("https://{}:8443", self.host(site)),
            ca: self.pki.ca(),
            cert: self.pki.folder().join(format!("{name}.pem")),
            key: self.pki.folder().join(format!("{name}.key")),
            kme_name: Some(format!("KME-{}", site.letter())),
            peer_sae: SaeId::new(site.other().sae()).unwrap(),
            timeout: Duration::from_secs(10),
        }
    }

    /// A site's SAE.
    pub(crate) fn client(&self, site: Site) -> Etsi014 {
        Etsi014::new(self.client_config(site)).unwrap()
    }

    /// A site's SAE with a certificate other than its own.
    pub(crate) fn client_as(&self, site: Site, identity: Identity) -> Etsi014 {
        let config = self.client_config(site);
        Etsi014::new(Etsi014Config { cert: identity.cert, key: identity.key, ..config }).unwrap()
    }
}

impl Site {
    pub(crate) fn other(self) -> Self {
        match self {
            A => B,
            B => A,
        }
    }

    pub(crate) fn sae(self) -> &'static str {
        match self {
            A => "sae-a",
            B => "sae-b",
        }
    }

    fn letter(self) -> &'static str {
        match self {
            A => "A",
            B => "B",
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            assert!(thread.join().is_ok() || thread::panicking(), "the KME panicked");
        }
    }
}

/// Starts a KME and waits until it listens.
pub(crate) fn start(config: KmeConfig) -> Running {
    let (stop, stopped) = oneshot::channel();
    let (ready, is_ready) = mpsc::channel();
    let thread = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let kme = Kme::bind(config).await.unwrap();
            ready.send(()).unwrap();
            kme.run(async { stopped.await.unwrap_or_default() }).await;
        });
    });
    is_ready.recv_timeout(PATIENCE).expect("the KME listens");
    Running { stop: Some(stop), thread: Some(thread) }
}

/// A loopback address that no other test uses, so that fixed ports are free.
pub(crate) fn own_host() -> IpAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    assert!(next < 500, "more hosts than this scheme has");
    let pid = process::id();
    let block = 100 + 2 * (pid / 250 % 50) as u8 + (next / 250) as u8;
    Ipv4Addr::new(127, block, 1 + (pid % 250) as u8, 1 + (next % 250) as u8).into()
}
