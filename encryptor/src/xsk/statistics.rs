/// A struct of named counters.
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
        }
    };
}

counters! {
    /// What the kernel counts at a port's socket (XDP_STATISTICS).
    Statistics {
        /// Received frames dropped for other reasons than the named ones (too large for a chunk, for one).
        rx_dropped,
        /// Fill ring entries that the kernel found invalid: a defect of ours.
        rx_invalid_descs,
        /// Transmit ring entries that the kernel found invalid: a defect of ours.
        tx_invalid_descs,
        /// Received frames dropped because the receive ring was full: the worker is too slow.
        rx_ring_full,
        /// Times that the fill ring was found empty: the worker is too slow, or the UMEM too small.
        rx_fill_ring_empty_descs,
        /// Times that the transmit ring was found empty: no loss.
        tx_ring_empty_descs,
    }
}

counters! {
    /// What a port counts itself.
    PortCounters {
        /// Frames received.
        rx_frames,
        /// Bytes received.
        rx_bytes,
        /// Frames of several chunks, or one without room behind it, that were put into a jumbo buffer.
        rx_gathered,
        /// Such frames dropped because no jumbo buffer was free: the worker is too slow.
        rx_no_jumbo,
        /// Such frames dropped because they are larger than a jumbo buffer.
        rx_too_long,
        /// Descriptors from the kernel that named a chunk it did not have, or lay beyond one: ignored or dropped, a frame of
        /// several chunks once.
        rx_invalid,
        /// Frames given to the transmit ring.
        tx_frames,
        /// Bytes given to the transmit ring.
        tx_bytes,
        /// Frames from jumbo buffers that were cut into chunks.
        tx_scattered,
        /// Frames shorter than an Ethernet header, dropped: the kernel would keep them.
        tx_short,
        /// Frames that the driver dropped (EBUSY): its queue was full. On veth, a queueing discipline avoids it.
        tx_lost,
        /// Kicks that left frames in the transmit ring at their deadline. They go with the next kick.
        tx_stalled,
        /// Completions that named a chunk that was not being sent: ignored.
        tx_invalid,
    }
}

impl From<libc::xdp_statistics> for Statistics {
    fn from(kernel: libc::xdp_statistics) -> Self {
        Self {
            rx_dropped: kernel.rx_dropped,
            rx_invalid_descs: kernel.rx_invalid_descs,
            tx_invalid_descs: kernel.tx_invalid_descs,
            rx_ring_full: kernel.rx_ring_full,
            rx_fill_ring_empty_descs: kernel.rx_fill_ring_empty_descs,
            tx_ring_empty_descs: kernel.tx_ring_empty_descs,
        }
    }
}
