use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use qhaul_keyfeed::{DeliveredKey, KeySource};

use crate::sites::Site::{A, B};
use crate::sites::{Network, PATIENCE};

/// A `qhaul-kme` process; killed if a test leaves it behind.
struct Process {
    child: Child,
    /// All that it wrote to stderr, once it has ended.
    output: mpsc::Receiver<String>,
    ready_line: String,
}

impl Process {
    fn start(config: &Path, log: &str) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_qhaul-kme"))
            .arg("--config")
            .arg(config)
            .env("QHAUL_LOG", log)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let (ready, is_ready) = mpsc::channel();
        let (all, output) = mpsc::channel();
        thread::spawn(move || {
            let mut text = String::new();
            while !text.contains(" serves SAE ") && stderr.read_line(&mut text).is_ok_and(|read| read > 0) {}
            ready.send(text.lines().last().unwrap_or_default().to_owned()).unwrap();
            stderr.read_to_string(&mut text).unwrap();
            all.send(text).unwrap_or_default();
        });
        let ready_line = is_ready.recv_timeout(PATIENCE).expect("a line on stderr");
        Process { child, output, ready_line }
    }

    /// Sends `signal`, waits for the end, and returns the exit code and all of stderr.
    fn end(mut self, signal: Signal) -> (Option<i32>, String) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
        let output = self.output.recv_timeout(PATIENCE).expect("it ends in time");
        (self.child.wait().unwrap().code(), output)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().unwrap_or_default();
        self.child.wait().map(drop).unwrap_or_default();
    }
}

fn assert_no_key(text: &str, keys: &[DeliveredKey]) {
    for key in keys {
        let bytes = key.key.as_bytes();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let decimal = bytes[..6].iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
        let lower = text.to_lowercase();
        assert!(
            !lower.contains(&hex[..16]) && !text.contains(&STANDARD.encode(bytes)[..16]),
            "key bytes are shown"
        );
        assert!(!text.contains(&decimal), "key bytes are shown");
    }
}

#[test]
fn two_processes_serve_two_sites_and_show_no_key_at_the_highest_log_level() {
    let network = Network::new("");
    let a = Process::start(&network.config_file(A), "trace");
    let b = Process::start(&network.config_file(B), "trace");
    let expected = format!("qhaul-kme: KME-A serves SAE sae-a on {}:8443", network.host(A));
    assert_eq!(a.ready_line, expected);
    let keys = network.client(A).new_keys(20).unwrap();
    let ids: Vec<_> = keys.iter().map(|key| key.id.clone()).collect();
    let fetched = network.client(B).keys_by_id(&ids).unwrap();
    assert_no_key(&format!("{keys:?} {fetched:?}"), &keys);
    let ((a_code, a_log), (b_code, b_log)) = (a.end(Signal::SIGTERM), b.end(Signal::SIGINT));
    assert_eq!((a_code, b_code), (Some(0), Some(0)));
    assert!(a_log.contains("enc_keys") && b_log.contains("dec_keys"), "requests are logged");
    assert_no_key(&a_log, &keys);
    assert_no_key(&b_log, &keys);
}

#[test]
fn ctl_commands_a_running_kme() {
    let network = Network::new("rate = 0.0").with_kme("control = \"HOST.sock\"");
    let _a = Process::start(&network.config_file(A), "warn");
    let _b = Process::start(&network.config_file(B), "warn");
    let socket = network.pki.folder().join(format!("{}.sock", network.host(A)));
    let ctl = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_qhaul-kme"));
        let run = command.arg("ctl").arg("--socket").arg(&socket).args(words).output().unwrap();
        (run.status.code(), String::from_utf8([run.stdout, run.stderr].concat()).unwrap())
    };
    let (code, told) = ctl(&["set", "rate", "25", "--for", "3600"]);
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!((code, &told["rate"], &told["conditions"][0]["for"]), (Some(0), &25.0.into(), &3600.0.into()));
    assert_eq!(ctl(&["set", "error-503"]).0, Some(0));
    assert!(network.client(A).new_keys(1).is_err());
    assert_eq!(ctl(&["clear", "error-503"]).0, Some(0));
    assert!(network.client(A).new_keys(1).is_ok());
    assert!(ctl(&["show"]).1.contains("\"rate\":25.0"));
    assert_eq!(
        ctl(&["set", "delay"]),
        (Some(1), "qhaul-kme: delay needs a value: seconds, 0 to 600\n".into())
    );
    assert_eq!(ctl(&["set", "snow"]).0, Some(2));
}

#[test]
fn quirks_can_be_given_on_the_command_line() {
    let run = |quirk: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_qhaul-kme"));
        command.args(["--config", "/nowhere/kme.toml", "--quirk", "empty-404", "--quirk", quirk]);
        String::from_utf8(command.output().unwrap().stderr).unwrap()
    };
    assert!(run("html-errors").contains("/nowhere/kme.toml"), "{}", run("html-errors"));
    let unknown = run("moody");
    assert!(unknown.contains("moody") && unknown.contains("capital-keys"), "{unknown}");
}

#[test]
fn mistakes_end_it_with_one_line_that_names_them() {
    let network = Network::new("");
    let path = network.config_file(A);
    let good = fs::read_to_string(&path).unwrap();
    let _taken = std::net::TcpListener::bind((network.host(A), 8443)).unwrap();
    let cases = [
        (good.clone(), "cannot listen on"),
        (good.replace("ca.pem", "none.pem"), "none.pem"),
        (good.replace("KME-A.key", "KME-B.key"), "KME-B.key"),
        (good.replace("[keys]", "[keys]\nsize = 255"), "multiples of 8"),
        (good.replace("listen", "lisen"), "lisen"),
    ];
    for (text, named) in cases {
        fs::write(&path, text).unwrap();
        let run = Command::new(env!("CARGO_BIN_EXE_qhaul-kme")).arg("--config").arg(&path).output().unwrap();
        let stderr = String::from_utf8(run.stderr).unwrap();
        assert_eq!(run.status.code(), Some(1), "{stderr}");
        assert!(stderr.lines().count() == 1 && stderr.contains(named), "{named}: {stderr}");
    }
}
