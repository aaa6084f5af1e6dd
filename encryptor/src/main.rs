//! `qhaul`: the encryptor's command line.

use std::io::{self, IsTerminal};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use qhaul::check::{self, Grade};
use qhaul::config::Config;
use qhaul::keylog::KeyLog;
use qhaul::lab::Options;
use qhaul::lab::replay::{Request, replay};
use qhaul::pki::{PkiNames, SiteNames};
use qhaul::plan::{KeyRate, Plan, PlanInput};
use qhaul::{audit, control, lab, pki, status};
use qhaul_keyfeed::SourceStatus;

/// A bump in the wire for 5G backhaul: per-flow AES-256-GCM over AF_XDP, keyed by QKD.
#[derive(Parser)]
#[command(version, about)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Encrypt: take both ports and keep the link up until a signal comes.
    Run {
        /// The site's file.
        #[arg(long)]
        config: PathBuf,
        /// DANGER, for laboratories only: append every flow key to this file. Needs --debug too.
        #[arg(long)]
        debug_key_log: Option<PathBuf>,
        /// Allow what must never be in operation.
        #[arg(long)]
        debug: bool,
    },
    /// Validate a site's file, this host and the key server, and say what is wrong and the remedy.
    Check {
        /// The site's file.
        #[arg(long)]
        config: PathBuf,
    },
    /// Reckon whether the key servers can feed the rotation, and how long the keys at hand last when they cannot.
    Plan {
        /// The site's file.
        #[arg(long)]
        config: PathBuf,
        /// What the key servers make, such as "2kbit/s" or "8 keys/s".
        #[arg(long)]
        rate: Option<KeyRate>,
        /// Links that draw on the same pair of key servers.
        #[arg(long, default_value = "1")]
        links: NonZeroU32,
        /// Quantum links that a key is relayed over.
        #[arg(long, default_value = "1")]
        hops: NonZeroU32,
        /// An outage to be ridden out, such as "10m".
        #[arg(long)]
        outage: Option<humantime::Duration>,
        /// One JSON object instead of a page.
        #[arg(long)]
        json: bool,
    },
    /// Check an audit log.
    Audit {
        #[command(subcommand)]
        command: AuditCommand,
    },
    /// Tell how a running encryptor does.
    Status {
        /// The site's file.
        #[arg(long)]
        config: PathBuf,
        /// One JSON object instead of a page.
        #[arg(long)]
        json: bool,
    },
    /// Put links and policy of a site's file in force without a restart, and show what changes.
    Reload {
        /// The site's file.
        #[arg(long)]
        config: PathBuf,
    },
    /// Make certificates for demonstrations.
    Pki {
        /// Where to; it is made if it is not there.
        #[arg(long)]
        dir: PathBuf,
        /// A site's short name; its SAE ID is sae-NAME, its KME's kme-NAME.
        #[arg(long = "site", default_values_t = ["a".to_string(), "b".to_string()])]
        sites: Vec<String>,
        /// Keep the authorities' private keys, to add sites later.
        #[arg(long)]
        keep_authority_keys: bool,
    },
    /// Two sites in network namespaces of this machine.
    Lab {
        #[command(subcommand)]
        command: LabCommand,
        /// Prefix of the namespaces' names.
        #[arg(long, global = true, default_value = "qh")]
        prefix: String,
    },
}

#[derive(Subcommand)]
enum AuditCommand {
    /// Show that nothing was removed, changed or put in.
    Verify {
        /// The log's newest file.
        log: PathBuf,
        /// The hash of the last line as it was noted elsewhere: shows that the end was not cut off.
        #[arg(long)]
        head: Option<String>,
    },
}

#[derive(Clone, Subcommand)]
enum LabCommand {
    /// Bring it up and leave it standing.
    Up,
    /// Remove it.
    Down,
    /// Bring it up, put real traffic through, show a table, remove it.
    Demo {
        /// Key rotations to see in each direction.
        #[arg(long, default_value_t = 10)]
        rotations: u64,
        /// Keep logs and captures.
        #[arg(long)]
        keep: bool,
    },
    /// Send every frame of capture files from host a to host b, and compare bit for bit what arrives.
    Replay {
        /// pcap or pcapng files of Ethernet frames.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// From host b to host a as well, at the same time.
        #[arg(long)]
        reverse: bool,
        /// Use the lab that `lab up` left standing, instead of one made and removed for the occasion.
        #[arg(long)]
        standing: bool,
        /// Key rotations that the frames are spread over; 0 sends them as fast as they go.
        #[arg(long, default_value_t = 2)]
        rotations: u64,
        /// One JSON object instead of a page.
        #[arg(long)]
        json: bool,
    },
}

