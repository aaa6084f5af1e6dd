use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;

use super::error::Error;

/// What an interface is, as the kernel told it once.
///
/// Asked by ioctl and not from /sys: /sys shows the network namespace that it was mounted in, which need not be ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// The kernel's number for it.
    pub index: u32,
    /// Its Ethernet address.
    pub mac: [u8; 6],
    /// Largest packet that it sends, in bytes, without the Ethernet header.
    pub mtu: u32,
    /// Queues that can both receive and send: those that an AF_XDP port can have.
    pub queues: u32,
    /// Whether it is set up.
    pub up: bool,
}

impl Interface {
    /// Asks for the interface `name` of this thread's network namespace.
    pub fn find(name: &str) -> Result<Self, Error> {
        let failed = |source: io::Error| match source.raw_os_error() {
            Some(libc::ENODEV | libc::EINVAL) => Error::NoInterface { interface: name.to_owned() },
            _ => Error::from_kernel(name, 0, "ask for the interface's properties", source),
        };
        Query::new(name).and_then(|query| query.interface(name)).map_err(failed)
    }
}

/// Keeps an interface promiscuous for as long as it lives: a bump in the wire takes frames for every address.
#[derive(Debug)]
pub struct Promiscuous {
    _socket: OwnedFd,
}

impl Promiscuous {
    /// Asks for it by a packet socket that receives nothing (protocol 0; packet(7)).
    pub fn new(interface: &Interface) -> Result<Self, Error> {
        let failed =
            |source: io::Error| Error::from_kernel(&interface.name, 0, "make it promiscuous", source);
        // SAFETY: the call takes no pointers.
        let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(failed(io::Error::last_os_error()));
        }
        // SAFETY: the kernel has just given out this descriptor; nothing else owns it.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        let request = libc::packet_mreq {
            mr_ifindex: interface.index.cast_signed(),
            mr_type: libc::PACKET_MR_PROMISC as libc::c_ushort,
            mr_alen: 0,
            mr_address: [0; 8],
        };
        let len = size_of_val(&request) as libc::socklen_t;
        // SAFETY: the pointer is to a packet_mreq of `len` bytes, which the kernel only reads, during the call.
        let result = unsafe {
            libc::setsockopt(
                fd,
                libc::SOL_PACKET,
                libc::PACKET_ADD_MEMBERSHIP,
                (&raw const request).cast(),
                len,
            )
        };
        if result < 0 { Err(failed(io::Error::last_os_error())) } else { Ok(Self { _socket: socket }) }
    }
}

/// `struct ethtool_value` of `linux/ethtool.h`.
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

/// `struct ethtool_channels` of `linux/ethtool.h`.
#[repr(C)]
#[derive(Default)]
struct Channels {
    command: u32,
    max_rx: u32,
    max_tx: u32,
    max_other: u32,
    max_combined: u32,
    rx: u32,
    tx: u32,
    other: u32,
    combined: u32,
}

const ETHTOOL_GCHANNELS: u32 = 0x3c;

/// Any socket, to ask by, and the request with the interface's name in it.
pub(super) struct Query {
    socket: OwnedFd,
    request: libc::ifreq,
}

