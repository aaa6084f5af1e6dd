//! The next hop's hardware address, as the kernel's neighbour table has it.
//!
//! The kernel resolves and keeps it fresh: the link channel's TCP goes through it. Read from `/proc/net/arp`
//! (kernel: net/ipv4/arp.c, `arp_format_neigh_entry`).

use std::fs;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, sendto, socket,
};

use crate::wire::MacAddr;

/// ATF_COM of `linux/if_arp.h`: the entry is complete.
const COMPLETE: u32 = 0x02;

/// Looks up `address` on `interface`. `None`: not resolved, or not for now.
pub fn lookup(interface: &str, address: Ipv4Addr) -> Option<MacAddr> {
    parse(&fs::read_to_string("/proc/net/arp").ok()?, interface, address)
}

/// Has the kernel resolve `address` on the interface with number `index`, by ARP and without a packet of ours: RTM_NEWNEIGH with
/// NTF_USE (kernel: net/core/neighbour.c, `neigh_add`).
pub fn solicit(index: u32, address: Ipv4Addr) {
    let flags = SockFlag::SOCK_CLOEXEC;
    let sent = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute).and_then(
        |netlink| {
            sendto(
                netlink.as_raw_fd(),
                &use_neighbour(index, address),
                &NetlinkAddr::new(0, 0),
                MsgFlags::empty(),
            )
        },
    );
    if let Err(errno) = sent {
        tracing::debug!("soliciting {address}: {errno}");
    }
}

/// `struct nlmsghdr`, `struct ndmsg` and the attribute NDA_DST (`linux/netlink.h`, `linux/neighbour.h`), in the host's byte order.
fn use_neighbour(index: u32, address: Ipv4Addr) -> [u8; 36] {
    const RTM_NEWNEIGH: u16 = 28;
    const REQUEST_CREATE: u16 = 0x001 | 0x400;
    const AF_INET: u8 = 2;
    const NTF_USE: u8 = 0x01;
    const NDA_DST: u16 = 1;
    let mut message = [0; 36];
    message[0..4].copy_from_slice(&36u32.to_ne_bytes());
    message[4..6].copy_from_slice(&RTM_NEWNEIGH.to_ne_bytes());
    message[6..8].copy_from_slice(&REQUEST_CREATE.to_ne_bytes());
    message[16] = AF_INET;
    message[20..24].copy_from_slice(&index.to_ne_bytes());
    message[26] = NTF_USE;
    message[28..30].copy_from_slice(&8u16.to_ne_bytes());
    message[30..32].copy_from_slice(&NDA_DST.to_ne_bytes());
    message[32..36].copy_from_slice(&address.octets());
    message
}

fn parse(table: &str, interface: &str, address: Ipv4Addr) -> Option<MacAddr> {
    let address = address.to_string();
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [ip, _, flags, mac, _, device] = fields[..] else { return None };
        let flags = u32::from_str_radix(flags.trim_start_matches("0x"), 16).ok()?;
        (ip == address && device == interface && flags & COMPLETE != 0).then(|| mac.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_complete_entry_on_the_right_interface_counts() {
        let table = "IP address       HW type     Flags       HW address            Mask     Device\n\
                     192.0.2.2        0x1         0x2         02:00:00:00:00:02     *        cipher\n\
                     192.0.2.3        0x1         0x0         00:00:00:00:00:00     *        cipher\n\
                     192.0.2.4        0x1         0x6         02:00:00:00:00:04     *        other\n";
        let found = |last: u8| parse(table, "cipher", [192, 0, 2, last].into());
        assert_eq!(found(2), Some(MacAddr([2, 0, 0, 0, 0, 2])));
        assert_eq!(found(3), None);
        assert_eq!(found(4), None);
        assert_eq!(found(5), None);
    }
}
