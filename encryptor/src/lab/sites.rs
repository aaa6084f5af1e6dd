//! The two sites at work: topology, certificates, key servers and encryptors, each of which can be stopped and started.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Options;
use super::error::{LabError, Result, io_error};
use super::plan::{KME_PORT, Node, Side};
use super::process::Process;
use super::site_config::{SiteConfig, kme_control, kme_toml};
use super::status::Status;
use super::topology::Topology;
use super::wait::wait_for;
use crate::pki::{self, PkiNames};

/// How long an encryptor may take from its start to its first epoch on a machine that has much else to do.
const ACTIVE_WITHIN: Duration = Duration::from_secs(60);

/// Everything that the lab runs; dropping it stops and removes all of it.
#[derive(Debug)]
pub struct Sites {
    encryptors: [Option<Process>; 2],
    kmes: [Option<Process>; 2],
    binaries: Binaries,
    /// `NAME=VALUE` for env(1), in front of whatever is started.
    environment: Vec<String>,
    run_arguments: [Vec<String>; 2],
    topology: Topology,
}

#[derive(Debug)]
struct Binaries {
    qhaul: String,
    qhaul_kme: String,
}

impl Sites {
    /// The network with certificates and default configurations in place, and nothing running.
    pub fn prepare(options: &Options) -> Result<Self> {
        let binaries = Binaries::find(&options.bin_dir)?;
        let topology = Topology::with_queues(&options.prefix, options.queues)?;
        let mut names = PkiNames::for_sites(["a", "b"]);
        for (site, side) in names.sites.iter_mut().zip(Side::BOTH) {
            site.kme_addresses.push(side.kme_v4().into());
        }
        pki::generate(topology.dir(), &names)?;
        let sites = Self {
            encryptors: [None, None],
            kmes: [None, None],
            binaries,
            environment: Vec::new(),
            run_arguments: Default::default(),
            topology,
        };
        for side in Side::BOTH {
            sites.write(&format!("kme-{side}.toml"), &kme_toml(side, ""))?;
            sites.configure(&SiteConfig::new(side))?;
        }
        Ok(sites)
    }

    /// [`Self::prepare`], then both key servers, both encryptors, and a wait until both are active.
    pub fn up(options: &Options) -> Result<Self> {
        let mut sites = Self::prepare(options)?;
        sites.start_all()?;
        Ok(sites)
    }

    /// Starts both key servers and both encryptors, and waits until both are active.
    pub fn start_all(&mut self) -> Result<()> {
        for side in Side::BOTH {
            self.start_kme(side)?;
        }
        for side in Side::BOTH {
            self.start_encryptor(side)?;
        }
        Side::BOTH.into_iter().try_for_each(|side| self.wait_active(side).map(drop))
    }

    /// The network.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// Path of a site's configuration file.
    pub fn config_path(&self, side: Side) -> PathBuf {
        self.topology.dir().join(format!("site-{side}.toml"))
    }

    /// Writes a site's configuration; a running encryptor does not read it again.
    pub fn configure(&self, config: &SiteConfig) -> Result<()> {
        self.write(&format!("site-{}.toml", config.side), &config.to_toml())
    }

    /// Sets environment variables, such as `("QHAUL_LOG", "trace")`, of all that is started from now on.
    pub fn set_environment(&mut self, variables: &[(&str, &str)]) {
        self.environment = variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
    }

    /// Sets further arguments of `qhaul run` at one site, from its next start on. Relative paths in them start from the lab's
    /// directory.
    pub fn set_run_arguments(&mut self, side: Side, arguments: &[&str]) {
        self.run_arguments[side.index()] = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    }

    /// Starts a key server and waits until it listens.
    pub fn start_kme(&mut self, side: Side) -> Result<()> {
        let config = format!("kme-{side}.toml");
        let argv = self.with_environment(&[self.binaries.qhaul_kme.as_str(), "--config", &config]);
        let mut kme = self.topology.start(Node::Kme(side), &format!("kme-{side}"), &argv)?;
        kme.wait_listening(KME_PORT, Duration::from_secs(10))?;
        self.kmes[side.index()] = Some(kme);
        Ok(())
    }

    /// Starts an encryptor and returns at once; see [`Self::wait_active`].
    pub fn start_encryptor(&mut self, side: Side) -> Result<()> {
        let config = self.config_path(side).display().to_string();
        let mut argv = self.with_environment(&[self.binaries.qhaul.as_str(), "run", "--config", &config]);
        argv.extend(self.run_arguments[side.index()].iter().map(String::as_str));
        let encryptor = self.topology.start(Node::Gateway(side), &format!("qhaul-{side}"), &argv)?;
        self.encryptors[side.index()] = Some(encryptor);
        Ok(())
    }

