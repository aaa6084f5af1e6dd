use super::*;

fn count(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).unwrap()
}

fn seconds(number: u64) -> Duration {
    Duration::from_secs(number)
}

fn input(rotate_s: u64, links: u32, rate: &str) -> PlanInput {
    PlanInput {
        rotate: seconds(rotate_s),
        hard_limit: seconds(600),
        links: count(links),
        hops: count(1),
        rate: Some(rate.parse().unwrap()),
        pool: 16,
        stored: None,
        outage: None,
    }
}

#[test]
fn one_key_per_direction_and_rotation() {
    for (rotate, bits) in [(1, 512.0), (10, 51.2), (60, 8.533)] {
        let budget = Plan::new(&input(rotate, 1, "2kb/s")).budget;
        assert!((budget.needed_bits_per_s - bits).abs() < 1e-3, "{budget:?}");
        assert!((budget.needed_keys_per_s * KEY_BITS - budget.needed_bits_per_s).abs() < 1e-9);
    }
    let relayed = PlanInput { hops: count(3), ..input(1, 1, "2kb/s") };
    assert_eq!(Plan::new(&relayed).budget.needed_bits_per_s, 3.0 * 512.0);
}

#[test]
fn rates_of_real_links_feed_so_many_pairs() {
    use Feed::{Ample, Stops, Stretched, Tight};
    let table = [
        // 2 kb/s: 3.9 pairs at 1 s, so that the fourth stretches the period a little; 234 at 60 s.
        (1, 3, "2kb/s", Ample, Some(770)),
        (1, 4, "2kb/s", Stretched, Some(1100)),
        (60, 230, "2kb/s", Tight, Some(59_000)),
        (60, 235, "2kb/s", Stretched, Some(61_000)),
        // 12.3 kb/s, as from a real device: 24 pairs at 1 s.
        (1, 24, "12.3kb/s", Tight, Some(1000)),
        (1, 25, "12.3kb/s", Stretched, Some(1100)),
        (60, 1, "0.5b/s", Stops, Some(1_100_000)),
        (60, 1, "0b/s", Stops, None),
        // Just enough is enough.
        (1, 1, "2keys/s", Tight, Some(1000)),
        (1, 5, "10keys/s", Tight, Some(1000)),
    ];
    for (rotate, links, rate, feed, shortest_ms) in table {
        let plan = Plan::new(&input(rotate, links, rate));
        assert_eq!(plan.budget.feed, feed, "{links} links at {rotate} s from {rate}");
        let shortest = plan.budget.shortest.map(|shortest| shortest.as_millis());
        assert_eq!(shortest, shortest_ms, "{links} links at {rotate} s from {rate}");
        assert_eq!(plan.is_feasible(), Some(matches!(feed, Ample | Tight)));
    }
}

#[test]
fn the_shortest_rotation_fits_and_a_tenth_less_does_not() {
    for rate in ["0.3b/s", "7.77b/s", "100b/s", "1234b/s", "2kb/s"] {
        for links in [1, 3, 7] {
            let plan = Plan::new(&input(60, links, rate));
            let shortest = plan.budget.shortest.unwrap();
            let at = |rotate| Plan::new(&PlanInput { rotate, ..input(60, links, rate) }).is_feasible();
            assert_eq!(at(shortest), Some(true), "{links} links from {rate}: {shortest:?}");
            assert!(shortest == SHORTEST || at(shortest * 9 / 10) == Some(false), "{links} from {rate}");
        }
    }
}

#[test]
fn pools_fill_from_what_is_left() {
    let refill = |rate: &str| Plan::new(&input(1, 1, rate)).budget.refill;
    assert_eq!(refill("6keys/s"), Some(seconds(8)), "2 x 16 keys at 4 a second");
    assert_eq!(refill("2keys/s"), None);
    assert_eq!(refill("1keys/s"), None);
}

#[test]
fn a_pool_lasts_by_the_rules_of_the_supply() {
    let cover = |pool, rotate: u64, hard_limit: u64| {
        let input = PlanInput { pool, hard_limit: seconds(hard_limit), ..input(rotate, 1, "2kb/s") };
        let Cover { at_set_rotation, stretched, traffic_stops } = Plan::new(&input).pool;
        [at_set_rotation, stretched, traffic_stops].map(|time| time.as_secs())
    };
    // 16 keys: 8 x 1 s, 6 x 2 s, 2 x 5 s; the last key serves 60 s instead of 5 s.
    assert_eq!(cover(16, 1, 60), [16, 30, 85]);
    // 120 keys: 60 x 1 s, 45 x 2 s, 15 x 5 s.
    assert_eq!(cover(120, 1, 60), [120, 225, 280]);
    // 100 keys at one a minute: 50, 38 and 12 of them; 5 x 60 s is also half the hard limit.
    assert_eq!(cover(100, 60, 600), [6000, 3000 + 38 * 120 + 12 * 300, 3000 + 38 * 120 + 11 * 300 + 600]);
    // The hard limit is too short for any stretching.
    assert_eq!(cover(16, 10, 11), [160, 160, 161]);
    assert_eq!(cover(1, 1, 60), [1, 1, 60]);
    assert_eq!(cover(0, 1, 60), [0, 0, 59]);
}

