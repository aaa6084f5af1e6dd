//! A process inside one of the lab's namespaces: started with its logs in files, stopped and reaped without fail.

use std::fs::{self, File};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::error::{LabError, Result, io_error};
use super::wait::wait_for;

/// How long a process may take to leave after SIGTERM before SIGKILL follows.
const LEAVE: Duration = Duration::from_secs(3);

/// A running child; dropping it stops and reaps it.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    out: PathBuf,
    log: PathBuf,
    stays: bool,
}

impl Process {
    /// Starts `argv` in `namespace`; standard output goes to `dir/NAME.out`, standard error is added to `dir/NAME.log`.
    pub fn start(namespace: &str, name: &str, dir: &Path, argv: &[&str]) -> Result<Self> {
        let out = dir.join(format!("{name}.out"));
        let create = File::create(&out).map_err(io_error(format!("cannot write {}", out.display())));
        Self::spawn(namespace, name, dir, argv, create?.into())
    }

    /// The same, with standard output to be read through a pipe.
    pub(super) fn start_piped(
        namespace: &str,
        name: &str,
        dir: &Path,
        argv: &[&str],
    ) -> Result<(Self, ChildStdout)> {
        let mut process = Self::spawn(namespace, name, dir, argv, Stdio::piped())?;
        let stdout = process.child.stdout.take().expect("standard output is a pipe");
        Ok((process, stdout))
    }

    fn spawn(namespace: &str, name: &str, dir: &Path, argv: &[&str], stdout: Stdio) -> Result<Self> {
        let out = dir.join(format!("{name}.out"));
        let log = dir.join(format!("{name}.log"));
        let append = File::options().create(true).append(true).open(&log);
        let child = Command::new("ip")
            .args(["netns", "exec", namespace])
            .args(argv)
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(append.map_err(io_error(format!("cannot write {}", log.display())))?)
            // A Ctrl-C at the terminal is for the lab alone, which then stops its children in order.
            .process_group(0)
            .spawn()
            .map_err(io_error(format!("cannot start {name}")))?;
        Ok(Self { name: name.to_owned(), child, out, log, stays: false })
    }

    /// The name under which it was started.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The process id; `ip netns exec` replaces itself, so this is the program's own.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote to standard output so far.
    pub fn output(&self) -> String {
        read_text(&self.out)
    }

    /// What it logged to standard error so far, earlier runs under the same name included.
    pub fn log(&self) -> String {
        read_text(&self.log)
    }

    /// Its exit status, if it has ended.
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().map_err(io_error(format!("cannot wait for {}", self.name)))
    }

    /// Fails with the last line of its log if it has ended.
    pub fn check_running(&mut self) -> Result<()> {
        match self.try_wait()? {
            None => Ok(()),
            Some(status) => Err(self.ended(status)),
        }
    }

    /// Waits for it to end by itself and fails unless its exit code is 0.
    pub fn finish(&mut self, limit: Duration) -> Result<()> {
        let status = self.wait(limit)?;
        if status.success() { Ok(()) } else { Err(self.ended(status)) }
    }

    /// Waits for it to end by itself, with any exit code.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        wait_for(&format!("{} did not end", self.name.clone()), limit, || self.try_wait())
    }

    /// Sends a signal; one that has ended already is no error.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        if self.try_wait()?.is_none() {
            let pid = Pid::from_raw(i32::try_from(self.pid()).expect("process ids are positive i32"));
            kill(pid, signal).map_err(|e| io_error(format!("cannot signal {}", self.name))(e.into()))?;
        }
        Ok(())
    }

    /// SIGTERM, then SIGKILL if it stays; returns the status it ended with.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        let end = Instant::now() + LEAVE;
        // Not `wait_for`: this also runs on the way out after a signal.
        while Instant::now() < end {
            if let Some(status) = self.try_wait()? {
                return Ok(status);
            }
            thread::sleep(Duration::from_millis(10));
        }
        self.kill()
    }

    /// SIGKILL at once, as a crash would; returns the status it ended with.
    pub fn kill(&mut self) -> Result<ExitStatus> {
        self.signal(Signal::SIGKILL)?;
        self.child.wait().map_err(io_error(format!("cannot wait for {}", self.name)))
    }

    /// Lets it outlive this value; `lab down` finds it by its namespace.
    pub(super) fn leave_running(mut self) {
        self.stays = true;
    }

    /// Waits until it listens on a TCP port, as its namespace's socket table tells.
    pub fn wait_listening(&mut self, port: u16, limit: Duration) -> Result<()> {
        let tables = ["tcp", "tcp6"].map(|table| format!("/proc/{}/net/{table}", self.pid()));
        wait_for(&format!("{} did not listen on TCP port {port}", self.name.clone()), limit, || {
            self.check_running()?;
            Ok(tables.iter().any(|table| listens(&read_text(Path::new(table)), port)).then_some(()))
        })
    }

    fn ended(&self, status: ExitStatus) -> LabError {
        let log = self.log();
        let last = log.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it logged nothing");
        let status = match status.signal() {
            Some(signal) => format!("signal {signal}"),
            None => format!("exit code {}", status.code().unwrap_or_default()),
        };
        LabError::Ended { name: self.name.clone(), status, last_line: last.to_owned() }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.stays {
            // Nobody is left to tell, and a process that cannot be signalled is one that has ended.
            drop(self.stop());
        }
    }
}

/// Logs of a killed process may end inside a character.
fn read_text(path: &Path) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

/// Reads `/proc/net/tcp`: column 1 is `ADDRESS:PORT` in hexadecimal, column 3 the state, 0A for LISTEN.
fn listens(table: &str, port: u16) -> bool {
    let suffix = format!(":{port:04X}");
    table.lines().skip(1).any(|line| {
        let mut columns = line.split_whitespace().skip(1);
        columns.next().is_some_and(|local| local.ends_with(&suffix)) && columns.nth(1) == Some("0A")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listening_socket_is_told_from_a_connected_one() {
        let table = "  sl  local_address rem_address   st tx_queue\n\
                     \x20  0: 0100007F:1451 00000000:0000 0A 00000000:00000000\n\
                     \x20  1: 0100007F:1452 0100007F:1451 01 00000000:00000000\n";
        assert!(listens(table, 0x1451));
        assert!(!listens(table, 0x1452));
        assert!(!listens(table, 0x51));
    }
}
