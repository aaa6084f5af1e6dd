//! The connections of a link's channel: one end listens, the other calls, and a new secure connection replaces the old. All links
//! of a site that listen have one [`Listener`].

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};
use tracing::{debug, info, warn};

use crate::keys::PqSecret;
use crate::link::{Channel, ChannelError, ChannelEvent, ChannelIdentity, Message, SESSION_LIFETIME};

/// Connections whose handshake is not done, at the most: whoever forges the peer's address can open some.
const MAX_CANDIDATES: usize = 4;
/// Connections taken in one go.
const ACCEPTS: usize = 16;
const FIRST_RETRY: Duration = Duration::from_millis(200);
const LAST_RETRY: Duration = Duration::from_secs(2);
/// Failures of strangers or of a broken path are logged this often at the most.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// What happened on the link channel.
#[derive(Debug)]
pub(super) enum LinkEvent {
    /// A connection to the peer stands; an earlier one, if any, is gone.
    Up,
    /// A message and its own bytes.
    Said(Message, Vec<u8>),
    /// The connection is gone.
    Down,
}

#[derive(Debug)]
struct Slot {
    token: Token,
    channel: Channel,
}

/// Where the link channel's connections come in.
#[derive(Debug)]
pub(super) struct Listener {
    listener: TcpListener,
    /// Connections may wait that the poll will not tell of again.
    unaccepted: bool,
}

impl Listener {
    /// Listens on `local`, and has `registry` tell of connections by `token`.
    pub(super) fn open(local: SocketAddr, registry: &Registry, token: Token) -> io::Result<Listener> {
        let mut listener = TcpListener::bind(local)?;
        registry.register(&mut listener, token, Interest::READABLE)?;
        Ok(Listener { listener, unaccepted: false })
    }

    /// Connections may have come in.
    pub(super) fn ready(&mut self) {
        self.unaccepted = true;
    }

    /// Those that have come in, each with where it is from; not all at once, if there are many.
    pub(super) fn accept(&mut self) -> Vec<(TcpStream, IpAddr)> {
        let mut accepted = Vec::new();
        while self.unaccepted && accepted.len() < ACCEPTS {
            match self.listener.accept() {
                Ok((stream, from)) => accepted.push((stream, from.ip())),
                Err(_) => self.unaccepted = false,
            }
        }
        accepted
    }
}

/// The connections of one link.
#[derive(Debug)]
pub(super) struct Link {
    identity: ChannelIdentity,
    local: SocketAddr,
    peer: SocketAddr,
    /// The peer calls, and not we.
    listens: bool,
    registry: Registry,
    next_token: usize,
    current: Option<Slot>,
    candidates: Vec<Slot>,
    retry_at: Option<Instant>,
    retry: Duration,
    logged: Option<Instant>,
    told_up: Option<Instant>,
}

impl Link {
    /// Waits for calls of `peer`, or calls it from `local`, as `listens` says. Tokens from `first_token` on are this link's.
    pub(super) fn new(
        identity: ChannelIdentity,
        (local, peer): (SocketAddr, SocketAddr),
        listens: bool,
        registry: Registry,
        first_token: Token,
    ) -> Link {
        Link {
            identity,
            local,
            peer,
            listens,
            registry,
            next_token: first_token.0,
            current: None,
            candidates: Vec::new(),
            retry_at: None,
            retry: FIRST_RETRY,
            logged: None,
            told_up: None,
        }
    }

    /// Takes a connection that came in from the peer's address.
    pub(super) fn take(&mut self, stream: TcpStream) {
        if !self.listens {
            return;
        }
        match Channel::accept(stream, &self.identity) {
            Ok(channel) => self.add_candidate(channel),
            Err(error) => debug!("link channel: {error}"),
        }
    }

    /// Whether a secure connection stands.
    pub(super) fn is_up(&self) -> bool {
        self.current.is_some()
    }

    /// Sends to the peer; without a connection the message is lost, as it would be on the way.
    pub(super) fn say(&mut self, message: &Message) {
        self.say_record(&crate::link::encode(message));
    }

    /// Sends an encoded message.
    pub(super) fn say_record(&mut self, record: &[u8]) {
        if let Some(slot) = &mut self.current
            && let Err(error) = slot.channel.send_record(record)
        {
            debug!("link channel: {error}");
        }
    }

    /// The TLS exporter's secret on the connection that stands.
    pub(super) fn export(&self, offer: &[u8]) -> Option<PqSecret> {
        self.current.as_ref()?.channel.export(offer)
    }

