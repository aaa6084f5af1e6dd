//! A site at work: its links, and what they share.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use tracing::{debug, info, warn};

use super::link::Listener;
use super::make::Maker;
use super::part::{DataPlane, LinkPart};
use super::plain_side::PlainWatch;
use super::{LISTENER, RunError, io_error};
use crate::config::{Config, LinkConfig, MAX_LINKS};
use crate::worker::{Command, Event, LinkNumber, PortReport};

/// How often the ports are asked.
const SECOND: Duration = Duration::from_secs(1);

/// A site at work.
pub(super) struct Site {
    /// As it runs: what waits for a restart is not in it.
    pub(super) config: Config,
    pub(super) maker: Maker,
    pub(super) plane: DataPlane,
    pub(super) plain_side: Option<PlainWatch>,
    /// What was found to work.
    pub(super) mode: &'static str,
    /// In the order in which their policies are asked.
    pub(super) links: Vec<LinkPart>,
    /// Removed, with workers that have not given them back yet: how many.
    pub(super) leaving: Vec<(LinkPart, usize)>,
    pub(super) started: Instant,
    /// By worker.
    pub(super) ports: Vec<Vec<PortReport>>,
    listener: Option<Listener>,
    next_second: Instant,
}

impl Site {
    /// A site of `links`, whose workers have theirs.
    pub(super) fn new(
        config: Config,
        maker: Maker,
        plane: DataPlane,
        plain_side: Option<PlainWatch>,
        mode: &'static str,
        links: Vec<LinkPart>,
    ) -> Site {
        let now = Instant::now();
        if maker.log.is_on() {
            warn!("FLOW KEYS ARE WRITTEN TO A DEBUG KEY LOG: whoever reads it reads the traffic");
        }
        let ports = vec![Vec::new(); config.cores.len()];
        Site {
            config,
            maker,
            plane,
            plain_side,
            mode,
            links,
            leaving: Vec::new(),
            started: now,
            ports,
            listener: None,
            next_second: now,
        }
    }

    /// Listens for the link channels of those of `links` whose peers call, if that is not done yet.
    pub(super) fn listen(&mut self, links: &[LinkConfig]) -> Result<(), RunError> {
        if self.listener.is_none() && links.iter().any(|link| link.listens) {
            let local = SocketAddr::new(self.config.own, self.config.channel_port);
            let listener = Listener::open(local, &self.maker.registry, LISTENER);
            let action = format!("listening on {local} for the link channel");
            self.listener = Some(listener.map_err(io_error(&action))?);
        }
        Ok(())
    }

    /// A number that no link has, not even one that is leaving.
    pub(super) fn free_number(&self, taken: &[LinkNumber]) -> Option<LinkNumber> {
        let parts = self.links.iter().chain(self.leaving.iter().map(|(part, _)| part));
        let used: Vec<LinkNumber> =
            parts.map(|part| part.pieces.number).chain(taken.iter().copied()).collect();
        (0..MAX_LINKS).filter_map(|number| number.try_into().ok()).find(|number| !used.contains(number))
    }

