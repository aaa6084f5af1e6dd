//! The control: plain AF_XDP forwarding between two ports, with the worker's rings and no packet work at all.
//!
//! What the worker fixes can be set here, for the tuning bench; the defaults are the worker's.

use std::fs;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use qhaul::BURST;
use qhaul::lab::plan::{Node, Side};
use qhaul::lab::wait::{catch_signals, check_interrupt, wait_for};
use qhaul::lab::{Process, Topology};
use qhaul::worker::LOOK;
use qhaul::xsk::{Frame, Port, PortConfig, Tuning, Umem, ask_for_short_slices};
use qhaul_ebpf::{AttachMode, Buffers, PlainProgram};

const CHUNK: u32 = 4096;
/// With busy polling, for an interface: how many times its interrupts stay off without a frame, and after how many nanoseconds without a
/// poll the kernel polls by itself. What the kernel's documentation of AF_XDP shows.
const DEFERRED: [(&str, &str); 2] = [("napi_defer_hard_irqs", "2"), ("gro_flush_timeout", "200000")];

/// Which ports, and how they are used.
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
    /// Frames that are taken from a port in one go, at the most.
    #[arg(long, default_value_t = BURST)]
    burst: usize,
    /// Entries of each ring.
    #[arg(long, default_value_t = PortConfig::default().rx)]
    ring: u32,
    /// Frames that one kick may send; as many as a ring has, unless told.
    #[arg(long)]
    tx_budget: Option<u32>,
    /// Frames on huge pages.
    #[arg(long)]
    huge_pages: bool,
    /// Without XDP_USE_NEED_WAKEUP.
    #[arg(long)]
    no_need_wakeup: bool,
    /// Poll the devices by system calls, with their interrupts deferred.
    #[arg(long)]
    busy_poll: bool,
}

impl Options {
    fn check(&self) -> Result<()> {
        ensure!((1..=BURST).contains(&self.burst), "--burst is within 1 to {BURST}");
        ensure!(self.ring.is_power_of_two() && self.ring >= 64, "--ring is a power of two, 64 at the least");
        let budgets = 32..=self.ring;
        ensure!(
            self.tx_budget.is_none_or(|budget| budgets.contains(&budget)),
            "--tx-budget is within 32 and --ring"
        );
        Ok(())
    }

    fn config(&self) -> PortConfig {
        let usual = Tuning::default();
        let tuning = Tuning {
            tx_budget: self.tx_budget.or(usual.tx_budget),
            need_wakeup: usual.need_wakeup && !self.no_need_wakeup,
            busy_poll: usual.busy_poll || self.busy_poll,
        };
        let (rx, tx, fill, completion) = (self.ring, self.ring, self.ring, self.ring);
        PortConfig { rx, tx, fill, completion, tuning, ..PortConfig::default() }
    }
}

/// Starts it at a gateway of the lab, with more `arguments`, and waits until it forwards.
pub(crate) fn start(topology: &Topology, side: Side, cores: &[usize], arguments: &[&str]) -> Result<Process> {
    let program = std::env::current_exe()?.display().to_string();
    let cores = cores.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
    let usual = [&program, "forward", "--plain", "plain", "--cipher", "cipher", "--core", &cores];
    let name = format!("forward-{side}");
    let mut process = topology.start(Node::Gateway(side), &name, &[&usual, arguments].concat())?;
    wait_for("the forwarder did not begin", Duration::from_secs(10), || {
        process.check_running()?;
        Ok(process.output().contains("forwarding").then_some(()))
    })?;
    Ok(process)
}

/// Forwards until SIGTERM.
pub(crate) fn run(options: &Options) -> Result<()> {
    if let Err(error) = forward(options) {
        // The lab shows the last line as the reason, which must not be one of a backtrace.
        eprintln!("{error}");
        std::process::exit(1);
    }
    Ok(())
}

/// One queue of both ports.
struct Lane {
    umem: Umem,
    ports: Vec<Port>,
}

fn forward(options: &Options) -> Result<()> {
    options.check()?;
    catch_signals()?;
    let names = [options.plain.as_str(), options.cipher.as_str()];
    let programs = [
        PlainProgram::attach(names[0], AttachMode::Native, Buffers::One)?,
        PlainProgram::attach(names[1], AttachMode::Native, Buffers::One)?,
    ];
    let _deferred = options.busy_poll.then(|| Deferred::put(names)).transpose()?;
    let lanes = (0..).zip(&options.core).map(|(queue, _)| open(options, queue, &programs));
    let lanes = lanes.collect::<Result<Vec<Lane>>>()?;
    let failed = AtomicBool::new(false);
    println!("forwarding");
    thread::scope(|scope| {
        let threads: Vec<_> = lanes
            .into_iter()
            .zip(&options.core)
            .map(|(lane, core)| scope.spawn(|| turn_on_core(options, lane, *core, &failed)))
            .collect();
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| anyhow!("a thread panicked"))?)
    })
}

