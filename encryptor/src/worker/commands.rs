//! A worker's last step: to do what the control thread says, and to make keys ahead for what it said.

use std::time::{Duration, Instant};

use super::{Command, Event, PortReport, Side, Transforms, Worker};
use crate::counters::Tally;
use crate::protect::{Inside, Protect};
use crate::spi::Epoch;
use crate::xsk::Frame;

/// The longest that a new epoch waits for keys that are derived ahead; the rest follows while it is in use.
const AHEAD_WITHIN: Duration = Duration::from_secs(1);

impl Worker {
    pub(super) fn apply_commands(&mut self, now: Instant) -> Result<bool, crate::xsk::Error> {
        let mut busy = false;
        while let Ok(command) = self.wiring.commands.try_recv() {
            busy = true;
            self.apply(command, now)?;
        }
        Ok(busy)
    }

    fn apply(&mut self, command: Command, now: Instant) -> Result<(), crate::xsk::Error> {
        let Transforms { protect, unprotect, .. } = &mut self.transforms;
        match command {
            Command::InstallTx(epoch) => {
                if let Some(unused) = protect.install(epoch) {
                    self.tell(Event::TxRetired(unused));
                }
            }
            Command::Probe(epoch) => {
                self.probe(0, |protect, frame| protect.probe(epoch, frame))?;
            }
            Command::ProbePath(bytes) => {
                let bytes = bytes as usize;
                self.probe(bytes, |protect, frame| protect.path_probe(bytes, frame))?;
            }
            Command::SwitchTx(epoch) => self.switching = Some(epoch),
            Command::WithdrawTx => {
                self.switching = None;
                for epoch in protect.withdraw().into_iter().flatten() {
                    self.tell(Event::TxRetired(epoch));
                }
            }
            Command::InstallRx(epoch) => {
                let number = epoch.epoch();
                self.told &= !(1 << number.index());
                if let Some(old) = unprotect.install(epoch) {
                    self.tell(Event::RxRetired(old));
                }
                self.installing = Some((number, Some(now + AHEAD_WITHIN)));
            }
            Command::RetireRx(epoch) => {
                self.installing.take_if(|(installing, _)| *installing == epoch);
                if let Some(old) = unprotect.retire(epoch) {
                    self.tell(Event::RxRetired(old));
                }
            }
            Command::SetPolicy(policy) => {
                let old = [protect.set_policy(policy.clone()), unprotect.set_policy(policy)];
                self.tell(Event::PolicyReplaced(old));
            }
            Command::PlainSide(side) => {
                let ingress = match protect.inside_mut() {
                    Inside::Frames => None,
                    Inside::Packets(ingress) => Some(ingress.follow(side.clone())),
                };
                let egress = unprotect.egress_mut().map(|egress| egress.follow(side));
                self.tell(Event::PlainSideRetired([ingress, egress]));
            }
            Command::Report => self.report(),
            Command::Stop => self.stopped = true,
        }
        Ok(())
    }

    /// Sends what `make` makes of a frame with room for `bytes`.
    fn probe(
        &mut self,
        bytes: usize,
        make: impl FnOnce(&mut Protect, &mut Frame) -> bool,
    ) -> Result<(), crate::xsk::Error> {
        let Some(mut frame) = self.queues.umem.alloc_for(bytes) else { return Ok(()) };
        if !make(&mut self.transforms.protect, &mut frame) {
            self.queues.umem.free(frame);
            return Ok(());
        }
        self.outbox.push(frame);
        let sent = self.send(Side::Cipher, 0)?;
        self.wiring.counters.add(Tally::Probes, sent);
        Ok(())
    }

    /// Derives keys of the newest receiving epoch, and tells of it when they are there. Whether more are left.
    pub(super) fn derive_ahead(&mut self, now: Instant, count: usize) -> bool {
        let Some((epoch, untold)) = self.installing else { return false };
        let more = self.transforms.unprotect.derive_ahead(epoch, count);
        let tell = untold.is_some_and(|latest| !more || now >= latest);
        if tell {
            self.tell(Event::RxInstalled(epoch));
        }
        self.installing = more.then_some((epoch, untold.filter(|_| !tell)));
        more
    }

    /// Carries flows over to the installed sending epoch, and switches to it when that is done. Whether more are left.
    pub(super) fn carry(&mut self, count: usize) -> bool {
        let more = self.transforms.protect.carry(count);
        if let Some(epoch) = self.switching.take_if(|_| !more) {
            self.switch(epoch);
        }
        more
    }

    fn switch(&mut self, epoch: Epoch) {
        let (switched, old) = self.transforms.protect.switch(epoch);
        if let Some(old) = old {
            self.tell(Event::TxRetired(old));
        }
        if switched {
            self.note_tx_flows();
            self.tell(Event::TxSwitched(epoch));
        }
    }

    fn report(&mut self) {
        let ports = self.queues.plain.iter().chain(&self.queues.cipher);
        let report = ports.map(|port| PortReport {
            interface: port.interface().to_string(),
            queue: port.queue(),
            port: port.counters(),
            kernel: port.statistics().unwrap_or_default(),
        });
        let report = report.collect();
        self.tell(Event::Report(report));
    }
}
