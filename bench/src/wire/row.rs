//! Figures by subject, and how they are told: medians over the rounds, each beside its controls of the same run.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::Serialize;

use super::latency::median;
use super::options::queues_text;
use super::rotation::Rotation;
use super::subject::Subject;

/// What a figure is of.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Key {
    pub(super) size: String,
    pub(super) figure: &'static str,
}

/// All figures of one lab: one value a round.
#[derive(Debug)]
pub(super) struct Table {
    flows: u16,
    queues: u16,
    engine: Option<String>,
    order: Vec<Key>,
    values: BTreeMap<(Key, &'static str), Vec<f64>>,
    rotations: Vec<Rotation>,
}

#[derive(Serialize)]
struct Row<'a> {
    bench: &'static str,
    subject: &'a str,
    /// What encrypts; not for those that do not.
    #[serde(skip_serializing_if = "Option::is_none")]
    engine: Option<&'a str>,
    queues: u16,
    size: &'a str,
    flows: u16,
    figure: &'a str,
    value: f64,
    min: f64,
    max: f64,
    rounds: usize,
    control: &'a str,
    control_value: Option<f64>,
    ratio: Option<f64>,
    clear_value: Option<f64>,
    clear_ratio: Option<f64>,
}

impl Table {
    /// For so many flows on so many queues.
    pub(super) fn new(flows: u16, queues: u16) -> Table {
        Table {
            flows,
            queues,
            engine: None,
            order: Vec::new(),
            values: BTreeMap::new(),
            rotations: Vec::new(),
        }
    }

    /// Takes note of the engine that encrypts.
    pub(super) fn note_engine(&mut self, engine: &str) {
        self.engine = Some(engine.to_owned());
    }

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
                false => println!("{}", rotation.line()),
            }
        }
        Ok(())
    }

    fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        self.order
            .iter()
            .flat_map(move |key| Subject::ALL.into_iter().filter_map(move |subject| self.row(key, subject)))
    }

    fn row<'a>(&'a self, key: &'a Key, subject: Subject) -> Option<Row<'a>> {
        let values = self.values.get(&(key.clone(), subject.name()))?;
        let value = median(values.iter().copied())?;
        let control = subject.control();
        let [control_value, clear_value] =
            [control, Subject::Clear].map(|other| self.median(other, &key.size, key.figure));
        let over = |other: Option<f64>| other.filter(|other| *other > 0.0).map(|other| value / other);
        Some(Row {
            bench: "wire",
            subject: subject.name(),
            engine: self.engine.as_deref().filter(|_| subject.encrypts()),
            queues: self.queues,
            size: &key.size,
            flows: self.flows,
            figure: key.figure,
            value,
            min: values.iter().copied().fold(f64::INFINITY, f64::min),
            max: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            rounds: values.len(),
            control: control.name(),
            control_value,
            ratio: over(control_value),
            clear_value,
            clear_ratio: over(clear_value),
        })
    }
}

fn line(row: &Row<'_>) -> String {
    let Row { subject, queues, size, figure, value, min, max, control, ratio, clear_ratio, .. } = row;
    let (clear, queues) = (Subject::Clear.name(), queues_text(*queues));
    let clear_ratio = clear_ratio.filter(|_| *control != clear);
    let beside = [(*ratio, *control), (clear_ratio, clear)]
        .into_iter()
        .filter_map(|(ratio, name)| Some(format!("  {:.2} x {name}", ratio?)))
        .collect::<String>();
    let places = if *max < 100.0 { 2 } else { 0 };
    format!(
        "{size:>5} {figure:<16} {subject:<10} {queues:<8} {value:>10.places$} ({min:.places$}..{max:.places$}){beside}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_stand_beside_their_controls() {
        let mut table = Table::new(16, 2);
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

    #[test]
    fn both_ways_to_wait_stand_beside_the_kernel() {
        let mut table = Table::new(16, 1);
        let values = [(Subject::Clear, 20.0), (Subject::Forward, 40.0), (Subject::QhaulBusy, 30.0)];
        for (subject, value) in values.into_iter().chain([(Subject::Qhaul, 60.0)]) {
            table.add(subject, "64", "rtt_idle_p50_us", value);
        }
        let ratios: Vec<_> =
            table.rows().map(|row| (row.subject.to_owned(), row.ratio, row.clear_ratio)).collect();
        table.note_engine("ring");
        let engines: Vec<_> = table.rows().map(|row| row.engine).collect();
        assert_eq!(engines, [None, None, Some("ring"), Some("ring")]);
        assert_eq!(ratios[2], ("qhaul".to_owned(), Some(1.5), Some(3.0)));
        assert_eq!(ratios[3], ("qhaul-busy".to_owned(), Some(0.75), Some(1.5)));
        let rows: Vec<Row<'_>> = table.rows().collect();
        assert!(line(&rows[2]).ends_with("1.50 x forward  3.00 x clear"), "{}", line(&rows[2]));
        assert!(line(&rows[1]).ends_with(")  2.00 x clear"), "{}", line(&rows[1]));
    }

    #[test]
    fn a_row_in_json_names_what_programs_ask_for() {
        let mut table = Table::new(16, 1);
        table.add(Subject::Clear, "512", "overload_pps", 4.0);
        let row = serde_json::to_value(table.rows().next().unwrap()).unwrap();
        for name in [
            "bench",
            "subject",
            "queues",
            "size",
            "flows",
            "figure",
            "value",
            "control",
            "control_value",
            "ratio",
        ] {
            assert!(row.get(name).is_some_and(|value| !value.is_null()), "{name} in {row}");
        }
    }
}
