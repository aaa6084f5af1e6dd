//! Why a frame was dropped. Each reason has one name: the variant, its counter, and the text beside it.

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal, $text:literal;)+) => {
        /// A reason to drop a frame.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(u8)]
        pub enum DropReason { $($(#[doc = $doc])+ $variant),+ }

        impl DropReason {
            /// All reasons, in the order of their counters.
            pub const ALL: &'static [DropReason] = &[$(DropReason::$variant),+];

            /// The counter's name.
            pub fn name(self) -> &'static str {
                match self { $(DropReason::$variant => $name),+ }
            }

            /// A line for people.
            pub fn text(self) -> &'static str {
                match self { $(DropReason::$variant => $text),+ }
            }
        }
    };
}

reasons! {
    /// TX: no epoch is active.
    NoEpoch = "no_epoch", "no epoch is active yet, or its keys are gone at the peer";
    /// TX: the epoch reached its hard age limit.
    EpochExpired = "epoch_expired", "the epoch reached its hard age limit and has no successor";
    /// TX: the flow's key reached a hard limit.
    FlowExhausted = "flow_exhausted", "the flow's key reached its hard limit of packets or bytes";
    /// TX: no slot is left in this epoch.
    FlowTableFull = "flow_table_full", "no slot is left for a new flow in this epoch";
    /// TX: shorter than an Ethernet header.
    Runt = "runt", "shorter than an Ethernet header";
    /// TX: the policy says so.
    PolicyDiscard = "policy_discard", "no rule of the policy lets it out, or a discard rule means it";
    /// TX: in doubt.
    PolicyUnclear = "policy_unclear", "a discard rule may mean it, and it does not show enough to tell";
    /// TX, mode ip: neither IPv4 nor IPv6, or tagged.
    NotIp = "not_ip", "mode ip: neither IPv4 nor IPv6, or behind a VLAN tag";
    /// TX, mode ip: to a group.
    Multicast = "multicast", "mode ip: multicast and broadcast stay on their side";
    /// TX, mode ip: addressed to another station.
    NotForGateway = "not_for_gateway", "mode ip: not addressed to the plain port's hardware address";
    /// TX, mode ip: a broken IP header.
    BadIp = "bad_ip", "mode ip: an IP header whose lengths, version or checksum are wrong";
    /// TX, mode ip: an address that no router forwards.
    NotRoutable = "not_routable", "mode ip: from or to an address that no router forwards, or to the gateway itself";
    /// TX, mode ip: the hops have run out.
    TtlExpired = "ttl_expired", "mode ip: the TTL or hop limit ran out; the sender is told, within bounds";
    /// TX: would not fit the cipher port's MTU.
    TooBig = "too_big", "does not fit the cipher port's MTU once encrypted (sizes.oversize says what is done about it)";
    /// TX: no buffer for its fragments.
    NoBuffer = "no_buffer", "it had to be fragmented, and no buffer was free for that";
    /// TX: the next hop's hardware address is not known.
    NoNeighbour = "no_neighbour", "the next hop's hardware address is not resolved";
    /// TX: the cipher port's ring was full.
    CipherRingFull = "cipher_ring_full", "the cipher port's transmit ring was full";
    /// RX: of no link.
    NoLink = "no_link", "from an address that no link has, such as that of one that was just removed";
    /// RX: shorter than its headers say.
    Truncated = "truncated", "shorter than its headers say";
    /// RX: headers that contradict each other.
    Malformed = "malformed", "headers that contradict each other or are not ESP in UDP";
    /// RX: an SPI that no sender makes.
    BadSpi = "bad_spi", "an SPI that no sender makes, or one outside this link's lanes and slots";
    /// RX: the UDP source port is not the SPI's.
    SourcePort = "source_port", "the UDP source port is not the one of the SPI (nat = true turns this check off)";
    /// RX: an epoch without keys.
    EpochUnknown = "epoch_unknown", "an epoch that no keys are held for";
    /// RX: the owner of the packet's flow takes no more packets from other workers.
    HandoverFull = "handover_full", "it arrived on another worker's queue than its flow's owner, whose box was full";
    /// RX: the worker that owns the flow has no room for one more.
    RxTableFull = "rx_table_full", "the worker that owns the flow has no room for a new one in this epoch";
    /// RX: the budget for unseen SPIs is spent.
    DerivationBudget = "derivation_budget", "the budget of key derivations for unseen flows is spent";
    /// RX: seen before, or too old to tell.
    Replayed = "replayed", "seen before, or too old for the replay window";
    /// RX: not genuine.
    Icv = "icv", "not genuine: the ICV does not verify";
    /// RX: the IV and the ESP header disagree.
    SequenceMismatch = "sequence_mismatch", "the IV's low half is not the ESP header's sequence number";
    /// RX: padding against RFC 4303.
    Padding = "padding", "padding that RFC 4303 does not allow";
    /// RX: a next header that is not carried.
    NextHeader = "next_header", "a next header that this mode does not carry";
    /// RX: the inner frame is no Ethernet frame, or too long for the plain port.
    InnerSize = "inner_size", "the inner frame or packet is a runt or does not fit the plain port's MTU (mode ip: its sender is told, within bounds)";
    /// RX: decrypted, and no protect rule means it.
    PolicyInbound = "policy_inbound", "decrypted, but no protect rule of this site means it";
    /// RX: in clear, and no bypass rule means it.
    PolicyClear = "policy_clear", "arrived in clear, but no bypass rule of this site means it";
    /// RX: marked as congested, and the inner header cannot say so.
    EcnNotCapable = "ecn_not_capable", "marked as congested on the way, and its sender understands loss alone (RFC 6040)";
    /// RX, mode ip: no IP packet.
    InnerIp = "inner_ip", "mode ip: the inner packet is not well-formed, or not of the version that its next header says";
    /// RX, mode ip: an address that no router forwards.
    InnerAddress = "inner_address", "mode ip: the inner packet is from or to an address that no router forwards";
    /// RX, mode ip: the hops have run out.
    InnerTtl = "inner_ttl", "mode ip: the inner packet's TTL or hop limit ran out; the sender is told, within bounds";
    /// RX, mode ip: no route.
    NoRoute = "no_route", "mode ip: no route over the plain port leads to the inner packet's destination";
    /// RX, mode ip: the next hop on the plain side is not known.
    NoPlainNeighbour = "no_plain_neighbour", "mode ip: the next hop on the plain side is not resolved; it is asked for";
    /// RX: the plain port's ring was full.
    PlainRingFull = "plain_ring_full", "the plain port's transmit ring was full";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_a_name_of_its_own_and_stands_at_its_place() {
        let names: std::collections::HashSet<&str> =
            DropReason::ALL.iter().map(|reason| reason.name()).collect();
        assert_eq!(names.len(), DropReason::ALL.len());
        for (place, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, place);
            assert!(!reason.text().is_empty());
        }
    }
}
