//! Figures by subject, and how they are told: medians over the rounds, each beside its controls of the same run.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::Serialize;

use super::latency::median;
use super::subject::Subject;

/// What a figure is of.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Key {
    pub(super) size: String,
    pub(super) figure: &'static str,
}

/// All figures: one value a round.
#[derive(Default, Debug)]
pub(super) struct Table {
    order: Vec<Key>,
    values: BTreeMap<(Key, &'static str), Vec<f64>>,
    rotations: Vec<Rotation>,
}

/// What a rotation period cost.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Rotation {
    pub(super) bench: &'static str,
    pub(super) rotate: String,
    pub(super) size: String,
    pub(super) rate_pps: f64,
    pub(super) rotations: u64,
    pub(super) lost: u64,
    /// Lost packets over the offered rate, per rotation.
    pub(super) blocked_us: f64,
    pub(super) rtt_p50_us: f64,
    pub(super) rtt_p99_us: f64,
    pub(super) rtt_p999_us: f64,
}

#[derive(Serialize)]
struct Row<'a> {
    bench: &'static str,
    subject: &'a str,
    size: &'a str,
    figure: &'a str,
    value: f64,
    min: f64,
    max: f64,
    rounds: usize,
    control: &'a str,
    control_value: Option<f64>,
    ratio: Option<f64>,
}

impl Table {
    /// Adds one round's value.
    pub(super) fn add(&mut self, subject: Subject, size: &str, figure: &'static str, value: f64) {
        let key = Key { size: size.to_owned(), figure };
        if !self.order.contains(&key) {
            self.order.push(key.clone());
        }
        self.values.entry((key, subject.name())).or_default().push(value);
    }

    /// Adds what was seen under a rotation period.
    pub(super) fn add_rotation(&mut self, rotation: Rotation) {
        self.rotations.push(rotation);
    }

    /// The median so far.
    pub(super) fn median(&self, subject: Subject, size: &str, figure: &'static str) -> Option<f64> {
        let key = Key { size: size.to_owned(), figure };
        median(self.values.get(&(key, subject.name()))?.iter().copied())
    }

    /// To standard output, as a table or as one JSON object a row.
    pub(super) fn print(&self, json: bool) -> Result<()> {
        for row in self.rows() {
            match json {
                true => println!("{}", serde_json::to_string(&row)?),
                false => println!("{}", line(&row)),
            }
        }
        for rotation in &self.rotations {
            match json {
                true => println!("{}", serde_json::to_string(rotation)?),
                false => println!(
                    "rotation every {:>6}, {} B at {:>9.0} pps: {} rotations, {} lost, blocked {:.1} us each; RTT {:.0} / {:.0} / {:.0} us \
                     (p50, p99, p99.9)",
                    rotation.rotate,
                    rotation.size,
                    rotation.rate_pps,
                    rotation.rotations,
                    rotation.lost,
                    rotation.blocked_us,
                    rotation.rtt_p50_us,
                    rotation.rtt_p99_us,
                    rotation.rtt_p999_us
                ),
            }
        }
        Ok(())
    }

    fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        let subjects = Subject::ALL.map(Subject::name);
        self.order
            .iter()
            .flat_map(move |key| subjects.into_iter().filter_map(move |subject| self.row(key, subject)))
    }

    /// Qhaul's control is plain AF_XDP forwarding, whose own is the kernel in clear.
    fn row<'a>(&self, key: &'a Key, subject: &'static str) -> Option<Row<'a>> {
        let values = self.values.get(&(key.clone(), subject))?;
        let value = median(values.iter().copied())?;
        let control = if subject == Subject::Qhaul.name() { Subject::Forward } else { Subject::Clear };
        let control_value = self.median(control, &key.size, key.figure);
        Some(Row {
            bench: "wire",
            subject,
            size: &key.size,
            figure: key.figure,
            value,
            min: values.iter().copied().fold(f64::INFINITY, f64::min),
            max: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            rounds: values.len(),
            control: control.name(),
            control_value,
            ratio: control_value.filter(|control| *control > 0.0).map(|control| value / control),
        })
    }
}

fn line(row: &Row<'_>) -> String {
    let Row { subject, size, figure, value, min, max, control, ratio, .. } = row;
    let ratio = ratio.map_or(String::new(), |ratio| format!("{ratio:.2} x {control}"));
    format!("{size:>5} {figure:<18} {subject:<8} {value:>12.1} ({min:.1}..{max:.1})  {ratio}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_stand_beside_their_controls() {
        let mut table = Table::default();
        for (forward, qhaul) in [(100.0, 50.0), (300.0, 90.0), (200.0, 60.0)] {
            table.add(Subject::Forward, "64", "loss_free_pps", forward);
            table.add(Subject::Qhaul, "64", "loss_free_pps", qhaul);
        }
        let rows: Vec<(String, f64, Option<f64>)> =
            table.rows().map(|row| (row.subject.to_owned(), row.value, row.ratio)).collect();
        assert_eq!(rows, [("forward".to_owned(), 200.0, None), ("qhaul".to_owned(), 60.0, Some(0.3))]);
        assert_eq!(table.median(Subject::Qhaul, "64", "loss_free_pps"), Some(60.0));
        assert_eq!(table.median(Subject::Clear, "64", "loss_free_pps"), None);
    }
}
