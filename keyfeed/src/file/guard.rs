//! Only the owner may reach key files: what others can read is no secret, what others can write is no key.

use std::fs::{Metadata, symlink_metadata};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use crate::source::SourceError;

/// Refuses a directory that is a link, is not ours or is open to others.
pub(super) fn directory(path: &Path) -> Result<(), SourceError> {
    const REMEDY: &str = "give a directory of our own user with mode 0700";
    let found = symlink_metadata(path).map_err(|e| refused(DIRECTORY, path, e.to_string(), REMEDY))?;
    if !found.is_dir() {
        return Err(refused(
            DIRECTORY,
            path,
            "it is not a directory (links are not followed)".into(),
            REMEDY,
        ));
    }
    private(&found).map_err(|reason| refused(DIRECTORY, path, reason, REMEDY))
}

/// Why a file's owner and mode do not keep it secret. Root may own it: root reads all anyway.
pub(super) fn private(found: &Metadata) -> Result<(), String> {
    let mode = found.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(format!("its mode {mode:04o} opens it to other users"));
    }
    let us = nix::unistd::geteuid().as_raw();
    if found.uid() != us && found.uid() != 0 {
        return Err(format!("user {} owns it, we run as {us}", found.uid()));
    }
    Ok(())
}

pub(super) fn refused(what: &'static str, path: &Path, reason: String, remedy: &'static str) -> SourceError {
    SourceError::File { what, path: path.to_owned(), reason, remedy }
}

const DIRECTORY: &str = "key directory";
