//! What a reload changes, in words.

use serde::{Deserialize, Serialize};

use super::Policy;

/// The difference between two policies. Rules stand as one line each, with their place in front.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Difference {
    /// Rules that go.
    pub removed: Vec<String>,
    /// Rules that come.
    pub added: Vec<String>,
    /// Rules that stay, in another order.
    pub moved: Vec<String>,
}

impl Difference {
    /// From one policy to another.
    pub fn between(old: &Policy, new: &Policy) -> Difference {
        let texts = |policy: &Policy| policy.rules().iter().map(ToString::to_string).collect::<Vec<_>>();
        let (old, new) = (texts(old), texts(new));
        let line = |at: usize, text: &str| format!("{}. {text}", at + 1);
        let without = |these: &[String], those: &[String]| {
            let missing = these.iter().enumerate().filter(|(_, text)| !those.contains(text));
            missing.map(|(at, text)| line(at, text)).collect()
        };
        let both = |these: &[String], those: &[String]| {
            these.iter().filter(|text| those.contains(text)).cloned().collect::<Vec<_>>()
        };
        let (before, after) = (both(&old, &new), both(&new, &old));
        let moved = if before.len() == after.len() {
            let pairs = before.iter().zip(&after).filter(|(one, other)| one != other);
            pairs.map(|(_, text)| text.clone()).collect()
        } else {
            after
        };
        Difference { removed: without(&old, &new), added: without(&new, &old), moved }
    }

    /// Adds another, with `about` in front of each of its lines.
    pub fn extend(&mut self, other: Difference, about: &str) {
        let add = |these: &mut Vec<String>, those: Vec<String>| {
            these.extend(those.into_iter().map(|line| format!("{about}{line}")));
        };
        add(&mut self.removed, other.removed);
        add(&mut self.added, other.added);
        add(&mut self.moved, other.moved);
    }

    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.added.is_empty() && self.moved.is_empty()
    }

    /// A line for each change.
    pub fn lines(&self) -> impl Iterator<Item = String> + '_ {
        let lines = |mark: &'static str, rules: &'_ [String]| {
            rules.iter().map(move |rule| format!("{mark} {rule}")).collect::<Vec<_>>()
        };
        let (removed, added) = (lines("-", &self.removed), lines("+", &self.added));
        removed.into_iter().chain(added).chain(lines("moved", &self.moved))
    }
}
