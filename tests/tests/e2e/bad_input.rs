//! What is set wrong is named in one line, with the remedy, and nothing runs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use qhaul::lab::SiteConfig;
use qhaul::lab::plan::{KME_PORT, Node, Side};
use qhaul::pki::{self, PkiNames};
use qhaul_tests::TestLab;
use qhaul_tests::lab::PATIENCE;

#[test]
fn settings_that_cannot_be_are_named_before_anything_starts() -> Result<()> {
    let lab = TestLab::prepare("esetting")?;
    let good = SiteConfig::new(Side::A).to_toml();
    let replaced = |right: &str, wrong: &str| -> Result<String> {
        ensure!(good.contains(right), "the configuration has no {right}");
        Ok(good.replacen(right, wrong, 1))
    };
    let cases = [
        (
            "interface = \"plain\"",
            "interface = \"nope0\"",
            &["plain.interface", "nope0", "no such interface"][..],
        ),
        ("interface = \"cipher\"", "interface = \"nope1\"", &["cipher.interface", "nope1", "ip link"]),
        ("rotate = ", "rotates = ", &["line ", "unknown field", "rotates"]),
        ("[worker]", "[workers]", &["unknown field", "workers"]),
        ("rotate = \"1s\"", "rotate = \"1\"", &["line ", "not a duration", "60s"]),
        ("rotate = \"1s\"", "rotate = \"10ms\"", &["keys.rotate", "shorter"]),
        ("combine = \"qkd+pqc\"", "combine = \"none\"", &["line ", "none", "qkd+pqc"]),
        ("[site]", "[site", &["line "]),
        (
            "address = \"192.0.2.1\"",
            "address = \"192.0.2.9\"",
            &["cipher.address", "192.0.2.9", "ip address add"],
        ),
        ("cores = ", "cores = [99] # ", &["99", "cores"]),
        ("ca = \"channel-ca.pem\"", "ca = \"absent.pem\"", &["channel.ca", "absent.pem"]),
        ("cert = \"channel-a.pem\"", "cert = \"channel-b.pem\"", &["channel.cert", "channel-b.pem", "sae-a"]),
        ("key = \"channel-a.key\"", "key = \"channel-b.key\"", &["channel.key", "certificate's own"]),
        ("ca = \"kme-ca.pem\"", "ca = \"absent.pem\"", &["absent.pem"]),
        ("cert = \"sae-a.pem\"", "cert = \"absent.pem\"", &["absent.pem"]),
        ("url = \"https://", "url = \"http://", &["kme.url", "https://"]),
    ];
    for (right, wrong, words) in cases {
        lab.sites.write("site-a.toml", &replaced(right, wrong)?)?;
        let config = lab.sites.config_path(Side::A);
        expect_line(wrong, &run(&lab, Side::A, "run", &config)?, words)?;
        let checked = run(&lab, Side::A, "check", &config)?;
        expect_failure(wrong, &checked)?;
        let said = text(&checked.stdout) + &text(&checked.stderr);
        ensure!(words.iter().all(|word| said.contains(word)), "check with {wrong} says {said}");
    }
    let absent = lab.file("absent.toml");
    expect_line(
        "no file",
        &run(&lab, Side::A, "run", &absent)?,
        &["absent.toml", "cannot be read", "--config"],
    )?;
    lab.finish_without_books()
}

