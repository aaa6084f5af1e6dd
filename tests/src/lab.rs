use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use qhaul::lab::books::imbalance;
use qhaul::lab::plan::{Node, Side};
use qhaul::lab::wait::wait_for;
use qhaul::lab::{Options, SiteConfig, Sites, Topology};
use qhaul::status::Status;

/// How long a lab may take to get where it belongs. Never what is asserted: a lab that gets there late is well.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// A lab that is named after its test, so that tests never meet, and removed with it, however it ends.
#[derive(Debug)]
pub struct TestLab {
    /// The lab itself.
    pub sites: Sites,
    bin_dir: PathBuf,
    finished: bool,
}

impl TestLab {
    /// The network with certificates and configurations in place, and nothing running. The hosts know each other's hardware
    /// addresses, so that they send whether they are heard or not.
    pub fn prepare(prefix: &str) -> Result<TestLab> {
        Self::prepare_with_queues(prefix, 1)
    }

    /// The same with several queues at every end of the data path.
    pub fn prepare_with_queues(prefix: &str, queues: u16) -> Result<TestLab> {
        let bin_dir = bin_dir()?;
        let prefix = prefix.into();
        let options = Options { prefix, bin_dir: bin_dir.clone(), queues, ..Options::default() };
        let lab = TestLab { sites: Sites::prepare(&options)?, bin_dir, finished: false };
        lab.topology().introduce_hosts()?;
        Ok(lab)
    }

    /// [`TestLab::prepare`], then everything started and both sites active. Flow keys are logged at both sites.
    pub fn up(prefix: &str, change: impl Fn(&mut SiteConfig)) -> Result<TestLab> {
        Self::up_with_queues(prefix, 1, change)
    }

    /// The same with several queues at every end of the data path.
    pub fn up_with_queues(prefix: &str, queues: u16, change: impl Fn(&mut SiteConfig)) -> Result<TestLab> {
        TestLab::prepare_with_queues(prefix, queues)?.start(change)
    }

    /// The same over a backhaul of IPv6.
    pub fn up_over_ipv6(prefix: &str, change: impl Fn(&mut SiteConfig)) -> Result<TestLab> {
        let lab = TestLab::prepare(prefix)?;
        lab.topology().add_ipv6_backhaul()?;
        lab.start(|config| {
            config.ipv6 = true;
            change(config);
        })
    }

    /// The same with the MTUs of both plain sides and of the backhaul, in bytes.
    pub fn up_with_mtus(
        prefix: &str,
        (plain, backhaul): (u16, u16),
        change: impl Fn(&mut SiteConfig),
    ) -> Result<TestLab> {
        let lab = TestLab::prepare(prefix)?;
        lab.topology().set_mtus(plain, backhaul)?;
        lab.start(change)
    }

    /// Configures and starts what [`TestLab::prepare`] made; see [`TestLab::up`].
    pub fn start(self, change: impl Fn(&mut SiteConfig)) -> Result<TestLab> {
        let mut lab = self;
        lab.configure(change)?;
        for side in Side::BOTH {
            lab.log_keys(side, &key_log_name(side));
        }
        lab.sites.start_all()?;
        Ok(lab)
    }

    /// The network.
    pub fn topology(&self) -> &Topology {
        self.sites.topology()
    }

    /// Changes both sites' configurations.
    pub fn configure(&self, change: impl Fn(&mut SiteConfig)) -> Result<()> {
        for side in Side::BOTH {
            let mut config = SiteConfig::new(side);
            change(&mut config);
            self.sites.configure(&config)?;
        }
        Ok(())
    }

    /// From its next start on a site logs its flow keys into this file of the lab's directory.
    pub fn log_keys(&mut self, side: Side, name: &str) {
        self.sites.set_run_arguments(side, &["--debug", "--debug-key-log", name]);
    }

    /// A file of the lab's directory.
    pub fn file(&self, name: &str) -> PathBuf {
        self.topology().dir().join(name)
    }

    /// The key log that [`TestLab::up`] has a site write.
    pub fn key_log(&self, side: Side) -> PathBuf {
        self.file(&key_log_name(side))
    }

    /// Path of a binary under test.
    pub fn binary(&self, name: &str) -> String {
        self.bin_dir.join(name).display().to_string()
    }

    /// What `qhaul status --json` says at a site.
    pub fn status(&self, side: Side) -> Result<Status> {
        let config = self.sites.config_path(side).display().to_string();
        let argv = [self.binary("qhaul"), "status".into(), "--config".into(), config, "--json".into()];
        let text = self.topology().exec(Node::Gateway(side), &argv.each_ref().map(String::as_str))?;
        serde_json::from_str(&text).context("the answer of `qhaul status --json`")
    }

    /// Waits until a site's status is as wanted; `failure` words what did not happen.
    pub fn wait_status(&self, side: Side, failure: &str, wanted: impl Fn(&Status) -> bool) -> Result<Status> {
        self.wait_status_for(PATIENCE, side, failure, wanted)
    }

    /// The same for what takes its time.
    pub fn wait_status_for(
        &self,
        patience: Duration,
        side: Side,
        failure: &str,
        wanted: impl Fn(&Status) -> bool,
    ) -> Result<Status> {
        // No status is no failure: the socket may not be there yet.
        Ok(wait_for(failure, patience, || Ok(self.status(side).ok().filter(|status| wanted(status))))?)
    }

    /// Waits until both sites' books balance, which they do as soon as no frame is under way, and gives what they then say.
    pub fn settled(&self) -> Result<[Status; 2]> {
        let mut last = String::new();
        let settled = |side| {
            let found = wait_for("the books did not balance", PATIENCE, || {
                let status = self.status(side).ok();
                last = status.as_ref().and_then(imbalance).unwrap_or_default();
                Ok(status.filter(|_| last.is_empty()))
            });
            found.with_context(|| format!("site {side}: {last}"))
        };
        let [a, b] = Side::BOTH.map(settled);
        Ok([a?, b?])
    }

    /// Checks both sites' books, then removes everything, and says if something resisted.
    pub fn finish(self) -> Result<()> {
        self.settled()?;
        self.finish_without_books()
    }

    /// Removes everything; for labs whose encryptors do not run in the end.
    pub fn finish_without_books(mut self) -> Result<()> {
        self.finished = true;
        let dir = self.file("");
        drop(self);
        anyhow::ensure!(!dir.exists(), "{} was not removed", dir.display());
        Ok(())
    }
}

impl Drop for TestLab {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        for side in Side::BOTH {
            let kme = self.sites.kme(side).map(|kme| (kme.name().to_owned(), kme.log()));
            for (name, log) in [kme, self.sites.encryptor_log(side)].into_iter().flatten() {
                let lines: Vec<&str> = log.lines().collect();
                lines[lines.len().saturating_sub(12)..]
                    .iter()
                    .for_each(|line| eprintln!("    {name}: {line}"));
            }
        }
    }
}

fn key_log_name(side: Side) -> String {
    format!("keys-{side}.log")
}

/// Cargo puts the tests into `deps` beside the binaries.
pub fn bin_dir() -> Result<PathBuf> {
    let test = std::env::current_exe()?;
    let dir =
        test.parent().and_then(|deps| deps.parent()).context("the test stands in no build directory")?;
    Ok(dir.to_owned())
}
