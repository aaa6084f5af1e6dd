//! What a worker counts. One writer, many readers: the worker adds, anyone may read, and nobody takes a lock.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::drops::DropReason;

macro_rules! tallies {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal;)+) => {
        /// What is counted beside drops.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u8)]
        pub enum Tally { $($(#[doc = $doc])+ $variant),+ }

        impl Tally {
            /// All tallies, in the order of their counters.
            pub const ALL: &'static [Tally] = &[$(Tally::$variant),+];

            /// The counter's name.
            pub fn name(self) -> &'static str {
                match self { $(Tally::$variant => $name),+ }
            }
        }
    };
}

tallies! {
    /// Frames received from the plain port's sockets.
    PlainIn = "plain_in";
    /// Packets handed to the cipher port, probes left out. PlainIn + FragmentsAdded + IcmpAdded =
    /// CipherOut + the TX drops.
    CipherOut = "cipher_out";
    /// Packets received from the cipher port's sockets.
    CipherIn = "cipher_in";
    /// Frames handed to the plain port. CipherIn = PlainOut + Dummies + the RX drops.
    PlainOut = "plain_out";
    /// Frames that fragmentation added: one that was cut in three counts two.
    FragmentsAdded = "fragments_added";
    /// ICMP errors made for hosts behind the peer, whose packets are among the RX drops: put through like frames of the plain side.
    IcmpAdded = "icmp_added";
    /// ICMP errors handed to the plain port, for senders of frames that are among the TX drops. They are not in PlainOut.
    IcmpOut = "icmp_out";
    /// Genuine dummy packets received: the peer's probes.
    Dummies = "dummies_in";
    /// Probes sent.
    Probes = "probes_out";
    /// Packets that arrived here and were handed to another worker, the owner of their flow.
    HandedOver = "handed_over";
    /// Packets that other workers handed to this one. In all as many as were handed over.
    TakenOver = "taken_over";
    /// Frames that a bypass rule let out in clear. They are part of CipherOut, or of the drops at a full ring.
    BypassOut = "bypass_out";
    /// Frames that a bypass rule let in in clear. They are part of PlainOut, or of the drops at a full ring.
    BypassIn = "bypass_in";
    /// Bytes of plain frames encrypted.
    BytesOut = "bytes_out";
    /// Bytes of plain frames decrypted.
    BytesIn = "bytes_in";
    /// Keys derived for flows that had not been seen.
    Derivations = "derivations";
}

/// What is measured rather than counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Gauge {
    /// Flows of the sending epoch in use.
    TxFlows,
    /// Flows of the fullest receiving epoch.
    RxFlows,
}

/// Whether a reason belongs to the direction from plain to cipher.
pub fn is_tx(reason: DropReason) -> bool {
    (reason as usize) <= (DropReason::CipherRingFull as usize)
}

/// All counters of one worker.
#[derive(Debug)]
pub struct Counters {
    tallies: Vec<AtomicU64>,
    drops: Vec<AtomicU64>,
    gauges: [AtomicU64; 2],
}

impl Counters {
    /// All zero.
    pub fn new() -> Counters {
        let zeros = |length| std::iter::repeat_with(AtomicU64::default).take(length).collect();
        Counters {
            tallies: zeros(Tally::ALL.len()),
            drops: zeros(DropReason::ALL.len()),
            gauges: Default::default(),
        }
    }

    /// Adds `count`. To be called by the one writer only.
    pub fn add(&self, tally: Tally, count: u64) {
        bump(&self.tallies[tally as usize], count);
    }

    /// Counts `count` drops. To be called by the one writer only.
    pub fn add_dropped(&self, reason: DropReason, count: u64) {
        bump(&self.drops[reason as usize], count);
    }

    /// Adds all that other counters count. To be called by the one writer only.
    pub fn add_all(&self, other: &Counters) {
        Tally::ALL.iter().for_each(|&tally| self.add(tally, other.tally(tally)));
        DropReason::ALL.iter().for_each(|&reason| self.add_dropped(reason, other.dropped(reason)));
    }

    /// Sets a gauge. To be called by the one writer only.
    pub fn set(&self, gauge: Gauge, value: u64) {
        self.gauges[gauge as usize].store(value, Ordering::Relaxed);
    }

    /// Reads a gauge.
    pub fn gauge(&self, gauge: Gauge) -> u64 {
        self.gauges[gauge as usize].load(Ordering::Relaxed)
    }

    /// Reads a tally.
    pub fn tally(&self, tally: Tally) -> u64 {
        self.tallies[tally as usize].load(Ordering::Relaxed)
    }

    /// Reads a drop counter.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.drops[reason as usize].load(Ordering::Relaxed)
    }
}

impl Default for Counters {
    fn default() -> Self {
        Self::new()
    }
}

/// With one writer a load and a store are enough, and cheaper than an atomic addition.
fn bump(counter: &AtomicU64, count: u64) {
    counter.store(counter.load(Ordering::Relaxed) + count, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_land_under_their_own_name() {
        let counters = Counters::new();
        counters.add(Tally::PlainIn, 3);
        counters.add_dropped(DropReason::Icv, 2);
        counters.add_dropped(DropReason::Icv, 1);
        for &tally in Tally::ALL {
            assert_eq!(
                counters.tally(tally),
                if tally == Tally::PlainIn { 3 } else { 0 },
                "{}",
                tally.name()
            );
        }
        for &reason in DropReason::ALL {
            assert_eq!(
                counters.dropped(reason),
                if reason == DropReason::Icv { 3 } else { 0 },
                "{}",
                reason.name()
            );
        }
        assert!(
            is_tx(DropReason::NoEpoch) && is_tx(DropReason::CipherRingFull) && !is_tx(DropReason::Truncated)
        );
    }
}
