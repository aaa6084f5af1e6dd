//! `qhaul-bench`: what the packet path costs, beside a control in the same run.

mod flood;
mod peers;
mod progress;
mod report;
mod rig;
mod soak;
mod soft;
mod tune;
mod wire;

use clap::{Parser, Subcommand};

/// Benchmarks of qhaul. Run a release build, alone on the machine.
#[derive(Parser)]
#[command(version, about)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The worker's packet code over memory, no kernel: protect, unprotect, and the bare AEAD on the same bytes.
    Soft(soft::Options),
    /// One part of the soft bench's work, for valgrind to count.
    #[command(hide = true)]
    SoftWork(soft::instructions::Work),
    /// The lab's path under load: loss-free rate, overload, round trips, TCP and rotation, beside the kernel in clear and plain AF_XDP.
    Wire(wire::Options),
    /// What a user would pick instead of qhaul, on the wire bench's topology and under its traffic, in turns.
    Peers(peers::Options),
    /// Each knob of AF_XDP and of the packet path against its default, in turns: what the defaults rest on.
    Tune(tune::Options),
    /// Two sites under forged packets of every kind, beside legitimate traffic that must not feel them.
    Flood(flood::Options),
    /// Two sites for many minutes under rotations, floods, restarts and cuts: no frame is lost without a name, and memory stays flat.
    Soak(soak::Options),
    /// One page with tables and plots from rows that the benches printed with --json.
    Report(report::Options),
    /// The control of the wire bench, and what the tuning bench varies: forwards frames between two ports.
    #[command(hide = true)]
    Forward(wire::forward::Options),
}

fn main() -> anyhow::Result<()> {
    match Args::parse().command {
        Command::Soft(options) => soft::run(&options),
        Command::SoftWork(work) => soft::instructions::work(&work),
        Command::Wire(options) => wire::run(&options.normal()),
        Command::Peers(options) => peers::run(&options),
        Command::Tune(options) => tune::run(&options),
        Command::Flood(options) => flood::run(&options),
        Command::Soak(options) => soak::run(&options),
        Command::Report(options) => report::run(&options),
        Command::Forward(options) => wire::forward::run(&options),
    }
}
