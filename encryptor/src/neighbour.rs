//! The next hop's hardware address, as the kernel's neighbour table has it.
//!
//! The kernel resolves and keeps it fresh: the link channel's TCP goes through it. Read from `/proc/net/arp`
//! (kernel: net/ipv4/arp.c, `arp_format_neigh_entry`).

use std::fs;
use std::net::{Ipv4Addr, UdpSocket};

use crate::wire::MacAddr;

/// ATF_COM of `linux/if_arp.h`: the entry is complete.
const COMPLETE: u32 = 0x02;

/// Looks up `address` on `interface`. `None`: not resolved, or not for now.
pub fn lookup(interface: &str, address: Ipv4Addr) -> Option<MacAddr> {
    parse(&fs::read_to_string("/proc/net/arp").ok()?, interface, address)
}

/// Has the kernel resolve `address`: a datagram to the discard port (RFC 863), whose loss is as good as its arrival.
pub fn solicit(from: Ipv4Addr, address: Ipv4Addr) {
    let sent = UdpSocket::bind((from, 0)).and_then(|socket| socket.send_to(&[], (address, 9)));
    if let Err(error) = sent {
        tracing::debug!("soliciting {address}: {error}");
    }
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
