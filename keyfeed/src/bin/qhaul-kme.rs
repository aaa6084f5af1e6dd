//! `qhaul-kme`: one site's key server (KME emulator, ETSI GS QKD 014). One process per site.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use qhaul_keyfeed::kme::{self, Change, Kme, KmeConfig, Quirk, What};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// A key server (KME) of one site: ETSI GS QKD 014 over HTTPS with mutual TLS, joined to the KME of the other site.
#[derive(Parser)]
#[command(version, subcommand_negates_reqs = true, args_conflicts_with_subcommands = true)]
struct Options {
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE", required = true)]
    config: Option<PathBuf>,

    /// A way in which to depart from the standard, as some key servers in the field do (repeatable)
    #[arg(long, value_name = "NAME", value_enum)]
    quirk: Vec<Quirk>,

    #[command(subcommand)]
    ask: Option<Ask>,
}

#[derive(Subcommand)]
enum Ask {
    /// Command the weather of a running KME; prints how things are then, as JSON
    Ctl {
        /// Its control socket, as `[kme] control` names it
        #[arg(long, value_name = "PATH")]
        socket: PathBuf,
        #[command(subcommand)]
        action: Action,
    },
}

#[derive(Subcommand)]
enum Action {
    /// Let something happen now
    Set {
        /// What
        #[arg(value_enum)]
        what: What,
        /// How much, where there is a how much
        #[arg(allow_negative_numbers = true)]
        value: Option<f64>,
        /// How long; until it is cleared unless given
        #[arg(long = "for", value_name = "SECONDS")]
        lasts: Option<f64>,
    },
    /// End one condition, or all
    Clear {
        /// Which
        #[arg(value_enum)]
        what: Option<What>,
    },
    /// Only tell how things are
    Show,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let filter = EnvFilter::try_from_env("QHAUL_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr)
        .init();
    let done = match &options.ask {
        Some(Ask::Ctl { socket, action }) => control(socket, action),
        None => serve(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn control(socket: &Path, action: &Action) -> Result<()> {
    let command = match *action {
        Action::Set { what, value, lasts } => kme::Command::Set(Change { what, value, lasts }),
        Action::Clear { what } => kme::Command::Clear(what),
        Action::Show => kme::Command::Show,
    };
    let answer = kme::command(socket, &command).map_err(anyhow::Error::msg)?;
    writeln!(io::stdout(), "{answer}").context("the answer could not be written")
}

fn serve(options: &Options) -> Result<()> {
    let path = options.config.as_deref().context("--config FILE is missing")?;
    let mut config = KmeConfig::load(path)?;
    config.kme.quirks.extend(&options.quirk);
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
