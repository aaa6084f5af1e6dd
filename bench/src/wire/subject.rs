//! What stands between the two hosts while it is measured.

use std::thread;
use std::time::Duration;

use anyhow::Result;
use qhaul::lab::plan::Side;
use qhaul::lab::{Process, SiteConfig, Sites};
use qhaul::status::ask;

use super::{cpu, forward};

/// Above every rotation period that makes sense to measure: a slow machine's late rotation stops nothing.
pub(super) const HARD_LIMIT: &str = "2h";

/// The things that are compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Subject {
    /// The kernel's bridge, in clear.
    Clear,
    /// Plain AF_XDP forwarding.
    Forward,
    /// qhaul, whose workers sleep when there is nothing to do.
    Qhaul,
    /// The same, and no core of the machine halts meanwhile.
    QhaulAwake,
    /// qhaul, whose workers never sleep.
    QhaulBusy,
}

impl Subject {
    /// Controls first.
    pub(super) const ALL: [Subject; 5] =
        [Subject::Clear, Subject::Forward, Subject::Qhaul, Subject::QhaulAwake, Subject::QhaulBusy];

    pub(super) fn name(self) -> &'static str {
        match self {
            Subject::Clear => "clear",
            Subject::Forward => "forward",
            Subject::Qhaul => "qhaul",
            Subject::QhaulAwake => "qhaul-awake",
            Subject::QhaulBusy => "qhaul-busy",
        }
    }

    /// What it stands beside: qhaul beside plain AF_XDP forwarding, whose own control is the kernel in clear.
    pub(super) fn control(self) -> Subject {
        match self {
            Subject::Qhaul | Subject::QhaulAwake | Subject::QhaulBusy => Subject::Forward,
            Subject::Clear | Subject::Forward => Subject::Clear,
        }
    }

    pub(super) fn encrypts(self) -> bool {
        !matches!(self, Subject::Clear | Subject::Forward)
    }
}

/// A subject in place at both gateways.
pub(super) struct Standing {
    subject: Subject,
    forwarders: Vec<Process>,
    pids: Vec<u32>,
    engine: Option<String>,
}

impl Standing {
    /// Puts `subject` in place on so many queues; `adjust` may change what qhaul is configured to.
    pub(super) fn put(
        sites: &mut Sites,
        subject: Subject,
        queues: u16,
        adjust: impl Fn(&mut SiteConfig),
    ) -> Result<Standing> {
        let mut standing = Standing { subject, forwarders: Vec::new(), pids: Vec::new(), engine: None };
        match subject {
            Subject::Clear => {
                Side::BOTH.into_iter().try_for_each(|side| sites.topology().set_clear(side, true))?;
            }
            Subject::Forward => standing.start_forwarders(sites, queues)?,
            Subject::Qhaul | Subject::QhaulAwake | Subject::QhaulBusy => {
                let polling = if subject == Subject::QhaulBusy { "busy" } else { "adaptive" };
                let more = if subject == Subject::QhaulAwake { "wake_latency_us = 0\n" } else { "" };
                standing.start_encryptors(sites, |config| {
                    config.cores = cores(config.side, queues);
                    (config.polling, config.hard_limit) = (polling.to_owned(), HARD_LIMIT.to_owned());
                    config.more.insert_str(0, more);
                    adjust(config);
                })?;
            }
        }
        Ok(standing)
    }

    /// Takes it away again.
    pub(super) fn remove(mut self, sites: &mut Sites) -> Result<()> {
        match self.subject {
            Subject::Clear => {
                Side::BOTH.into_iter().try_for_each(|side| sites.topology().set_clear(side, false))?;
            }
            Subject::Forward => {
                for forwarder in &mut self.forwarders {
                    forwarder.stop()?;
                }
            }
            Subject::Qhaul | Subject::QhaulAwake | Subject::QhaulBusy => {
                for side in Side::BOTH {
                    // In good order: a port of a killed encryptor stays shut.
                    sites.encryptor(side).map(Process::stop).transpose()?;
                }
            }
        }
        Ok(())
    }

    /// Time on the cores of its processes so far; none for the kernel's bridge.
    pub(super) fn cpu(&self) -> Duration {
        self.pids.iter().map(|pid| cpu::time(*pid)).sum()
    }

    /// Its process at a gateway; none for the kernel's bridge.
    pub(super) fn pid(&self, side: Side) -> Option<u32> {
        self.pids.get(side as usize).copied()
    }

    /// The AEAD engine at work, where there is one.
    pub(super) fn engine(&self) -> Option<&str> {
        self.engine.as_deref()
    }

    fn start_forwarders(&mut self, sites: &Sites, queues: u16) -> Result<()> {
        for side in Side::BOTH {
            let process = forward::start(sites.topology(), side, &cores(side, queues), &[])?;
            self.pids.push(process.pid());
            self.forwarders.push(process);
        }
        Ok(())
    }

    fn start_encryptors(&mut self, sites: &mut Sites, adjust: impl Fn(&mut SiteConfig)) -> Result<()> {
        for side in Side::BOTH {
            let mut config = SiteConfig::new(side);
            adjust(&mut config);
            sites.configure(&config)?;
            sites.start_encryptor(side)?;
        }
        for side in Side::BOTH {
            sites.wait_active(side)?;
            self.pids.extend(sites.encryptor(side).map(|process| process.pid()));
        }
        self.engine = Some(ask(&sites.topology().dir().join("a.sock"))?.engine);
        Ok(())
    }
}

/// A core for each queue; the gateways share the machine's as evenly as they can.
fn cores(side: Side, queues: u16) -> Vec<usize> {
    let there = thread::available_parallelism().map_or(1, usize::from);
    let queues = usize::from(queues);
    (0..queues).map(|queue| (side.index() * queues + queue) % there).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_queue_has_the_core_that_a_site_has_by_itself() {
        for side in Side::BOTH {
            assert_eq!(cores(side, 1), SiteConfig::new(side).cores);
        }
    }

    #[test]
    fn no_core_of_a_gateway_has_two_queues() {
        let there = thread::available_parallelism().map_or(1, usize::from);
        for side in Side::BOTH {
            let mut cores = cores(side, there as u16);
            cores.sort_unstable();
            assert_eq!(cores, (0..there).collect::<Vec<_>>());
        }
    }
}
