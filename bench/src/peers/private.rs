//! Programs that keep sockets and process ids at fixed places under /run see a directory of the lab there instead, so that
//! both gateways have one each, the machine's own stay apart, and all goes with the lab.

use std::fs;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use qhaul::lab::plan::{Node, Side};
use qhaul::lab::{Process, Topology};

const SCRIPT: &str = r#"mount --bind "$0" /run && exec "$@""#;

/// The directory that one gateway's programs see as /run.
pub(super) struct Private {
    dir: PathBuf,
    node: Node,
}

impl Private {
    /// Makes the directory `NAME-SIDE` of the lab anew.
    pub(super) fn new(topology: &Topology, name: &str, side: Side) -> Result<Private> {
        let dir = topology.dir().join(format!("{name}-{side}"));
        if dir.exists() {
            fs::remove_dir_all(&dir).with_context(|| format!("{}", dir.display()))?;
        }
        DirBuilder::new().mode(0o700).create(&dir).with_context(|| format!("{}", dir.display()))?;
        Ok(Private { dir, node: Node::Gateway(side) })
    }

    /// Where the directory is in truth.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
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
        let head = ["unshare", "--mount", "sh", "-c", SCRIPT, &dir];
        head.iter().chain(argv).map(|word| (*word).to_owned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_wrapped_and_keep_their_words() {
        let private = Private { dir: "/run/x y".into(), node: Node::Gateway(Side::A) };
        let argv = private.wrapped(&["echo", "two words"]);
        assert_eq!(argv[..2], ["unshare", "--mount"]);
        assert_eq!(argv[5..], ["/run/x y", "echo", "two words"]);
    }
}
