use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Deserialize;
use tracing::warn;
use zeroize::Zeroizing;

use super::{Half, KIND, guard};
use crate::secret::{DeliveredKey, KeyId, QkdKey};
use crate::source::{KeySource, SourceError, SourceStatus};

/// Where a device writes keys as lines.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FifoConfig {
    /// The FIFO (`mkfifo -m 0600`), of our user.
    pub fifo: PathBuf,
    /// Of which keys this site is the master.
    pub half: Half,
}

/// Keys out of a FIFO, as lines `key_ID base64`. Clones share what was read: a line can be read once only.
///
/// Keys wait in memory until they are asked for, 4,096 at most; then the oldest goes.
#[derive(Clone)]
pub struct Fifo {
    half: Half,
    path: PathBuf,
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    file: File,
    /// The beginning of a line whose end has not come.
    partial: Zeroizing<Vec<u8>>,
    /// In order of arrival.
    waiting: VecDeque<DeliveredKey>,
}

impl Fifo {
    /// Opens the FIFO, whether or not the device has.
    ///
    /// # Errors
    /// [`SourceError::File`] when it is missing, no FIFO, or open to other users.
    pub fn new(config: FifoConfig) -> Result<Self, SourceError> {
        let refused = |reason: String| guard::refused("key FIFO", &config.fifo, reason, REMEDY);
        // Held open for writing too, so that a device that closes its end does not end the stream for us.
        let flags = nix::fcntl::OFlag::O_NOFOLLOW | nix::fcntl::OFlag::O_NONBLOCK;
        let file = OpenOptions::new().read(true).write(true).custom_flags(flags.bits()).open(&config.fifo);
        let file = file.map_err(|e| refused(format!("it cannot be opened ({e}; links are not followed)")))?;
        let found = file.metadata().map_err(|e| refused(e.to_string()))?;
        if !found.file_type().is_fifo() {
            return Err(refused("it is not a FIFO".into()));
        }
        guard::private(&found).map_err(refused)?;
        let partial = Zeroizing::new(Vec::with_capacity(MAX_LINE));
        let shared = Shared { file, partial, waiting: VecDeque::new() };
        Ok(Fifo { half: config.half, path: config.fifo, shared: Arc::new(Mutex::new(shared)) })
    }

    /// What has come so far.
    fn read(&self) -> Result<MutexGuard<'_, Shared>, SourceError> {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        match shared.read() {
            Ok(()) => Ok(shared),
            Err(e) => Err(guard::refused("key FIFO", &self.path, e.to_string(), REMEDY)),
        }
    }
}

impl Shared {
    fn read(&mut self) -> io::Result<()> {
        let mut buffer = Zeroizing::new([0; 4096]);
        loop {
            match self.file.read(buffer.as_mut_slice()) {
                Ok(0) => return Ok(()),
                Ok(read) => buffer[..read].iter().for_each(|byte| self.byte(*byte)),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    fn byte(&mut self, byte: u8) {
        if byte != b'\n' {
            // A line that is too long is cut, and then is no key.
            if self.partial.len() < MAX_LINE {
                self.partial.push(byte);
            }
            return;
        }
        let line = std::mem::replace(&mut self.partial, Zeroizing::new(Vec::with_capacity(MAX_LINE)));
        match parse(&line) {
            Ok(key) => self.keep(key),
            Err(reason) => warn!("a line of the key FIFO is not used: {reason}"),
        }
    }

    fn keep(&mut self, key: DeliveredKey) {
        if self.waiting.iter().any(|known| known.id == key.id) {
            warn!(key_id = %key.id, "a key_ID came twice out of the key FIFO; the first key is kept");
            return;
        }
        if self.waiting.len() == MAX_WAITING
            && let Some(oldest) = self.waiting.pop_front()
        {
            warn!(key_id = %oldest.id, "nobody asks for the keys of the key FIFO; the oldest is dropped");
        }
        self.waiting.push_back(key);
    }

    fn take(&mut self, wanted: impl Fn(&KeyId) -> bool) -> Option<DeliveredKey> {
        let place = self.waiting.iter().position(|key| wanted(&key.id))?;
        self.waiting.remove(place)
    }
}

impl KeySource for Fifo {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn status(&mut self) -> Result<SourceStatus, SourceError> {
        let half = self.half;
        let stored = self.read()?.waiting.iter().filter(|key| half.has(&key.id)).count() as u64;
        Ok(SourceStatus::local(&self.path, stored))
    }

    fn new_keys(&mut self, number: usize) -> Result<Vec<DeliveredKey>, SourceError> {
        let mut shared = self.read()?;
        let keys: Vec<_> = std::iter::from_fn(|| shared.take(|id| self.half.has(id))).take(number).collect();
        if keys.is_empty() && number > 0 {
            return Err(SourceError::Empty { message: format!("no line in {}", self.path.display()) });
        }
        Ok(keys)
    }

    fn keys_by_id(&mut self, ids: &[KeyId]) -> Result<Vec<DeliveredKey>, SourceError> {
        let mut shared = self.read()?;
        let keys: Vec<_> = ids.iter().map_while(|id| shared.take(|known| known == id)).collect();
        if keys.is_empty() && !ids.is_empty() {
            return Err(SourceError::NotFound {
                message: format!("no line for it in {}", self.path.display()),
            });
        }
        Ok(keys)
    }
}

/// The reason quotes nothing of the line but its key_ID: the rest is, or should be, a key.
fn parse(line: &[u8]) -> Result<DeliveredKey, String> {
    let line = std::str::from_utf8(line).map_err(|_| "it is not text".to_owned())?;
    let mut words = line.split_ascii_whitespace();
    let (Some(id), Some(key), None) = (words.next(), words.next(), words.next()) else {
        return Err("it is not a key_ID and a key in base64 with a space between".into());
    };
    let id = KeyId::new(id).map_err(|e| e.to_string())?;
    let key = QkdKey::from_base64(key).map_err(|e| e.to_string())?;
    Ok(DeliveredKey { id, key })
}

/// Keys that wait at most; at one key a second, an hour's.
const MAX_WAITING: usize = 4_096;
/// A key_ID of 128 characters and a key, with room.
const MAX_LINE: usize = 256;
const REMEDY: &str = "make it with `mkfifo -m 0600` as our own user";

#[cfg(test)]
mod tests;
