//! Figures by knob and setting, and how they are told: medians over the rounds, each beside the default of the same run.

use anyhow::Result;
use serde::Serialize;

use crate::wire::latency::median;

/// All figures: one value a round.
#[derive(Default, Debug)]
pub(super) struct Table(Vec<Series>);

/// The settings of a knob beside each other.
#[derive(Debug)]
struct Series {
    of: Figure,
    /// As they came, so the default is the first.
    settings: Vec<(String, Vec<f64>)>,
}

/// What is measured.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Figure {
    pub(super) knob: &'static str,
    /// Of frames, in bytes.
    pub(super) size: String,
    pub(super) name: &'static str,
}

#[derive(Serialize)]
struct Row<'a> {
    bench: &'static str,
    knob: &'a str,
    setting: &'a str,
    is_default: bool,
    size: &'a str,
    figure: &'a str,
    value: f64,
    min: f64,
    max: f64,
    rounds: usize,
    control: &'a str,
    control_value: f64,
    ratio: f64,
}

impl Table {
    /// Adds one round's value. The first setting that a figure has is the default.
    pub(super) fn add(&mut self, figure: &Figure, setting: &str, value: f64) {
        let place = self.0.iter().position(|series| series.of == *figure).unwrap_or_else(|| {
            self.0.push(Series { of: figure.clone(), settings: Vec::new() });
            self.0.len() - 1
        });
        let settings = &mut self.0[place].settings;
        match settings.iter_mut().find(|(name, _)| name == setting) {
            Some((_, values)) => values.push(value),
            None => settings.push((setting.to_owned(), vec![value])),
        }
    }

    /// To standard output, as a table or as one JSON object a row.
    pub(super) fn print(&self, json: bool) -> Result<()> {
        for row in self.0.iter().flat_map(Series::rows) {
            match json {
                true => println!("{}", serde_json::to_string(&row)?),
                false => println!("{}", line(&row)),
            }
        }
        Ok(())
    }
}

impl Series {
    fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        let control = self.settings.first();
        self.settings.iter().enumerate().filter_map(move |(number, (setting, values))| {
            let (control, control_values) = control?;
            let value = median(values.iter().copied())?;
            let control_value = median(control_values.iter().copied())?;
            Some(Row {
                bench: "tune",
                knob: self.of.knob,
                setting,
                is_default: number == 0,
                size: &self.of.size,
                figure: self.of.name,
                value,
                min: values.iter().copied().fold(f64::INFINITY, f64::min),
                max: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
                rounds: values.len(),
                control,
                control_value,
                ratio: value / control_value,
            })
        })
    }
}

fn line(row: &Row<'_>) -> String {
    let Row { knob, setting, size, figure, value, min, max, control, ratio, .. } = row;
    let beside = match row.is_default {
        true => "the default".to_owned(),
        false => format!("{ratio:.2} x {control}"),
    };
    let places = if *value < 1000.0 { 1 } else { 0 };
    format!(
        "{knob:<12} {setting:>6} {size:>5} {figure:<14} {value:>9.places$} ({min:.places$}..{max:.places$})  {beside}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled() -> Table {
        let figure = |knob| Figure { knob, size: "64".to_owned(), name: "overload_pps" };
        let mut table = Table::default();
        for (usual, other) in [(100.0, 60.0), (300.0, 40.0), (200.0, 50.0)] {
            table.add(&figure("burst"), "64", usual);
            table.add(&figure("burst"), "1", other);
        }
        table.add(&figure("ring"), "2048", 5.0);
        table
    }

    #[test]
    fn medians_stand_beside_the_default_of_their_knob() {
        let table = filled();
        let rows: Vec<Row<'_>> = table.0.iter().flat_map(Series::rows).collect();
        let told: Vec<_> = rows
            .iter()
            .map(|row| (row.knob, row.setting, row.is_default, row.value, row.control_value, row.ratio))
            .collect();
        assert_eq!(
            told,
            [
                ("burst", "64", true, 200.0, 200.0, 1.0),
                ("burst", "1", false, 50.0, 200.0, 0.25),
                ("ring", "2048", true, 5.0, 5.0, 1.0)
            ]
        );
        assert_eq!((rows[1].min, rows[1].max, rows[1].rounds, rows[1].control), (40.0, 60.0, 3, "64"));
        assert!(line(&rows[0]).ends_with("the default") && line(&rows[1]).ends_with("0.25 x 64"));
    }

    #[test]
    fn a_row_in_json_names_what_programs_ask_for() {
        let table = filled();
        let row = serde_json::to_value(table.0[0].rows().next().unwrap()).unwrap();
        for name in
            ["knob", "setting", "is_default", "size", "figure", "value", "control", "control_value", "ratio"]
        {
            assert!(row.get(name).is_some_and(|value| !value.is_null()), "{name} in {row}");
        }
        assert_eq!(row["bench"], "tune");
    }
}
