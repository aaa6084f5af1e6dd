//! The model by which a link is sized, and how near it came: what plain forwarding costs a packet, and the packet code on top.

use serde_json::{Map, Value, json};

use super::rows::{Group, Row, Rows, number, shown};

/// Links that cores are reckoned for, in Gbit/s.
const LINKS: [(&str, f64); 3] = [("cores_10g", 10.0), ("cores_25g", 25.0), ("cores_100g", 100.0)];
/// Bytes of a frame on the line beside what we call its size: FCS, preamble, gap (IEEE 802.3 clause 4.2).
const ON_THE_LINE: f64 = 24.0;

/// A row for each size that both the soft bench and the wire bench's gateway alone were run at, with the fewest flows.
pub(super) fn rows(groups: &Rows) -> Vec<Row> {
    let group = |name: &str| groups.groups().iter().find(|group| group.bench() == name);
    let (Some(soft), Some(wire)) = (group("soft"), group("wire")) else { return Vec::new() };
    let fewest = soft.rows.iter().filter_map(|row| number(row, "flows")).reduce(f64::min);
    let soft = soft.rows.iter().filter(|row| number(row, "flows") == fewest);
    soft.filter_map(|soft| row(soft, wire)).collect()
}

fn row(soft: &Row, wire: &Group) -> Option<Row> {
    let (size, protect_ns) = (number(soft, "size")?, number(soft, "protect_ns")?);
    let forward = alone(wire, "forward", soft)?;
    let measured = alone(wire, "qhaul", soft)?;
    let kernel_ns = 1e9 / number(forward, "value")?;
    let (predicted_pps, measured_pps) = (1e9 / (kernel_ns + protect_ns), number(measured, "value")?);
    let mut row: Row = Map::from_iter(
        [
            ("size", json!(size)),
            ("engine", soft.get("engine").cloned().unwrap_or(Value::Null)),
            ("protect_ns", json!(protect_ns)),
            ("kernel_ns", json!(kernel_ns)),
            ("predicted_pps", json!(predicted_pps)),
            ("measured_pps", json!(measured_pps)),
            ("ratio", json!(measured_pps / predicted_pps)),
            ("gbit_s", json!(predicted_pps * 8.0 * size / 1e9)),
        ]
        .map(|(name, value)| (name.to_owned(), value)),
    );
    for (name, gbit) in LINKS {
        let line_pps = gbit * 1e9 / (8.0 * (size + ON_THE_LINE));
        row.insert(name.to_owned(), json!((line_pps / predicted_pps).ceil()));
    }
    Some(row)
}

/// The gateway alone on one queue, at the size of `soft` and, where the row names one, with its engine.
fn alone<'a>(wire: &'a Group, subject: &str, soft: &Row) -> Option<&'a Row> {
    let may_be = |row: &Row, name: &str, wanted: &str| [wanted, ""].contains(&shown(row, name).as_str());
    wire.rows.iter().find(|row| {
        shown(row, "subject") == subject
            && shown(row, "figure") == "alone_pps"
            && shown(row, "size").parse().ok() == number(soft, "size")
            && may_be(row, "queues", "1")
            && may_be(row, "engine", &shown(soft, "engine"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_needs_the_time_of_forwarding_and_of_the_packet_code() {
        let mut groups = Rows::default();
        let soft = |engine, flows, ns| json!({"bench": "soft", "engine": engine, "size": 976, "flows": flows, "protect_ns": ns});
        let wire = |subject, size, engine: Option<&str>, pps| json!({"bench": "wire", "subject": subject, "figure": "alone_pps", "size": size, "engine": engine, "value": pps});
        let all = [
            soft("ring", 1, 250.0),
            soft("ring", 1000, 400.0),
            soft("ipsec-mb", 1, 100.0),
            wire("forward", "976", None, 1_333_333.4),
            wire("qhaul", "976", Some("ring"), 900_000.0),
            wire("qhaul", "64", Some("ring"), 1.0),
        ];
        all.iter().for_each(|row| groups.read(&row.to_string()).unwrap());
        let rows = rows(&groups);
        let [row] = &rows[..] else { panic!("one engine, one size, the fewest flows: {rows:?}") };
        let near = |name: &str, wanted: f64| (number(row, name).unwrap() / wanted - 1.0).abs() < 1e-6;
        assert!(near("kernel_ns", 750.0) && near("predicted_pps", 1e6) && near("ratio", 0.9), "{row:?}");
        assert!(
            near("cores_10g", 2.0) && near("cores_100g", 13.0),
            "1.25 and 12.5 million a second: {row:?}"
        );
    }

    #[test]
    fn without_one_of_the_benches_nothing_is_said() {
        let mut groups = Rows::default();
        groups.read("{\"bench\":\"soft\",\"size\":64,\"flows\":1,\"protect_ns\":1.0}").unwrap();
        assert!(rows(&groups).is_empty());
    }
}
