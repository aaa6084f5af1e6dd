//! MPLS label stacks (RFC 3032).

/// Bytes of a label stack entry.
const ENTRY: usize = 4;
/// Entries that are followed before a stack counts as odd.
const MAX_DEPTH: usize = 8;
const BOTTOM: u8 = 0x01;

/// A label stack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LabelStack {
    /// The two outermost labels, 20 bits each; 0 where there is none.
    pub labels: [u32; 2],
    /// Bytes in front of what the stack carries; `None`: its bottom is cut off or too deep.
    pub payload: Option<usize>,
}

/// Reads the stack that `bytes` begin with. `None`: not even the top label is there.
pub fn parse_labels(bytes: &[u8]) -> Option<LabelStack> {
    bytes.first_chunk::<ENTRY>()?;
    let mut stack = LabelStack { labels: [0; 2], payload: None };
    for depth in 0..MAX_DEPTH {
        let at = depth * ENTRY;
        let Some(&entry) = bytes.get(at..).and_then(<[u8]>::first_chunk::<ENTRY>) else { break };
        if let Some(label) = stack.labels.get_mut(depth) {
            *label = u32::from_be_bytes(entry) >> 12;
        }
        if entry[2] & BOTTOM != 0 {
            stack.payload = Some(at + ENTRY);
            break;
        }
    }
    Some(stack)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(label: u32, bottom: bool) -> [u8; 4] {
        (label << 12 | u32::from(bottom) << 8 | 64).to_be_bytes()
    }

    #[test]
    fn labels_are_read_down_to_the_bottom() {
        let one = entry(16, true);
        assert_eq!(parse_labels(&one), Some(LabelStack { labels: [16, 0], payload: Some(4) }));
        let three = [entry(0xf_ffff, false), entry(17, false), entry(18, true)].concat();
        assert_eq!(parse_labels(&three), Some(LabelStack { labels: [0xf_ffff, 17], payload: Some(12) }));
    }

    #[test]
    fn a_stack_without_a_bottom_has_no_payload() {
        let endless = entry(16, false).repeat(40);
        assert_eq!(parse_labels(&endless), Some(LabelStack { labels: [16, 16], payload: None }));
        assert_eq!(parse_labels(&endless[..6]), Some(LabelStack { labels: [16, 0], payload: None }));
        assert_eq!(parse_labels(&endless[..3]), None);
    }
}