#[test]
fn a_host_that_cannot_carry_the_configuration_is_told_the_remedy() -> Result<()> {
    let lab = TestLab::prepare("ehost")?;
    let config = lab.sites.config_path(Side::A);
    let set = |words: &str| {
        let argv = [&["ip", "link", "set"][..], &words.split(' ').collect::<Vec<_>>()].concat();
        lab.topology().exec(Node::Gateway(Side::A), &argv)
    };
    set("cipher mtu 1300")?;
    let words = ["MTU too small", "1300", "1596", "1372", "ip link set cipher mtu"];
    expect_line("a small MTU", &run(&lab, Side::A, "run", &config)?, &words)?;
    set("cipher mtu 1600")?;
    set("plain down")?;
    expect_line(
        "a port down",
        &run(&lab, Side::A, "run", &config)?,
        &["plain", "down", "ip link set plain up"],
    )?;
    set("plain up")?;

    // nobody cannot read root's directory: what it may read is copied to where it can.
    let public = std::env::temp_dir().join(format!("qhaul-nobody-{}", std::process::id()));
    let made = copy_for_nobody(&lab, &public).and_then(|()| {
        let qhaul = public.join("qhaul").display().to_string();
        let config = public.join("site-a.toml").display().to_string();
        let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
        let command = [&nobody[..], &[&qhaul, "run", "--config", &config]].concat();
        let said = run_words(&lab, Side::A, &command)?;
        expect_line("no privileges", &said, &["no privileges", "CAP_NET_ADMIN", "65534", "run as root"])
    });
    fs::remove_dir_all(&public)?;
    made?;

    let qhaul = lab.binary("qhaul");
    let config = config.display().to_string();
    let keys = lab.file("keys.log").display().to_string();
    let logging = [&qhaul, "run", "--config", &config, "--debug-key-log", &keys];
    let said = run_words(&lab, Side::A, &logging)?;
    expect_line("a key log without --debug", &said, &["--debug-key-log", "add --debug"])?;
    ensure!(!lab.file("keys.log").exists(), "the key log was opened");
    lab.finish_without_books()
}

#[test]
fn key_servers_that_cannot_be_used_are_named_with_the_setting_to_change() -> Result<()> {
    let mut lab = TestLab::prepare("ekmes")?;
    let impatient = SiteConfig::new(Side::A).to_toml().replacen("timeout = \"2s\"", "startup = \"1s\"", 1);
    let with = |lab: &TestLab, right: &str, wrong: &str| -> Result<Output> {
        ensure!(impatient.contains(right), "the configuration has no {right}");
        lab.sites.write("site-a.toml", &impatient.replacen(right, wrong, 1))?;
        run(lab, Side::A, "run", &lab.sites.config_path(Side::A))
    };
    let address = format!("{}:{KME_PORT}", Side::A.kme_v4());
    let unreachable = with(&lab, "[kme]", "[kme]")?;
    expect_line("a key server that is not there", &unreachable, &["key server", &address])?;
    for side in Side::BOTH {
        lab.sites.start_kme(side)?;
    }
    let foreign_ca = with(&lab, "ca = \"kme-ca.pem\"", "ca = \"channel-ca.pem\"")?;
    expect_line("another CA", &foreign_ca, &["key server", &address, "channel-ca.pem"])?;
    let client = with(
        &lab,
        "cert = \"sae-a.pem\"\nkey = \"sae-a.key\"",
        "cert = \"channel-a.pem\"\nkey = \"channel-a.key\"",
    )?;
    expect_line("a certificate of another CA", &client, &["key server", &address, "channel-a.pem"])?;
    let stranger =
        with(&lab, "cert = \"sae-a.pem\"\nkey = \"sae-a.key\"", "cert = \"sae-b.pem\"\nkey = \"sae-b.key\"")?;
    expect_line("another SAE's certificate", &stranger, &["key server", "SAE ID", "certificate"])?;
    let name = with(&lab, "name = \"kme-a\"", "name = \"kme-x\"")?;
    expect_line("another name", &name, &["key server", &address, "kme-x", "kme-a"])?;
    let peer = with(&lab, "peer_sae = \"sae-b\"", "peer_sae = \"sae-z\"")?;
    expect_line("a peer that the key server does not know", &peer, &["key server", "SAE", "ID", "sae-b"])?;
    lab.finish_without_books()
}

#[test]
fn peers_that_disagree_both_stop_and_say_on_what() -> Result<()> {
    let mut lab = TestLab::prepare("eterms")?;
    for side in Side::BOTH {
        lab.sites.start_kme(side)?;
    }
    let other = |change: fn(&mut SiteConfig)| {
        let mut config = SiteConfig::new(Side::B);
        change(&mut config);
        config
    };
    let cases = [
        (other(|config| config.link = "elsewhere".into()), ["link name", "elsewhere", "`link`"]),
        (other(|config| config.combine = "qkd".into()), ["key policy", "qkd+pqc", "keys.combine"]),
    ];
    for (config, words) in cases {
        lab.sites.configure(&config)?;
        let before = Side::BOTH.map(|side| lab.sites.encryptor_log(side).map_or(0, |(_, log)| log.len()));
        for side in Side::BOTH {
            lab.sites.start_encryptor(side)?;
        }
        for side in Side::BOTH {
            let ended = lab.sites.encryptor(side).context("it was started")?.wait(PATIENCE)?;
            ensure!(!ended.success(), "{side} ended with {ended}");
            let (_, log) = lab.sites.encryptor_log(side).context("it logged")?;
            one_line(&words[0..], &log[before[side.index()]..], words[0])?;
        }
    }
    lab.finish_without_books()
}

