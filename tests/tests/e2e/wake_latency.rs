//! Cores are asked to wake up soon for as long as an encryptor runs.

use std::fs::File;
use std::io::Read;

use anyhow::{Context, Result, ensure};
use qhaul_tests::TestLab;

/// Microseconds that cores may take to wake up, by all that is asked for on this machine
/// (kernel: Documentation/power/pm_qos_interface.rst).
fn in_force() -> Result<i32> {
    let mut value = [0; 4];
    File::open("/dev/cpu_dma_latency")
        .and_then(|mut device| device.read_exact(&mut value))
        .context("/dev/cpu_dma_latency")?;
    Ok(i32::from_ne_bytes(value))
}

#[test]
fn a_wake_latency_is_in_force_while_an_encryptor_runs_and_no_longer() -> Result<()> {
    let before = in_force()?;
    ensure!(before > 7, "something else on this machine asks for {before} us: nothing is to be seen");
    let lab = TestLab::up("ewake", |config| config.more.insert_str(0, "wake_latency_us = 7\n"))?;
    let meanwhile = in_force()?;
    lab.finish()?;
    let after = in_force()?;
    ensure!((meanwhile, after) == (7, before), "{meanwhile} us meanwhile, {after} us after {before}");
    Ok(())
}
