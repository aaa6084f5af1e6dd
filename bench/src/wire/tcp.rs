//! TCP between the hosts' kernels.

use std::time::Duration;

use anyhow::Result;
use qhaul::lab::Sites;
use qhaul::lab::iperf::{Iperf, Load};
use qhaul::lab::plan::Side;

/// Gbit/s of payload in four streams, as fast as they go for `seconds`.
pub(crate) fn gbps(sites: &Sites, seconds: u64) -> Result<f64> {
    let unlimited = Load::TcpRate(0, Duration::from_secs(seconds));
    let iperf = Iperf::start(sites.topology(), Side::B.host_v4().into(), 5201, 4, unlimited)?;
    Ok(iperf.finish(Duration::from_secs(30 + 2 * seconds))?.bits_per_second / 1e9)
}
