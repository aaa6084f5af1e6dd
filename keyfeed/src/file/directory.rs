use std::fs::{self, File, OpenOptions, symlink_metadata};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use tracing::warn;
use zeroize::Zeroizing;

use super::{Half, KIND, guard, text};
use crate::secret::{DeliveredKey, KeyId};
use crate::source::{KeySource, SourceError, SourceStatus};

/// Where a device drops keys, one file each.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DirectoryConfig {
    /// The directory: of our user, mode 0700.
    pub directory: PathBuf,
    /// Of which keys this site is the master.
    pub half: Half,
}

/// Keys in a directory, as files `<key_ID>.key` of mode 0600 that hold 32 raw bytes, or the key in hexadecimal or base64.
/// The device writes a file under another name and renames it. A key that is taken is overwritten and removed.
pub struct Directory {
    config: DirectoryConfig,
}

impl Directory {
    /// Checks the directory.
    ///
    /// # Errors
    /// [`SourceError::File`] when it is missing, a link, or open to other users.
    pub fn new(config: DirectoryConfig) -> Result<Self, SourceError> {
        guard::directory(&config.directory)?;
        Ok(Directory { config })
    }

    fn path_of(&self, id: &KeyId) -> PathBuf {
        self.config.directory.join(format!("{id}{ENDING}"))
    }

    /// key_IDs of the files that are there, in lexicographic order.
    fn listed(&self) -> Result<Vec<KeyId>, SourceError> {
        guard::directory(&self.config.directory)?;
        let unreadable = |e: io::Error| {
            guard::refused("key directory", &self.config.directory, e.to_string(), "let us read and write it")
        };
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.config.directory).map_err(unreadable)? {
            names.push(entry.map_err(unreadable)?.file_name());
        }
        names.sort_unstable();
        let ids = names.iter().filter_map(|name| name.to_str()?.strip_suffix(ENDING));
        Ok(ids.filter(|id| !id.starts_with('.')).filter_map(|id| KeyId::new(id).ok()).collect())
    }

    /// Takes the key out of the directory. `None`: it is not, or no more, there.
    fn take(&self, id: &KeyId) -> Result<Option<DeliveredKey>, SourceError> {
        let path = self.path_of(id);
        let refused = |reason: String| guard::refused("key file", &path, reason, REMEDY);
        let mut file = match open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(refused(format!("it cannot be opened ({e}; links are not followed)"))),
        };
        let found = file.metadata().map_err(|e| refused(e.to_string()))?;
        if !found.is_file() || found.nlink() > 1 {
            return Err(refused("it is not a plain file with one name".into()));
        }
        guard::private(&found).map_err(refused)?;
        let mut content = Zeroizing::new(Vec::with_capacity(MAX_FILE));
        (&mut file).take(MAX_FILE as u64).read_to_end(&mut content).map_err(|e| refused(e.to_string()))?;
        let key = text::key(&content).map_err(|e| refused(e.to_string()))?;
        // Two readers may be here at once, and a process may die at any line: who renames the file has the key.
        let claimed = self.config.directory.join(format!(".{id}.taken"));
        match fs::rename(&path, &claimed) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(refused(format!("it cannot be taken: {e}"))),
        }
        let same =
            symlink_metadata(&claimed).is_ok_and(|at| (at.dev(), at.ino()) == (found.dev(), found.ino()));
        wipe(&mut file, content.len(), &claimed).map_err(|e| refused(format!("it cannot be erased: {e}")))?;
        if !same {
            return Err(refused("it was replaced while it was read".into()));
        }
        Ok(Some(DeliveredKey { id: id.clone(), key }))
    }
}

impl KeySource for Directory {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn status(&mut self) -> Result<SourceStatus, SourceError> {
        let stored = self.listed()?.iter().filter(|id| self.config.half.has(id)).count() as u64;
        Ok(SourceStatus::local(&self.config.directory, stored))
    }

    /// The lexicographically first files of this site's half. A file that cannot be used is passed over with a warning,
    /// and is the error when there is no other.
    fn new_keys(&mut self, number: usize) -> Result<Vec<DeliveredKey>, SourceError> {
        let (mut keys, mut unusable) = (Vec::new(), None);
        for id in self.listed()?.iter().filter(|id| self.config.half.has(id)) {
            if keys.len() == number {
                break;
            }
            match self.take(id) {
                Ok(key) => keys.extend(key),
                Err(error) => {
                    warn!("{error}");
                    unusable = unusable.or(Some(error));
                }
            }
        }
        if keys.is_empty() && number > 0 {
            let message = format!("no file in {}", self.config.directory.display());
            return Err(unusable.unwrap_or(SourceError::Empty { message }));
        }
        Ok(keys)
    }

    fn keys_by_id(&mut self, ids: &[KeyId]) -> Result<Vec<DeliveredKey>, SourceError> {
        let mut keys = Vec::with_capacity(ids.len());
        for id in ids {
            let taken = if is_file_name(id) { self.take(id) } else { Ok(None) };
            match taken {
                Ok(Some(key)) => keys.push(key),
                Err(error) if keys.is_empty() => return Err(error),
                Ok(None) if keys.is_empty() => {
                    let message = format!("no file for it in {}", self.config.directory.display());
                    return Err(SourceError::NotFound { message });
                }
                Ok(None) | Err(_) => break,
            }
        }
        Ok(keys)
    }
}

/// A key_ID comes from the peer: it must not reach another directory, or a file that is taken already.
fn is_file_name(id: &KeyId) -> bool {
    !id.as_str().contains('/') && !id.as_str().starts_with('.')
}

fn open(path: &Path) -> io::Result<File> {
    let flags = nix::fcntl::OFlag::O_NOFOLLOW | nix::fcntl::OFlag::O_NONBLOCK;
    OpenOptions::new().read(true).write(true).custom_flags(flags.bits()).open(path)
}

/// Overwrites the file, brings that to the disk, and removes its name.
fn wipe(file: &mut File, length: usize, path: &Path) -> io::Result<()> {
    file.rewind()?;
    file.write_all(&vec![0; length])?;
    file.sync_data()?;
    fs::remove_file(path)
}

const ENDING: &str = ".key";
/// More than any form of a key has, so that a longer file is seen to be one.
const MAX_FILE: usize = 128;
const REMEDY: &str = "the device must write plain files of our user with mode 0600, 256 bits each";

#[cfg(test)]
mod tests;
