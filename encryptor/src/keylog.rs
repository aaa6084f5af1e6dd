//! A log of flow keys for laboratories, so that a capture can be read by other tools. Off in every normal run.
//!
//! This is the one place where key bytes leave the process, and `qhaul run` opens it only behind a debug flag, with a
//! warning at start and in every status.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};

use crate::keys::FlowKey;
use crate::spi::Spi;

/// Where flow keys are written to, if anywhere.
#[derive(Clone)]
pub struct KeyLog(Option<Arc<Mutex<File>>>);

impl KeyLog {
    /// No log.
    pub const fn off() -> KeyLog {
        KeyLog(None)
    }

    /// Appends to `path`, which is made readable by its owner alone.
    pub fn open(path: &Path) -> io::Result<KeyLog> {
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        Ok(KeyLog(Some(Arc::new(Mutex::new(file)))))
    }

    /// Whether keys are logged.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Writes `direction SPI key+salt`, the latter in hexadecimal as Wireshark and Scapy take it. A failing write is
    /// no reason to stop traffic.
    pub(crate) fn record(&self, direction: &str, spi: Spi, key: &FlowKey) {
        let Some(file) = &self.0 else { return };
        let bytes =
            key.key().iter().chain(key.salt().iter()).map(|byte| format!("{byte:02x}")).collect::<String>();
        if let Ok(mut file) = file.lock() {
            let _ = writeln!(file, "{direction} {spi} {bytes}");
        }
    }
}

impl fmt::Debug for KeyLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_on() { "KeyLog(on)" } else { "KeyLog(off)" })
    }
}
