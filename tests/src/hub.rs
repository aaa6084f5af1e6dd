use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use qhaul::lab::wait::wait_for;
use qhaul::lab::{Process, run, run_in};
use qhaul::pki::{self, PkiNames};
use qhaul::status::{LinkStatus, Status};

use crate::books::imbalance;
use crate::lab::{PATIENCE, bin_dir};
use crate::traffic::Traffic;

mod files;
mod network;

/// The first of the ports that traffic goes to, one for each spoke.
const FIRST_PORT: u16 = 7100;

/// What the lab is like.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Spokes, up to 99.
    pub spokes: u8,
    /// The backhaul is IPv6.
    pub ipv6: bool,
    /// `ethernet`, or `ip`, where the gateways are their hosts' routers.
    pub mode: &'static str,
    /// Workers of the hub, each with a queue at both ports.
    pub workers: u8,
}

/// A place of the lab: the hub, which has number 0, or a spoke, from 1 on.
pub type Place = u8;

/// A hub and its spokes, each an encryptor with a host behind it, and two key servers: the hub's, and one for all spokes. It is
/// named after its test, and removed with it, however it ends.
#[derive(Debug)]
pub struct HubLab {
    // Processes end before the network goes.
    encryptors: Vec<Option<Process>>,
    kmes: Vec<Process>,
    network: network::Network,
    plan: Plan,
    bin_dir: PathBuf,
    finished: bool,
}

impl HubLab {
    /// Everything started, and all links active.
    pub fn up(prefix: &str, plan: Plan) -> Result<HubLab> {
        let all: Vec<Place> = (0..=plan.spokes).collect();
        Self::up_changed(prefix, plan, |_, text| text, &all)
    }

    /// The same with each encryptor's file changed first, and a wait for those of `active` alone.
    pub fn up_changed(
        prefix: &str,
        plan: Plan,
        change: impl Fn(Place, String) -> String,
        active: &[Place],
    ) -> Result<HubLab> {
        let bin_dir = bin_dir()?;
        let network = network::Network::up(prefix, plan)?;
        let mut names = PkiNames::for_sites([]);
        for place in 0..=plan.spokes {
            let mut site = pki::SiteNames::new(&name(place));
            site.kme_addresses.extend((place < 2).then(|| network::kme(place)));
            names.sites.push(site);
        }
        pki::generate(network.dir(), &names)?;
        let mut lab =
            HubLab { encryptors: Vec::new(), kmes: Vec::new(), network, plan, bin_dir, finished: false };
        lab.encryptors.resize_with(usize::from(plan.spokes) + 1, || None);
        lab.start_all(change)?;
        lab.wait_active(active)?;
        Ok(lab)
    }

    /// Writes the hub's file with links to these spokes.
    pub fn configure_hub(&self, spokes: &[Place]) -> Result<()> {
        self.configure_hub_changed(spokes, |text| text)
    }

    /// The same with the file changed first.
    pub fn configure_hub_changed(&self, spokes: &[Place], change: impl Fn(String) -> String) -> Result<()> {
        self.write("site-hub.toml", &change(files::hub(self.plan, spokes)))
    }

    /// What `qhaul reload` says at the hub.
    pub fn reload_hub(&self) -> Result<String> {
        self.qhaul(0, &["reload"])
    }

    /// Starts an encryptor.
    pub fn start(&mut self, place: Place) -> Result<()> {
        let (qhaul, config) = (self.binary("qhaul"), self.config(place));
        let name = format!("qhaul-{}", name(place));
        let argv = [&*qhaul, "run", "--config", &config];
        let process = Process::start(&self.network.gateway(place), &name, self.network.dir(), &argv)?;
        self.encryptors[usize::from(place)] = Some(process);
        Ok(())
    }

    /// Stops an encryptor by a signal.
    pub fn stop(&mut self, place: Place) -> Result<()> {
        let process = self.encryptors[usize::from(place)].take();
        process.context("it does not run")?.stop()?;
        Ok(())
    }

    /// What an encryptor says of itself.
    pub fn status(&self, place: Place) -> Result<Status> {
        serde_json::from_str(&self.qhaul(place, &["status", "--json"])?).context("the status")
    }

    /// The same as a page for people.
    pub fn page(&self, place: Place) -> Result<String> {
        self.qhaul(place, &["status"])
    }

    /// Waits until an encryptor's status is as wanted.
    pub fn wait_status(
        &self,
        place: Place,
        failure: &str,
        wanted: impl Fn(&Status) -> bool,
    ) -> Result<Status> {
        Ok(wait_for(failure, PATIENCE, || Ok(self.status(place).ok().filter(|status| wanted(status))))?)
    }

    /// Waits until the hub's link to a spoke is as wanted.
    pub fn wait_link(
        &self,
        spoke: Place,
        failure: &str,
        wanted: impl Fn(&LinkStatus) -> bool,
    ) -> Result<LinkStatus> {
        let found = |status: &Status| link_to(status, spoke).is_some_and(&wanted);
        let status = self.wait_status(0, failure, found)?;
        link_to(&status, spoke).cloned().context("the link")
    }

    /// Waits until an encryptor's books balance, which they do as soon as no frame is under way.
    pub fn settled(&self, place: Place) -> Result<Status> {
        let mut last = String::new();
        let found = wait_for("the books did not balance", PATIENCE, || {
            let status = self.status(place).ok();
            last = status.as_ref().and_then(books).unwrap_or_default();
            Ok(status.filter(|_| last.is_empty()))
        });
        found.with_context(|| format!("{}: {last}", name(place)))
    }