#[test]
fn a_peer_with_a_certificate_of_another_authority_gets_no_keys() -> Result<()> {
    let mut lab = TestLab::prepare("eforeign")?;
    pki::generate(&lab.file("elsewhere"), &PkiNames::for_sites(["a", "b"]))?;
    let theirs = SiteConfig::new(Side::B).to_toml();
    let channel = |text: &str| text.replace("\"channel-", "\"elsewhere/channel-");
    lab.sites.write("site-b.toml", &channel(&theirs))?;
    for side in Side::BOTH {
        lab.sites.start_kme(side)?;
    }
    for side in Side::BOTH {
        lab.sites.start_encryptor(side)?;
    }
    for side in Side::BOTH {
        qhaul::lab::wait::wait_for("the refusal was not logged", PATIENCE, || {
            let log = lab.sites.encryptor_log(side).map_or(String::new(), |(_, log)| log);
            let told = log.lines().any(|line| line.contains("WARN") && line.contains("link channel"));
            Ok(told.then_some(()))
        })?;
        let status = lab.status(side)?;
        ensure!(
            !status.channel && status.tx.epoch == 0 && status.rx.epochs.is_empty(),
            "{side} is {}",
            status.state
        );
    }
    lab.finish()
}

fn copy_for_nobody(lab: &TestLab, public: &Path) -> Result<()> {
    fs::create_dir(public)?;
    fs::set_permissions(public, fs::Permissions::from_mode(0o755))?;
    for name in [
        "site-a.toml",
        "channel-ca.pem",
        "channel-a.pem",
        "channel-a.key",
        "kme-ca.pem",
        "sae-a.pem",
        "sae-a.key",
    ] {
        fs::copy(lab.file(name), public.join(name))?;
        fs::set_permissions(public.join(name), fs::Permissions::from_mode(0o644))?;
    }
    fs::copy(lab.binary("qhaul"), public.join("qhaul"))?;
    Ok(())
}

fn run(lab: &TestLab, side: Side, command: &str, config: &Path) -> Result<Output> {
    let (qhaul, config) = (lab.binary("qhaul"), config.display().to_string());
    run_words(lab, side, &[&qhaul, command, "--config", &config])
}

/// Runs a command that must end by itself, at the gateway; after half a minute it is killed, which is a failure.
fn run_words(lab: &TestLab, side: Side, words: &[&str]) -> Result<Output> {
    let namespace = lab.topology().namespace(Node::Gateway(side));
    let limit = Duration::from_secs(30).as_secs().to_string();
    let argv = ["netns", "exec", &namespace, "timeout", "--signal=KILL", &limit];
    let output = Command::new("ip").args(argv).args(words).stdin(Stdio::null()).output()?;
    Ok(output)
}

fn expect_failure(what: &str, output: &Output) -> Result<()> {
    // 137: it had to be killed, and did not find its mistake.
    let found = output.status.code().is_some_and(|code| code != 0 && code != 137);
    ensure!(found, "{what}: {}, {}", output.status, text(&output.stderr));
    Ok(())
}

fn expect_line(what: &str, output: &Output, words: &[&str]) -> Result<()> {
    expect_failure(what, output)?;
    one_line(words, &text(&output.stderr), what)
}

/// Beside the log there is one line of `qhaul` itself, the last, and it has these words.
fn one_line(words: &[&str], said: &str, what: &str) -> Result<()> {
    let own: Vec<&str> = said.lines().filter(|line| line.starts_with("qhaul: ")).collect();
    ensure!(own.len() == 1 && said.lines().last() == own.first().copied(), "{what}: not one line: {said}");
    let missing: Vec<&&str> = words.iter().filter(|word| !own[0].contains(**word)).collect();
    ensure!(missing.is_empty(), "{what}: {missing:?} not in: {}", own[0]);
    let panicked = said.contains("panicked");
    ensure!(!panicked, "{what}: {said}");
    Ok(())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
