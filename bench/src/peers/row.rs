//! Figures by contender, and how they are told: medians over the rounds, each beside the kernel in clear and qhaul.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::Serialize;

use crate::wire::latency::median;

use super::peer::Contender;
use super::{clear, qhaul};

/// All figures: one value a round.
#[derive(Debug)]
pub(super) struct Table {
    flows: u16,
    /// Sizes and figures, as they came.
    order: Vec<(String, &'static str)>,
    /// Names and versions, as they came.
    peers: Vec<(&'static str, String)>,
    /// By name, size and figure.
    values: BTreeMap<(&'static str, String, &'static str), Vec<f64>>,
}

#[derive(Serialize)]
struct Row<'a> {
    bench: &'static str,
    peer: &'static str,
    version: &'a str,
    size: &'a str,
    flows: u16,
    figure: &'static str,
    value: f64,
    min: f64,
    max: f64,
    rounds: usize,
    control: &'static str,
    control_value: Option<f64>,
    ratio: Option<f64>,
    qhaul_value: Option<f64>,
    qhaul_ratio: Option<f64>,
}

impl Table {
    /// For so many flows.
    pub(super) fn new(flows: u16) -> Table {
        Table { flows, order: Vec::new(), peers: Vec::new(), values: BTreeMap::new() }
    }

    /// Adds one round's value.
    pub(super) fn add(&mut self, contender: &Contender, size: &str, figure: &'static str, value: f64) {
        self.add_named(contender.peer.name(), &contender.version, size, figure, value);
    }

    fn add_named(&mut self, peer: &'static str, version: &str, size: &str, figure: &'static str, value: f64) {
        let key = (size.to_owned(), figure);
        if !self.order.contains(&key) {
            self.order.push(key);
        }
        if !self.peers.iter().any(|(name, _)| *name == peer) {
            self.peers.push((peer, version.to_owned()));
        }
        self.values.entry((peer, size.to_owned(), figure)).or_default().push(value);
    }

    /// To standard output, as a table or as one JSON object a row.
    pub(super) fn print(&self, json: bool) -> Result<()> {
        for row in self.rows() {
            match json {
                true => println!("{}", serde_json::to_string(&row)?),
                false => println!("{}", line(&row)),
            }
        }
        Ok(())
    }

    fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        self.order.iter().flat_map(move |(size, figure)| {
            self.peers.iter().filter_map(move |(peer, version)| self.row(peer, version, size, figure))
        })
    }

    fn row<'a>(
        &'a self,
        peer: &'static str,
        version: &'a str,
        size: &'a str,
        figure: &'static str,
    ) -> Option<Row<'a>> {
        let values = self.values.get(&(peer, size.to_owned(), figure))?;
        let value = median(values.iter().copied())?;
        let [control_value, qhaul_value] = [clear::NAME, qhaul::NAME].map(|name| {
            median(self.values.get(&(name, size.to_owned(), figure)).into_iter().flatten().copied())
        });
        let over = |other: Option<f64>| other.filter(|other| *other > 0.0).map(|other| value / other);
        Some(Row {
            bench: "peers",
            peer,
            version,
            size,
            flows: self.flows,
            figure,
            value,
            min: values.iter().copied().fold(f64::INFINITY, f64::min),
            max: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            rounds: values.len(),
            control: clear::NAME,
            control_value,
            ratio: over(control_value),
            qhaul_value,
            qhaul_ratio: over(qhaul_value),
        })
    }
}

fn line(row: &Row<'_>) -> String {
    let Row { peer, version, size, figure, value, min, max, .. } = row;
    let beside = [(row.ratio, clear::NAME), (row.qhaul_ratio, qhaul::NAME)]
        .into_iter()
        .filter(|(_, name)| name != peer)
        .filter_map(|(ratio, name)| Some(format!("  {:.2} x {name}", ratio?)))
        .collect::<String>();
    let places = if *value < 100.0 { 2 } else { 0 };
    format!(
        "{size:>5} {figure:<15} {peer:<13} {value:>10.places$} ({min:.places$}..{max:.places$}){beside}  [{version}]"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stands_beside_the_kernel_and_qhaul() {
        let mut table = Table::new(16);
        for (clear, qhaul, other) in [(100.0, 50.0, 10.0), (300.0, 90.0, 40.0), (200.0, 80.0, 20.0)] {
            table.add_named("clear", "Linux 6", "64", "loss_free_pps", clear);
            table.add_named("qhaul", "0.1", "64", "loss_free_pps", qhaul);
            table.add_named("openvpn", "2.6", "64", "loss_free_pps", other);
        }
        table.add_named("openvpn", "2.6", "64", "cpu_ns", 500.0);
        let rows: Vec<Row<'_>> = table.rows().collect();
        let ratios: Vec<_> =
            rows.iter().map(|row| (row.peer, row.value, row.ratio, row.qhaul_ratio)).collect();
        assert_eq!(ratios[0], ("clear", 200.0, Some(1.0), Some(2.5)));
        assert_eq!(ratios[1], ("qhaul", 80.0, Some(0.4), Some(1.0)));
        assert_eq!(ratios[2], ("openvpn", 20.0, Some(0.1), Some(0.25)));
        assert_eq!(ratios[3], ("openvpn", 500.0, None, None));
        let text = line(&rows[2]);
        assert!(text.contains("0.10 x clear  0.25 x qhaul  [2.6]"), "{text}");
    }

    #[test]
    fn a_row_in_json_names_what_programs_ask_for() {
        let mut table = Table::new(16);
        table.add_named("clear", "Linux 6", "512", "overload_pps", 4.0);
        let row = serde_json::to_value(table.rows().next().unwrap()).unwrap();
        for name in [
            "bench",
            "peer",
            "version",
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
        assert_eq!((&row["bench"], &row["ratio"]), (&"peers".into(), &1.0.into()));
    }
}