fn open(options: &Options, queue: u32, programs: &[PlainProgram]) -> Result<Lane> {
    let mut umem = Umem::new(options.ring * 5, CHUNK)?;
    if options.huge_pages {
        umem = umem.on_huge_pages()?;
    }
    let names = [(options.plain.as_str(), queue), (options.cipher.as_str(), queue)];
    let ports = Port::open_all(&mut umem, &names, &options.config())?;
    for (program, port) in programs.iter().zip(&ports) {
        program.set_socket(queue, port.as_fd())?;
    }
    Ok(Lane { umem, ports })
}

fn turn_on_core(options: &Options, lane: Lane, core: usize, failed: &AtomicBool) -> Result<()> {
    let Lane { mut umem, mut ports } = lane;
    let result = match core_affinity::set_for_current(core_affinity::CoreId { id: core }) {
        true => ask_for_short_slices()
            .map_err(Into::into)
            .and_then(|()| turn_until_told(options, &mut umem, &mut ports, failed)),
        false => Err(anyhow!("core {core} cannot be had")),
    };
    // One queue without its thread would look like loss.
    failed.fetch_or(result.is_err(), Ordering::Relaxed);
    ports.into_iter().for_each(|port| {
        port.close(&mut umem);
    });
    result
}

fn turn_until_told(
    options: &Options,
    umem: &mut Umem,
    ports: &mut [Port],
    failed: &AtomicBool,
) -> Result<()> {
    let mut frames = Vec::with_capacity(options.burst);
    let mut idle_since = Instant::now();
    while check_interrupt().is_ok() && !failed.load(Ordering::Relaxed) {
        let mut busy = false;
        for from in 0..ports.len() {
            busy |= ports[from].receive(umem, &mut frames, options.burst) > 0;
            // As a worker does: here the kernel reads them, to send them.
            frames.iter().for_each(Frame::prefetch);
            pass_on(umem, &mut ports[1 - from], &mut frames)?;
        }
        for port in ports.iter_mut() {
            port.complete(umem);
            port.refill(umem, options.ring);
        }
        match busy {
            true => idle_since = Instant::now(),
            false if idle_since.elapsed() > LOOK => sleep(ports)?,
            // As a worker does.
            false => thread::yield_now(),
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

/// Interfaces whose interrupts are deferred; dropping it puts back what was set before.
struct Deferred(Vec<(String, String)>);

impl Deferred {
    fn put(interfaces: [&str; 2]) -> Result<Deferred> {
        let mut deferred = Deferred(Vec::new());
        for interface in interfaces {
            for (name, value) in DEFERRED {
                let file = format!("/sys/class/net/{interface}/{name}");
                let failed = |error| anyhow!("{file}: {error}");
                let before = fs::read_to_string(&file).map_err(failed)?;
                fs::write(&file, value).map_err(failed)?;
                deferred.0.push((file, before));
            }
        }
        Ok(deferred)
    }
}

impl Drop for Deferred {
    fn drop(&mut self) {
        for (file, before) in &self.0 {
            // The interface may be gone, and its settings with it.
            let _ = fs::write(file, before.trim());
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Args {
        #[command(flatten)]
        options: Options,
    }

    fn parse(arguments: &[&str]) -> Options {
        let ports = ["forward", "--plain", "a", "--cipher", "b", "--core", "0"];
        Args::try_parse_from([&ports, arguments].concat()).unwrap().options
    }

    #[test]
    fn without_more_arguments_ports_are_the_workers() {
        let options = parse(&[]);
        assert!(options.check().is_ok());
        assert_eq!((options.config(), options.burst), (PortConfig::default(), BURST));
    }

    #[test]
    fn each_knob_is_turned_alone() {
        let tuning = |arguments: &[&str]| parse(arguments).config().tuning;
        let usual = Tuning::default();
        assert_eq!(tuning(&["--tx-budget", "32"]), Tuning { tx_budget: Some(32), ..usual });
        assert_eq!(tuning(&["--no-need-wakeup"]), Tuning { need_wakeup: false, ..usual });
        assert_eq!(tuning(&["--busy-poll"]), Tuning { busy_poll: true, ..usual });
        let ring = parse(&["--ring", "512"]).config();
        assert_eq!((ring.rx, ring.tx, ring.fill, ring.completion, ring.tuning), (512, 512, 512, 512, usual));
    }

    #[test]
    fn what_cannot_be_set_is_refused() {
        for bad in [["--burst", "0"], ["--burst", "65"], ["--ring", "1000"], ["--tx-budget", "31"]] {
            assert!(parse(&bad).check().is_err(), "{bad:?}");
        }
        assert!(parse(&["--ring", "512", "--tx-budget", "1024"]).check().is_err());
    }
}
