//! What may cross, and how: ordered rules after RFC 4301 section 4.4.1. The first rule that matches decides; without a match a
//! frame is discarded. No I/O, no keys.
//!
//! What a frame does not show (a fragment its ports, a cut packet its header) a rule cannot rule out: it *may* match. Then the
//! decision never falls towards the clear:
//!
//! | first rule that matches or may match | surely | perhaps |
//! | --- | --- | --- |
//! | protect | protect | protect |
//! | discard | discard | drop as unclear |
//! | bypass | bypass | passed over: a later rule decides |
//!
//! So a bypass rule never wins over an earlier rule that might have meant the frame.

mod condition;
mod difference;
mod preset;
mod rule;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use crate::classify::Granularity;
use crate::wire::{EtherType, View};

pub use condition::{Condition, Prefix, Ranges, UNTAGGED};
pub use difference::Difference;
pub use preset::Preset;
pub use rule::{Action, Rule};

/// Which way a frame crosses. Rules are written as seen from the plain side; a frame that comes from the backhaul is looked at
/// with source and destination exchanged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// From the plain port to the cipher port.
    Outbound,
    /// From the cipher port to the plain port.
    Inbound,
}

/// What is to become of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decision {
    /// It crosses encrypted, in a flow as fine as this.
    Protect(Granularity),
    /// It crosses in clear.
    Bypass,
    /// It does not cross.
    Discard,
    /// A discard rule may mean it, and it does not show enough to tell.
    Unclear,
}

/// How surely a rule matches a frame. In this order: of several conditions the least counts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Match {
    /// It does not.
    No,
    /// It cannot be told.
    May,
    /// It does.
    Yes,
}

/// The frames in clear that the cipher port's program is to let in, by the type behind their addresses.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ClearTypes {
    /// All: a bypass rule does not say of which type.
    Any,
    /// Of these types, 0 for all of IEEE 802.2. None: there is no bypass rule.
    These(Vec<u16>),
}

/// The rules of a site.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Policy {
    rules: Vec<Rule>,
    bypasses: bool,
    protects_all: bool,
    own: Option<IpAddr>,
}

impl Policy {
    /// These rules, or without any the built-in one: protect everything, by 5-tuple. `own` is the cipher port's address: what is
    /// sent to it is the encryptor's, whatever the rules say.
    pub fn new(rules: Vec<Rule>, own: Option<IpAddr>) -> Policy {
        let rules = if rules.is_empty() { vec![Rule::protect_everything()] } else { rules };
        let bypasses = rules.iter().any(|rule| rule.action == Action::Bypass);
        let protects_all = rules[0].action == Action::Protect && rules[0].conditions.is_empty();
        Policy { rules, bypasses, protects_all, own }
    }

    /// The rules in their order.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Whether it leaves nothing to another link's policy: a protect rule asks for nothing.
    pub fn protects_whatever_comes(&self) -> bool {
        self.rules.iter().any(|rule| rule.action == Action::Protect && rule.conditions.is_empty())
    }

    /// Whether anything may cross in clear.
    pub fn bypasses(&self) -> bool {
        self.bypasses
    }

    /// How finely flows are told apart, if all frames are protected whatever they are.
    #[inline]
    pub fn protects_all(&self) -> Option<Granularity> {
        self.protects_all.then_some(self.rules[0].granularity)
    }

    /// What is to become of a frame.
    pub fn decide(&self, view: &View, direction: Direction) -> Decision {
        self.judge(view, direction).0
    }

    /// The same, and how surely the rule that decides means the frame.
    pub fn judge(&self, view: &View, direction: Direction) -> (Decision, Match) {
        for rule in &self.rules {
            let surely = rule.matches(view, direction);
            let decision = match (rule.action, surely) {
                (_, Match::No) | (Action::Bypass, Match::May) => continue,
                (Action::Protect, _) => Decision::Protect(rule.granularity),
                (Action::Bypass, Match::Yes) => Decision::Bypass,
                (Action::Discard, Match::Yes) => Decision::Discard,
                (Action::Discard, Match::May) => Decision::Unclear,
            };
            return (decision, surely);
        }
        (Decision::Discard, Match::Yes)
    }

    /// Whether a frame that was decrypted may go on: a protect rule must mean it, as seen from this end.
    pub fn admits_opened(&self, frame: &[u8]) -> bool {
        self.protects_all
            || View::of_frame(frame)
                .is_some_and(|view| matches!(self.decide(&view, Direction::Inbound), Decision::Protect(_)))
    }

    /// Whether a frame that arrived in clear may go on: a bypass rule must mean it.
    pub fn admits_clear(&self, frame: &[u8]) -> bool {
        View::of_frame(frame).is_some_and(|view| self.decide(&view, Direction::Inbound) == Decision::Bypass)
    }

    /// Whether a frame from the backhaul is to be looked at as one in clear: there are bypass rules, and it is not to our own
    /// address.
    pub fn takes_as_clear(&self, frame: &[u8]) -> bool {
        self.bypasses && !self.own.is_some_and(|own| is_to(frame, own))
    }

    /// What the cipher port's program lets in besides the encryptor's own.
    pub fn clear_types(&self) -> ClearTypes {
        let mut all = Vec::new();
        for rule in self.rules.iter().filter(|rule| rule.action == Action::Bypass) {
            match rule.outer_types() {
                ClearTypes::Any => return ClearTypes::Any,
                ClearTypes::These(types) => all.extend(types),
            }
        }
        all.sort_unstable();
        all.dedup();
        ClearTypes::These(all)
    }

    /// What somebody should know before these rules are in force, a line each.
    pub fn warnings(&self) -> Vec<String> {
        let bypass = self.rules.iter().enumerate().filter(|(_, rule)| rule.action == Action::Bypass);
        let mut lines: Vec<String> = bypass
            .map(|(at, rule)| {
                format!(
                    "policy rule {} crosses in clear, readable and forgeable on the backhaul: {rule}",
                    at + 1
                )
            })
            .collect();
        if self.forwards_ptp_in_kernel() {
            let line = "policy: PTP is forwarded inside the kernel, unauthenticated: whoever is on the backhaul can shift the \
                        clocks behind this site";
            lines.push(line.into());
        } else if self.rules.iter().any(Rule::bypasses_all_ptp) {
            let line = "policy: PTP goes through the worker, which costs it its timing, since a rule in front might mean it: put \
                        the PTP rule first";
            lines.push(line.into());
        }
        lines
    }

    /// Whether PTP may be forwarded inside the kernel, past the worker: a rule lets all of it through in clear, and none in front
    /// of that might mean any of it.
    pub fn forwards_ptp_in_kernel(&self) -> bool {
        let ptp = self.rules.iter().position(Rule::bypasses_all_ptp);
        ptp.is_some_and(|at| self.rules[..at].iter().all(Rule::leaves_ptp_alone))
    }
}

/// Whether an untagged frame is an IP packet to `own`, as the cipher port's program sees it.
fn is_to(frame: &[u8], own: IpAddr) -> bool {
    let field = |from: usize, to: usize| frame.get(from..to);
    let ethertype = field(12, 14);
    match own {
        IpAddr::V4(own) => {
            ethertype == Some(&EtherType::IPV4.0.to_be_bytes()) && field(30, 34) == Some(&own.octets())
        }
        IpAddr::V6(own) => {
            ethertype == Some(&EtherType::IPV6.0.to_be_bytes()) && field(38, 54) == Some(&own.octets())
        }
    }
}