    /// When [`Site::turn`] has something to do at the latest.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let plain_side = self.plain_side.as_ref().map(PlainWatch::next_deadline);
        let links = self.links.iter().filter_map(LinkPart::next_deadline);
        links.chain(plain_side).chain([self.next_second]).min()
    }

    /// Has `token` told of when there is something to follow on the plain side.
    pub(super) fn register(&self, registry: &Registry, token: Token) -> io::Result<()> {
        let Some(plain_side) = &self.plain_side else { return Ok(()) };
        registry.register(&mut SourceFd(&plain_side.fd()), token, Interest::READABLE)
    }

    /// Handles readiness of the listener or a connection.
    pub(super) fn link_ready(&mut self, token: Token, now: Instant) -> Result<(), RunError> {
        if token == LISTENER {
            self.listener.iter_mut().for_each(Listener::ready);
            return Ok(());
        }
        let Some(at) = self.links.iter().position(|part| part.owns(token)) else { return Ok(()) };
        let handled = self.links[at].ready(token, now, &mut self.plane);
        self.unless_borne(at, handled)
    }

    /// Everything that is due.
    pub(super) fn turn(&mut self, now: Instant) -> Result<(), RunError> {
        self.accept();
        while let Some((worker, event)) = self.plane.crew.next_event()? {
            self.worker_event(worker, event, now)?;
        }
        for at in 0..self.links.len() {
            let turned = self.links[at].turn(now, &mut self.plane);
            self.unless_borne(at, turned)?;
        }
        self.check_feeds(now)?;
        if now >= self.next_second {
            self.next_second = now + SECOND;
            self.plane.crew.tell_all(|| Command::Report);
        }
        if let Some(side) = self.plain_side.as_mut().and_then(|plain_side| plain_side.turn(now)) {
            self.plane.crew.tell_all(|| Command::PlainSide(side.clone()));
        }
        Ok(())
    }

    /// Takes a link out of service: its peer is let in no more, and its keys come back to be wiped.
    pub(super) fn remove(&mut self, name: &str) -> Result<(), RunError> {
        let Some(at) = self.links.iter().position(|part| part.pieces.config.name == name) else {
            return Ok(());
        };
        let mut part = self.links.remove(at);
        self.config.links.retain(|link| link.name != name);
        let number = part.pieces.number;
        part.hang_up("the link is removed at the other site");
        self.plane.programs.remove_peer(part.pieces.config.ends.peer())?;
        self.plane.crew.tell_all(|| Command::RemoveLink(number));
        self.leaving.push((part, self.config.cores.len()));
        Ok(())
    }

    /// Has the workers end, and then lets go of the ports. After a fault the plain port may stay shut.
    pub(super) fn end(mut self, result: Result<(), RunError>) -> Result<(), RunError> {
        self.links.iter_mut().for_each(|part| part.hang_up("the peer is stopped"));
        let DataPlane { crew, programs, .. } = self.plane;
        crew.tell_all(|| Command::Stop);
        let joined = crew.join();
        let result = result.and(joined);
        let fault = result.as_ref().err().map(ToString::to_string);
        for part in self.links.iter_mut().chain(self.leaving.iter_mut().map(|(part, _)| part)) {
            part.pieces.witness.stop(fault.as_deref().unwrap_or("a signal"));
        }
        if fault.is_none() {
            programs.release();
        }
        result
    }

    fn accept(&mut self) {
        let Some(listener) = &mut self.listener else { return };
        for (stream, from) in listener.accept() {
            match self.links.iter_mut().find(|part| part.pieces.config.ends.peer() == from) {
                Some(part) => part.take(stream),
                None => debug!("link channel: a connection from {from}, which is no peer's address"),
            }
        }
    }

    /// Where one link is all that there is, what makes it pointless ends the process; among several it is that link's own trouble.
    fn unless_borne(&mut self, at: usize, result: Result<(), RunError>) -> Result<(), RunError> {
        match result {
            Err(fault) if self.links.len() > 1 => self.links[at].bear(fault),
            result => result,
        }
    }

    fn check_feeds(&mut self, now: Instant) -> Result<(), RunError> {
        let others = self.links.iter().any(|part| part.check_feed(now).is_ok());
        for part in &mut self.links {
            match part.check_feed(now) {
                Err(fault) if others => part.bear(fault)?,
                checked => checked?,
            }
        }
        Ok(())
    }

    fn worker_event(&mut self, worker: u8, event: Event, now: Instant) -> Result<(), RunError> {
        match event {
            Event::Link(number, event) => {
                let leaving = self.leaving.iter_mut().map(|(part, _)| part);
                let mut parts = self.links.iter_mut().chain(leaving);
                match parts.find(|part| part.pieces.number == number) {
                    Some(part) => part.worker_event(event, now, &mut self.plane),
                    None => Ok(()),
                }
            }
            Event::LinkRemoved(link) => {
                self.plane.crew.keep(worker, link.counters());
                self.gave_back(worker, link.number());
                Ok(())
            }
            Event::PoliciesReplaced(_) => {
                info!("worker {worker} goes by the policy that was loaded");
                Ok(())
            }
            Event::Wanted(address) => {
                self.plain_side.iter_mut().for_each(|plain_side| plain_side.ask(address, now));
                Ok(())
            }
            // Dropping them here frees them.
            Event::PlainSideRetired(_) => Ok(()),
            Event::Report(ports) => {
                self.ports[usize::from(worker)] = ports;
                Ok(())
            }
            Event::Failed(reason) => Err(RunError::Worker(reason)),
        }
    }

    /// A worker has nothing left of a link that leaves. With the last one the link's tables go, and its number is free.
    fn gave_back(&mut self, worker: u8, number: LinkNumber) {
        let Some(at) = self.leaving.iter().position(|(part, _)| part.pieces.number == number) else { return };
        let (part, missing) = &mut self.leaving[at];
        // What it counted is kept with the worker's.
        part.pieces.counters[usize::from(worker)] = Default::default();
        *missing -= 1;
        if *missing == 0 {
            let (mut part, _) = self.leaving.remove(at);
            part.pieces.witness.stop("the link was removed");
            info!("link \"{}\" is gone, and its keys are wiped", part.pieces.config.name);
        }
    }
}
