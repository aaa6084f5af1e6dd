//! One connection of the link channel: TLS over a non-blocking TCP socket. Thin; what is said is decided elsewhere.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, setsockopt, socket, sockopt,
};
use rustls::{ClientConnection, Connection, ServerConnection};

use super::identity::ALPN;
use super::{ChannelIdentity, Decoder, Message, encode};
use crate::keys::PqSecret;

/// After this age the calling end makes a new session, with a new ML-KEM secret.
pub const SESSION_LIFETIME: Duration = Duration::from_secs(3600);
/// Reads in one go, so that a peer that talks without end cannot hold the control thread.
const READS: usize = 64;
/// A handshake that takes longer is given up.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// A ping goes out after this much silence.
const PING_AFTER: Duration = Duration::from_secs(1);
/// A peer that is silent for longer is gone.
const SILENCE_LIMIT: Duration = Duration::from_secs(4);
/// The calling end makes a new session after [`SESSION_LIFETIME`]; both ends drop one that is older than this, whatever
/// the wire did to the new one.
const AGE_LIMIT: Duration = Duration::from_secs(2 * SESSION_LIFETIME.as_secs());
/// TCP segments are no larger than what IPv6 asks of every link (RFC 8200 section 5; 1,280 without headers), so that the handshake
/// passes a path that drops large packets and tells nobody.
const SEGMENT: u32 = 1220;
/// Unsent TLS records at the most.
const BUFFER_LIMIT: usize = 256 * 1024;
/// RFC 8446 section 7.5: label of the exporter.
const EXPORTER_LABEL: &[u8] = b"EXPORTER-qhaul-epoch-v1";

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// TCP failed.
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    /// TLS failed: somebody who is not the peer, or certificates that do not fit.
    #[error("TLS failed: {0}; check channel.ca, channel.cert and channel.peer_name at both sites")]
    Tls(#[from] rustls::Error),
    /// It is not the peer.
    #[error("the other end is not the peer: {0}")]
    NotThePeer(String),
    /// The peer broke the protocol.
    #[error("the peer broke the protocol: {0}")]
    Protocol(String),
    /// Its secret has served long enough, and the wire let no new session through.
    #[error("the session is older than {} hours and no new one came about", AGE_LIMIT.as_secs() / 3600)]
    Old,
    /// Nothing was heard for too long.
    #[error("nothing was heard for {} seconds", .0.as_secs())]
    Silent(Duration),
    /// The peer closed the connection.
    #[error("the peer closed the connection")]
    Closed,
}

/// What a connection yields.
#[derive(Debug)]
pub enum ChannelEvent {
    /// The handshake is done, and it is the peer.
    Secure,
    /// A message and its own bytes.
    Message(Message, Vec<u8>),
}

/// A connection.
#[derive(Debug)]
pub struct Channel {
    stream: TcpStream,
    tls: Connection,
    decoder: Decoder,
    identity: ChannelIdentity,
    secure_since: Option<Instant>,
    opened: Instant,
    heard: Instant,
    pinged: Instant,
    ended: bool,
    unread: bool,
}

impl Channel {
    /// Starts a connection from `local`'s address to `peer`.
    pub fn connect(
        local: SocketAddr,
        peer: SocketAddr,
        identity: &ChannelIdentity,
    ) -> Result<Self, ChannelError> {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let family = if peer.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let socket = socket(family, SockType::Stream, flags, None).map_err(io::Error::from)?;
        setsockopt(&socket, sockopt::ReuseAddr, &true).map_err(io::Error::from)?;
        // Told in the SYN, it holds for both ends.
        setsockopt(&socket, sockopt::TcpMaxSeg, &SEGMENT).map_err(io::Error::from)?;
        let from = SockaddrStorage::from(SocketAddr::new(local.ip(), 0));
        bind(socket.as_raw_fd(), &from).map_err(io::Error::from)?;
        match connect(socket.as_raw_fd(), &SockaddrStorage::from(peer)) {
            Ok(()) | Err(Errno::EINPROGRESS) => {}
            Err(errno) => return Err(ChannelError::Io(errno.into())),
        }
        let stream = TcpStream::from_std(std::net::TcpStream::from(socket));
        let tls = ClientConnection::new(identity.client.clone(), identity.peer_name.clone())?;
        Ok(Channel::new(stream, tls.into(), identity))
    }

    /// Takes a connection that came in.
    pub fn accept(stream: TcpStream, identity: &ChannelIdentity) -> Result<Self, ChannelError> {
        let tls = ServerConnection::new(identity.server.clone())?;
        Ok(Channel::new(stream, tls.into(), identity))
    }

    fn new(stream: TcpStream, mut tls: Connection, identity: &ChannelIdentity) -> Channel {
        tls.set_buffer_limit(Some(BUFFER_LIMIT));
        let now = Instant::now();
        // Messages are short, and each one is waited for. Where it cannot be set, they are only slower.
        let _ = stream.set_nodelay(true);
        Channel {
            stream,
            tls,
            decoder: Decoder::default(),
            identity: identity.clone(),
            secure_since: None,
            opened: now,
            heard: now,
            pinged: now,
            ended: false,
            unread: false,
        }
    }

