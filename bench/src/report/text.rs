//! The short of it, for a terminal.

use super::rows::{Group, Rows, shown};

/// Columns that a terminal has room for.
const COLUMNS: [&str; 26] = [
    "knob",
    "setting",
    "subject",
    "peer",
    "engine",
    "queues",
    "rotate",
    "size",
    "flows",
    "figure",
    "value",
    "round_trip_ns",
    "aead_ns",
    "predicted_pps",
    "measured_pps",
    "rotations",
    "lost",
    "still_lost",
    "begun_anew",
    "stolen_ms",
    "blocked_us",
    "control",
    "control_value",
    "ratio",
    "clear_ratio",
    "qhaul_ratio",
];

/// A table for each group, columns aligned to the right.
pub(super) fn tables(groups: &Rows) -> String {
    groups.groups().iter().map(table).collect::<Vec<_>>().join("\n")
}

fn table(group: &Group) -> String {
    let there = group.columns();
    let columns: Vec<&str> = COLUMNS.into_iter().filter(|column| there.contains(column)).collect();
    let mut lines = vec![columns.iter().map(|column| (*column).to_owned()).collect::<Vec<String>>()];
    lines.extend(group.rows.iter().map(|row| columns.iter().map(|column| shown(row, column)).collect()));
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let text = lines.iter().map(|line| {
        let fields = line.iter().zip(&widths).map(|(field, width)| format!("{field:>width$}"));
        fields.collect::<Vec<_>>().join("  ") + "\n"
    });
    format!("{}\n{}", group.bench(), text.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let mut rows = Rows::default();
        rows.read(
            "{\"bench\":\"wire\",\"subject\":\"qhaul\",\"size\":\"64\",\"value\":2000.0}\n\
             {\"bench\":\"wire\",\"subject\":\"clear\",\"size\":\"imix\",\"value\":1.5}",
        )
        .unwrap();
        assert_eq!(tables(&rows), "wire\nsubject  size  value\n  qhaul    64   2000\n  clear  imix  1.500\n");
    }
}
