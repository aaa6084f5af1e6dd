//! The control socket: whoever connects gets the status, and that is all it does.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use mio::net::UnixListener;
use mio::{Interest, Registry, Token};

use super::{RunError, io_error};
use crate::status::Status;

/// The socket, removed when it is dropped.
pub(super) struct StatusSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl StatusSocket {
    /// Opens it, readable by its owner alone, in place of what a killed process left.
    pub(super) fn open(path: &Path) -> Result<StatusSocket, RunError> {
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
        Ok(StatusSocket { listener, path: path.to_path_buf() })
    }

    /// Has `registry` tell of connections.
    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        registry.register(&mut self.listener, token, Interest::READABLE)
    }

    /// Answers all who wait. A status fits the socket's buffer; whoever does not read loses it.
    pub(super) fn serve(&self, status: impl Fn() -> Status) {
        while let Ok((mut stream, _)) = self.listener.accept() {
            let text = serde_json::to_vec(&status()).unwrap_or_default();
            if let Err(error) = stream.write_all(&text) {
                tracing::debug!("control socket: {error}");
            }
        }
    }
}

impl Drop for StatusSocket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}
