//! What stands between the two hosts while it is measured.

use std::time::Duration;

use anyhow::Result;
use qhaul::lab::plan::Side;
use qhaul::lab::{Process, SiteConfig, Sites};
use serde::Serialize;

use super::{cpu, forward};

/// The things that are compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Subject {
    /// The kernel's bridge, in clear.
    Clear,
    /// Plain AF_XDP forwarding.
    Forward,
    /// qhaul.
    Qhaul,
}

impl Subject {
    pub(super) const ALL: [Subject; 3] = [Subject::Clear, Subject::Forward, Subject::Qhaul];

    pub(super) fn name(self) -> &'static str {
        match self {
            Subject::Clear => "clear",
            Subject::Forward => "forward",
            Subject::Qhaul => "qhaul",
        }
    }
}

/// A subject in place at both gateways.
pub(super) struct Standing {
    subject: Subject,
    forwarders: Vec<Process>,
    pids: Vec<u32>,
}

impl Standing {
    /// Puts `subject` in place; `adjust` may change what qhaul is configured to.
    pub(super) fn put(
        sites: &mut Sites,
        subject: Subject,
        adjust: impl Fn(&mut SiteConfig),
    ) -> Result<Standing> {
        let mut standing = Standing { subject, forwarders: Vec::new(), pids: Vec::new() };
        match subject {
            Subject::Clear => {
                Side::BOTH.into_iter().try_for_each(|side| sites.topology().set_clear(side, true))?;
            }
            Subject::Forward => standing.start_forwarders(sites)?,
            Subject::Qhaul => standing.start_encryptors(sites, adjust)?,
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
            Subject::Qhaul => {
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

    fn start_forwarders(&mut self, sites: &Sites) -> Result<()> {
        for side in Side::BOTH {
            let process = forward::start(sites.topology(), side, SiteConfig::new(side).cores[0], &[])?;
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
        Ok(())
    }
}
