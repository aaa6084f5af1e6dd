//! The next hop's hardware address, as the kernel's neighbours and routes have it.
//!
//! The kernel resolves and keeps addresses fresh; this listens to what it says (rtnetlink), asks where it has to, and tells the
//! worker. Which router leads to the peer is taken from the routes unless it is configured.

mod follow;
mod message;
mod netlink;

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use tracing::{debug, info, warn};

use crate::protect::NextHop;
use crate::wire::Ends;

use follow::Follower;
use netlink::Netlink;

/// Follows the next hop and publishes where it is.
#[derive(Debug)]
pub struct NextHopWatch {
    netlink: Netlink,
    follower: Follower,
    published: NextHop,
}

impl NextHopWatch {
    /// Watches the interface with number `index` for the way between `ends`: by the router `fixed`, if there is one.
    pub fn open(index: u32, ends: Ends, fixed: Option<IpAddr>, published: NextHop) -> io::Result<Self> {
        Ok(NextHopWatch { netlink: Netlink::open()?, follower: Follower::new(index, ends, fixed), published })
    }

    /// Takes in what the kernel says, asks what is to be asked, and publishes the outcome.
    pub fn turn(&mut self, now: Instant) {
        for heard in self.netlink.receive() {
            self.follower.hear(now, &heard);
        }
        for ask in self.follower.turn(now) {
            if let Err(error) = self.netlink.send(&ask) {
                debug!("{ask:?}: {error}");
            }
        }
        let found = self.follower.mac();
        let hop = self.follower.hop().map_or("the peer".to_string(), |hop| hop.to_string());
        match (self.published.get(), found) {
            (before, after) if before == after => {}
            (_, Some(mac)) => info!("next hop {hop} is at {mac}"),
            (Some(mac), None) => warn!("next hop {hop} is no longer at {mac}, nor anywhere else"),
            (None, None) => {}
        }
        self.published.set(found);
    }

    /// When [`Self::turn`] has something to do, if the kernel says nothing.
    pub fn next_deadline(&self) -> Instant {
        self.follower.next_deadline()
    }
}

impl AsFd for NextHopWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.netlink.as_fd()
    }
}
