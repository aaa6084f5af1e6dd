//! Plays the phases: what is done to the sites while traffic passes.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use qhaul::lab::Sites;
use qhaul::lab::plan::{Node, Side, mac_text};
use qhaul::lab::traffic::Traffic;
use qhaul::lab::wait::{pause, wait_for};
use qhaul::status::Status;

use super::counts::status;
use super::schedule::Phase;
use super::tap::WireTap;
use super::watch::Watch;
use crate::flood::{Forger, Kind, send};

/// How long a lab may take to get well again. Never what is asserted.
const PATIENCE: Duration = Duration::from_secs(90);
/// Longer than the silence that ends a link channel.
const SILENCE: Duration = Duration::from_secs(6);
/// Traffic in front of a disturbance, which it must not feel.
const BEFORE: Duration = Duration::from_secs(2);

/// Where phases are played.
pub(super) struct Stage<'a> {
    pub(super) sites: &'a mut Sites,
    pub(super) watch: &'a Watch,
    /// What site a sends, to forge packets of.
    pub(super) tap: &'a WireTap,
    pub(super) traffic: &'a [Traffic; 2],
    /// How long the shortest phases take.
    pub(super) step: Duration,
    /// Forged packets a second.
    pub(super) flood_rate: u32,
}

/// What was done.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Played {
    /// Forged packets.
    pub(super) forged: u64,
    /// When frames may have been lost: from the disturbance until all was well.
    pub(super) disturbed: Option<(Instant, Instant)>,
}

impl Stage<'_> {
    /// Plays one phase until both sites are well.
    pub(super) fn play(&mut self, phase: Phase) -> Result<Played> {
        let mut played = Played::default();
        match phase {
            Phase::Steady => pause(2 * self.step)?,
            Phase::Flood(kind) => played.forged = self.flood(kind)?,
            Phase::Kme(side) => self.restart_kme(side)?,
            Phase::Channel => self.cut_channel()?,
            Phase::Cut => played.disturbed = Some(self.cut_wire()?),
            Phase::Terminate(side) => played.disturbed = Some(self.restart(side, Signal::SIGTERM)?),
            Phase::Kill(side) => played.disturbed = Some(self.restart(side, Signal::SIGKILL)?),
        }
        Ok(played)
    }

    fn flood(&mut self, kind: Kind) -> Result<u64> {
        let genuine = wait_for("no traffic to forge packets of", PATIENCE, || Ok(self.tap.genuine()))?;
        let mut forger = Forger::new(kind, &genuine)?;
        let backhaul = self.sites.topology().namespace(Node::Backhaul);
        // Epochs pass: what is forged is to be of the one in use.
        let renew = |forger: &mut Forger| self.tap.genuine().map_or(Ok(()), |genuine| forger.renew(&genuine));
        let (forged, _) = send(&backhaul, "wan-b", &mut forger, self.flood_rate, self.step, renew)?;
        Ok(forged)
    }

    fn restart_kme(&mut self, side: Side) -> Result<()> {
        pause(BEFORE)?;
        self.sites.kill_kme(side)?;
        pause(self.step)?;
        self.sites.start_kme(side)?;
        self.well()
    }

    /// What the gateways' kernels send is dropped, which is the channel and ARP; what AF_XDP sends passes by the queue. The
    /// neighbours are held for the time: it is the channel that is to be missing.
    fn cut_channel(&mut self) -> Result<()> {
        pause(BEFORE)?;
        for side in Side::BOTH {
            self.hold_neighbour(side, "permanent")?;
            self.set_queue(side, &["blackhole"])?;
        }
        pause(SILENCE.max(self.step))?;
        for side in Side::BOTH {
            self.set_queue(side, &["pfifo", "limit", "10000"])?;
            self.hold_neighbour(side, "reachable")?;
        }
        self.well()
    }

    /// In the middle of the backhaul, where no port loses its carrier.
    fn cut_wire(&mut self) -> Result<(Instant, Instant)> {
        pause(BEFORE)?;
        let cut = Instant::now();
        let topology = self.sites.topology();
        topology.exec(Node::Backhaul, &["ip", "link", "set", "wan-b", "nomaster"])?;
        pause(SILENCE.max(self.step))?;
        topology.exec(Node::Backhaul, &["ip", "link", "set", "wan-b", "master", "br0"])?;
        self.recover()?;
        Ok((cut, Instant::now()))
    }

    fn restart(&mut self, side: Side, signal: Signal) -> Result<(Instant, Instant)> {
        pause(BEFORE)?;
        self.watch.ends(side);
        let encryptor = self.sites.encryptor(side).context("the encryptor runs")?;
        let ended = Instant::now();
        encryptor.signal(signal)?;
        let status = encryptor.wait(PATIENCE)?;
        ensure!(signal != Signal::SIGTERM || status.success(), "site {side} ended with {status} on {signal}");
        pause(Duration::from_secs(1))?;
        self.sites.start_encryptor(side)?;
        let pid = self.sites.encryptor(side).context("the encryptor runs")?.pid();
        self.watch.born(side, pid);
        self.recover()?;
        Ok((ended, Instant::now()))
    }

    /// Waits until all is well and traffic passes both ways; from then on nothing may be lost.
    fn recover(&mut self) -> Result<()> {
        self.well()?;
        for traffic in self.traffic {
            let enough = traffic.received() + 100;
            wait_for("no traffic passed", PATIENCE, || Ok((traffic.received() > enough).then_some(())))?;
        }
        Ok(())
    }

    /// Waits until both sites are active with keys in plenty, and the keys have changed since.
    fn well(&mut self) -> Result<()> {
        let is_well = |status: &Status| {
            let keys = &status.keys;
            status.state == "active" && status.channel && keys.supply == "plenty" && keys.trouble.is_none()
        };
        for side in Side::BOTH {
            let then = self.wait(side, "was not well", is_well)?.tx.switches;
            self.wait(side, "did not rotate", |status| is_well(status) && status.tx.switches > then)?;
        }
        Ok(())
    }

    fn wait(&mut self, side: Side, failure: &str, wanted: impl Fn(&Status) -> bool) -> Result<Status> {
        let found = wait_for(&format!("site {side} {failure}"), PATIENCE, || {
            self.sites.check_running()?;
            Ok(status(self.sites.topology(), side).ok().filter(&wanted))
        });
        Ok(found?)
    }

    fn set_queue(&self, side: Side, queue: &[&str]) -> Result<()> {
        let argv = [&["tc", "qdisc", "replace", "dev", "cipher", "root"], queue].concat();
        self.sites.topology().exec(Node::Gateway(side), &argv)?;
        Ok(())
    }

    fn hold_neighbour(&self, side: Side, state: &str) -> Result<()> {
        let (address, mac) = (side.peer().cipher_v4().to_string(), mac_text(side.peer().cipher_mac()));
        let argv = ["ip", "neigh", "replace", &address, "lladdr", &mac, "dev", "cipher", "nud", state];
        self.sites.topology().exec(Node::Gateway(side), &argv)?;
        Ok(())
    }
}
