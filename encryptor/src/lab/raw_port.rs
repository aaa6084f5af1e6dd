//! Raw Ethernet frames out of any interface of the lab (packet(7)).

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, bind, send, socket};

use super::error::{Result, io_error};
use super::namespace::inside;
use super::plan::Node;
use super::topology::Topology;

/// Sends whole frames out of one interface. It receives nothing.
#[derive(Debug)]
pub struct RawPort {
    socket: OwnedFd,
}

impl RawPort {
    /// Opens a node's interface.
    pub fn open(topology: &Topology, node: Node, interface: &str) -> Result<RawPort> {
        let opened = inside(topology, node, || -> nix::Result<OwnedFd> {
            let address = link_address(interface)?;
            // Protocol 0: no frame is ever queued to this socket, so it need not be read.
            let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)?;
            bind(socket.as_raw_fd(), &address)?;
            Ok(socket)
        })?;
        let failed = |errno: Errno| io_error(format!("cannot open {interface} for raw frames"))(errno.into());
        Ok(RawPort { socket: opened.map_err(failed)? })
    }

    /// Sends one frame, from its Ethernet header on and without FCS. Fails with `EMSGSIZE` if the interface's MTU leaves no
    /// room for it, and with `EINVAL` if it is no Ethernet header long.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        match send(self.socket.as_raw_fd(), frame, MsgFlags::empty())? {
            sent if sent == frame.len() => Ok(()),
            sent => Err(io::Error::other(format!("{sent} of {} bytes were sent", frame.len()))),
        }
    }
}

fn link_address(interface: &str) -> nix::Result<LinkAddr> {
    let mut addresses = getifaddrs()?.filter(|one| one.interface_name == interface);
    let found = addresses.find_map(|one| one.address?.as_link_addr().copied());
    found.ok_or(Errno::ENODEV)
}
