//! Grouped bars as inline SVG.

use std::fmt::Write as _;

use super::page::escape;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 70.0;
const BOTTOM: f64 = 30.0;
const TOP: f64 = 30.0;
/// Told apart by those who see no red or green, too (Okabe and Ito).
const COLOURS: [&str; 6] = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00"];

/// A chart: for each category one bar a series, none where there is no value.
#[derive(Debug)]
pub(super) struct Chart {
    pub(super) title: String,
    pub(super) categories: Vec<String>,
    /// Name, and a value for each category.
    pub(super) series: Vec<(String, Vec<Option<f64>>)>,
}

impl Chart {
    /// The SVG; nothing if no value is above zero.
    pub(super) fn svg(&self) -> String {
        let values = self.series.iter().flat_map(|(_, values)| values.iter().flatten());
        let most = values.copied().filter(|value| value.is_finite()).fold(0.0, f64::max);
        if most <= 0.0 {
            return String::new();
        }
        let mut svg = format!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{0}\"><text x=\"{LEFT}\" y=\"16\" class=\"title\">{0}</text>",
            escape(&self.title)
        );
        self.axis(&mut svg, most);
        self.bars(&mut svg, most);
        self.legend(&mut svg);
        svg + "</svg>"
    }

    fn axis(&self, svg: &mut String, most: f64) {
        for step in 0..=4 {
            let part = f64::from(step) / 4.0;
            let y = HEIGHT - BOTTOM - part * (HEIGHT - BOTTOM - TOP);
            // Writing to a String cannot fail.
            let _ = write!(
                svg,
                "<line x1=\"{LEFT}\" x2=\"{WIDTH}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#ddd\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 6.0,
                y + 4.0,
                short(part * most)
            );
        }
    }

    fn bars(&self, svg: &mut String, most: f64) {
        let slot = (WIDTH - LEFT) / self.categories.len() as f64;
        let bar = slot * 0.8 / self.series.len() as f64;
        for (place, category) in self.categories.iter().enumerate() {
            let start = LEFT + slot * place as f64 + slot * 0.1;
            let _ = write!(
                svg,
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                start + slot * 0.4,
                HEIGHT - BOTTOM + 16.0,
                escape(category)
            );
            for (number, (name, values)) in self.series.iter().enumerate() {
                let Some(value) = values[place].filter(|value| value.is_finite()) else { continue };
                let height = value.max(0.0) / most * (HEIGHT - BOTTOM - TOP);
                let _ = write!(
                    svg,
                    "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{height:.1}\" fill=\"{}\"><title>{}: {}</title></rect>",
                    start + bar * number as f64,
                    HEIGHT - BOTTOM - height,
                    bar * 0.95,
                    COLOURS[number % COLOURS.len()],
                    escape(name),
                    short(value)
                );
            }
        }
    }

    fn legend(&self, svg: &mut String) {
        let mut x = WIDTH;
        for (number, (name, _)) in self.series.iter().enumerate().rev() {
            x -= 24.0 + 7.0 * name.chars().count() as f64;
            let _ = write!(
                svg,
                "<rect x=\"{x:.1}\" y=\"8\" width=\"10\" height=\"10\" fill=\"{}\"/><text x=\"{:.1}\" y=\"17\">{}</text>",
                COLOURS[number % COLOURS.len()],
                x + 14.0,
                escape(name)
            );
        }
    }
}

fn short(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{:.2} M", value / 1e6),
        value if value >= 1e4 => format!("{:.0} k", value / 1e3),
        value if value >= 100.0 => format!("{value:.0}"),
        value => format!("{value:.1}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_is_a_bar_and_names_are_escaped() {
        let chart = Chart {
            title: "a < b".into(),
            categories: vec!["64".into(), "512".into()],
            series: vec![
                ("x".into(), vec![Some(1.0), Some(2e6)]),
                ("y&z".into(), vec![None, Some(f64::INFINITY)]),
            ],
        };
        let svg = chart.svg();
        assert_eq!(svg.matches("<title>").count(), 2);
        assert!(svg.contains("a &lt; b") && svg.contains("y&amp;z") && svg.contains("2.00 M"), "{svg}");
        let empty = Chart { series: vec![("x".into(), vec![None, None])], ..chart };
        assert_eq!(empty.svg(), "");
    }
}
