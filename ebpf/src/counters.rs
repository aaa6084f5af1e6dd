use libbpf_rs::MapCore;
use libbpf_rs::MapFlags;

/// A struct of named counters, in the order of the program's own list.
macro_rules! counters {
    ($(#[$about:meta])* $name:ident { $($(#[$what:meta])* $field:ident,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $name {
            $($(#[$what])* pub $field: u64,)+
        }

        impl $name {
            /// Name and value of each counter, in a fixed order.
            pub fn rows(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
                [$((stringify!($field), self.$field),)+].into_iter()
            }

            pub(crate) fn read(map: &impl MapCore) -> libbpf_rs::Result<Self> {
                let mut slots = 0u32..;
                let mut next = || sum(map, slots.next().unwrap_or(u32::MAX));
                Ok(Self { $($field: next()?,)+ })
            }
        }
    };
}

counters! {
    /// Frames that the plain port's program has seen, by what became of them.
    PlainCounters {
        /// All frames that reached the program.
        received,
        /// Given to the AF_XDP socket of their queue (which may still drop: see the socket's own statistics).
        to_socket,
        /// Dropped: no socket on their queue.
        no_socket,
        /// PTP, forwarded in clear to the cipher port by a bypass rule.
        ptp_forwarded,
        /// To the kernel, where this host is the plain side's router: ARP.
        to_kernel_arp,
        /// To the kernel, there too: IPv6 neighbour discovery (RFC 4861).
        to_kernel_neighbour,
    }
}

counters! {
    /// Frames that the cipher port's program has seen, by what became of them.
    CipherCounters {
        /// All frames that reached the program.
        received,
        /// ESP from a peer in a live epoch, or of a type that a bypass rule may mean: given to the AF_XDP socket of their queue.
        to_socket,
        /// Dropped: the same, but no socket on their queue.
        no_socket,
        /// To the kernel: ARP.
        to_kernel_arp,
        /// To the kernel: IPv6 neighbour discovery (RFC 4861) and queries of multicast listeners.
        to_kernel_neighbour,
        /// To the kernel: ICMP for our address.
        to_kernel_icmp,
        /// To the kernel: the link channel's TCP from a peer.
        to_kernel_channel,
        /// Dropped: ESP or the link channel, but not from a peer's address.
        foreign_source,
        /// Dropped: a fragment for our address.
        fragment,
        /// Dropped: cut short, with IPv4 options, or with lengths that contradict each other.
        malformed,
        /// Dropped: IP for another address.
        not_for_us,
        /// Dropped: any other protocol or port.
        other,
        /// PTP, forwarded in clear to the plain port by a bypass rule.
        ptp_forwarded,
        /// Dropped: ESP from a peer, but of an epoch that no keys are held for.
        epoch_not_live,
    }
}

fn sum(map: &impl MapCore, slot: u32) -> libbpf_rs::Result<u64> {
    let per_cpu = map.lookup_percpu(&slot.to_ne_bytes(), MapFlags::ANY)?.unwrap_or_default();
    Ok(per_cpu.iter().filter_map(|value| value.as_slice().try_into().ok().map(u64::from_ne_bytes)).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_keep_names_and_order() {
        let counters = PlainCounters { received: 3, to_socket: 2, no_socket: 1, ..PlainCounters::default() };
        let rows: Vec<_> = counters.rows().collect();
        assert_eq!(rows[..4], [("received", 3), ("to_socket", 2), ("no_socket", 1), ("ptp_forwarded", 0)]);
        assert_eq!(rows.len(), 6);
        assert_eq!(CipherCounters::default().rows().count(), 14);
    }
}
