//! The link channel: how two sites agree on key_IDs. TLS 1.3 between the cipher-side addresses; it carries key_IDs and
//! states, never keys, and does not ride inside the tunnel that it keys.

mod channel;
mod codec;
mod identity;
mod message;

pub use channel::{Channel, ChannelError, ChannelEvent, SESSION_LIFETIME};
pub use codec::{Decoder, MAX_MESSAGE, encode};
pub use identity::{ChannelIdentity, IdentityError, IdentityFiles};
pub use message::{Hello, Message, MissingKey, OfferedKey, PROTOCOL_VERSION};
