//! `qhaul-kme`: one site's key server (KME emulator, ETSI GS QKD 014). One process per site.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use qhaul_keyfeed::kme::{Kme, KmeConfig};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// A key server (KME) of one site: ETSI GS QKD 014 over HTTPS with mutual TLS, joined to the KME of the other site.
#[derive(Parser)]
#[command(version)]
struct Options {
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let filter = EnvFilter::try_from_env("QHAUL_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr)
        .init();
    match serve(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn serve(options: &Options) -> Result<()> {
    let config = KmeConfig::load(&options.config)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no I/O")?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be caught")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be caught")?;
        let kme = Kme::bind(config).await?;
        say(&kme.ready_line().context("the listener has no address")?);
        kme.run(async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        })
        .await;
        Ok(())
    })
}

/// One line to stderr in one write: two KMEs often share a terminal or a log. Nobody is left to tell if that fails.
fn say(line: &str) {
    io::stderr().write_all(format!("qhaul-kme: {line}\n").as_bytes()).unwrap_or_default();
}
