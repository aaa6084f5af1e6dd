//! The log's files: the one that is written, those that were set aside, and where the chain has got to in them.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::libc;
use nix::sys::statfs::{self, FsType};

use super::AuditError;
use super::line::{self, Head, Torn};

/// Bytes read from the end at first, to find the last line.
const WINDOW: u64 = 8192;
/// And at the most.
const LAST_WINDOW: u64 = 8 << 20;
const FOREIGN: &str = "it is not an audit log";
const NO_CHAIN: &str =
    "its first line does not say which chain it belongs to: `qhaul audit verify` tells more";
/// The file systems of `statfs(2)` that answer over a network, where `libc` has no name for them: CIFS and SMB2
/// (`fs/smb/client`, `include/uapi/linux/magic.h`), Ceph, 9P.
const NETWORK: [u32; 4] = [0xFF53_4D42, 0xFE53_4D42, 0x00C3_6400, 0x0102_1997];

/// How a chain ends.
#[derive(Default, Debug)]
pub(super) struct Tail {
    /// Its last whole line, whose line feed may be missing.
    pub(super) head: Option<Head>,
    /// Its id.
    pub(super) chain: Option<String>,
    /// What follows the last whole line in the same file.
    pub(super) torn: Option<Torn>,
    /// The file that is written has no whole line yet.
    pub(super) fresh: bool,
}

/// Opens `path` for appending, for this process alone, mode 0600; makes it and its folder if they are not there.
pub(super) fn open(path: &Path) -> Result<File, AuditError> {
    let error = |source| AuditError::Open { path: path.to_path_buf(), source };
    let folder = folder(path);
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(error)?;
    if is_on_network(folder).map_err(error)? {
        return Err(AuditError::Network { path: path.to_path_buf() });
    }
    let refuse = |found| AuditError::NotALog { path: path.to_path_buf(), found };
    // A FIFO without a reader must not hold us up, nor a symbolic link lead elsewhere.
    let flags = libc::O_NONBLOCK | libc::O_NOFOLLOW;
    let mut options = OpenOptions::new();
    let file = match options.read(true).append(true).create(true).mode(0o600).custom_flags(flags).open(path) {
        Err(cause) if cause.raw_os_error() == Some(libc::ELOOP) => {
            return Err(refuse("it is a symbolic link"));
        }
        opened => opened.map_err(error)?,
    };
    if !file.metadata().map_err(error)?.is_file() {
        return Err(refuse("it is not a regular file"));
    }
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => return Err(AuditError::InUse { path: path.to_path_buf() }),
        Err(TryLockError::Error(source)) => return Err(error(source)),
        Ok(()) => {}
    }
    file.set_permissions(Permissions::from_mode(0o600)).map_err(error)?;
    Ok(file)
}

/// The files that were set aside, oldest first.
pub(super) fn set_aside(path: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let mut found = Vec::new();
    for entry in fs::read_dir(folder(path))? {
        let entry = entry?;
        let other = entry.file_name();
        let number = other.to_str().and_then(|other| other.strip_prefix(name)?.strip_prefix('.'));
        // `audit.log.01` and `audit.log.1.gz` are nobody's.
        let number = number.and_then(|text| text.parse().ok().filter(|n: &u64| n.to_string() == text));
        found.extend(number.map(|number| (number, entry.path())));
    }
    found.sort_unstable();
    Ok(found)
}

/// Renames `path` to the next free number.
pub(super) fn put_aside(path: &Path) -> io::Result<()> {
    let next = set_aside(path)?.last().map_or(1, |(number, _)| number + 1);
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{next}"));
    fs::rename(path, name)
}

/// Whether `path` still names `file`.
pub(super) fn is_at(file: &File, path: &Path) -> bool {
    let same =
        |here: fs::Metadata, there: fs::Metadata| (here.dev(), here.ino()) == (there.dev(), there.ino());
    file.metadata().ok().zip(fs::symlink_metadata(path).ok()).is_some_and(|(a, b)| same(a, b))
}