    /// Ends the connection that stands, after what was sent last.
    pub(super) fn hang_up(&mut self) {
        self.current = None;
        self.retry_later(Instant::now());
    }

    /// Handles readiness of a token of this link.
    pub(super) fn ready(&mut self, token: Token, now: Instant, events: &mut Vec<LinkEvent>) {
        if let Some(at) = self.candidates.iter().position(|slot| slot.token == token) {
            return self.drive_candidate(at, now, events);
        }
        let Some(slot) = self.current.as_mut().filter(|slot| slot.token == token) else { return };
        match slot.channel.drive(now) {
            Ok(heard) => events.extend(heard.into_iter().filter_map(said)),
            Err(error) => self.down(&error, now, events),
        }
    }

    /// Lets time pass: calls, renews and notices silence.
    pub(super) fn tick(&mut self, now: Instant, events: &mut Vec<LinkEvent>) {
        if let Some(token) =
            self.current.as_ref().filter(|slot| slot.channel.has_unread()).map(|slot| slot.token)
        {
            self.ready(token, now, events);
        }
        if let Some(slot) = &mut self.current
            && let Err(error) = slot.channel.tick(now)
        {
            self.down(&error, now, events);
        }
        for at in (0..self.candidates.len()).rev() {
            if let Err(error) = self.candidates[at].channel.tick(now) {
                self.candidates.remove(at);
                self.complain(&error, now);
                self.retry_later(now);
            }
        }
        if !self.listens && self.candidates.is_empty() && self.wants_call(now) {
            self.call(now);
        }
    }

    fn wants_call(&self, now: Instant) -> bool {
        let rested = self.retry_at.is_none_or(|moment| now >= moment);
        let since = self.current.as_ref().and_then(|slot| slot.channel.secure_since());
        rested && since.is_none_or(|since| now >= since + SESSION_LIFETIME)
    }

    fn call(&mut self, now: Instant) {
        match Channel::connect(self.local, self.peer, &self.identity) {
            Ok(channel) => self.add_candidate(channel),
            Err(error) => {
                self.complain(&error, now);
                self.retry_later(now);
            }
        }
    }

    fn add_candidate(&mut self, mut channel: Channel) {
        if self.candidates.len() >= MAX_CANDIDATES {
            self.candidates.remove(0);
        }
        let token = Token(self.next_token);
        self.next_token += 1;
        match channel.register(&self.registry, token) {
            Ok(()) => self.candidates.push(Slot { token, channel }),
            Err(error) => warn!("link channel: {error}"),
        }
    }

    fn drive_candidate(&mut self, at: usize, now: Instant, events: &mut Vec<LinkEvent>) {
        match self.candidates[at].channel.drive(now) {
            Ok(heard) if heard.is_empty() => {}
            Ok(heard) => {
                let slot = self.candidates.remove(at);
                if self.told_up.is_none_or(|last| now >= last + LOG_INTERVAL) {
                    self.told_up = Some(now);
                    info!("link channel: connected to {} with X25519MLKEM768", self.peer.ip());
                }
                self.current = Some(slot);
                (self.retry, self.retry_at) = (FIRST_RETRY, None);
                events.push(LinkEvent::Up);
                events.extend(heard.into_iter().filter_map(said));
            }
            Err(error) => {
                self.candidates.remove(at);
                self.complain(&error, now);
                self.retry_later(now);
            }
        }
    }

    fn down(&mut self, error: &ChannelError, now: Instant, events: &mut Vec<LinkEvent>) {
        self.complain(error, now);
        self.current = None;
        self.retry_later(now);
        events.push(LinkEvent::Down);
    }

    fn retry_later(&mut self, now: Instant) {
        self.retry_at = Some(now + self.retry);
        self.retry = (self.retry * 2).min(LAST_RETRY);
    }

    /// Whoever owns the wire can make handshakes fail at will: that is told, but cannot fill the log.
    fn complain(&mut self, error: &ChannelError, now: Instant) {
        if self.logged.is_none_or(|last| now >= last + LOG_INTERVAL) {
            self.logged = Some(now);
            warn!("link channel to {}: {error}", self.peer);
        }
    }
}

fn said(event: ChannelEvent) -> Option<LinkEvent> {
    match event {
        ChannelEvent::Secure => None,
        ChannelEvent::Message(message, bytes) => Some(LinkEvent::Said(message, bytes)),
    }
}
