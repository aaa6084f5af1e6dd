//! Progress lines with the seconds since the start.

use std::time::Instant;

/// Prints to standard output.
#[derive(Clone, Copy, Debug)]
pub(super) struct Progress {
    start: Instant,
}

impl Progress {
    pub(super) fn start() -> Self {
        Self { start: Instant::now() }
    }

    pub(super) fn say(&self, text: impl AsRef<str>) {
        println!("[{:5.1} s] {}", self.start.elapsed().as_secs_f64(), text.as_ref());
    }
}
