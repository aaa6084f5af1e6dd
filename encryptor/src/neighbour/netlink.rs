//! The socket to the kernel's tables. Thin: what to make of it is decided elsewhere.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, getsockname, recvfrom,
    sendto, socket,
};

use super::message::{Ask, Heard, decode, encode};

/// RTMGRP_NEIGH, RTMGRP_IPV4_ROUTE and RTMGRP_IPV6_ROUTE of `linux/rtnetlink.h`.
const GROUPS: u32 = 0x4 | 0x40 | 0x400;
/// Datagrams in one go, so that tables in turmoil cannot hold the control thread; the rest waits for the next.
const DATAGRAMS: usize = 64;
/// The kernel makes datagrams of up to 32 KiB for dumps, which are never asked for; a message of its own is below a page.
const LARGEST: usize = 8192;

/// A socket that hears of neighbours and routes.
#[derive(Debug)]
pub(super) struct Netlink {
    socket: OwnedFd,
    port: u32,
    buffer: Vec<u8>,
}

impl Netlink {
    pub(super) fn open() -> io::Result<Netlink> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, GROUPS))?;
        let port = getsockname::<NetlinkAddr>(socket.as_raw_fd())?.pid();
        Ok(Netlink { socket, port, buffer: vec![0; LARGEST] })
    }

    pub(super) fn send(&self, ask: &Ask) -> io::Result<()> {
        let kernel = NetlinkAddr::new(0, 0);
        sendto(self.socket.as_raw_fd(), &encode(ask), &kernel, MsgFlags::MSG_DONTWAIT)?;
        Ok(())
    }

    /// All that waits, up to a bound.
    pub(super) fn receive(&mut self) -> Vec<Heard> {
        let mut heard = Vec::new();
        for _ in 0..DATAGRAMS {
            match recvfrom::<NetlinkAddr>(self.socket.as_raw_fd(), &mut self.buffer) {
                // Anybody may send to a netlink socket; what is true comes from port 0, the kernel.
                Ok((length, Some(from))) if from.pid() == 0 => {
                    heard.extend(decode(&self.buffer[..length], self.port));
                }
                Ok(_) | Err(Errno::EINTR) => {}
                Err(Errno::ENOBUFS) => heard.push(Heard::Overrun),
                Err(_) => break,
            }
        }
        heard
    }
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::wire::Ends;

    /// The loopback interface is number 1 in every network namespace, and the kernel knows the way to itself.
    #[test]
    fn the_kernel_answers_a_question() {
        let mut netlink = Netlink::open().unwrap();
        let loopback = Ends::V4([127, 0, 0, 1].into(), [127, 0, 0, 2].into());
        netlink.send(&Ask::Route(loopback, 1)).unwrap();
        netlink.send(&Ask::Neighbour([127, 0, 0, 2].into(), 1)).unwrap();
        let (end, mut heard) = (Instant::now() + Duration::from_secs(5), Vec::new());
        while !heard.contains(&Heard::NoRoute) || !heard.contains(&Heard::NoNeighbour([127, 0, 0, 2].into()))
        {
            assert!(Instant::now() < end, "heard only {heard:?}");
            heard.extend(netlink.receive());
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