    /// What an encryptor logged.
    pub fn log(&self, place: Place) -> String {
        fs::read_to_string(self.network.dir().join(format!("qhaul-{}.log", name(place)))).unwrap_or_default()
    }

    /// Starts traffic from the hub's host to a spoke's, or back, so many datagrams a second.
    pub fn traffic(&self, spoke: Place, from_hub: bool, rate: u32) -> Result<Traffic> {
        let (hub, far) = (self.network.host(0), self.network.host(spoke));
        let [near_end, far_end] = [0, spoke].map(network::host_of).map(IpAddr::V4);
        let port = FIRST_PORT + u16::from(spoke);
        let (namespaces, ends) = match from_hub {
            true => ([&hub[..], &far], [near_end, far_end]),
            false => ([&far[..], &hub], [far_end, near_end]),
        };
        Ok(Traffic::between_namespaces(namespaces, ends, port, rate)?)
    }

    /// Removes everything, and says if something resisted.
    pub fn finish(mut self) -> Result<()> {
        self.finished = true;
        let dir = self.network.dir().to_owned();
        drop(self);
        ensure!(!dir.exists(), "{} was not removed", dir.display());
        Ok(())
    }

    fn start_all(&mut self, change: impl Fn(Place, String) -> String) -> Result<()> {
        for place in 0..2 {
            let stem = format!("kme-{}", name(place));
            self.write(&format!("{stem}.toml"), &files::kme(self.plan, place))?;
            let (kme, config) = (self.binary("qhaul-kme"), format!("{stem}.toml"));
            let argv = [&*kme, "--config", &config];
            let mut kme = Process::start(&self.network.kme(), &stem, self.network.dir(), &argv)?;
            kme.wait_listening(network::kme_port(place), Duration::from_secs(10))?;
            self.kmes.push(kme);
        }
        let spokes: Vec<Place> = (1..=self.plan.spokes).collect();
        self.write("site-hub.toml", &change(0, files::hub(self.plan, &spokes)))?;
        self.start(0)?;
        for spoke in spokes {
            let text = change(spoke, files::spoke(self.plan, spoke));
            self.write(&format!("site-{}.toml", name(spoke)), &text)?;
            self.start(spoke)?;
        }
        Ok(())
    }

    fn wait_active(&mut self, places: &[Place]) -> Result<()> {
        for &place in places {
            let found = wait_for("not all links were active", PATIENCE, || {
                if let Some(process) = &mut self.encryptors[usize::from(place)] {
                    process.check_running()?;
                }
                let status = self.status(place).ok();
                Ok(status.filter(|status| status.state == "active"))
            });
            found.with_context(|| name(place))?;
        }
        Ok(())
    }

    fn qhaul(&self, place: Place, words: &[&str]) -> Result<String> {
        let (qhaul, config) = (self.binary("qhaul"), self.config(place));
        let argv = [&[&*qhaul], &words[..1], &["--config", &config], &words[1..]].concat();
        Ok(run_in(&self.network.gateway(place), &argv)?)
    }

    fn config(&self, place: Place) -> String {
        self.network.dir().join(format!("site-{}.toml", name(place))).display().to_string()
    }

    fn binary(&self, name: &str) -> String {
        self.bin_dir.join(name).display().to_string()
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        fs::write(self.network.dir().join(name), text).with_context(|| name.to_owned())
    }
}

impl Drop for HubLab {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        for place in 0..=self.plan.spokes {
            let log = self.log(place);
            let lines: Vec<&str> = log.lines().collect();
            for line in &lines[lines.len().saturating_sub(if place == 0 { 40 } else { 4 })..] {
                eprintln!("    {}: {line}", name(place));
            }
        }
    }
}

/// The hub's link to a spoke.
pub fn link_to(status: &Status, spoke: Place) -> Option<&LinkStatus> {
    status.links.iter().find(|link| link.link == files::link(spoke))
}

/// The first account that does not balance: those of [`imbalance`], and what the links count against what the workers do.
fn books(status: &Status) -> Option<String> {
    imbalance(status).or_else(|| {
        let parts = || status.links.iter().map(|link| &link.counters).chain([&status.no_link]);
        let all = status.counters.tallies.iter().chain(&status.counters.drops);
        let unequal = |(name, total): (&String, &u64)| {
            let of = |counters: &qhaul::status::WorkerCounters| {
                *counters.tallies.get(name).or(counters.drops.get(name)).unwrap_or(&0)
            };
            let sum: u64 = parts().map(of).sum();
            (sum != *total).then(|| format!("{name}: the links' {sum} are not the workers' {total}"))
        };
        all.into_iter().find_map(unequal)
    })
}

/// `hub`, or `s1` and so on.
fn name(place: Place) -> String {
    if place == 0 { "hub".to_owned() } else { format!("s{place}") }
}

/// Runs a script to its end.
fn script(text: &str) -> Result<()> {
    run(&["sh", "-ec", text]).map(drop).context("a script")
}

/// Our outer address, and that of a peer.
fn cipher(place: Place, ipv6: bool) -> IpAddr {
    match ipv6 {
        true => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1 + u16::from(place)).into(),
        false => Ipv4Addr::new(192, 0, 2, 1 + place).into(),
    }
}
