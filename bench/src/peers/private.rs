//! Programs that keep sockets and process ids at fixed places under /run see a directory of the lab there instead, so that
//! both gateways have one each, the machine's own stay apart, and all goes with the lab.

use std::fs;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use qhaul::lab::plan::{Node, Side};
use qhaul::lab::{Process, Topology};

/// In order: what lies below the directory must be bound before /run hides it.
const SCRIPT: &str = concat!(
    "dir=$1 file=$2 place=$3; shift 3; ",
    "if [ -n \"$place\" ]; then mount --bind \"$dir/$file\" \"$place\" || exit; fi; ",
    "mount --bind \"$dir\" /run && exec \"$@\"",
);

/// The directory that one gateway's programs see as /run.
pub(super) struct Private {
    dir: PathBuf,
    node: Node,
    /// A file of the directory, and a file of the machine in whose place it is seen.
    file: Option<(&'static str, &'static str)>,
}

impl Private {
    /// Makes the directory `NAME-SIDE` of the lab anew.
    pub(super) fn new(topology: &Topology, name: &str, side: Side) -> Result<Private> {
        let dir = topology.dir().join(format!("{name}-{side}"));
        if dir.exists() {
            fs::remove_dir_all(&dir).with_context(|| format!("{}", dir.display()))?;
        }
        DirBuilder::new().mode(0o700).create(&dir).with_context(|| format!("{}", dir.display()))?;
        Ok(Private { dir, node: Node::Gateway(side), file: None })
    }

    /// Shows `name` of the directory in the place of the machine's file `place`.
    pub(super) fn showing(self, name: &'static str, place: &'static str) -> Private {
        Private { file: Some((name, place)), ..self }
    }

    /// Where the directory is in truth.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Writes a file that the programs find below /run.
    pub(super) fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.dir.join(name);
        fs::write(&path, text).with_context(|| format!("{}", path.display()))
    }

    /// Runs a command to its end and returns its standard output.
    pub(super) fn exec(&self, topology: &Topology, argv: &[&str]) -> Result<String> {
        let argv = self.wrapped(argv);
        Ok(topology.exec(self.node, &argv.iter().map(String::as_str).collect::<Vec<_>>())?)
    }

    /// Starts a command; its logs are beside the lab's others.
    pub(super) fn start(&self, topology: &Topology, name: &str, argv: &[&str]) -> Result<Process> {
        let argv = self.wrapped(argv);
        Ok(topology.start(self.node, name, &argv.iter().map(String::as_str).collect::<Vec<_>>())?)
    }

    fn wrapped(&self, argv: &[&str]) -> Vec<String> {
        let dir = self.dir.display().to_string();
        let (file, place) = self.file.unwrap_or_default();
        let head = ["unshare", "--mount", "sh", "-c", SCRIPT, "private", &dir, file, place];
        head.iter().chain(argv).map(|word| (*word).to_owned()).collect()
    }
}

/// `bytes` fresh random bytes in hexadecimal.
pub(super) fn random_hex(bytes: usize) -> Result<String> {
    let mut random = vec![0; bytes];
    let mut source = fs::File::open("/dev/urandom").context("/dev/urandom")?;
    std::io::Read::read_exact(&mut source, &mut random).context("/dev/urandom")?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_wrapped_and_keep_their_words() {
        let private = Private { dir: "/run/x y".into(), node: Node::Gateway(Side::A), file: None };
        let argv = private.showing("conf", "/etc/conf").wrapped(&["echo", "two words"]);
        assert_eq!(argv[..2], ["unshare", "--mount"]);
        assert_eq!(argv[5..], ["private", "/run/x y", "conf", "/etc/conf", "echo", "two words"]);
    }

    #[test]
    fn keys_differ() {
        let [one, other] = [random_hex(36).unwrap(), random_hex(36).unwrap()];
        assert_eq!(one.len(), 72);
        assert_ne!(one, other);
    }
}
