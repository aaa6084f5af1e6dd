//! What to make of the kernel's neighbours and routes: a state machine without a socket.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::message::{Ask, Heard};
use crate::wire::{Ends, MacAddr};

/// Between looks, beside which the kernel tells of changes by itself.
const LOOK: Duration = Duration::from_secs(1);
/// The same while there is no hardware address.
const HASTE: Duration = Duration::from_millis(100);
/// A hardware address is still used this long after the kernel gave it up: the next attempt to resolve it takes milliseconds, and
/// what goes astray meanwhile can be read by nobody.
const GRACE: Duration = Duration::from_secs(1);

/// States of a neighbour, from `linux/neighbour.h`.
mod state {
    pub(super) const REACHABLE: u16 = 0x02;
    pub(super) const STALE: u16 = 0x04;
    pub(super) const DELAY: u16 = 0x08;
    pub(super) const PROBE: u16 = 0x10;
    pub(super) const NOARP: u16 = 0x40;
    pub(super) const PERMANENT: u16 = 0x80;
    /// The hardware address is there, fresh or not.
    pub(super) const USABLE: u16 = REACHABLE | STALE | DELAY | PROBE | NOARP | PERMANENT;
    /// Nothing is to be done about it.
    pub(super) const SETTLED: u16 = REACHABLE | NOARP | PERMANENT;
}

/// Follows one next hop.
#[derive(Debug)]
pub(super) struct Follower {
    index: u32,
    ends: Ends,
    fixed: Option<IpAddr>,
    hop: Option<IpAddr>,
    /// NUD_ bits of its entry, 0 for none; nothing before the kernel told.
    state: Option<u16>,
    mac: Option<MacAddr>,
    gone_since: Option<Instant>,
    route_is_due: bool,
    look_at: Option<Instant>,
}

impl Follower {
    pub(super) fn new(index: u32, ends: Ends, fixed: Option<IpAddr>) -> Follower {
        Follower {
            index,
            ends,
            fixed,
            hop: fixed,
            state: None,
            mac: None,
            gone_since: None,
            route_is_due: true,
            look_at: None,
        }
    }

    /// Whom the packets go to next.
    pub(super) fn hop(&self) -> Option<IpAddr> {
        self.hop
    }

    /// Its hardware address.
    pub(super) fn mac(&self) -> Option<MacAddr> {
        self.mac
    }

    pub(super) fn hear(&mut self, now: Instant, heard: &Heard) {
        match *heard {
            Heard::Route { gateway, index } if index == self.index => {
                self.change_hop(Some(gateway.unwrap_or(self.ends.peer())));
            }
            Heard::Route { .. } | Heard::NoRoute => self.change_hop(None),
            Heard::RouteChanged => self.route_is_due = true,
            Heard::Neighbour { index, address, state, mac }
                if index == self.index && Some(address) == self.hop =>
            {
                self.neighbour(now, state, mac);
            }
            Heard::NoNeighbour(address) if Some(address) == self.hop => self.neighbour(now, 0, None),
            Heard::Neighbour { .. } | Heard::NoNeighbour(_) => {}
            Heard::Overrun => (self.route_is_due, self.look_at) = (true, None),
        }
    }

    /// What is to be asked now.
    pub(super) fn turn(&mut self, now: Instant) -> Vec<Ask> {
        if self.gone_since.is_some_and(|since| now >= since + GRACE) {
            (self.mac, self.gone_since) = (None, None);
        }
        let mut asks = Vec::new();
        let look = self.look_at.is_none_or(|moment| now >= moment);
        if self.fixed.is_none() && (look || self.route_is_due) {
            asks.push(Ask::Route(self.ends, self.index));
        }
        self.route_is_due = false;
        if !look {
            return asks;
        }
        if let Some(hop) = self.hop {
            // Of an entry that is stale, "use" starts the kernel's check that it is still true; of none, its resolution. It must not
            // meet a permanent one: that would lose its state (net/core/neighbour.c, `__neigh_update`).
            if self.state.is_some_and(|state| state & state::SETTLED == 0) {
                asks.push(Ask::Use(hop, self.index));
            }
            asks.push(Ask::Neighbour(hop, self.index));
        }
        let usable = self.is_usable();
        self.look_at = Some(now + if usable { LOOK } else { HASTE });
        asks
    }

