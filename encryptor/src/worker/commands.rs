//! A worker's last step: to do what the control thread says, and to make keys ahead for what it said.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::settle::{Side, enqueue, kick};
use super::{
    Command, Event, LinkCommand, LinkEvent, LinkNumber, PortReport, Wiring, Worker, WorkerLink, note_tx_flows,
};
use crate::counters::Tally;
use crate::policy::Policy;
use crate::protect::{Inside, Protect};
use crate::spi::Epoch;
use crate::tunnel::PlainSide;
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
        match command {
            Command::Link(number, command) => self.apply_to(number, command, now)?,
            Command::AddLink(link) => self.links.add(link),
            Command::RemoveLink(number) => self.remove_link(number),
            Command::SetPolicies(policies) => self.set_policies(policies),
            Command::PlainSide(side) => self.follow(&side),
            Command::Report => self.report(),
            Command::Stop => self.stopped = true,
        }
        Ok(())
    }

    fn apply_to(
        &mut self,
        number: LinkNumber,
        command: LinkCommand,
        now: Instant,
    ) -> Result<(), crate::xsk::Error> {
        let Some(place) = self.links.place(number) else { return Ok(()) };
        let (link, wiring) = (self.links.get_mut(place), &self.wiring);
        match command {
            LinkCommand::InstallTx(epoch) => {
                if let Some(unused) = link.protect.install(epoch) {
                    wiring.tell_of(number, LinkEvent::TxRetired(unused));
                }
            }
            LinkCommand::Probe(epoch) => {
                self.probe(place, 0, |protect, frame| protect.probe(epoch, frame))?;
            }
            LinkCommand::ProbePath(bytes) => {
                let bytes = bytes as usize;
                self.probe(place, bytes, |protect, frame| protect.path_probe(bytes, frame))?;
            }
            LinkCommand::SwitchTx(epoch) => link.switching = Some(epoch),
            LinkCommand::WithdrawTx => withdraw(link, wiring),
            LinkCommand::InstallRx(epoch) => {
                let installed = epoch.epoch();
                link.told &= !(1 << installed.index());
                if let Some(old) = link.unprotect.install(epoch) {
                    wiring.tell_of(number, LinkEvent::RxRetired(old));
                }
                link.installing = Some((installed, Some(now + AHEAD_WITHIN)));
            }
            LinkCommand::RetireRx(epoch) => retire(link, epoch, wiring),
        }
        Ok(())
    }

    fn remove_link(&mut self, number: LinkNumber) {
        let Some(place) = self.links.place(number) else { return };
        let mut link = self.links.remove(place);
        withdraw(&mut link, &self.wiring);
        Epoch::all().for_each(|epoch| retire(&mut link, epoch, &self.wiring));
        self.wiring.tell(Event::LinkRemoved(link));
    }

    fn set_policies(&mut self, mut policies: Vec<(LinkNumber, Arc<Policy>)>) {
        let last = policies.len();
        let place_of = |number| policies.iter().position(|(named, _)| *named == number).unwrap_or(last);
        self.links.arrange(place_of);
        for (number, policy) in &mut policies {
            if let Some(place) = self.links.place(*number) {
                let link = self.links.get_mut(place);
                link.unprotect.set_policy(policy.clone());
                *policy = link.protect.set_policy(policy.clone());
            }
        }
        self.wiring.tell(Event::PoliciesReplaced(policies));
    }

    fn follow(&mut self, side: &Arc<PlainSide>) {
        for link in self.links.iter_mut() {
            let ingress = match link.protect.inside_mut() {
                Inside::Frames => None,
                Inside::Packets(ingress) => Some(ingress.follow(side.clone())),
            };
            let egress = link.unprotect.egress_mut().map(|egress| egress.follow(side.clone()));
            self.wiring.tell(Event::PlainSideRetired([ingress, egress]));
        }
    }

    /// Sends what `make` makes of a frame with room for `bytes`.
    fn probe(
        &mut self,
        link: usize,
        bytes: usize,
        make: impl FnOnce(&mut Protect, &mut Frame) -> bool,
    ) -> Result<(), crate::xsk::Error> {
        let Some(mut frame) = self.queues.umem.alloc_for(bytes) else { return Ok(()) };
        let link = self.links.get_mut(link);
        if !make(&mut link.protect, &mut frame) {
            self.queues.umem.free(frame);
            return Ok(());
        }
        self.outbox.push(frame);
        enqueue(&mut self.queues, &mut self.outbox, &link.counters, (Side::Cipher, 0), Tally::Probes)?;
        kick(&mut self.queues.cipher[0])
    }

    /// Derives up to `count` keys of the links' newest receiving epochs, each link its share of them and one at least, and tells of an
    /// epoch when they are there. Whether more are left.
    pub(super) fn derive_ahead(&mut self, now: Instant, count: usize) -> bool {
        let share = share_of(count, self.ahead[0]);
        let mut busy = 0;
        for link in self.links.iter_mut() {
            let Some((epoch, untold)) = link.installing else { continue };
            let more = link.unprotect.derive_ahead(epoch, share);
            let tell = untold.is_some_and(|latest| !more || now >= latest);
            if tell {
                self.wiring.tell_of(link.number, LinkEvent::RxInstalled(epoch));
            }
            link.installing = more.then_some((epoch, untold.filter(|_| !tell)));
            busy += usize::from(more);
        }
        self.ahead[0] = busy;
        busy > 0
    }

    /// Carries up to `count` flows over to the links' installed sending epochs, shared in the same way, and switches to an epoch when
    /// all are there. Whether more are left.
    pub(super) fn carry(&mut self, count: usize) -> bool {
        let share = share_of(count, self.ahead[1]);
        let mut busy = 0;
        for link in self.links.iter_mut() {
            let more = link.protect.carry(share);
            if let Some(epoch) = link.switching.take_if(|_| !more) {
                switch(link, epoch, &self.wiring);
            }
            busy += usize::from(more);
        }
        self.ahead[1] = busy;
        busy > 0
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
        self.wiring.tell(Event::Report(report));
    }
}

/// What each of so many links gets: epochs of many links may come at one moment, and packets are not to wait for all of them.
fn share_of(count: usize, links: usize) -> usize {
    (count / links.max(1)).max(1)
}

fn withdraw(link: &mut WorkerLink, wiring: &Wiring) {
    link.switching = None;
    for epoch in link.protect.withdraw().into_iter().flatten() {
        wiring.tell_of(link.number, LinkEvent::TxRetired(epoch));
    }
}

fn retire(link: &mut WorkerLink, epoch: Epoch, wiring: &Wiring) {
    link.installing.take_if(|(installing, _)| *installing == epoch);
    if let Some(old) = link.unprotect.retire(epoch) {
        wiring.tell_of(link.number, LinkEvent::RxRetired(old));
    }
}

fn switch(link: &mut WorkerLink, epoch: Epoch, wiring: &Wiring) {
    let (switched, old) = link.protect.switch(epoch);
    if let Some(old) = old {
        wiring.tell_of(link.number, LinkEvent::TxRetired(old));
    }
    if switched {
        note_tx_flows(link);
        wiring.tell_of(link.number, LinkEvent::TxSwitched(epoch));
    }
}
