//! The page itself: self-contained HTML without scripts.

use std::fmt::Write as _;

use super::chart::Chart;
use super::machine::Machine;
use super::rows::{Group, Row, Rows, number, shown};

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}\
    h1,h2{line-height:1.2}table{border-collapse:collapse;font-size:13px;margin:1rem 0;display:block;overflow-x:auto}\
    th,td{padding:.15rem .6rem;text-align:right;border-bottom:1px solid #ddd;white-space:nowrap}th{background:#f4f4f4}\
    svg{width:100%;height:auto;margin:.5rem 0}svg text{font:12px sans-serif;fill:#333}svg .title{font-weight:bold}";

/// What a bench measures, and what it does not show.
const ABOUT: [(&str, &str); 7] = [
    (
        "soft",
        "The worker's packet code over memory, no kernel, beside the bare AEAD on the same bytes in the same run. It shows what a \
         core can do, and nothing of drivers and rings.",
    ),
    (
        "soft-rotation",
        "Turns of a worker's loop that also make the keys of the next epoch, beside turns that do not: what packets cost meanwhile.",
    ),
    (
        "wire",
        "The lab's path on veth with all boxes, hosts and the generator on this machine's cores: the kernel's share dwarfs ours. \
         Compare rows of one run with each other, not with other machines. Busy workers (qhaul-busy) and more queues need more cores.",
    ),
    (
        "wire-rotation",
        "Frames lost and round trips while keys rotate, in turns with as long without (still), at 90 % of a rate that loses nothing for \
         so long. Blocked time is lost packets over the offered rate, per rotation.",
    ),
    (
        "tune",
        "One knob at a time against the default, in turns: those of AF_XDP on plain forwarding over the lab's path, those of memory on the \
         packet path without a kernel. The control is the default. Where packets are counted, more is better; where nanoseconds, less.",
    ),
    (
        "peers",
        "What a user would pick instead, on the wire bench's topology, in turns; the control is the kernel that routes in clear. The \
         distribution's builds with their defaults, all on this machine's cores: compare rows of one run.",
    ),
    (
        "sizing",
        "The model by which a link is sized, checked: a packet takes a core as long as plain AF_XDP forwarding of one gateway alone, and the \
         packet code of the soft bench on top. Cores are for one direction of a full line, with this machine's kernel and driver.",
    ),
];

/// The page of all groups.
pub(super) fn page(groups: &Rows, machine: &Machine) -> String {
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>qhaul bench</title><style>{STYLE}</style><h1>qhaul bench</h1><table>"
    );
    for (name, value) in &machine.facts {
        // Writing to a String cannot fail.
        let _ = write!(page, "<tr><th>{name}</th><td>{}</td></tr>", escape(value));
    }
    page += "</table>";
    groups.groups().iter().for_each(|group| section(&mut page, group));
    page + "</html>\n"
}

fn section(page: &mut String, group: &Group) {
    let bench = group.bench();
    let _ = write!(page, "<h2>{}</h2>", escape(bench));
    if let Some((_, about)) = ABOUT.iter().find(|(name, _)| *name == bench) {
        let _ = write!(page, "<p>{about}</p>");
    }
    for chart in charts(group) {
        *page += &chart.svg();
    }
    let columns = group.columns();
    *page += "<table><tr>";
    columns.iter().for_each(|column| {
        let _ = write!(page, "<th>{}</th>", escape(column));
    });
    *page += "</tr>";
    for row in &group.rows {
        *page += "<tr>";
        columns.iter().for_each(|column| {
            let _ = write!(page, "<td>{}</td>", escape(&shown(row, column)));
        });
        *page += "</tr>";
    }
    let _ = write!(page, "</table><p>Raw: <a href=\"{0}.csv\">{0}.csv</a></p>", escape(bench));
}

/// A group that names figures has a chart for each: by size, with a bar for each subject, or by peer, of whom there are many, with
/// a bar for each size. The soft bench has one for each engine and number of flows.
fn charts(group: &Group) -> Vec<Chart> {
    if group.bench() == "wire-rotation" {
        return of_rotations(group);
    }
    for (name, axes) in [("subject", ["size", "subject"]), ("peer", ["peer", "size"])] {
        if group.rows.iter().all(|row| row.contains_key("figure") && row.contains_key(name)) {
            let figures = distinct(&group.rows, |row| (shown(row, "figure"), shown(row, "queues")));
            return figures.into_iter().map(|figure| of_figure(group, figure, axes)).collect();
        }
    }
    // A knob's settings have nothing in common with another's: no axis for all.
    if group.bench() == "tune" {
        return Vec::new();
    }
    let of = |row: &Row| (shown(row, "engine"), shown(row, "flows"));
    let (unit, figure_and_control) = match group.bench() {
        "soft-rotation" => ("ns a packet", ["rotating_p99_ns", "still_p50_ns"]),
        "sizing" => ("packets a second", ["measured_pps", "predicted_pps"]),
        _ => ("ns a packet", ["round_trip_ns", "aead_ns"]),
    };
    let pairs = distinct(&group.rows, |row| of(row));
    pairs
        .into_iter()
        .map(|(engine, flows)| {
            let rows: Vec<&Row> =
                group.rows.iter().filter(|row| of(row) == (engine.clone(), flows.clone())).collect();
            let flows = if flows.is_empty() { flows } else { format!(", {flows} flows") };
            side_by_side(format!("{unit}, {engine}{flows}"), &rows, "size", &figure_and_control)
        })
        .collect()
}

/// Round trips by period, for each number of queues.
fn of_rotations(group: &Group) -> Vec<Chart> {
    let numbers = distinct(&group.rows, |row| shown(row, "queues"));
    let of_number = |queues: String| {
        let rows: Vec<&Row> = group.rows.iter().filter(|row| shown(row, "queues") == queues).collect();
        let title = format!("round trips in us, p99.9{}", on_queues(&queues));
        side_by_side(title, &rows, "rotate", &["rtt_p999_us", "still_rtt_p999_us"])
    };
    numbers.into_iter().map(of_number).collect()
}

/// A category for each row, and a bar for each of its `columns`.
fn side_by_side(title: String, rows: &[&Row], category: &str, columns: &[&str]) -> Chart {
    let values = |name: &str| rows.iter().map(|row| number(row, name)).collect();
    Chart {
        title,
        categories: rows.iter().map(|row| shown(row, category)).collect(),
        series: columns.iter().map(|name| ((*name).to_owned(), values(name))).collect(),
    }
}

/// The columns in `axes` name the categories and the series.
fn of_figure(group: &Group, (figure, queues): (String, String), axes: [&str; 2]) -> Chart {
    let here = |row: &&Row| shown(row, "figure") == figure && shown(row, "queues") == queues;
    let rows: Vec<&Row> = group.rows.iter().filter(here).collect();
    let [categories, series] = axes.map(|axis| distinct(&rows, |row| shown(row, axis)));
    let value = |category: &str, series: &str| {
        let wanted = [category, series];
        let row =
            rows.iter().find(|row| axes.iter().zip(wanted).all(|(axis, name)| shown(row, axis) == name))?;
        number(row, "value")
    };
    let series = series
        .iter()
        .map(|series| (series.clone(), categories.iter().map(|category| value(category, series)).collect()));
    let title = figure.clone() + &on_queues(&queues);
    Chart { title, series: series.collect(), categories: categories.clone() }
}

/// What a title says of the queues; nothing if there was one or none was told.
fn on_queues(queues: &str) -> String {
    match queues {
        "" | "1" => String::new(),
        _ => format!(", {queues} queues"),
    }
}

fn distinct<T, K: PartialEq>(rows: &[T], key: impl Fn(&T) -> K) -> Vec<K> {
    let mut keys = Vec::new();
    for row in rows {
        let key = key(row);
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    keys
}

/// Text for HTML and for attributes in double quotes.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_every_row_and_a_chart_for_each_figure() {
        let mut rows = Rows::default();
        rows.read(
            "{\"bench\":\"wire\",\"subject\":\"qhaul\",\"size\":\"64\",\"figure\":\"loss_free_pps\",\"value\":1000.5}\n\
             {\"bench\":\"wire\",\"subject\":\"clear\",\"size\":\"64\",\"figure\":\"loss_free_pps\",\"value\":2000.0}\n\
             {\"bench\":\"soft\",\"engine\":\"ring\",\"size\":64,\"flows\":1,\"round_trip_ns\":300.0,\"aead_ns\":200.0}",
        )
        .unwrap();
        let machine = Machine { facts: vec![("processor", "X <Y>".into())] };
        let page = page(&rows, &machine);
        assert_eq!(page.matches("<svg").count(), 2);
        assert_eq!(page.matches("<title>").count(), 1 + 2 + 2);
        assert!(
            page.contains("X &lt;Y&gt;") && page.contains("<td>1000</td>") && page.contains("soft.csv"),
            "{page}"
        );
    }

    #[test]
    fn knobs_are_a_table_that_begins_with_the_setting() {
        let mut rows = Rows::default();
        let row = serde_json::json!({
            "bench": "tune", "ratio": 0.5, "size": "64", "is_default": false, "setting": "1", "knob": "burst", "value": 9.0,
        });
        rows.read(&row.to_string()).unwrap();
        let page = page(&rows, &Machine { facts: Vec::new() });
        assert!(page.contains("<tr><th>knob</th><th>setting</th><th>is_default</th><th>size</th>"), "{page}");
        assert!(page.contains("<td>burst</td><td>1</td><td>false</td>") && !page.contains("<svg"), "{page}");
    }

    #[test]
    fn peers_stand_side_by_side_with_a_bar_for_each_size() {
        let mut rows = Rows::default();
        for (peer, size, value) in [("clear", "64", 9.0), ("openvpn", "64", 2.0), ("openvpn", "512", 1.0)] {
            let row = serde_json::json!({
                "bench": "peers", "peer": peer, "version": "1", "size": size, "figure": "loss_free_pps", "value": value,
            });
            rows.read(&row.to_string()).unwrap();
        }
        let group = &rows.groups()[0];
        let [chart] = &charts(group)[..] else { panic!("one figure, one chart") };
        assert_eq!(chart.categories, ["clear", "openvpn"]);
        assert_eq!(chart.series[1], ("512".to_owned(), vec![None, Some(1.0)]));
        assert_eq!(group.columns(), ["peer", "version", "size", "figure", "value"]);
    }

    #[test]
    fn each_number_of_queues_has_its_charts() {
        let mut rows = Rows::default();
        for queues in [1, 2] {
            let row = serde_json::json!({
                "bench": "wire", "subject": "qhaul", "queues": queues, "size": "64", "figure": "cpu_ns", "value": 10.0 * f64::from(queues),
            });
            rows.read(&row.to_string()).unwrap();
            let row = serde_json::json!({
                "bench": "wire-rotation", "subject": "qhaul", "queues": queues, "size": "512", "rotate": "1s", "figure": "rtt_p999_us",
                "value": 5.0, "rtt_p999_us": 5.0, "still_rtt_p999_us": 4.0,
            });
            rows.read(&row.to_string()).unwrap();
        }
        let [wire, rotation] = [0, 1].map(|group| charts(&rows.groups()[group]));
        let titles = |charts: &[Chart]| charts.iter().map(|chart| chart.title.clone()).collect::<Vec<_>>();
        assert_eq!(titles(&wire), ["cpu_ns", "cpu_ns, 2 queues"]);
        assert_eq!(wire[1].series, [("qhaul".to_owned(), vec![Some(20.0)])]);
        assert_eq!(titles(&rotation)[1], "round trips in us, p99.9, 2 queues");
        assert_eq!(rotation[0].categories, ["1s"]);
        assert_eq!(rotation[0].series[1], ("still_rtt_p999_us".to_owned(), vec![Some(4.0)]));
    }
}
