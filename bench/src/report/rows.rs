//! Rows of JSON, gathered by their bench.

use anyhow::{Context, Result};
use serde_json::{Map, Value};

/// Columns that come first, in this order; others follow by name.
const ORDER: [&str; 22] = [
    "knob",
    "setting",
    "is_default",
    "subject",
    "peer",
    "version",
    "engine",
    "queues",
    "rotate",
    "size",
    "flows",
    "figure",
    "value",
    "min",
    "max",
    "control",
    "control_value",
    "protect_ns",
    "unprotect_ns",
    "round_trip_ns",
    "aead_ns",
    "ratio",
];

/// One object.
pub(super) type Row = Map<String, Value>;

/// All rows of one bench.
#[derive(Debug)]
pub(super) struct Group {
    bench: String,
    pub(super) rows: Vec<Row>,
}

/// All groups, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Rows(Vec<Group>);

impl Rows {
    /// Adds a file's text: one object a line, each with its `bench`.
    pub(super) fn read(&mut self, text: &str) -> Result<()> {
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let row: Row = serde_json::from_str(line)
                .with_context(|| format!("line {} is no JSON object", number + 1))?;
            let bench = row.get("bench").and_then(Value::as_str);
            let bench = bench.with_context(|| format!("line {} names no bench", number + 1))?.to_owned();
            match self.0.iter_mut().find(|group| group.bench == bench) {
                Some(group) => group.rows.push(row),
                None => self.0.push(Group { bench, rows: vec![row] }),
            }
        }
        Ok(())
    }

    /// Adds rows that were made of others; none are no group.
    pub(super) fn add(&mut self, bench: &str, rows: Vec<Row>) {
        if !rows.is_empty() {
            self.0.push(Group { bench: bench.to_owned(), rows });
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn groups(&self) -> &[Group] {
        &self.0
    }
}

impl Group {
    pub(super) fn bench(&self) -> &str {
        &self.bench
    }

    /// Names of all columns but the bench's.
    pub(super) fn columns(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for name in self.rows.iter().flat_map(|row| row.keys()) {
            if name != "bench" && !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
        let place = |name: &str| ORDER.iter().position(|known| *known == name).unwrap_or(ORDER.len());
        names.sort_by_key(|name| (place(name), (*name).to_owned()));
        names
    }
}

/// A value as it is shown: numbers to three places, nothing for what is not there.
pub(super) fn shown(row: &Row, column: &str) -> String {
    match row.get(column) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) if number.is_f64() => {
            let value = number.as_f64().unwrap_or_default();
            let places = if value.abs() >= 1000.0 { 0 } else { 3 };
            format!("{value:.places$}")
        }
        Some(value) => value.to_string(),
    }
}

/// A value as a number.
pub(super) fn number(row: &Row, column: &str) -> Option<f64> {
    row.get(column)?.as_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_gathered_and_columns_ordered() {
        let mut rows = Rows::default();
        rows.read(
            "{\"bench\":\"b\",\"zeta\":1,\"size\":64}\n\n{\"bench\":\"a\",\"value\":0.5}\n{\"bench\":\"b\",\"alpha\":2}",
        )
        .unwrap();
        let names: Vec<&str> = rows.groups().iter().map(Group::bench).collect();
        assert_eq!(names, ["b", "a"]);
        assert_eq!(rows.groups()[0].columns(), ["size", "alpha", "zeta"]);
        assert_eq!(shown(&rows.groups()[1].rows[0], "value"), "0.500");
        assert_eq!(shown(&rows.groups()[0].rows[1], "size"), "");
    }

    #[test]
    fn bad_lines_are_named() {
        let refused = |text| Rows::default().read(text).unwrap_err().to_string();
        assert_eq!(refused("{\"bench\":\"a\"}\nnonsense"), "line 2 is no JSON object");
        assert_eq!(refused("{\"value\":1}"), "line 1 names no bench");
    }
}
