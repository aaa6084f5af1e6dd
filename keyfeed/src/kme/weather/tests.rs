use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn scheduled(at: f64, what: What, value: Option<f64>, lasts: Option<f64>) -> Scheduled {
    Scheduled { at, what, value, lasts }
}

fn change(what: What, value: Option<f64>, lasts: Option<f64>) -> Change {
    Change { what, value, lasts }
}

/// Steps until nothing more has happened; the moments at which all keys were lost, in seconds.
fn run(weather: &mut Weather, start: Instant, seconds: u32) -> Vec<f64> {
    let mut lost = Vec::new();
    while let Some((at, restart)) = weather.step(start + seconds * SECOND) {
        if restart {
            lost.push((at - start).as_secs_f64());
        }
    }
    lost
}

#[test]
fn a_schedule_comes_and_goes_in_its_order() {
    let start = Instant::now();
    let schedule = [
        scheduled(20.0, What::Restart, None, None),
        scheduled(10.0, What::Delay, Some(0.5), Some(5.0)),
        scheduled(12.0, What::Outage, None, None),
    ];
    let mut weather = Weather::new(RateSource::ByHand(7.0), &schedule, start);
    run(&mut weather, start, 9);
    assert_eq!((weather.rate(), weather.has(What::Delay)), (7.0, false));
    run(&mut weather, start, 10);
    assert_eq!((weather.rate(), weather.value(What::Delay)), (7.0, Some(0.5)));
    run(&mut weather, start, 14);
    assert_eq!((weather.rate(), weather.has(What::Delay)), (0.0, true));
    assert_eq!(run(&mut weather, start, 60), [20.0]);
    assert!(!weather.has(What::Delay) && weather.has(What::Outage), "one had an end, one has none");
    weather.clear(None);
    assert_eq!(weather.rate(), 7.0);
}

#[test]
fn the_same_condition_again_replaces_the_first() {
    let start = Instant::now();
    let mut weather = Weather::new(RateSource::ByHand(1.0), &[], start);
    weather.apply(change(What::Rate, Some(3.0), Some(10.0)), start);
    weather.apply(change(What::Rate, Some(4.0), Some(100.0)), start);
    run(&mut weather, start, 50);
    assert_eq!((weather.rate(), weather.conditions().len()), (4.0, 1));
}

#[test]
fn an_eavesdropper_ends_the_keys_and_raises_the_alarm() {
    let start = Instant::now();
    for source in [RateSource::ByHand(5.0), RateSource::Fibre(Fibre::default(), 256)] {
        let mut weather = Weather::new(source, &[], start);
        assert!(weather.alarm().is_none() && weather.rate() > 0.0);
        weather.apply(change(What::Eavesdropper, Some(0.4), None), start);
        let alarm = weather.alarm().unwrap();
        assert_eq!(weather.rate(), 0.0);
        assert!(alarm["qhaul_qber"].as_f64().unwrap() > alarm["qhaul_qber_limit"].as_f64().unwrap());
        weather.apply(change(What::Rate, Some(9.0), None), start);
        assert_eq!(weather.rate(), 0.0, "no rate by hand against it");
    }
}

#[test]
fn a_longer_fibre_gives_fewer_keys() {
    let start = Instant::now();
    let mut weather = Weather::new(RateSource::Fibre(Fibre::default(), 256), &[], start);
    let near = weather.rate();
    assert!((3_000.0..5_000.0).contains(&near), "{near} keys a second at 50 km");
    weather.apply(change(What::Length, Some(100.0), None), start);
    assert!(weather.rate() < near / 8.0 && weather.rate() > 0.0);
}

#[test]
fn changes_without_sense_are_refused() {
    for (what, value, lasts) in [
        (What::Delay, None, None),
        (What::Delay, Some(-1.0), None),
        (What::Eavesdropper, Some(1.5), None),
        (What::Hang, Some(1.0), None),
        (What::Hang, None, Some(f64::NAN)),
        (What::Rate, Some(f64::INFINITY), None),
    ] {
        assert!(change(what, value, lasts).check().is_err(), "{what:?} {value:?} {lasts:?}");
    }
    assert!(scheduled(-1.0, What::Hang, None, None).check().is_err());
    assert!(change(What::Hang, None, Some(3.0)).check().is_ok());
}