/// Where the chain ends: in `file`, or, if that has no whole line yet, in the newest one that was set aside.
pub(super) fn tail(file: &File, path: &Path) -> Result<Tail, AuditError> {
    let error = |source| AuditError::Open { path: path.to_path_buf(), source };
    let mut tail = tail_of(file, path)?;
    for (_, older) in set_aside(path).map_err(error)?.into_iter().rev() {
        if tail.head.is_some() {
            break;
        }
        let found = tail_of(&File::open(&older).map_err(error)?, &older)?;
        tail = Tail { torn: tail.torn.or(found.torn), fresh: true, ..found };
    }
    Ok(tail)
}

/// Whether `file`'s last line wants its line feed.
pub(super) fn is_open_ended(mut file: &File) -> io::Result<bool> {
    if file.seek(SeekFrom::End(0))? == 0 {
        return Ok(false);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

fn tail_of(mut file: &File, path: &Path) -> Result<Tail, AuditError> {
    let error = |source| AuditError::Open { path: path.to_path_buf(), source };
    let refuse = |found| AuditError::NotALog { path: path.to_path_buf(), found };
    let length = file.metadata().map_err(error)?.len();
    let mut window = WINDOW;
    loop {
        let start = length.saturating_sub(window);
        file.seek(SeekFrom::Start(start)).map_err(error)?;
        let mut bytes = Vec::new();
        file.take(length - start).read_to_end(&mut bytes).map_err(error)?;
        if let Some((head, torn)) = last_whole(&bytes, start == 0) {
            let chain = first_chain(file).map_err(error)?.ok_or_else(|| refuse(NO_CHAIN))?;
            return Ok(Tail { head: Some(head), chain: Some(chain), torn, fresh: false });
        }
        if start > 0 && window < LAST_WINDOW {
            window *= 8;
            continue;
        }
        let begun = start == 0 && bytes.iter().zip(line::BEGINS).all(|(there, due)| there == due);
        if !begun {
            return Err(refuse(FOREIGN));
        }
        return Ok(Tail { torn: Torn::of(&bytes), fresh: true, ..Tail::default() });
    }
}

/// The last whole line of `bytes` and what follows it. The first is whole only at the file's beginning.
fn last_whole(bytes: &[u8], from_start: bool) -> Option<(Head, Option<Torn>)> {
    let mut end = bytes.len();
    loop {
        let feed = bytes[..end].iter().rposition(|&byte| byte == b'\n');
        let begin = match feed {
            Some(feed) => feed + 1,
            None if from_start => 0,
            None => return None,
        };
        let text = &bytes[begin..end];
        if let Ok(read) = serde_json::from_slice::<line::Read>(text) {
            let torn = bytes.get(end + 1..).and_then(Torn::of);
            return Some((Head { seq: read.seq, hash: line::sha256(text) }, torn));
        }
        end = feed?;
    }
}

/// The id of the chain, which the first whole line of each file states.
fn first_chain(mut file: &File) -> io::Result<Option<String>> {
    file.seek(SeekFrom::Start(0))?;
    let first = BufReader::new(file.take(LAST_WINDOW))
        .split(b'\n')
        .map_while(Result::ok)
        .find_map(|text| serde_json::from_slice::<line::Read>(&text).ok());
    Ok(first.and_then(|read| read.remark.chain))
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn is_on_network(folder: &Path) -> io::Result<bool> {
    let kind = statfs::statfs(folder)?.filesystem_type();
    let named =
        [statfs::NFS_SUPER_MAGIC, statfs::SMB_SUPER_MAGIC, statfs::CODA_SUPER_MAGIC, statfs::AFS_SUPER_MAGIC];
    let FsType(number) = kind;
    // The kernel's word is 32 bits wide, whatever width and sign the architecture's libc gives it.
    Ok(named.contains(&kind) || NETWORK.contains(&(number as u32)))
}
