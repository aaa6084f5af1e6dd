//! The control socket: a line asks, one JSON object answers. Its owner alone may connect.
//!
//! `status` tells how the site does; so does saying nothing. `reload PATH` puts the policy of a file in force.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mio::net::{UnixListener, UnixStream};
use mio::{Interest, Registry, Token};
use nix::sys::socket::{setsockopt, sockopt::SndBufForce};

use super::{RunError, io_error};

/// Connections at a time.
const MAX_CLIENTS: usize = 8;
/// Bytes of a request.
const MAX_REQUEST: usize = 4096 + 16;
/// Room for an answer: the status of as many links as there can be.
const ANSWER: usize = 1 << 20;
/// Who has said nothing by then wants the status.
const SILENCE: Duration = Duration::from_millis(200);

/// What is asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Request {
    /// How the site does.
    Status,
    /// The policy of this file.
    Reload(PathBuf),
}

/// Somebody who connected.
pub(super) struct Client {
    stream: UnixStream,
    since: Instant,
    text: Vec<u8>,
    /// All has been said.
    complete: bool,
}

impl Client {
    /// Answers and hangs up. An answer fits the socket's buffer; whoever does not read loses it.
    pub(super) fn answer(mut self, text: serde_json::Result<Vec<u8>>) {
        if let Err(error) = self.stream.write_all(&text.unwrap_or_default()) {
            tracing::debug!("control socket: {error}");
        }
    }

    fn read(&mut self) {
        let mut chunk = [0; 1024];
        while !self.complete {
            match self.stream.read(&mut chunk) {
                Ok(count) => {
                    self.text.extend_from_slice(&chunk[..count]);
                    self.complete =
                        count == 0 || chunk[..count].contains(&b'\n') || self.text.len() > MAX_REQUEST;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.complete = error.kind() != io::ErrorKind::WouldBlock;
                    return;
                }
            }
        }
    }
}

/// The socket, removed when it is dropped.
pub(super) struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
    token: Token,
    registry: Option<Registry>,
    clients: Vec<Client>,
}

impl ControlSocket {
    /// Opens it, for its owner alone, in place of what a killed process left. Tokens from `token` on, one and [`MAX_CLIENTS`]
    /// more, are its own.
    pub(super) fn open(path: &Path, token: Token) -> Result<ControlSocket, RunError> {
        let action = format!("opening site.control = {}", path.display());
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            let line =
                format!("{}: another qhaul runs with this control socket: stop it first", path.display());
            return Err(RunError::Host(line));
        }
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(io_error(&action))?;
        }
        // What a killed process left behind, and nothing else.
        if fs::symlink_metadata(path).is_ok_and(|there| there.file_type().is_socket()) {
            let _ = fs::remove_file(path);
        }
        let listener = UnixListener::bind(path).map_err(io_error(&action))?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(io_error(&action))?;
        let path = path.to_path_buf();
        Ok(ControlSocket { listener, path, token, registry: None, clients: Vec::new() })
    }

    /// Has `registry` tell of connections and of what they say.
    pub(super) fn register(&mut self, registry: &Registry) -> io::Result<()> {
        registry.register(&mut self.listener, self.token, Interest::READABLE)?;
        self.registry = Some(registry.try_clone()?);
        Ok(())
    }

    /// Whether a token is its own.
    pub(super) fn owns(&self, token: Token) -> bool {
        (self.token.0..=self.token.0 + 1).contains(&token.0)
    }

    /// Takes in who connects and what is said.
    pub(super) fn ready(&mut self, token: Token, now: Instant) {
        if token == self.token {
            self.accept(now);
        }
        self.clients.iter_mut().for_each(Client::read);
    }

    /// All requests that are complete, each with who asks.
    pub(super) fn requests(&mut self, now: Instant) -> Vec<(Client, Request)> {
        let done = |client: &mut Client| client.complete || now >= client.since + SILENCE;
        let clients = self.clients.extract_if(.., done);
        clients.filter_map(|client| parse(&client.text).map(|request| (client, request))).collect()
    }

    fn accept(&mut self, now: Instant) {
        while let Ok((mut stream, _)) = self.listener.accept() {
            // Without the privilege it holds the answer of a hundred links or so.
            let _ = setsockopt(&stream, SndBufForce, &ANSWER);
            let told = self
                .registry
                .as_ref()
                .map(|registry| registry.register(&mut stream, Token(self.token.0 + 1), Interest::READABLE));
            if self.clients.len() < MAX_CLIENTS && matches!(told, Some(Ok(()))) {
                self.clients.push(Client { stream, since: now, text: Vec::new(), complete: false });
            }
        }
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// `None`: nothing that is known, and nothing is answered.
fn parse(text: &[u8]) -> Option<Request> {
    let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    match line {
        b"" | b"status" => Some(Request::Status),
        line => {
            let path = Path::new(std::ffi::OsStr::from_bytes(line.strip_prefix(b"reload ")?));
            path.is_absolute().then(|| Request::Reload(path.to_path_buf()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_asks_and_silence_asks_for_the_status() {
        assert_eq!(parse(b""), Some(Request::Status));
        assert_eq!(parse(b"status\n"), Some(Request::Status));
        assert_eq!(parse(b"reload /etc/a b.toml\n"), Some(Request::Reload("/etc/a b.toml".into())));
        for wrong in [&b"reload a.toml\n"[..], b"reload \n", b"stop\n", b"\xff"] {
            assert_eq!(parse(wrong), None);
        }
    }
}