    /// The running encryptor, to signal it or to read its log.
    pub fn encryptor(&mut self, side: Side) -> Option<&mut Process> {
        self.encryptors[side.index()].as_mut()
    }

    /// Fails with the last words of the first key server or encryptor that has ended by itself.
    pub fn check_running(&mut self) -> Result<()> {
        self.kmes.iter_mut().chain(&mut self.encryptors).flatten().try_for_each(Process::check_running)
    }

    /// The encryptor's name in the lab and its log, also after it ended; nothing if it never ran.
    pub fn encryptor_log(&self, side: Side) -> Option<(String, String)> {
        let name = format!("qhaul-{side}");
        let log = fs::read(self.topology.dir().join(format!("{name}.log"))).ok()?;
        Some((name, String::from_utf8_lossy(&log).into_owned()))
    }

    /// The running key server.
    pub fn kme(&mut self, side: Side) -> Option<&mut Process> {
        self.kmes[side.index()].as_mut()
    }

    /// SIGKILLs a key server, as a power cut would: its keys are gone with it.
    pub fn kill_kme(&mut self, side: Side) -> Result<()> {
        self.kmes[side.index()].take().map_or(Ok(()), |mut kme| kme.kill().map(drop))
    }

    /// Commands a key server's weather, such as `["set", "down", "--for", "60"]`, or asks for it by `["show"]`; gives the
    /// weather from then on, in JSON.
    pub fn weather(&self, side: Side, command: &[&str]) -> Result<String> {
        let socket = self.topology.dir().join(kme_control(side)).display().to_string();
        let argv = [&[self.binaries.qhaul_kme.as_str(), "ctl", "--socket", &socket], command].concat();
        self.topology.exec(Node::Kme(side), &argv)
    }

    /// SIGKILLs an encryptor, as a crash would.
    pub fn kill_encryptor(&mut self, side: Side) -> Result<()> {
        self.encryptors[side.index()].take().map_or(Ok(()), |mut encryptor| encryptor.kill().map(drop))
    }

    /// What the encryptor says about itself.
    pub fn status(&self, side: Side) -> Result<Status> {
        let config = self.config_path(side).display().to_string();
        let argv = [self.binaries.qhaul.as_str(), "status", "--config", &config, "--json"];
        Status::parse(&self.topology.exec(Node::Gateway(side), &argv)?)
    }

    /// Waits until the encryptor carries traffic in both directions; fails at once if it ended.
    pub fn wait_active(&mut self, side: Side) -> Result<Status> {
        let mut encryptor = self.encryptors[side.index()].take();
        let this = &*self;
        let found = wait_for(&format!("encryptor {side} was not active"), ACTIVE_WITHIN, || {
            encryptor.as_mut().map_or(Ok(()), Process::check_running)?;
            // The status command fails while the socket is not there yet: what counts is whether it ever says active.
            Ok(this.status(side).ok().filter(Status::is_active))
        });
        self.encryptors[side.index()] = encryptor;
        found
    }

    /// Keeps logs, configurations and captures after the network is gone; returns where.
    pub fn keep_files(&mut self) -> PathBuf {
        self.topology.keep_files();
        self.topology.dir().to_owned()
    }

    /// Leaves everything running when this value is gone.
    pub fn leave_standing(self) -> Result<()> {
        self.encryptors.into_iter().chain(self.kmes).flatten().for_each(Process::leave_running);
        self.topology.leave_standing()
    }

    /// Stops and removes everything, and says if something resisted.
    pub fn down(mut self) -> Result<()> {
        for process in self.encryptors.iter_mut().chain(&mut self.kmes).flatten() {
            process.stop()?;
        }
        self.topology.down()
    }

    /// Writes a file into the lab's directory, such as a configuration that [`SiteConfig`] would not make.
    pub fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.topology.dir().join(name);
        fs::write(&path, text).map_err(io_error(format!("cannot write {}", path.display())))
    }

    fn with_environment<'a>(&'a self, argv: &[&'a str]) -> Vec<&'a str> {
        ["env"]
            .into_iter()
            .chain(self.environment.iter().map(String::as_str))
            .chain(argv.iter().copied())
            .collect()
    }
}

impl Binaries {
    fn find(dir: &Path) -> Result<Self> {
        let find = |name: &str| {
            let path = dir.join(name);
            if path.is_file() { Ok(path.display().to_string()) } else { Err(LabError::MissingBinary(path)) }
        };
        Ok(Self { qhaul: find("qhaul")?, qhaul_kme: find("qhaul-kme")? })
    }
}
