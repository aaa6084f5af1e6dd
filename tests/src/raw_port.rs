use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::{Context, Result, ensure};
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, bind, send, socket};
use qhaul::lab::Topology;
use qhaul::lab::plan::Node;

use crate::namespace::inside;

/// Sends whole frames out of one interface (packet(7)). It receives nothing.
#[derive(Debug)]
pub struct RawPort {
    socket: OwnedFd,
}

impl RawPort {
    /// Opens a node's interface.
    pub fn open(topology: &Topology, node: Node, interface: &str) -> Result<RawPort> {
        inside(topology, node, || {
            let address = link_address(interface)?;
            // Protocol 0: no frame is ever queued to this socket, so it need not be read.
            let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)?;
            bind(socket.as_raw_fd(), &address).with_context(|| format!("binding to {interface}"))?;
            Ok(RawPort { socket })
        })
    }

    /// Sends one frame, from its Ethernet header on and without FCS.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        let sent = send(self.socket.as_raw_fd(), frame, MsgFlags::empty())
            .with_context(|| format!("sending a frame of {} bytes", frame.len()))?;
        ensure!(sent == frame.len(), "{sent} of {} bytes were sent", frame.len());
        Ok(())
    }
}

fn link_address(interface: &str) -> Result<LinkAddr> {
    let mut addresses = getifaddrs()?.filter(|one| one.interface_name == interface);
    let found = addresses.find_map(|one| one.address?.as_link_addr().copied());
    found.with_context(|| format!("{interface} has no link-layer address"))
}