#[test]
fn the_store_of_the_key_servers_comes_before_the_pool() {
    let stored = PlanInput { stored: Some(1000), hops: count(2), ..input(1, 5, "0b/s") };
    let plan = Plan::new(&stored);
    let store = plan.store.unwrap();
    assert_eq!(store.traffic_stops, plan.pool.traffic_stops + seconds(100), "10 a second, already relayed");
    let endless = PlanInput { stored: Some(u64::MAX), rotate: seconds(86_400), ..input(1, 1, "0b/s") };
    assert!(Plan::new(&endless).page().contains("for ever"));
}

#[test]
fn the_pool_for_an_outage_is_the_smallest_that_covers_it() {
    for outage in [0, 1, 60, 85, 86, 100, 280, 281, 3600, 7000] {
        let hard_limit = seconds(60);
        let plan = |pool| {
            let base = input(1, 1, "2kb/s");
            Plan::new(&PlanInput { pool, hard_limit, outage: Some(seconds(outage)), ..base })
        };
        let wanted = plan(16).wanted.unwrap();
        assert_eq!(wanted.pool_for_set_rotation, outage);
        assert_eq!(wanted.is_covered, outage <= 85);
        let pool = wanted.pool_for_traffic.unwrap();
        assert!(plan(pool).wanted.unwrap().is_covered);
        assert!(pool == 1 || !plan(pool - 1).wanted.unwrap().is_covered, "{outage} s: {pool}");
    }
    let long = PlanInput { outage: Some(seconds(30 * 86_400)), ..input(1, 1, "2kb/s") };
    assert_eq!(Plan::new(&long).wanted.unwrap().pool_for_traffic, None);
}

#[test]
fn a_larger_pool_never_lasts_less_long() {
    let cover = |pool| Plan::new(&PlanInput { pool, ..input(1, 1, "2kb/s") }).pool;
    for pool in 1..MOST_KEYS {
        assert!(cover(pool).traffic_stops <= cover(pool + 1).traffic_stops, "{pool}");
    }
}

#[test]
fn people_are_told_in_one_line_and_on_a_page() {
    let table = [
        ("2kb/s", "feasible: a rotation each 1s needs 512 bit/s, 25.6 % of what the key servers make; in an"),
        (
            "600b/s",
            "feasible but tight: a rotation each 1s needs 512 bit/s, 85.3 % of what the key servers make; set keys.rotate to 1s 100ms or more to fill pools faster, or get more keys; in an",
        ),
        (
            "100b/s",
            "NOT feasible: a rotation each 1s needs 512 bit/s, 512 % of what the key servers make: periods will stretch; set keys.rotate to 5s 200ms or more, or get more keys; in an",
        ),
        (
            "0b/s",
            "NOT feasible: a rotation each 1s needs 512 bit/s, and the key servers make none: traffic will stop again and again; see to the key servers; in an",
        ),
    ];
    for (rate, expected) in table {
        let full = PlanInput { stored: Some(25_000), outage: Some(seconds(3600)), ..input(1, 1, rate) };
        let plan = Plan::new(&full);
        let verdict = plan.verdict();
        assert!(verdict.starts_with(expected), "{verdict}");
        assert!(verdict.ends_with("a full pool keeps traffic up for 10m 25s"), "{verdict}");
        assert!(!verdict.contains('\n'));
        let page = plan.to_string();
        assert!(
            page.contains(&verdict)
                && page.contains("  512 bit/s     x 256 bits\n")
                && page.contains("  1604 keys"),
            "{page}"
        );
    }
    let unknown = Plan::new(&PlanInput { rate: None, ..input(1, 1, "2kb/s") });
    assert_eq!(unknown.is_feasible(), None);
    assert!(unknown.verdict().contains("rate is not known"));
    assert!(unknown.page().contains("ask the operator"));
}

#[test]
fn programs_are_told_in_json() {
    let plan = Plan::new(&PlanInput { outage: Some(seconds(60)), ..input(1, 3, "2kb/s") });
    let json = serde_json::to_value(&plan).unwrap();
    assert_eq!(json["input"]["rate"], 2000.0);
    assert_eq!(json["input"]["rotate_s"], 1.0);
    assert_eq!(json["budget"]["needed_bits_per_s"], 1536.0);
    assert_eq!(json["budget"]["feed"], "ample");
    assert_eq!(json["budget"]["shortest_rotate_s"], 0.77);
    assert_eq!(json["pool"]["traffic_stops_s"], 625.0);
    assert_eq!(json["wanted"]["is_covered"], true);
}

#[test]
fn no_input_makes_it_fail() {
    let input = PlanInput {
        rotate: Duration::ZERO,
        hard_limit: Duration::MAX,
        links: NonZeroU32::MAX,
        hops: NonZeroU32::MAX,
        rate: Some(KeyRate::bits(f64::MIN_POSITIVE).unwrap()),
        pool: usize::MAX,
        stored: Some(u64::MAX),
        outage: Some(Duration::MAX),
    };
    let plan = Plan::new(&input);
    assert_eq!(plan.input.rotate, SHORTEST);
    assert!(plan.page().contains("does NOT pass"));
    serde_json::to_string(&plan).unwrap();
    for rate in [1e-300, 1e-20, 1e-3, 1e300] {
        let rate = Some(KeyRate::bits(rate).unwrap());
        assert!(!Plan::new(&PlanInput { rate, ..input.clone() }).verdict().is_empty());
    }
    let longest = PlanInput { rotate: Duration::MAX, ..input };
    Plan::new(&longest).page();
}