fn main() -> ExitCode {
    log_to_stderr();
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) if error.use_stderr() => {
            let text = error.to_string();
            let line = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
            eprintln!("qhaul: {line}: see `qhaul --help`");
            return ExitCode::from(2);
        }
        Err(help) => help.exit(),
    };
    match dispatch(args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("qhaul: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn log_to_stderr() {
    let filter = EnvFilter::try_from_env("QHAUL_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let terminal = io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(terminal).init();
}

fn dispatch(args: Args) -> anyhow::Result<bool> {
    match args.command {
        Command::Run { debug_key_log: Some(_), debug: false, .. } => {
            bail!("--debug-key-log gives every flow key away: leave it out, or add --debug in a laboratory")
        }
        Command::Run { config, debug_key_log, debug: _ } => {
            let log = match debug_key_log {
                Some(path) => KeyLog::open(&path).with_context(|| format!("key log {}", path.display()))?,
                None => KeyLog::off(),
            };
            control::run(&Config::load(&config)?, log)?;
            Ok(true)
        }
        Command::Check { config } => check_site(&Config::load(&config)?),
        Command::Plan { config, rate, links, hops, outage, json } => {
            let outage = outage.map(Into::into);
            let config = Config::load(&config)?;
            let plans = config.links.iter().map(|link| {
                let input = PlanInput { rate, links, hops, outage, ..link.plan_input() };
                (config.about(link), Plan::new(&input))
            });
            show_plans(&plans.collect::<Vec<_>>(), json)
        }
        Command::Audit { command: AuditCommand::Verify { log, head } } => verify_audit(&log, head.as_deref()),
        Command::Status { config, json } => show_status(&Config::load(&config)?, json),
        Command::Reload { config } => reload(&Config::load(&config)?),
        Command::Pki { dir, sites, keep_authority_keys } => {
            make_certificates(&dir, sites, keep_authority_keys)
        }
        Command::Lab { command, prefix } => run_lab(command, prefix),
    }
}

fn check_site(config: &Config) -> anyhow::Result<bool> {
    let (findings, _) = check::host(config);
    let mut sound = true;
    for finding in findings {
        let mark = match finding.grade {
            Grade::Fine => "ok     ",
            Grade::Warning => "warning",
            Grade::Fault => "FAULT  ",
        };
        sound &= finding.grade != Grade::Fault;
        println!("{mark} {}", finding.line);
    }
    for link in &config.links {
        let Some(feed) = &link.feed else { continue };
        let about = config.about(link);
        match feed.source.clone().prepare().and_then(|maker| maker.make()?.status()) {
            Ok(status) => println!("ok      {about}{}", key_server_line(&status)),
            Err(error) => {
                sound = false;
                println!("FAULT   {about}key server: {error}");
            }
        }
    }
    if !sound {
        bail!("this site cannot run as configured: see FAULT above");
    }
    Ok(true)
}

fn key_server_line(status: &SourceStatus) -> String {
    let SourceStatus { source_kme_id, stored_key_count, key_size_bits, slave_sae_id, .. } = status;
    let alarm =
        status.extension.as_ref().map(|extension| format!("; it says {extension}")).unwrap_or_default();
    format!(
        "key server {source_kme_id} answers: {stored_key_count} keys of {key_size_bits} bits for {slave_sae_id}{alarm}"
    )
}

/// One link's plan, or those of several, each behind its link. Exit 1 when a rate is known and too low.
fn show_plans(plans: &[(String, Plan)], json: bool) -> anyhow::Result<bool> {
    match (json, plans) {
        (true, [(_, plan)]) => println!("{}", serde_json::to_string(plan)?),
        (true, _) => {
            let plans: Vec<&Plan> = plans.iter().map(|(_, plan)| plan).collect();
            println!("{}", serde_json::to_string(&plans)?);
        }
        (false, [(_, plan)]) => print!("{}", plan.page()),
        (false, _) => plans.iter().for_each(|(about, plan)| print!("{about}\n{}\n", plan.page())),
    }
    Ok(plans.iter().all(|(_, plan)| plan.is_feasible() != Some(false)))
}

fn verify_audit(log: &std::path::Path, head: Option<&str>) -> anyhow::Result<bool> {
    let report = match head {
        Some(head) => audit::verify_against(log, head)?,
        None => audit::verify(log)?,
    };
    println!("{report}");
    Ok(true)
}

fn show_status(config: &Config, json: bool) -> anyhow::Result<bool> {
    let status = status::ask(&config.control).with_context(|| {
        format!(
            "{}: no answer; is `qhaul run` running with this file, and are you its user?",
            config.control.display()
        )
    })?;
    match json {
        true => println!("{}", serde_json::to_string(&status)?),
        false => print!("{}", status.page()),
    }
    Ok(true)
}

/// The file was found good here; the encryptor reads it again.
fn reload(config: &Config) -> anyhow::Result<bool> {
    let control = config.control.display();
    let reload = status::reload(&config.control, &config.file)
        .with_context(|| format!("{control}: no answer; is `qhaul run` running, and are you its user?"))?;
    if let Some(refusal) = reload.refusal {
        bail!("refused, links and policy stay as they are: {refusal}");
    }
    reload.lines().for_each(|line| println!("{line}"));
    reload.warnings.iter().for_each(|line| println!("warning: {line}"));
    println!("in force: {}", reload.summary());
    Ok(true)
}

fn make_certificates(
    dir: &std::path::Path,
    sites: Vec<String>,
    keep_authority_keys: bool,
) -> anyhow::Result<bool> {
    let sites = sites.into_iter().map(|site| SiteNames {
        sae_id: format!("sae-{site}"),
        kme_id: format!("kme-{site}"),
        kme_addresses: Vec::new(),
        site,
    });
    let made = pki::generate(dir, &PkiNames { sites: sites.collect(), keep_authority_keys })?;
    for path in made {
        println!("{}", path.display());
    }
    println!("These are for demonstrations: valid for {} days, keys unencrypted.", pki::VALID_DAYS);
    Ok(true)
}

fn run_lab(command: LabCommand, prefix: String) -> anyhow::Result<bool> {
    let options = Options { prefix, ..Options::default() };
    match command {
        LabCommand::Up => lab::up(&options)?,
        LabCommand::Down => lab::down(&options)?,
        LabCommand::Demo { rotations, keep } => {
            return Ok(lab::demo(&Options { rotations, keep, ..options })?);
        }
        LabCommand::Replay { files, reverse, standing, rotations, json } => {
            return Ok(replay(&options, &Request { files, reverse, standing, rotations, json })?);
        }
    }
    Ok(true)
}
