//! The control: plain AF_XDP forwarding between two ports, with the worker's rings and no packet work at all.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use qhaul::BURST;
use qhaul::lab::wait::{catch_signals, check_interrupt};
use qhaul::xsk::{BindMode, Frame, Port, PortConfig, Umem};
use qhaul_ebpf::{AttachMode, Buffers, PlainProgram};

const RING: u32 = 2048;
const CHUNK: u32 = 4096;
/// As long as an adaptive worker spins.
const SPIN: Duration = Duration::from_micros(50);

/// Which ports.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// One port.
    #[arg(long)]
    plain: String,
    /// The other.
    #[arg(long)]
    cipher: String,
    /// The cores to run on, one for each queue.
    #[arg(long, value_delimiter = ',', required = true)]
    core: Vec<usize>,
}

/// One queue of both ports.
struct Lane {
    umem: Umem,
    ports: Vec<Port>,
}

/// Forwards until SIGTERM.
pub(crate) fn run(options: &Options) -> Result<()> {
    catch_signals()?;
    let names = [options.plain.as_str(), options.cipher.as_str()];
    let programs = [
        PlainProgram::attach(names[0], AttachMode::Native, Buffers::One)?,
        PlainProgram::attach(names[1], AttachMode::Native, Buffers::One)?,
    ];
    let lanes = (0..).zip(&options.core).map(|(queue, _)| open(names, queue, &programs));
    let lanes = lanes.collect::<Result<Vec<Lane>>>()?;
    let failed = AtomicBool::new(false);
    println!("forwarding");
    thread::scope(|scope| {
        let threads: Vec<_> = lanes
            .into_iter()
            .zip(&options.core)
            .map(|(lane, core)| scope.spawn(|| turn_on_core(lane, *core, &failed)))
            .collect();
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| anyhow!("a thread panicked"))?)
    })
}

fn open(names: [&str; 2], queue: u32, programs: &[PlainProgram]) -> Result<Lane> {
    let mut umem = Umem::new(RING * 5, CHUNK)?;
    let sizes =
        PortConfig { rx: RING, tx: RING, fill: RING, completion: RING, bind: BindMode::Auto, chains: false };
    let ports = Port::open_all(&mut umem, &names.map(|name| (name, queue)), &sizes)?;
    for (program, port) in programs.iter().zip(&ports) {
        program.set_socket(queue, port.as_fd())?;
    }
    Ok(Lane { umem, ports })
}

fn turn_on_core(lane: Lane, core: usize, failed: &AtomicBool) -> Result<()> {
    let Lane { mut umem, mut ports } = lane;
    let result = match core_affinity::set_for_current(core_affinity::CoreId { id: core }) {
        true => turn_until_told(&mut umem, &mut ports, failed),
        false => Err(anyhow!("core {core} cannot be had")),
    };
    // One queue without its thread would look like loss.
    failed.fetch_or(result.is_err(), Ordering::Relaxed);
    ports.into_iter().for_each(|port| {
        port.close(&mut umem);
    });
    result
}

fn turn_until_told(umem: &mut Umem, ports: &mut [Port], failed: &AtomicBool) -> Result<()> {
    let mut frames = Vec::with_capacity(BURST);
    let mut idle_since = Instant::now();
    while check_interrupt().is_ok() && !failed.load(Ordering::Relaxed) {
        let mut busy = false;
        for from in 0..ports.len() {
            busy |= ports[from].receive(umem, &mut frames, BURST) > 0;
            pass_on(umem, &mut ports[1 - from], &mut frames)?;
        }
        for port in ports.iter_mut() {
            port.complete(umem);
            port.refill(umem, RING);
        }
        match busy {
            true => idle_since = Instant::now(),
            false if idle_since.elapsed() > SPIN => sleep(ports)?,
            false => std::hint::spin_loop(),
        }
    }
    Ok(())
}

fn pass_on(umem: &mut Umem, to: &mut Port, frames: &mut Vec<Frame>) -> Result<()> {
    if frames.is_empty() {
        return Ok(());
    }
    to.transmit(umem, frames);
    to.kick()?;
    if !frames.is_empty() {
        to.complete(umem);
        to.transmit(umem, frames);
        to.kick()?;
    }
    // As in the worker, what finds no room is lost.
    frames.drain(..).for_each(|frame| umem.free(frame));
    Ok(())
}

fn sleep(ports: &[Port]) -> Result<()> {
    let mut fds: Vec<PollFd<'_>> =
        ports.iter().map(|port| PollFd::new(port.as_fd(), PollFlags::POLLIN)).collect();
    let sending = ports.iter().any(|port| port.outstanding().tx > 0);
    match poll(&mut fds, PollTimeout::from(if sending { 1u8 } else { 100 })) {
        Ok(_) | Err(nix::Error::EINTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}
