//! What was put in place for one turn, and how it is taken away.

use std::time::Duration;

use anyhow::Result;
use qhaul::lab::plan::Node;
use qhaul::lab::{Process, Topology, run};

use crate::wire::cpu;

/// Processes, and commands that undo others. Dropping it takes all away, the last first.
#[derive(Default)]
pub(super) struct Standing {
    steps: Vec<Step>,
    pids: Vec<u32>,
}

enum Step {
    Process(Process),
    Undo(Vec<String>),
}

impl Standing {
    /// Runs a command of words with `ip` in a node's namespace; `undo`, if it says anything, is run in the end.
    pub(super) fn ip(&mut self, topology: &Topology, node: Node, arguments: &str, undo: &str) -> Result<()> {
        let namespace = topology.namespace(node);
        let command = |arguments: &str| -> Vec<String> {
            ["ip", "-n", &namespace]
                .into_iter()
                .chain(arguments.split_whitespace())
                .map(str::to_owned)
                .collect()
        };
        execute(&command(arguments))?;
        if !undo.is_empty() {
            self.steps.push(Step::Undo(command(undo)));
        }
        Ok(())
    }

    /// Sets sysctls of a node's namespace, such as `net.ipv4.ip_forward=1`; `undo` puts back what matters to others.
    pub(super) fn sysctl(&mut self, topology: &Topology, node: Node, set: &str, undo: &str) -> Result<()> {
        let namespace = topology.namespace(node);
        let command = |values: &str| -> Vec<String> {
            let head = ["ip", "netns", "exec", &namespace, "sysctl", "-qw"];
            head.into_iter().chain(values.split_whitespace()).map(str::to_owned).collect()
        };
        execute(&command(set))?;
        self.steps.push(Step::Undo(command(undo)));
        Ok(())
    }

    /// Keeps a process until the end of the turn, and counts its time on the cores.
    pub(super) fn keep(&mut self, process: Process) {
        self.pids.push(process.pid());
        self.steps.push(Step::Process(process));
    }

    /// Counts the time of processes that somebody else keeps.
    pub(super) fn count(&mut self, pids: impl IntoIterator<Item = u32>) {
        self.pids.extend(pids);
    }

    /// Whether there is anything of which the time on the cores is known.
    pub(super) fn has_processes(&self) -> bool {
        !self.pids.is_empty()
    }

    /// Time on the cores of its processes so far.
    pub(super) fn cpu(&self) -> Duration {
        self.pids.iter().map(|pid| cpu::time(*pid)).sum()
    }

    /// Fails with the last words of a process that has ended.
    pub(super) fn check_running(&mut self) -> Result<()> {
        for step in &mut self.steps {
            if let Step::Process(process) = step {
                process.check_running()?;
            }
        }
        Ok(())
    }

    /// Takes all away and says what resisted.
    pub(super) fn remove(mut self) -> Result<()> {
        let mut result = Ok(());
        while let Some(step) = self.steps.pop() {
            result = result.and(undo(step));
        }
        result
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        while let Some(step) = self.steps.pop() {
            // On the way out of a failure, which is told already.
            drop(undo(step));
        }
    }
}

fn undo(step: Step) -> Result<()> {
    match step {
        Step::Process(mut process) => process.stop().map(drop).map_err(Into::into),
        Step::Undo(command) => execute(&command),
    }
}

fn execute(command: &[String]) -> Result<()> {
    run(&command.iter().map(String::as_str).collect::<Vec<_>>())?;
    Ok(())
}
