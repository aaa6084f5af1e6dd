//! What can be turned, and to what.

use qhaul::BURST;
use qhaul::xsk::PortConfig;

/// A knob of the kernel path. The first setting is the default, for which the forwarder is told nothing.
#[derive(Debug)]
pub(super) struct PathKnob {
    pub(super) name: &'static str,
    pub(super) settings: Vec<Setting>,
}

/// What the forwarder is told.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Setting {
    pub(super) name: String,
    pub(super) arguments: Vec<String>,
}

impl PathKnob {
    /// All that there are.
    pub(super) fn all() -> Vec<PathKnob> {
        let ring = PortConfig::default().rx;
        vec![
            numbers("burst", BURST, "--burst", &[1, 4, 16, 32]),
            numbers("ring", ring as usize, "--ring", &[512, 4096]),
            numbers("tx-budget", ring as usize, "--tx-budget", &[32]),
            switch("frame-pages", ["4 KiB", "2 MiB"], "--huge-pages"),
            switch("need-wakeup", ["on", "off"], "--no-need-wakeup"),
            switch("busy-poll", ["off", "on"], "--busy-poll"),
        ]
    }
}

fn numbers(name: &'static str, usual: usize, option: &str, others: &[usize]) -> PathKnob {
    let others = others
        .iter()
        .map(|other| Setting { name: other.to_string(), arguments: vec![format!("{option}={other}")] });
    PathKnob { name, settings: std::iter::once(default(&usual.to_string())).chain(others).collect() }
}

fn switch(name: &'static str, [usual, other]: [&str; 2], option: &str) -> PathKnob {
    let other = Setting { name: other.to_owned(), arguments: vec![option.to_owned()] };
    PathKnob { name, settings: vec![default(usual), other] }
}

fn default(name: &str) -> Setting {
    Setting { name: name.to_owned(), arguments: Vec::new() }
}

/// A knob of the packet path over memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum MemoryKnob {
    /// How many packets ahead memory is asked for.
    Prefetch,
    /// What the tables of flows and keys lie on.
    TablePages,
}

impl MemoryKnob {
    pub(super) const ALL: [MemoryKnob; 2] = [MemoryKnob::Prefetch, MemoryKnob::TablePages];

    pub(super) fn name(self) -> &'static str {
        match self {
            MemoryKnob::Prefetch => "prefetch",
            MemoryKnob::TablePages => "table-pages",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_setting_is_the_default_and_no_other_is_like_it() {
        for knob in PathKnob::all() {
            let (first, others) = knob.settings.split_first().unwrap();
            assert!(first.arguments.is_empty() && !others.is_empty(), "{knob:?}");
            assert!(
                others.iter().all(|other| other.name != first.name && other.arguments.len() == 1),
                "{knob:?}"
            );
        }
    }
}
