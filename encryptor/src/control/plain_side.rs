//! The plain side in mode `ip`: follows what the kernel knows of it, and has the kernel find out what it does not.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{debug, info, warn};

use crate::netlink::{self, Follower, Neighbour, Soundness};
use crate::tunnel::{MAX_NEIGHBOURS, MAX_ROUTES, PlainSide, Route};

/// The kernel is read anew this often at the most, however often it changes.
const READ_INTERVAL: Duration = Duration::from_millis(20);
/// It is read anew this often at the least.
const READ_ANYWAY: Duration = Duration::from_secs(10);
/// Neighbours that the kernel has not confirmed for a while are asked this often: no packet of theirs passes through it, so
/// it would never ask by itself.
const CONFIRM_INTERVAL: Duration = Duration::from_secs(30);
/// Neighbours asked at the most, each time and each second.
const MOST_ASKED: usize = 256;

/// What the control thread knows of the plain side.
#[derive(Debug)]
pub(super) struct PlainWatch {
    index: u32,
    follower: Follower,
    current: Arc<PlainSide>,
    stale: Vec<IpAddr>,
    routers: Vec<IpAddr>,
    dirty: bool,
    read_at: Instant,
    confirm_at: Instant,
    asked: usize,
    asked_until: Instant,
}

impl PlainWatch {
    /// Reads the interface with number `index` once, and follows it from then on.
    pub(super) fn new(index: u32) -> io::Result<PlainWatch> {
        let now = Instant::now();
        // Listening comes first: what changes while the kernel is read is not missed.
        let follower = Follower::new()?;
        let mut watch = PlainWatch {
            index,
            follower,
            current: Arc::default(),
            stale: Vec::new(),
            routers: Vec::new(),
            dirty: false,
            read_at: now,
            confirm_at: now + CONFIRM_INTERVAL,
            asked: 0,
            asked_until: now,
        };
        watch.current = Arc::new(watch.read()?);
        Ok(watch)
    }

    /// The table as it was read last.
    pub(super) fn current(&self) -> Arc<PlainSide> {
        self.current.clone()
    }

    /// The socket on which changes are told.
    pub(super) fn fd(&self) -> RawFd {
        self.follower.as_fd().as_raw_fd()
    }

    /// When [`PlainWatch::turn`] has something to do at the latest.
    pub(super) fn next_deadline(&self) -> Instant {
        let read = if self.dirty { READ_INTERVAL } else { READ_ANYWAY };
        (self.read_at + read).min(self.confirm_at)
    }

    /// Follows the kernel. Gives the new table if there is one.
    pub(super) fn turn(&mut self, now: Instant) -> Option<Arc<PlainSide>> {
        self.dirty |= self.follower.changed();
        if now >= self.confirm_at {
            self.confirm_at = now + CONFIRM_INTERVAL;
            let stale = std::mem::take(&mut self.stale);
            stale.into_iter().for_each(|address| self.ask(address, now));
        }
        if now < self.read_at + if self.dirty { READ_INTERVAL } else { READ_ANYWAY } {
            return None;
        }
        (self.dirty, self.read_at) = (false, now);
        let read = self.read().inspect_err(|error| warn!("the plain side cannot be read: {error}")).ok()?;
        for router in std::mem::take(&mut self.routers) {
            self.ask(router, now);
        }
        if read == *self.current {
            return None;
        }
        let (routes, neighbours) = read.counts();
        debug!("plain side: {routes} routes, {neighbours} neighbours");
        self.current = Arc::new(read);
        Some(self.current.clone())
    }

    /// Has the kernel resolve a next hop that a packet waits for, or confirm one; so many a second, so that nobody can have it ask
    /// without end.
    pub(super) fn ask(&mut self, address: IpAddr, now: Instant) {
        if now >= self.asked_until {
            (self.asked, self.asked_until) = (0, now + Duration::from_secs(1));
        }
        if self.asked >= MOST_ASKED {
            return;
        }
        self.asked += 1;
        if let Err(error) = netlink::use_neighbour(self.index, address) {
            debug!("asking for {address}: {error}");
        }
    }

    fn read(&mut self) -> io::Result<PlainSide> {
        let own: Vec<IpAddr> =
            netlink::addresses(self.index)?.into_iter().map(|entry| entry.address).collect();
        let routes = netlink::routes(self.index)?;
        let neighbours = netlink::neighbours(self.index)?;
        if routes.len() > MAX_ROUTES || neighbours.len() > MAX_NEIGHBOURS {
            warn!(
                "{} routes and {} neighbours on the plain side: only {MAX_ROUTES} and {MAX_NEIGHBOURS} are used",
                routes.len(),
                neighbours.len()
            );
        }
        if self.current.counts() == (0, 0) {
            info!("plain side: addresses {own:?}, {} routes", routes.len());
        }
        let is_stale = |entry: &&Neighbour| entry.soundness == Soundness::Stale;
        self.stale = neighbours.iter().filter(is_stale).take(MOST_ASKED).map(|entry| entry.address).collect();
        let mut routers: Vec<IpAddr> = routes.iter().filter_map(|route| route.via).collect();
        routers.sort_unstable();
        routers.dedup();
        routers.retain(|router| !neighbours.iter().any(|entry| entry.address == *router));
        routers.truncate(MOST_ASKED / 2);
        self.routers = routers;
        let routes = routes.into_iter().map(|entry| Route {
            network: entry.network,
            prefix: entry.prefix,
            via: entry.via,
        });
        Ok(PlainSide::new(own, routes, neighbours.into_iter().map(|entry| (entry.address, entry.mac))))
    }
}
