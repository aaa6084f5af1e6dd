//! Makes what a link needs, at start and when a reload adds one: its part on the control thread, and the packet path of each worker.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::rc::Rc;
use std::sync::Arc;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Waker};
use tracing::{Span, info, info_span};

use qhaul_keyfeed::Feeder;

use super::crew::Rolls;
use super::feed::Feed;
use super::link::Link;
use super::part::{LinkPart, Pieces};
use super::path::PathCheck;
use super::plain_side::PlainWatch;
use super::tables::Tables;
use super::witness::Witness;
use super::{NETLINK, RunError, io_error};
use crate::aead::Engine;
use crate::audit::Audit;
use crate::budget::Budget;
use crate::check::Ports;
use crate::config::{Config, LinkConfig, Payload};
use crate::counters::Counters;
use crate::datapath;
use crate::epoch::{Agreement, Terms};
use crate::fit::Fit;
use crate::keylog::KeyLog;
use crate::keys::{Psk, SessionId};
use crate::link::ChannelIdentity;
use crate::neighbour::NextHopWatch;
use crate::ownership::Arrivals;
use crate::plan::Plan;
use crate::protect::{Inside, NextHop, Protect};
use crate::tunnel::{Egress, Gateway, Ingress};
use crate::unprotect::Unprotect;
use crate::wire::{ClassMap, ETH_HLEN, MacAddr, OuterTemplate};
use crate::worker::{LinkNumber, LinkWork, WorkerLink};

/// Derivations for flows that were not seen, each second, for all links of a worker: about a fifth of a core, so that a flood of
/// forged packets has to be far larger before the flows of a new epoch wait for theirs.
const DERIVATIONS: u32 = 200_000;

/// What all links are made with.
pub(super) struct Maker {
    pub(super) ports: Ports,
    pub(super) engine: Engine,
    pub(super) log: KeyLog,
    pub(super) audit: Rc<RefCell<Audit>>,
    pub(super) registry: Registry,
    /// Wakes the control thread.
    pub(super) waker: Arc<Waker>,
    /// Links made so far: no two ever have the same tokens.
    pub(super) made: u32,
}

impl Maker {
    /// A link without keys, and what each worker has to do for it. Nothing is told to anybody yet.
    pub(super) fn make(
        &mut self,
        config: &Config,
        link: &LinkConfig,
        number: LinkNumber,
        plain_side: Option<&PlainWatch>,
    ) -> Result<(LinkPart, Vec<LinkWork>), RunError> {
        let workers = config.cores.len();
        let span = match config.links.len() {
            1 => Span::none(),
            _ => info_span!("link", name = link.name),
        };
        let inside = span.clone().entered();
        self.made += 1;
        let next_hop = NextHop::default();
        let next_hop_watch =
            NextHopWatch::open(self.ports.cipher.index, link.ends, link.next_hop, next_hop.clone())
                .map_err(io_error("netlink"))?;
        self.registry
            .register(&mut SourceFd(&next_hop_watch.as_fd().as_raw_fd()), NETLINK, Interest::READABLE)
            .map_err(io_error("epoll"))?;
        let arrivals = Arrivals::new(workers);
        let counters: Vec<Arc<Counters>> = (0..workers).map(|_| Arc::default()).collect();
        let work = counters.iter().enumerate().map(|(worker, counters)| {
            let (protect, unprotect) = self.transforms(config, link, &next_hop, worker as u8, &arrivals);
            let (protect, unprotect) = self.routed(protect, unprotect, plain_side);
            Box::new(WorkerLink::new(number, link.ends.peer(), protect, unprotect, counters.clone()))
        });
        let work = work.collect();
        let tables = Tables::new(self.engine, link, workers, arrivals, self.log.clone());
        info!("{}", tables.memory());
        info!("{}", Plan::new(&link.plan_input()).verdict());
        let (own, peer) = (link.ends.own(), link.ends.peer());
        info!("link \"{}\": {own} to {peer}, combine = \"{}\"", link.name, link.combine);
        let pieces = Pieces {
            number,
            serial: self.made,
            agreement: Agreement::new(terms(config, link)?, link.flows, link.pool, workers),
            link: self.channel(config, link)?,
            feed: Feed::new(self.feeder(link)?),
            tables,
            rolls: Rolls::new(workers),
            next_hop,
            next_hop_watch,
            witness: Witness::new(self.audit.clone(), &link.name),
            path: PathCheck::new(path_wanted(config, &self.ports)),
            counters,
            config: link.clone(),
        };
        drop(inside);
        Ok((LinkPart::new(pieces, span), work))
    }