    /// Registers the socket.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        registry.register(&mut self.stream, token, Interest::READABLE | Interest::WRITABLE)
    }

    /// Where the connection comes from or goes to.
    pub fn peer_address(&self) -> Option<SocketAddr> {
        self.stream.peer_addr().ok()
    }

    /// Since when the handshake is done.
    pub fn secure_since(&self) -> Option<Instant> {
        self.secure_since
    }

    /// Reads and writes all that can be without waiting.
    pub fn drive(&mut self, now: Instant) -> Result<Vec<ChannelEvent>, ChannelError> {
        let mut events = Vec::new();
        if let Some(error) = self.stream.take_error()? {
            return Err(ChannelError::Io(error));
        }
        self.unread = true;
        for _ in 0..READS {
            let open = self.read_some(now)?;
            self.become_secure(now, &mut events)?;
            while let Some((message, bytes)) = self.decoder.next_message().map_err(ChannelError::Protocol)? {
                match message {
                    Message::Ping => self.send(&Message::Pong)?,
                    Message::Pong => {}
                    other => events.push(ChannelEvent::Message(other, bytes)),
                }
            }
            match open {
                ReadState::Drained => {
                    self.unread = false;
                    break;
                }
                ReadState::More => {}
                ReadState::Closed if events.is_empty() => return Err(ChannelError::Closed),
                // What was said last counts; the next tick tells of the end.
                ReadState::Closed => {
                    (self.ended, self.unread) = (true, false);
                    break;
                }
            }
        }
        self.flush()?;
        Ok(events)
    }

    /// Whether [`Channel::drive`] left something unread; the poll will not tell again.
    pub fn has_unread(&self) -> bool {
        self.unread
    }

    /// Lets time pass: pings, and notices silence.
    pub fn tick(&mut self, now: Instant) -> Result<(), ChannelError> {
        if self.ended {
            return Err(ChannelError::Closed);
        }
        if self.secure_since.is_none() {
            return match now >= self.opened + HANDSHAKE_TIMEOUT {
                true => Err(ChannelError::Silent(HANDSHAKE_TIMEOUT)),
                false => Ok(()),
            };
        }
        if self.secure_since.is_some_and(|since| now >= since + AGE_LIMIT) {
            return Err(ChannelError::Old);
        }
        if now >= self.heard + SILENCE_LIMIT {
            return Err(ChannelError::Silent(SILENCE_LIMIT));
        }
        if now >= self.heard.max(self.pinged) + PING_AFTER {
            self.pinged = now;
            self.send(&Message::Ping)?;
        }
        Ok(())
    }

    /// Sends a message.
    pub fn send(&mut self, message: &Message) -> Result<(), ChannelError> {
        self.send_record(&encode(message))
    }

    /// Sends an encoded message.
    pub fn send_record(&mut self, record: &[u8]) -> Result<(), ChannelError> {
        let sent = self.tls.writer().write_all(record).map_err(ChannelError::Io).and_then(|()| self.flush());
        // A part of a record may be on its way: what came after it would be read wrongly.
        self.ended |= sent.is_err();
        sent
    }

    /// The exporter's secret for an offer. `None` before the handshake is done.
    pub fn export(&self, offer: &[u8]) -> Option<PqSecret> {
        self.secure_since?;
        self.tls.export_keying_material([0; 32], EXPORTER_LABEL, Some(offer)).ok().map(PqSecret)
    }

    fn read_some(&mut self, now: Instant) -> Result<ReadState, ChannelError> {
        let state = match self.tls.read_tls(&mut self.stream) {
            Ok(0) => ReadState::Closed,
            Ok(_) => ReadState::More,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected) => {
                ReadState::Drained
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => ReadState::More,
            Err(error) => return Err(ChannelError::Io(error)),
        };
        let processed = self.tls.process_new_packets();
        if let Err(error) = processed {
            // The alert tells the other end what we did not like.
            let _ = self.flush();
            return Err(ChannelError::Tls(error));
        }
        let mut chunk = [0; 4096];
        loop {
            match self.tls.reader().read(&mut chunk) {
                Ok(0) => return Ok(ReadState::Closed),
                Ok(length) => {
                    self.heard = now;
                    self.decoder.push(&chunk[..length]);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(state),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(ReadState::Closed),
                Err(error) => return Err(ChannelError::Io(error)),
            }
        }
    }

    fn become_secure(&mut self, now: Instant, events: &mut Vec<ChannelEvent>) -> Result<(), ChannelError> {
        if self.secure_since.is_some() || self.tls.is_handshaking() {
            return Ok(());
        }
        if self.tls.alpn_protocol() != Some(ALPN) {
            return Err(ChannelError::NotThePeer("it does not speak the link channel's protocol".into()));
        }
        let certificate = self.tls.peer_certificates().and_then(|chain| chain.first());
        let certificate =
            certificate.ok_or_else(|| ChannelError::NotThePeer("it has no certificate".into()))?;
        self.identity.admit(certificate).map_err(ChannelError::NotThePeer)?;
        self.secure_since = Some(now);
        self.heard = now;
        events.push(ChannelEvent::Secure);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), ChannelError> {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut self.stream) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected) =>
                {
                    break;
                }
                Err(error) => return Err(ChannelError::Io(error)),
            }
        }
        Ok(())
    }
}

enum ReadState {
    More,
    Drained,
    Closed,
}
