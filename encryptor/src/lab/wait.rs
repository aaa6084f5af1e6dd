//! Waiting with a limit, cut short by SIGINT and SIGTERM so that everything is removed on the way out.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

use super::error::{LabError, Result, io_error};

const STEP: Duration = Duration::from_millis(20);

static INTERRUPTED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// From here on SIGINT, SIGTERM and SIGHUP make the lab's waits fail with [`LabError::Interrupted`]; the same signal a
/// second time ends the process at once.
pub fn catch_signals() -> Result<()> {
    let flag = INTERRUPTED.get_or_init(Arc::default);
    let register = |signal| -> io::Result<()> {
        flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(flag))?;
        flag::register(signal, Arc::clone(flag)).map(drop)
    };
    [SIGINT, SIGTERM, SIGHUP].into_iter().try_for_each(register).map_err(io_error("cannot catch signals"))
}

/// Fails if a signal has asked to stop.
pub fn check_interrupt() -> Result<()> {
    match INTERRUPTED.get().is_some_and(|flag| flag.load(Ordering::Relaxed)) {
        true => Err(LabError::Interrupted),
        false => Ok(()),
    }
}

/// Sleeps, unless a signal asks to stop.
pub fn pause(duration: Duration) -> Result<()> {
    let end = Instant::now() + duration;
    while Instant::now() < end {
        check_interrupt()?;
        thread::sleep(STEP.min(end.saturating_duration_since(Instant::now())));
    }
    Ok(())
}

/// Asks `probe` every 20 ms until it gives a value; `failure` words what did not happen, such as `gw-a was not active`.
pub fn wait_for<T>(
    failure: &str,
    limit: Duration,
    mut probe: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(value) = probe()? {
            return Ok(value);
        }
        if Instant::now() >= end {
            return Err(LabError::Timeout { what: failure.to_owned(), limit });
        }
        pause(STEP)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_with_its_value_or_says_what_did_not_happen() {
        let mut left = 3;
        let found = wait_for("no third answer", Duration::from_secs(5), || {
            left -= 1;
            Ok((left == 0).then_some("here"))
        });
        assert_eq!(found.unwrap(), "here");
        let missed = wait_for("the peer did not answer", Duration::ZERO, || Ok(None::<()>)).unwrap_err();
        assert_eq!(missed.to_string(), "the peer did not answer within 0 s");
    }
}