    /// What the workers do about frames that do not fit: a matter of the ports and of the outer headers, which all links share.
    pub(super) fn fit(&self, config: &Config) -> Fit {
        let largest = self.protect(config, &config.links[0], &NextHop::default()).largest_frame();
        // A router takes the link layer's header off before it encrypts.
        let stripped = if config.payload == Payload::Ip { ETH_HLEN } else { 0 };
        Fit::new(config.sizes, (largest + stripped).min(self.plain_frame()))
    }

    fn feeder(&self, link: &LinkConfig) -> Result<Option<Feeder>, RunError> {
        let Some(feed) = &link.feed else { return Ok(None) };
        let waker = self.waker.clone();
        let wake = move || {
            let _ = waker.wake();
        };
        let maker = feed.source.clone().prepare()?;
        Ok(Some(Feeder::start(|| maker.make(), wake)?))
    }

    fn channel(&self, config: &Config, link: &LinkConfig) -> Result<Link, RunError> {
        let identity = ChannelIdentity::load(&link.channel)?;
        let ends =
            [link.ends.own(), link.ends.peer()].map(|end| SocketAddr::new(end, config.channel_port)).into();
        let registry = self.registry.try_clone().map_err(io_error("epoll"))?;
        Ok(Link::new(identity, ends, link.listens, registry, LinkPart::first_token(self.made)))
    }

    fn transforms(
        &self,
        config: &Config,
        link: &LinkConfig,
        next_hop: &NextHop,
        worker: u8,
        arrivals: &Arrivals,
    ) -> (Protect, Unprotect) {
        let derivations = (DERIVATIONS / config.links.len() as u32).max(link.flows);
        let budget = Budget::new(derivations, derivations);
        let mut protect = self.protect(config, link, next_hop);
        let mut unprotect = Unprotect::new(config.outer_shape(), config.nat, self.plain_frame(), budget)
            .with_iv(config.iv)
            .with_ecn(config.ecn);
        if config.cores.len() > 1 {
            unprotect.share(worker, arrivals.clone());
        }
        let policy = Arc::new(link.policy.clone());
        protect.set_policy(policy.clone());
        unprotect.set_policy(policy);
        (protect, unprotect)
    }

    fn protect(&self, config: &Config, link: &LinkConfig, next_hop: &NextHop) -> Protect {
        let mac = MacAddr(self.ports.cipher.mac);
        let classes = ClassMap::new(&config.dscp, config.ecn);
        let template = OuterTemplate::new(mac, link.ends, config.encap, config.ttl, classes);
        Protect::new(template, next_hop.clone(), self.ports.cipher.mtu as usize)
    }

    /// In mode `ip` the transforms of a router.
    fn routed(
        &self,
        protect: Protect,
        unprotect: Unprotect,
        plain_side: Option<&PlainWatch>,
    ) -> (Protect, Unprotect) {
        let Some(plain_side) = plain_side else { return (protect, unprotect) };
        let (mac, mtu) = (MacAddr(self.ports.plain.mac), self.ports.plain.mtu as usize);
        let gateway = Gateway { mac, mtu, side: plain_side.current() };
        let ingress = Inside::Packets(Box::new(Ingress::new(gateway.clone())));
        (protect.carrying(ingress), unprotect.through(Egress::new(gateway)))
    }

    /// Bytes of a frame that fits the plain port, with two VLAN tags.
    fn plain_frame(&self) -> usize {
        self.ports.plain.mtu as usize + ETH_HLEN + 8
    }
}

fn terms(config: &Config, link: &LinkConfig) -> Result<Terms, RunError> {
    let mut session = [0; 16];
    aws_lc_rs::rand::fill(&mut session)
        .map_err(|_| RunError::Host("the system's random number generator failed".into()))?;
    Ok(Terms {
        link: link.name.clone(),
        sae: config.sae.to_string(),
        peer_sae: link.peer_sae.to_string(),
        mode: config.payload,
        key_source: link.key_source().to_string(),
        combine: link.combine,
        psk: link.psk.as_deref().map(Psk::load).transpose().map_err(RunError::Host)?.map(Arc::new),
        session: SessionId(session),
        rotate: link.rotate,
        grace: link.grace,
        hard_limit: link.hard_limit,
    })
}

/// Bytes of the largest packet that leaves: what the plain side's MTU needs, or the cipher port's MTU where that is less.
fn path_wanted(config: &Config, ports: &Ports) -> u32 {
    datapath::cipher_mtu_needed(config.payload, ports.plain.mtu, config.outer_shape()).min(ports.cipher.mtu)
}
