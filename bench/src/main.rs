//! `qhaul-bench`: what the packet path costs, beside a control in the same run.

mod rig;
mod soft;

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
}

fn main() -> anyhow::Result<()> {
    match Args::parse().command {
        Command::Soft(options) => soft::run(&options),
    }
}
