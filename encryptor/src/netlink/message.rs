//! Netlink messages and their attributes (`linux/netlink.h`, `linux/rtnetlink.h`), in the host's byte order: read with every
//! length checked, and written.

/// Length of `struct nlmsghdr`.
const HEADER: usize = 16;
/// Length of `struct rtattr`.
const ATTRIBUTE: usize = 4;
/// Bits of an attribute's type that say something else (NLA_TYPE_MASK).
const TYPE_MASK: u16 = 0x3fff;

/// End of a dump.
pub(super) const DONE: u16 = 3;
/// An error, or an acknowledgement.
pub(super) const ERROR: u16 = 2;

/// One message: its type, and what is behind its header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Message<'a> {
    pub(super) kind: u16,
    pub(super) body: &'a [u8],
}

/// The messages of one datagram, up to the first that lies about its length.
pub(super) fn messages(mut datagram: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let length = u32_at(datagram, 0)? as usize;
        let kind = u16_at(datagram, 4)?;
        let body = datagram.get(HEADER..length)?;
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Message { kind, body })
    })
}

/// Type and value of each attribute, up to the first that lies about its length.
pub(super) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(bytes, 0)?);
        let kind = u16_at(bytes, 2)? & TYPE_MASK;
        let value = bytes.get(ATTRIBUTE..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// A request: `kind` and `flags` of the header, the fixed part behind it, and one attribute if there is one.
pub(super) fn request(kind: u16, flags: u16, fixed: &[u8], attribute: Option<(u16, &[u8])>) -> Vec<u8> {
    let mut message = vec![0; HEADER];
    message.extend_from_slice(fixed);
    if let Some((kind, value)) = attribute {
        message.extend_from_slice(&((ATTRIBUTE + value.len()) as u16).to_ne_bytes());
        message.extend_from_slice(&kind.to_ne_bytes());
        message.extend_from_slice(value);
    }
    message.resize(message.len().next_multiple_of(4), 0);
    let length = message.len() as u32;
    message[0..4].copy_from_slice(&length.to_ne_bytes());
    message[4..6].copy_from_slice(&kind.to_ne_bytes());
    message[6..8].copy_from_slice(&flags.to_ne_bytes());
    message
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_written_is_read() {
        let one = request(26, 0x301, &[10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], Some((4, &[7, 0, 0])));
        let two = request(30, 1, &[2; 12], None);
        let both = [&one[..], &two].concat();
        let read: Vec<Message<'_>> = messages(&both).collect();
        assert_eq!(read.len(), 2);
        assert_eq!((read[0].kind, read[1].kind), (26, 30));
        assert_eq!(attributes(&read[0].body[12..]).collect::<Vec<_>>(), [(4, &[7, 0, 0][..])]);
        assert_eq!(read[1].body, [2; 12]);
    }

    proptest! {
        #[test]
        fn no_bytes_panic_or_go_on_for_ever(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(messages(&bytes).count() <= bytes.len());
            prop_assert!(attributes(&bytes).count() <= bytes.len());
        }
    }
}
