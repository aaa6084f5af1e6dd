//! A file served by host b over HTTP and fetched by host a, compared by its SHA-256.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ring::digest::{SHA256, digest};

use super::error::{Result, io_error};
use super::plan::{Node, Side};
use super::process::Process;
use super::topology::Topology;

/// Every line of the file says this: the marker that an eavesdropper can look for.
pub const MARKER: &[u8] = b"confidential: not for the backhaul";

const PORT: u16 = 8080;
const SIZE: usize = 8 << 20;

/// Host b's HTTP server with its file.
#[derive(Debug)]
pub struct FileServer {
    _server: Process,
    served: PathBuf,
    fetched: PathBuf,
}

impl FileServer {
    /// Writes an 8 MiB file and serves it.
    pub fn start(topology: &Topology) -> Result<Self> {
        let root = topology.dir().join("www");
        let served = root.join("file");
        fs::create_dir_all(&root).map_err(io_error(format!("cannot make {}", root.display())))?;
        fs::write(&served, content()).map_err(io_error(format!("cannot write {}", served.display())))?;
        let (root, port) = (root.display().to_string(), PORT.to_string());
        let argv = ["python3", "-m", "http.server", "--directory", &root, &port];
        let mut server = topology.start(Node::Host(Side::B), "http-server", &argv)?;
        server.wait_listening(PORT, Duration::from_secs(10))?;
        Ok(Self { _server: server, served, fetched: topology.dir().join("fetched") })
    }

    /// Starts a fetch by host a.
    pub fn fetch(&self, topology: &Topology) -> Result<Fetch> {
        let url = format!("http://{}:{PORT}/file", Side::B.host_v4());
        let fetched = self.fetched.display().to_string();
        let argv =
            ["curl", "--silent", "--show-error", "--fail", "--max-time", "20", "--output", &fetched, &url];
        let client = topology.start(Node::Host(Side::A), "curl", &argv)?;
        Ok(Fetch { client, served: self.served.clone(), fetched: self.fetched.clone() })
    }
}

/// A fetch under way.
#[derive(Debug)]
pub struct Fetch {
    client: Process,
    served: PathBuf,
    fetched: PathBuf,
}

impl Fetch {
    /// Waits for its end; true if what arrived has the hash of what was served.
    pub fn finish(mut self) -> Result<bool> {
        self.client.finish(Duration::from_secs(25))?;
        Ok(hash(&self.served)? == hash(&self.fetched)?)
    }
}

fn hash(path: &Path) -> Result<Vec<u8>> {
    let bytes = fs::read(path).map_err(io_error(format!("cannot read {}", path.display())))?;
    Ok(digest(&SHA256, &bytes).as_ref().to_vec())
}

/// Numbered lines, so that a block that is missing, doubled or in another place changes the hash.
fn content() -> Vec<u8> {
    let mut bytes = Vec::with_capacity(SIZE + 64);
    for line in 0.. {
        bytes.extend_from_slice(MARKER);
        bytes.extend_from_slice(format!(" {line:08}\n").as_bytes());
        if bytes.len() >= SIZE {
            break;
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_1400_bytes_of_the_file_hold_the_marker() {
        let content = content();
        assert!(content.len() >= SIZE);
        let held = |part: &[u8]| memchr::memmem::find(part, MARKER).is_some();
        assert!(content.windows(1400).step_by(9973).all(held));
    }
}
