//! How much one flow key may be used (`docs/protocol.md`, section 5).

/// Soft and hard limits of one flow key. The soft one asks for a rotation, the hard one refuses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FlowLimits {
    /// Packets after which the link rotates early.
    pub soft_packets: u64,
    /// Packets that one key seals at the most; below 2^32.
    pub hard_packets: u64,
    /// Bytes of plaintext after which the link rotates early.
    pub soft_bytes: u64,
    /// Bytes of plaintext that one key seals at the most.
    pub hard_bytes: u64,
}

impl Default for FlowLimits {
    /// 2^28 packets or 64 GiB, and 2^30 packets or 256 GiB: within an advantage of 2^-57 by the AEAD limits of
    /// draft-irtf-cfrg-aead-limits for AES-256-GCM.
    fn default() -> Self {
        FlowLimits {
            soft_packets: 1 << 28,
            hard_packets: 1 << 30,
            soft_bytes: 64 << 30,
            hard_bytes: 256 << 30,
        }
    }
}

/// Whether one more packet may be sealed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Use {
    /// Yes.
    Fine,
    /// Yes, and the epoch should be replaced soon.
    Soft,
    /// No.
    Exhausted,
}

impl FlowLimits {
    /// Judges the packet that would be number `packets`, with `bytes` sealed once it is.
    #[inline]
    pub fn judge(&self, packets: u64, bytes: u64) -> Use {
        if packets > self.hard_packets || bytes > self.hard_bytes {
            Use::Exhausted
        } else if packets > self.soft_packets || bytes > self.soft_bytes {
            Use::Soft
        } else {
            Use::Fine
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_asks_first_and_refuses_later() {
        let limits = FlowLimits { soft_packets: 2, hard_packets: 3, soft_bytes: 20, hard_bytes: 30 };
        assert_eq!(
            [(2, 20), (3, 20), (4, 20)].map(|(p, b)| limits.judge(p, b)),
            [Use::Fine, Use::Soft, Use::Exhausted]
        );
        assert_eq!(
            [(1, 21), (1, 30), (1, 31)].map(|(p, b)| limits.judge(p, b)),
            [Use::Soft, Use::Soft, Use::Exhausted]
        );
    }
}
