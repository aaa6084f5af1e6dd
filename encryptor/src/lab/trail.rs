//! The trail that epochs and flows leave in the clear SPIs of one direction (docs/protocol.md, section 2).

use std::collections::HashSet;

/// Epochs in their order, and the flows of each; probes (slot 0) are not counted as traffic.
#[derive(Clone, Debug, Default)]
pub struct Trail {
    current: Option<Epoch>,
    previous: Option<Epoch>,
    epochs: u64,
    most_flows: usize,
}

#[derive(Clone, Debug)]
struct Epoch {
    number: u32,
    flows: HashSet<u32>,
}

impl Trail {
    /// Takes in the SPI of one packet.
    pub fn note(&mut self, spi: u32) {
        let (number, slot, lane_and_slot) = (spi >> 26, spi & 0x1f_ffff, spi & 0x3ff_ffff);
        if slot == 0 {
            return;
        }
        let known = [&mut self.current, &mut self.previous]
            .into_iter()
            .flatten()
            .find(|epoch| epoch.number == number);
        let flows = match known {
            Some(epoch) => {
                epoch.flows.insert(lane_and_slot);
                epoch.flows.len()
            }
            // Packets may overtake each other at a switch: only a number that is neither this epoch nor the last is new.
            None => {
                self.previous = self.current.replace(Epoch { number, flows: HashSet::from([lane_and_slot]) });
                self.epochs += 1;
                1
            }
        };
        self.most_flows = self.most_flows.max(flows);
    }

    /// How many epochs carried traffic. Numbers repeat after 31; each turn counts again.
    pub fn epochs(&self) -> u64 {
        self.epochs
    }

    /// The most flows that one epoch carried.
    pub fn flows(&self) -> u64 {
        self.most_flows as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trail(packets: impl IntoIterator<Item = (u32, u32)>) -> (u64, u64) {
        let mut trail = Trail::default();
        packets.into_iter().for_each(|(epoch, slot)| trail.note(epoch << 26 | slot));
        (trail.epochs(), trail.flows())
    }

    #[test]
    fn reordering_at_a_switch_makes_no_epoch() {
        assert_eq!(trail([(1, 1), (1, 2), (2, 1), (1, 2), (2, 2), (3, 1)]), (3, 2));
    }

    #[test]
    fn probes_are_no_traffic_and_numbers_come_round() {
        assert_eq!(trail([(1, 0), (1, 0)]), (0, 0));
        let two_turns = (0..62).map(|turn| (turn % 31 + 1, 5));
        assert_eq!(trail(two_turns), (62, 1));
    }
}