    pub(super) fn next_deadline(&self) -> Instant {
        self.look_at.unwrap_or_else(Instant::now)
    }

    fn change_hop(&mut self, hop: Option<IpAddr>) {
        if self.fixed.is_some() || hop == self.hop {
            return;
        }
        // The old way is as good as any until the new one is resolved.
        (self.hop, self.state, self.look_at) = (hop, None, None);
        if hop.is_none() {
            (self.mac, self.gone_since) = (None, None);
        }
    }

    fn is_usable(&self) -> bool {
        self.state.is_some_and(|state| state & state::USABLE != 0)
    }

    fn neighbour(&mut self, now: Instant, state: u16, mac: Option<MacAddr>) {
        let first_told = self.state.is_none() && state & state::SETTLED == 0;
        let is_news = first_told || self.is_usable() && state & state::USABLE == 0;
        if is_news {
            self.look_at = None;
        }
        self.state = Some(state);
        match mac.filter(|_| state & state::USABLE != 0) {
            Some(mac) => (self.mac, self.gone_since) = (Some(mac), None),
            None if self.mac.is_some() => {
                self.gone_since.get_or_insert(now);
            }
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: u32 = 7;
    const OLD: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
    const NEW: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
    const FAILED: u16 = 0x20;
    const INCOMPLETE: u16 = 0x01;

    fn ends() -> Ends {
        Ends::V4([192, 0, 2, 1].into(), [192, 0, 2, 2].into())
    }

    fn address(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    fn neighbour(last: u8, state: u16, mac: Option<MacAddr>) -> Heard {
        Heard::Neighbour { index: OURS, address: address(last), state, mac }
    }

    /// A follower whose next hop is `fixed`, or the peer by the routes, resolved.
    fn settled(fixed: Option<IpAddr>, now: Instant) -> Follower {
        let mut follower = Follower::new(OURS, ends(), fixed);
        follower.hear(now, &Heard::Route { gateway: None, index: OURS });
        let last = if fixed.is_some() { 9 } else { 2 };
        follower.hear(now, &neighbour(last, state::REACHABLE, Some(OLD)));
        follower.turn(now);
        follower
    }

    #[test]
    fn the_hop_comes_from_the_route_and_is_resolved() {
        let now = Instant::now();
        let mut follower = Follower::new(OURS, ends(), None);
        assert_eq!(follower.turn(now), [Ask::Route(ends(), OURS)]);
        follower.hear(now, &Heard::Route { gateway: Some(address(9)), index: OURS });
        assert_eq!(follower.turn(now), [Ask::Route(ends(), OURS), Ask::Neighbour(address(9), OURS)]);
        follower.hear(now, &Heard::NoNeighbour(address(2)));
        assert!(follower.turn(now).is_empty(), "that was about another");
        follower.hear(now, &Heard::NoNeighbour(address(9)));
        assert!(follower.turn(now).contains(&Ask::Use(address(9), OURS)));
        assert_eq!(follower.mac(), None);
        assert!(follower.turn(now).is_empty(), "asked once");
        assert_eq!(follower.next_deadline(), now + HASTE);
        follower.hear(now, &neighbour(9, INCOMPLETE, None));
        follower.hear(now, &neighbour(2, state::REACHABLE, Some(NEW)));
        assert_eq!(follower.mac(), None, "the peer is not the next hop");
        follower.hear(now, &neighbour(9, state::REACHABLE, Some(OLD)));
        assert_eq!(follower.mac(), Some(OLD));
    }

    #[test]
    fn a_fixed_hop_asks_for_no_route_and_listens_to_none() {
        let now = Instant::now();
        let mut follower = settled(Some(address(9)), now);
        follower.hear(now, &Heard::Route { gateway: Some(address(8)), index: OURS });
        follower.hear(now, &Heard::NoRoute);
        assert_eq!((follower.hop(), follower.mac()), (Some(address(9)), Some(OLD)));
        follower.hear(now, &Heard::RouteChanged);
        assert_eq!(follower.turn(now + LOOK), [Ask::Neighbour(address(9), OURS)]);
    }

    #[test]
    fn a_stale_entry_is_used_and_checked() {
        let now = Instant::now();
        for unsettled in [state::STALE, state::DELAY, state::PROBE] {
            let mut follower = settled(None, now);
            follower.hear(now, &neighbour(2, unsettled, Some(OLD)));
            assert_eq!(follower.mac(), Some(OLD));
            assert!(follower.turn(now + LOOK).contains(&Ask::Use(address(2), OURS)));
            follower.turn(now + 10 * LOOK);
            assert_eq!(follower.mac(), Some(OLD), "for as long as the kernel holds it");
        }
    }

    #[test]
    fn a_permanent_entry_is_never_touched() {
        let now = Instant::now();
        let mut follower = Follower::new(OURS, ends(), Some(address(9)));
        assert_eq!(follower.turn(now), [Ask::Neighbour(address(9), OURS)]);
        follower.hear(now, &neighbour(9, state::PERMANENT, Some(OLD)));
        assert!(follower.turn(now).is_empty());
        assert_eq!(follower.turn(now + LOOK), [Ask::Neighbour(address(9), OURS)]);
        assert_eq!(follower.mac(), Some(OLD));
    }

    #[test]
    fn a_hardware_address_that_changes_is_followed_at_once() {
        let now = Instant::now();
        let mut follower = settled(None, now);
        follower.hear(now, &neighbour(2, state::STALE, Some(NEW)));
        assert_eq!(follower.mac(), Some(NEW));
    }

    #[test]
    fn an_entry_that_fails_is_solicited_at_once_and_given_up_after_the_grace() {
        let now = Instant::now();
        for gone in
            [neighbour(2, FAILED, Some(OLD)), neighbour(2, FAILED, None), Heard::NoNeighbour(address(2))]
        {
            let mut follower = settled(None, now);
            follower.hear(now, &gone);
            assert!(follower.turn(now).contains(&Ask::Use(address(2), OURS)));
            assert_eq!(follower.mac(), Some(OLD));
            follower.hear(now + GRACE / 2, &gone);
            follower.turn(now + GRACE);
            assert_eq!(follower.mac(), None, "after {gone:?}");
            follower.hear(now + GRACE, &neighbour(2, state::REACHABLE, Some(NEW)));
            follower.turn(now + 9 * GRACE);
            assert_eq!(follower.mac(), Some(NEW));
        }
    }

    #[test]
    fn a_route_that_changes_is_followed_without_a_gap() {
        let now = Instant::now();
        let mut follower = settled(None, now);
        follower.hear(now, &Heard::RouteChanged);
        assert_eq!(follower.turn(now), [Ask::Route(ends(), OURS)]);
        follower.hear(now, &Heard::Route { gateway: Some(address(9)), index: OURS });
        assert!(follower.turn(now).contains(&Ask::Neighbour(address(9), OURS)));
        assert_eq!((follower.hop(), follower.mac()), (Some(address(9)), Some(OLD)));
        follower.hear(now, &neighbour(9, state::REACHABLE, Some(NEW)));
        assert_eq!(follower.mac(), Some(NEW));
    }

    #[test]
    fn without_a_route_by_our_port_there_is_no_hop() {
        let now = Instant::now();
        for lost in [Heard::NoRoute, Heard::Route { gateway: None, index: OURS + 1 }] {
            let mut follower = settled(None, now);
            follower.hear(now, &lost);
            assert_eq!((follower.hop(), follower.mac()), (None, None), "after {lost:?}");
            follower.hear(now, &neighbour(2, state::REACHABLE, Some(OLD)));
            assert_eq!(follower.mac(), None);
        }
    }

    #[test]
    fn what_was_missed_is_asked_for() {
        let now = Instant::now();
        let mut follower = settled(None, now);
        follower.hear(now, &Heard::Overrun);
        assert_eq!(follower.turn(now), [Ask::Route(ends(), OURS), Ask::Neighbour(address(2), OURS)]);
    }
}
