//! Questions to the kernel, and the socket on which it tells of changes.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::sys::socket::sockopt::ReceiveTimeout;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, sendto, setsockopt,
    socket,
};
use nix::sys::time::{TimeVal, TimeValLike};

use super::message::{DONE, ERROR, messages, request, u32_at};
use super::record::{Address, Neighbour, RouteEntry, parts};

const RTM_GETADDR: u16 = 22;
const RTM_GETROUTE: u16 = 26;
const RTM_NEWNEIGH: u16 = 28;
const RTM_GETNEIGH: u16 = 30;
const REQUEST: u16 = 0x001;
const DUMP: u16 = 0x300;
const CREATE: u16 = 0x400;

/// What one datagram holds at the most; the kernel fills up to 32 KiB (kernel: net/netlink/af_netlink.c, `netlink_dump`).
const DATAGRAM: usize = 64 << 10;
/// Datagrams of one answer that are read at the most: some hundred thousand routes.
const MOST_DATAGRAMS: usize = 4096;

/// The addresses of the interface with number `index`.
pub fn addresses(index: u32) -> io::Result<Vec<Address>> {
    // An empty `struct ifaddrmsg`: all families, all interfaces.
    let all = dump(RTM_GETADDR, &[0; 8], Address::read)?;
    Ok(all.into_iter().filter(|address| address.index == index).collect())
}

/// The routes of the main table over the interface with number `index`, best first.
pub fn routes(index: u32) -> io::Result<Vec<RouteEntry>> {
    let mut routes = dump(RTM_GETROUTE, &[0; 12], |body| RouteEntry::read(body, index))?;
    routes.sort_by_key(|route| route.metric);
    Ok(routes)
}

/// The neighbours on the interface with number `index` that are resolved.
pub fn neighbours(index: u32) -> io::Result<Vec<Neighbour>> {
    let all = dump(RTM_GETNEIGH, &[0; 12], Neighbour::read)?;
    Ok(all.into_iter().filter(|neighbour| neighbour.index == index).collect())
}

/// Has the kernel resolve or confirm `address` on the interface with number `index`, by ARP or neighbour discovery and without a
/// packet of ours: RTM_NEWNEIGH with NTF_USE (kernel: net/core/neighbour.c, `neigh_add`).
pub fn use_neighbour(index: u32, address: IpAddr) -> io::Result<()> {
    const NTF_USE: u8 = 0x01;
    const NDA_DST: u16 = 1;
    let (family, bytes) = parts(address);
    let mut fixed = [0; 12];
    fixed[0] = family;
    fixed[4..8].copy_from_slice(&index.to_ne_bytes());
    fixed[10] = NTF_USE;
    let message = request(RTM_NEWNEIGH, REQUEST | CREATE, &fixed, Some((NDA_DST, &bytes)));
    send(open(SockFlag::empty())?.as_fd(), &message)
}

/// Hears of changes of addresses, routes and neighbours.
#[derive(Debug)]
pub struct Follower {
    socket: OwnedFd,
}

impl Follower {
    /// Begins to listen.
    pub fn new() -> io::Result<Follower> {
        // RTMGRP_NEIGH, RTMGRP_IPV4_IFADDR, RTMGRP_IPV4_ROUTE, RTMGRP_IPV6_IFADDR, RTMGRP_IPV6_ROUTE.
        const GROUPS: u32 = 0x004 | 0x010 | 0x040 | 0x100 | 0x400;
        let socket = open(SockFlag::SOCK_NONBLOCK)?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, GROUPS))?;
        Ok(Follower { socket })
    }

    /// Whether anything changed since it was last asked. What changed is asked for anew: so nothing is missed when the kernel had
    /// more to tell than the socket holds (ENOBUFS).
    pub fn changed(&self) -> bool {
        let mut buffer = [0; 4096];
        let mut changed = false;
        for _ in 0..MOST_DATAGRAMS {
            match recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
                Err(nix::Error::EAGAIN) => break,
                _ => changed = true,
            }
        }
        changed
    }
}

impl AsFd for Follower {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn dump<T>(kind: u16, fixed: &[u8], read: impl Fn(&[u8]) -> Option<T>) -> io::Result<Vec<T>> {
    let socket = open(SockFlag::empty())?;
    // The kernel answers at once; a bound all the same, for the control thread must not hang.
    setsockopt(&socket, ReceiveTimeout, &TimeVal::milliseconds(500))?;
    send(socket.as_fd(), &request(kind, REQUEST | DUMP, fixed, None))?;
    let mut buffer = vec![0; DATAGRAM];
    let mut found = Vec::new();
    for _ in 0..MOST_DATAGRAMS {
        let length = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        for message in messages(&buffer[..length]) {
            match message.kind {
                DONE => return Ok(found),
                ERROR => {
                    let code = u32_at(message.body, 0).unwrap_or(0).cast_signed();
                    return Err(io::Error::from_raw_os_error(-code.clamp(-4095, 0)));
                }
                _ => found.extend(read(message.body)),
            }
        }
    }
    Ok(found)
}

fn open(flags: SockFlag) -> io::Result<OwnedFd> {
    let flags = flags | SockFlag::SOCK_CLOEXEC;
    Ok(socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?)
}

fn send(socket: BorrowedFd<'_>, message: &[u8]) -> io::Result<()> {
    sendto(socket.as_raw_fd(), message, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn this_hosts_loopback_has_its_address_and_no_neighbours() {
        let index = nix::net::if_::if_nametoindex("lo").unwrap();
        let own = addresses(index).unwrap();
        assert!(own.iter().any(|one| one.address == Ipv4Addr::LOCALHOST), "{own:?}");
        assert!(routes(index).unwrap().iter().all(|route| route.index == index));
        neighbours(index).unwrap();
        Follower::new().unwrap().changed();
    }
}
