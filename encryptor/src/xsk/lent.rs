/// Which chunks are in the kernel's hands on one way (receive or transmit) of one port.
///
/// A chunk's bit is set when it is put into a ring and cleared when it comes back. A descriptor whose bit is not set makes no
/// token, so even a kernel that returns a chunk twice cannot give the same bytes to two owners here.
#[derive(Debug)]
pub(super) struct Lent {
    bits: Vec<u64>,
    count: u32,
}

impl Lent {
    /// None of `chunks` chunks is lent.
    pub(super) fn new(chunks: u32) -> Self {
        Self { bits: vec![0; chunks.div_ceil(64) as usize], count: 0 }
    }

    /// Notes that `chunk` went to the kernel.
    ///
    /// # Panics
    ///
    /// When it was there already, or does not exist.
    pub(super) fn insert(&mut self, chunk: u32) {
        let (word, bit) = place(chunk);
        assert!(self.bits[word] & bit == 0, "chunk {chunk} is lent twice");
        self.bits[word] |= bit;
        self.count += 1;
    }

    /// Notes that `chunk` came back. False if it was not lent, or does not exist.
    pub(super) fn remove(&mut self, chunk: u32) -> bool {
        let (word, bit) = place(chunk);
        match self.bits.get_mut(word) {
            Some(bits) if *bits & bit != 0 => {
                *bits &= !bit;
                self.count -= 1;
                true
            }
            _ => false,
        }
    }

    /// How many chunks are lent.
    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// Takes note that all chunks came back, and names them.
    pub(super) fn remove_all(&mut self) -> Vec<u32> {
        let chunks = self.bits.len() as u32 * 64;
        let lent = (0..chunks).filter(|chunk| self.remove(*chunk)).collect();
        debug_assert_eq!(self.count, 0);
        lent
    }
}

fn place(chunk: u32) -> (usize, u64) {
    (chunk as usize / 64, 1 << (chunk % 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_comes_back_once() {
        let mut lent = Lent::new(65);
        lent.insert(0);
        lent.insert(64);
        assert_eq!(lent.count(), 2);
        assert!(lent.remove(64));
        assert!(!lent.remove(64), "a second time");
        assert!(!lent.remove(1), "never lent");
        assert!(!lent.remove(u32::MAX), "no such chunk");
        assert_eq!(lent.remove_all(), [0]);
        assert_eq!(lent.count(), 0);
    }

    #[test]
    #[should_panic(expected = "chunk 3 is lent twice")]
    fn lending_twice_is_a_defect() {
        let mut lent = Lent::new(64);
        lent.insert(3);
        lent.insert(3);
    }
}
