//! The SPI tells which key opens a packet: epoch, lane and slot (see `docs/protocol.md`, section 2).

use std::fmt;

/// Bits of the slot, the lowest part of an SPI.
const SLOT_BITS: u32 = 21;
/// Bits of the lane, above the slot.
const LANE_BITS: u32 = 5;

/// Slots per lane and epoch; slot 0 is for probes.
pub const MAX_SLOTS: u32 = 1 << SLOT_BITS;

/// Lanes of a sender, one for each of its workers.
pub const MAX_LANES: usize = 1 << LANE_BITS;

/// A key epoch of one direction, 1 to 31. 0 does not exist, so that every SPI is above 255, the range that
/// RFC 4303 section 2.1 reserves.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Epoch(u8);

impl Epoch {
    /// The first epoch of a process.
    pub const FIRST: Epoch = Epoch(1);
    /// How many epoch numbers there are, 0 included: the length of a table indexed by [`Epoch::index`].
    pub const COUNT: usize = 32;

    /// All of them.
    pub fn all() -> impl Iterator<Item = Epoch> {
        (1..=31).map(Epoch)
    }

    /// The number after this one; 31 is followed by 1.
    #[must_use]
    pub fn next(self) -> Epoch {
        Epoch(self.0 % 31 + 1)
    }

    /// The number as an index, 1 to 31.
    #[inline]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl TryFrom<u8> for Epoch {
    type Error = String;

    fn try_from(number: u8) -> Result<Self, String> {
        match number {
            1..=31 => Ok(Epoch(number)),
            _ => Err(format!("epoch {number} is not within 1 to 31")),
        }
    }
}

impl From<Epoch> for u8 {
    fn from(epoch: Epoch) -> u8 {
        epoch.0
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A security parameters index: epoch (bits 30..26), lane (25..21), slot (20..0); bit 31 is 0.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Spi(u32);

impl Spi {
    /// Puts an SPI together. `lane` is below 32 and `slot` below [`MAX_SLOTS`]; higher bits are cut off.
    #[inline]
    pub fn new(epoch: Epoch, lane: u8, slot: u32) -> Spi {
        let lane = u32::from(lane) & ((1 << LANE_BITS) - 1);
        Spi((u32::from(epoch.0) << (SLOT_BITS + LANE_BITS)) | (lane << SLOT_BITS) | (slot & (MAX_SLOTS - 1)))
    }

    /// The SPI of another slot in the same epoch and lane. Higher bits of `slot` are cut off.
    #[inline]
    #[must_use]
    pub fn in_slot(self, slot: u32) -> Spi {
        Spi(self.0 & !(MAX_SLOTS - 1) | slot & (MAX_SLOTS - 1))
    }

    /// The SPI as it stands on the wire. `None`: bit 31 is set or the epoch is 0, so no sender of ours made it.
    #[inline]
    pub fn from_wire(value: u32) -> Option<Spi> {
        let top = u8::try_from(value >> (SLOT_BITS + LANE_BITS)).ok()?;
        Epoch::try_from(top).ok().map(|_| Spi(value))
    }

    /// The value on the wire.
    #[inline]
    pub fn value(self) -> u32 {
        self.0
    }

    /// The sender's key epoch.
    #[inline]
    pub fn epoch(self) -> Epoch {
        Epoch((self.0 >> (SLOT_BITS + LANE_BITS)) as u8)
    }

    /// The sending worker's lane.
    #[inline]
    pub fn lane(self) -> u8 {
        ((self.0 >> SLOT_BITS) & ((1 << LANE_BITS) - 1)) as u8
    }

    /// The flow within the lane; 0 for probes.
    #[inline]
    pub fn slot(self) -> u32 {
        self.0 & (MAX_SLOTS - 1)
    }
}

impl fmt::Display for Spi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:08x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_back() {
        for epoch in 1..=31u8 {
            for (lane, slot) in [(0, 0), (31, MAX_SLOTS - 1), (5, 77)] {
                let spi = Spi::new(Epoch(epoch), lane, slot);
                assert_eq!((spi.epoch().0, spi.lane(), spi.slot()), (epoch, lane, slot));
                assert_eq!(Spi::from_wire(spi.value()), Some(spi));
                assert!(spi.value() > 255 && spi.value() >> 31 == 0);
            }
        }
    }

    #[test]
    fn foreign_values_are_no_spi() {
        for value in [0, 255, (1 << 26) - 1, 1 << 31, u32::MAX] {
            assert_eq!(Spi::from_wire(value), None, "{value:#x}");
        }
    }

    #[test]
    fn epochs_go_round_without_zero() {
        let mut epoch = Epoch::FIRST;
        for _ in 0..31 {
            epoch = epoch.next();
            assert!((1..=31).contains(&epoch.0));
        }
        assert_eq!(epoch, Epoch::FIRST);
        assert!(Epoch::try_from(0).is_err() && Epoch::try_from(32).is_err());
    }
}
