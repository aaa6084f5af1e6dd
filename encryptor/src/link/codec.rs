//! Records on the link channel: a 4-byte big-endian length, then one JSON message.

use super::Message;

/// The longest message in bytes. A longer one ends the connection.
pub const MAX_MESSAGE: usize = 64 * 1024;

/// Encodes a message as a record; the message's own bytes start at offset 4.
pub fn encode(message: &Message) -> Vec<u8> {
    let body = serde_json::to_vec(message).expect("messages consist of strings, numbers and lists");
    debug_assert!(body.len() <= MAX_MESSAGE);
    [&(body.len() as u32).to_be_bytes()[..], &body].concat()
}

/// Puts records together from what the connection yields.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
}

impl Decoder {
    /// Takes in bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message and its bytes, if there is one; an error is the peer's fault and final.
    pub fn next_message(&mut self) -> Result<Option<(Message, Vec<u8>)>, String> {
        let Some(head) = self.buffer.first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_be_bytes(*head) as usize;
        if length > MAX_MESSAGE {
            return Err(format!("a message of {length} bytes, more than {MAX_MESSAGE}"));
        }
        if self.buffer.len() < 4 + length {
            return Ok(None);
        }
        let body: Vec<u8> = self.buffer.drain(..4 + length).skip(4).collect();
        match serde_json::from_slice(&body) {
            Ok(message) => Ok(Some((message, body))),
            Err(error) => Err(format!("a message that cannot be read: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spi::Epoch;

    #[test]
    fn messages_survive_any_cut() {
        let sent = [Message::Ping, Message::Ready { epoch: Epoch::FIRST }, Message::Pong];
        let bytes: Vec<u8> = sent.iter().flat_map(encode).collect();
        for step in 1..bytes.len() {
            let (mut decoder, mut received) = (Decoder::default(), Vec::new());
            for part in bytes.chunks(step) {
                decoder.push(part);
                while let Some((message, body)) = decoder.next_message().unwrap() {
                    assert_eq!(encode(&message)[4..], body);
                    received.push(message);
                }
            }
            assert_eq!(received, sent);
        }
    }

    #[test]
    fn too_long_and_unreadable_messages_are_refused() {
        let mut decoder = Decoder::default();
        decoder.push(&(MAX_MESSAGE as u32 + 1).to_be_bytes());
        assert!(decoder.next_message().is_err());
        let mut decoder = Decoder::default();
        decoder.push(&[0, 0, 0, 2, b'{', b'x']);
        assert!(decoder.next_message().is_err());
    }
}
