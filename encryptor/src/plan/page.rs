//! A plan for people: a page with its formulae, and one line for the log.

use std::fmt::{self, Write as _};
use std::time::Duration;

use super::rate::three_digits;
use super::{Cover, Feed, MOST_KEYS, Plan, Wanted};

impl Plan {
    /// A page of some twenty lines.
    pub fn page(&self) -> String {
        let mut page = Page::default();
        self.needed(&mut page);
        self.made(&mut page);
        page.head(&format!(
            "If the key servers are out of reach, full pools of {} keys last",
            self.input.pool
        ));
        cover(&mut page, &self.pool);
        if let (Some(stored), Some(store)) = (self.input.stored, &self.store) {
            page.head(&format!(
                "If they answer but make no keys, their store of {stored} keys is used first"
            ));
            cover(&mut page, store);
        }
        if let Some(wanted) = &self.wanted {
            self.wanted(&mut page, wanted);
        }
        page.head("Verdict");
        page.head(&format!("  {}", self.verdict()));
        page.text
    }

    /// One line: whether the keys suffice, and what to do where they do not.
    pub fn verdict(&self) -> String {
        let rotate = human(self.input.rotate);
        let need = format!("a rotation each {rotate} needs {}", bits(self.budget.needed_bits_per_s));
        let share = match self.budget.share {
            Some(share) => format!("{need}, {} of what the key servers make", percent(share)),
            None => format!("{need}, and the key servers make none"),
        };
        let at_least = |period: Option<Duration>, why| match period {
            Some(period) => format!("set keys.rotate to {} or more{why}, or get more keys", human(period)),
            None => "see to the key servers".into(),
        };
        let (shortest, ample) = (self.budget.shortest, self.budget.ample);
        let keys = match self.budget.feed {
            Feed::Unknown => format!("{need}; the key servers' rate is not known: compare"),
            Feed::Ample => format!("feasible: {share}"),
            Feed::Tight => {
                format!("feasible but tight: {share}; {}", at_least(ample, " to fill pools faster"))
            }
            Feed::Stretched => {
                format!("NOT feasible: {share}: periods will stretch; {}", at_least(shortest, ""))
            }
            Feed::Stops => {
                format!(
                    "NOT feasible: {share}: traffic will stop again and again; {}",
                    at_least(shortest, "")
                )
            }
        };
        let stops = human(self.pool.traffic_stops);
        format!("{keys}; in an outage of the key server a full pool keeps traffic up for {stops}")
    }

    fn needed(&self, page: &mut Page) {
        let input = &self.input;
        page.head("Needed of the key servers");
        let hops = if input.hops.get() > 1 { format!(" x {} hops", input.hops) } else { String::new() };
        let links = if input.links.get() > 1 { "links" } else { "link" };
        let sum = format!("2 directions x {} {links}{hops} / {}", input.links, human(input.rotate));
        page.row(&format!("{} keys/s", three_digits(self.budget.needed_keys_per_s)), &sum);
        page.row(&bits(self.budget.needed_bits_per_s), "x 256 bits");
    }

    fn made(&self, page: &mut Page) {
        let Some(rate) = self.input.rate else {
            page.row("rate unknown", "ask the operator of the key servers for their key rate");
            return;
        };
        let budget = &self.budget;
        page.head("Made by them");
        page.row(&bits(rate.bits_per_second()), &format!("{} keys/s", three_digits(rate.keys_per_second())));
        page.row(&budget.share.map_or("none".into(), percent), "of them are needed; above 80 % is tight");
        let shortest = budget.shortest.map_or("none".into(), human);
        page.row(&shortest, "shortest rotation that fits: 2 x links x hops x 256 bits / made, rounded up");
        let refill = budget.refill.map_or("never".into(), human);
        page.row(
            &refill,
            "to fill empty pools while traffic runs: 2 x links x hops x pool / (made - needed)",
        );
    }

    fn wanted(&self, page: &mut Page, wanted: &Wanted) {
        let outage = human(wanted.outage);
        let answer = if wanted.is_covered { "passes" } else { "does NOT pass" };
        page.head(&format!("An outage of {outage} {answer} without a lost frame; keys.pool for it"));
        let pool = match wanted.pool_for_traffic {
            Some(pool) => format!("{pool} keys"),
            None => format!("over {MOST_KEYS}"),
        };
        page.row(&pool, "so that traffic goes on");
        page.row(&format!("{} keys", wanted.pool_for_set_rotation), "at the set rotation: outage / rotation");
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.page())
    }
}

fn cover(page: &mut Page, cover: &Cover) {
    page.row(&human(cover.at_set_rotation), "if the period were kept: pool x rotation");
    page.row(
        &human(cover.stretched),
        "until keys run out: the period is 2 x from half of the pool down, 5 x from an eighth,",
    );
    page.row("", "but half the hard limit at the most");
    page.row(&human(cover.traffic_stops), "until traffic stops: the last key serves up to the hard limit");
}

/// Headings, and rows of a value and what it is.
#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn head(&mut self, head: &str) {
        let _ = writeln!(self.text, "{head}");
    }

    fn row(&mut self, value: &str, what: &str) {
        let _ = writeln!(self.text, "  {value:<14}{what}");
    }
}

fn bits(per_second: f64) -> String {
    super::KeyRate::bits(per_second).map_or("beyond counting".into(), |rate| rate.to_string())
}

fn percent(share: f64) -> String {
    format!("{} %", three_digits(share * 100.0))
}

/// Two units at the most, rounded down: an outage is not to last longer than promised.
fn human(duration: Duration) -> String {
    let unit = match duration.as_secs() {
        0..10 => Duration::from_millis(10),
        10..3600 => Duration::from_secs(1),
        3600..86_400 => Duration::from_secs(60),
        86_400..3_000_000_000 => Duration::from_secs(3600),
        _ => return "for ever".into(),
    };
    let units = duration.as_nanos() / unit.as_nanos();
    let whole = unit.saturating_mul(u32::try_from(units).unwrap_or(u32::MAX));
    humantime::format_duration(whole).to_string()
}