impl Query {
    pub(super) fn new(name: &str) -> io::Result<Self> {
        let ifr_ifru = libc::__c_anonymous_ifr_ifru { ifru_ifindex: 0 };
        let mut request = libc::ifreq { ifr_name: [0; libc::IFNAMSIZ], ifr_ifru };
        if name.is_empty() || name.len() >= libc::IFNAMSIZ {
            return Err(io::Error::from_raw_os_error(libc::ENODEV));
        }
        for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
            *to = from as libc::c_char;
        }
        // SAFETY: the call takes no pointers.
        let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just given out this descriptor; nothing else owns it.
        Ok(Self { socket: unsafe { OwnedFd::from_raw_fd(fd) }, request })
    }

    fn interface(mut self, name: &str) -> io::Result<Interface> {
        self.ask(libc::SIOCGIFINDEX)?;
        // SAFETY: any bits are an integer, and SIOCGIFINDEX has set this one.
        let index = unsafe { self.request.ifr_ifru.ifru_ifindex }.cast_unsigned();
        self.ask(libc::SIOCGIFHWADDR)?;
        // SAFETY: any bits are a sockaddr, and SIOCGIFHWADDR has set this one.
        let address = unsafe { self.request.ifr_ifru.ifru_hwaddr };
        self.ask(libc::SIOCGIFMTU)?;
        // SAFETY: any bits are an integer, and SIOCGIFMTU has set this one.
        let mtu = unsafe { self.request.ifr_ifru.ifru_mtu }.cast_unsigned();
        self.ask(libc::SIOCGIFFLAGS)?;
        // SAFETY: any bits are an integer, and SIOCGIFFLAGS has set this one.
        let flags = unsafe { self.request.ifr_ifru.ifru_flags };
        let mut mac = [0; 6];
        for (to, from) in mac.iter_mut().zip(address.sa_data) {
            *to = from.cast_unsigned();
        }
        let up = libc::c_int::from(flags) & libc::IFF_UP != 0;
        let queues = self.channels().or_else(|_| queues_in_sys(name)).unwrap_or(1);
        Ok(Interface { name: name.to_owned(), index, mac, mtu, queues, up })
    }

    fn channels(&mut self) -> io::Result<u32> {
        let mut channels = Channels { command: ETHTOOL_GCHANNELS, ..Channels::default() };
        self.request.ifr_ifru = libc::__c_anonymous_ifr_ifru { ifru_data: (&raw mut channels).cast() };
        let asked = self.ask(libc::SIOCETHTOOL);
        self.request.ifr_ifru = libc::__c_anonymous_ifr_ifru { ifru_data: ptr::null_mut() };
        asked?;
        Ok(channels.combined + channels.rx.min(channels.tx))
    }

    /// A command of `linux/ethtool.h` whose struct is `ethtool_value`; gives the value's data.
    pub(super) fn ethtool(&mut self, command: u32, data: u32) -> io::Result<u32> {
        let mut value = Value { command, data };
        self.request.ifr_ifru = libc::__c_anonymous_ifr_ifru { ifru_data: (&raw mut value).cast() };
        let asked = self.ask(libc::SIOCETHTOOL);
        self.request.ifr_ifru = libc::__c_anonymous_ifr_ifru { ifru_data: ptr::null_mut() };
        asked.map(|()| value.data)
    }

    fn ask(&mut self, request: libc::c_ulong) -> io::Result<()> {
        let fd = self.socket.as_raw_fd();
        // SAFETY: all requests here read and write one ifreq; for SIOCETHTOOL its ifru_data is set by `channels` and `ethtool` to
        // the whole struct of their command, and the kernel writes no more than that.
        let result = unsafe { libc::ioctl(fd, request as _, &raw mut self.request) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

/// For drivers that do not tell their channels. Right only where /sys is of this network namespace.
fn queues_in_sys(name: &str) -> io::Result<u32> {
    let (mut rx, mut tx) = (0, 0);
    for entry in fs::read_dir(format!("/sys/class/net/{name}/queues"))? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        rx += u32::from(name.starts_with("rx-"));
        tx += u32::from(name.starts_with("tx-"));
    }
    Ok(rx.min(tx))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_is_known() {
        let lo = Interface::find("lo").unwrap();
        assert_eq!((lo.index, lo.mac, lo.queues), (1, [0; 6], 1));
        assert!(lo.mtu >= 16384, "{lo:?}");
    }

    #[test]
    fn a_missing_interface_is_named() {
        for name in ["nowhere", "", "a-name-that-is-far-too-long"] {
            let error = Interface::find(name).unwrap_err();
            assert!(matches!(error, Error::NoInterface { .. }), "{error}");
        }
    }
}
