//! How long a core may take to wake up when a frame comes: asked of the kernel's power management.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

/// Takes what processes ask for (kernel: Documentation/power/pm_qos_interface.rst).
const DEVICE: &str = "/dev/cpu_dma_latency";

/// The longest that may be asked for, in microseconds: no core's sleep is deeper.
pub const MOST_US: u32 = 10_000;

/// A request that holds, for all cores of the machine, until this is dropped or the process ends, in whatever way.
#[derive(Debug)]
pub struct WakeLatency {
    /// The kernel goes by the request for as long as this is open.
    _request: File,
}

/// Why it could not be asked for.
#[derive(Debug, thiserror::Error)]
#[error(
    "worker.wake_latency_us: {DEVICE} takes no request ({0}): run as root where this file is there, or leave the setting out"
)]
pub struct NotAsked(#[from] io::Error);

impl WakeLatency {
    /// Asks that no core takes longer than so many microseconds to wake up. 0: none halts, idle ones look for work in the kernel.
    pub fn ask(microseconds: u32) -> Result<WakeLatency, NotAsked> {
        Ok(WakeLatency { _request: request(Path::new(DEVICE), microseconds)? })
    }
}

fn request(device: &Path, microseconds: u32) -> io::Result<File> {
    let value = i32::try_from(microseconds).map_err(io::Error::other)?;
    let mut file = OpenOptions::new().write(true).open(device)?;
    file.write_all(&value.to_ne_bytes())?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_request_is_four_bytes_in_the_machines_order() {
        let device = std::env::temp_dir().join(format!("qhaul-wake-latency-{}", std::process::id()));
        fs::write(&device, "").unwrap();
        let asked = request(&device, 300);
        let written = fs::read(&device);
        fs::remove_file(&device).unwrap();
        drop(asked.unwrap());
        assert_eq!(written.unwrap(), 300i32.to_ne_bytes());
    }

    #[test]
    fn without_the_device_the_line_tells_what_to_do() {
        let error = NotAsked::from(request(Path::new("/dev/none/here"), 0).unwrap_err()).to_string();
        assert!(error.contains("worker.wake_latency_us") && error.contains("leave"), "{error}");
        assert!(!error.contains('\n') && error.contains(DEVICE), "{error}");
    }
}
