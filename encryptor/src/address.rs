//! Whether an address is on an interface and may be used already.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::thread;
use std::time::{Duration, Instant};

/// How long duplicate address detection (RFC 4862 section 5.4) is waited for; it takes one to two seconds.
pub const PATIENCE: Duration = Duration::from_secs(4);
const PAUSE: Duration = Duration::from_millis(100);

/// How an address is held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Held {
    /// It can be used.
    Yes,
    /// It is not there.
    No,
    /// It is there, but the kernel still asks whether another host has it.
    Tentative,
    /// Another host has it.
    Duplicate,
}

/// How `interface` holds `address`, once that is decided or [`PATIENCE`] is at its end.
pub fn settled(interface: &str, address: IpAddr) -> Held {
    let end = Instant::now() + PATIENCE;
    loop {
        let held = match address {
            IpAddr::V4(v4) => holds_v4(interface, v4),
            IpAddr::V6(v6) => {
                find_v6(&fs::read_to_string("/proc/net/if_inet6").unwrap_or_default(), interface, v6)
            }
        };
        if held != Held::Tentative || Instant::now() >= end {
            return held;
        }
        thread::sleep(PAUSE);
    }
}

fn holds_v4(interface: &str, address: Ipv4Addr) -> Held {
    let Ok(mut addresses) = nix::ifaddrs::getifaddrs() else { return Held::No };
    let found = addresses.any(|one| {
        let v4 = one.address.as_ref().and_then(|address| address.as_sockaddr_in().map(|v4| v4.ip()));
        one.interface_name == interface && v4 == Some(address)
    });
    if found { Held::Yes } else { Held::No }
}

/// Looks an address up in the kernel's table (net/ipv6/addrconf.c, `if6_seq_show`): address, interface number, prefix length, scope
/// and flags in hexadecimal, name.
fn find_v6(table: &str, interface: &str, address: Ipv6Addr) -> Held {
    // IFA_F_DADFAILED and IFA_F_TENTATIVE of `linux/if_addr.h`.
    const FAILED: u32 = 0x08;
    const TENTATIVE: u32 = 0x40;
    let wanted = format!("{:032x}", u128::from(address));
    let flags = table.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [one, _, _, _, flags, name] = fields[..] else { return None };
        (one == wanted && name == interface).then(|| u32::from_str_radix(flags, 16).ok())?
    });
    match flags {
        None => Held::No,
        Some(flags) if flags & FAILED != 0 => Held::Duplicate,
        Some(flags) if flags & TENTATIVE != 0 => Held::Tentative,
        Some(_) => Held::Yes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_fine_only_where_it_is_and_once_it_is_unique() {
        let table = "20010db8000000000000000000000001 02 40 00 80   cipher\n\
                     20010db8000000000000000000000002 02 40 00 c0   cipher\n\
                     20010db8000000000000000000000003 02 40 00 c8   cipher\n\
                     20010db8000000000000000000000004 03 40 00 80    other\n";
        let held = |last: u16| find_v6(table, "cipher", Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last));
        assert_eq!(
            [1, 2, 3, 4, 5].map(held),
            [Held::Yes, Held::Tentative, Held::Duplicate, Held::No, Held::No]
        );
    }

    #[test]
    fn the_loopback_address_is_on_the_loopback_interface() {
        assert_eq!(settled("lo", Ipv4Addr::LOCALHOST.into()), Held::Yes);
        assert_eq!(settled("lo", Ipv4Addr::new(192, 0, 2, 99).into()), Held::No);
    }
}
