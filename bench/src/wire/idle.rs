//! Round trips with nothing else on the path. The hosts' kernels make and answer them: whoever polled at the ends would take the
//! cores from what is measured.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use qhaul::lab::Sites;
use qhaul::lab::ping::Ping;
use qhaul::lab::plan::{Node, Side};

/// From one request to the next.
const EACH: Duration = Duration::from_millis(10);
/// Requests.
const COUNT: u32 = 200;
/// About how long they take, in seconds.
pub(super) const SECONDS: f64 = 2.2;

/// What was seen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Idle {
    /// Of the round trips, in microseconds.
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    /// The part of a core that was spent meanwhile.
    pub(crate) share: f64,
}

/// Pings host b from host a. `cpu`: the time spent so far.
pub(crate) fn measure(sites: &Sites, cpu: impl Fn() -> Duration) -> Result<Idle> {
    let ping = |name, count| {
        let target = Side::B.host_v4().into();
        Ping::start(sites.topology(), Node::Host(Side::A), name, target, EACH, Some(count))?
            .wait(Duration::from_secs(30))
    };
    // Neighbours and flows are found by then.
    ping("ping-first", 5)?;
    let (begun, before) = (Instant::now(), cpu());
    let report = ping("ping-idle", COUNT)?;
    let share = cpu().saturating_sub(before).as_secs_f64() / begun.elapsed().as_secs_f64();
    let at = |percent| report.percentile(percent).context("no ping came back");
    Ok(Idle { p50_us: at(50)?, p99_us: at(99)?, share })
}
