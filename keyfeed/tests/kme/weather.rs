use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use qhaul_keyfeed::kme::{Change, Command, What, command};
use qhaul_keyfeed::{DeliveredKey, Etsi014, Etsi014Config, KeyId, KeySource, SendPool, SourceError};

use crate::sites::Site::{self, A, B};
use crate::sites::{Network, PATIENCE, Running};

const CONTROL: &str = "control = \"HOST.sock\"";

/// Two sites under command.
struct Sites {
    network: Network,
    _running: [Running; 2],
}

impl Sites {
    fn new(keys: &str) -> Self {
        Self::of(Network::new(keys))
    }

    fn of(network: Network) -> Self {
        let network = network.with_kme(CONTROL);
        let running = [network.start(A), network.start(B)];
        Sites { network, _running: running }
    }

    fn socket(&self, site: Site) -> PathBuf {
        self.network.pki.folder().join(format!("{}.sock", self.network.host(site)))
    }

    fn send(&self, site: Site, what: &Command) -> serde_json::Value {
        serde_json::from_str(&command(&self.socket(site), what).unwrap()).unwrap()
    }

    fn set(&self, site: Site, what: What) -> serde_json::Value {
        self.send(site, &Command::Set(Change { what, value: None, lasts: None }))
    }

    fn set_to(&self, site: Site, what: What, value: f64) -> serde_json::Value {
        self.send(site, &Command::Set(Change { what, value: Some(value), lasts: None }))
    }

    fn clear(&self, site: Site) {
        self.send(site, &Command::Clear(None));
    }

    fn client(&self, site: Site) -> Etsi014 {
        self.network.client(site)
    }

    fn impatient(&self) -> Etsi014 {
        let timeout = Duration::from_millis(300);
        Etsi014::new(Etsi014Config { timeout, ..self.network.client_config(A) }).unwrap()
    }
}

fn ids(keys: &[DeliveredKey]) -> Vec<KeyId> {
    keys.iter().map(|key| key.id.clone()).collect()
}

/// Repeats until keys come; whatever fails before must pass by itself.
fn until_keys(client: &mut Etsi014) {
    let limit = Instant::now() + PATIENCE;
    while let Err(error) = client.new_keys(1) {
        assert!(error.is_transient() && Instant::now() < limit, "{error}");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn an_outage_lets_the_store_run_dry_until_it_ends() {
    let sites = Sites::new("rate = 1000.0\nstore = 5");
    let mut a = sites.client(A);
    assert_eq!(sites.set(A, What::Outage)["rate"], 0.0);
    assert!(a.status().unwrap().extension.unwrap().contains("quantum channel is down"));
    assert_eq!(a.new_keys(100).unwrap().len(), 5);
    assert!(matches!(a.new_keys(1), Err(SourceError::Empty { .. })));
    sites.clear(A);
    until_keys(&mut a);
    assert_eq!(a.status().unwrap().extension, None);
}

#[test]
fn delay_and_hang_run_into_the_clients_limit_and_pass() {
    let sites = Sites::new("");
    let mut a = sites.impatient();
    a.new_keys(1).unwrap();
    sites.set_to(A, What::Delay, 30.0);
    assert!(matches!(a.new_keys(1), Err(SourceError::Silent { step: "its answer", .. })));
    sites.clear(A);
    a.new_keys(1).unwrap();
    sites.set(A, What::Hang);
    assert!(matches!(a.status(), Err(SourceError::Silent { .. })));
    sites.clear(A);
    until_keys(&mut a);
}

#[test]
fn a_condition_with_an_end_ends_by_itself() {
    let sites = Sites::new("");
    let mut a = sites.impatient();
    let lasts = Some(0.4);
    let told = sites.send(A, &Command::Set(Change { what: What::Hang, value: None, lasts }));
    assert_eq!(told["conditions"][0]["what"], "hang");
    until_keys(&mut a);
    assert_eq!(sites.send(A, &Command::Show)["conditions"], serde_json::json!([]));
}

#[test]
fn a_kme_that_is_down_closes_connections_and_comes_back() {
    let sites = Sites::new("rate = 0.0");
    let (mut a, mut b) = (sites.client(A), sites.client(B));
    a.new_keys(1).unwrap();
    sites.set(A, What::Down);
    let error = a.new_keys(1).unwrap_err();
    assert!(matches!(error, SourceError::Closed { .. }) && error.is_transient(), "{error}");
    let error = b.new_keys(1).unwrap_err();
    assert!(matches!(&error, SourceError::Empty { message } if message.contains("KME-A")), "{error}");
    sites.clear(A);
    a.new_keys(1).unwrap();
    b.new_keys(1).unwrap();
}

#[test]
fn errors_of_every_request() {
    let sites = Sites::new("");
    let mut a = sites.client(A);
    let id = [KeyId::new("any").unwrap()];
    sites.set(A, What::Error503);
    assert!(matches!(a.status(), Err(SourceError::Refused { status: 503, .. })));
    assert!(a.new_keys(1).unwrap_err().is_transient());
    assert!(a.keys_by_id(&id).unwrap_err().is_transient());
    sites.clear(A);
    sites.set(A, What::Error400);
    assert!(matches!(a.new_keys(1), Err(SourceError::Refused { status: 400, .. })));
    sites.clear(A);
    a.new_keys(1).unwrap();
}

#[test]
fn a_cut_between_the_kmes_burns_no_key() {
    let sites = Sites::new("rate = 0.0");
    let (mut a, mut b) = (sites.client(A), sites.client(B));
    sites.set(A, What::LinkDown);
    for client in [&mut a, &mut b] {
        assert!(matches!(client.new_keys(1), Err(SourceError::Empty { .. })));
        assert_eq!(client.status().unwrap().stored_key_count, 1000);
    }
    sites.clear(A);
    assert_eq!(a.new_keys(1).unwrap().len() + b.new_keys(1).unwrap().len(), 2);
}

#[test]
fn a_wrong_key_at_one_side() {
    let sites = Sites::new("");
    let (mut a, mut b) = (sites.client(A), sites.client(B));
    sites.set(B, What::WrongKey);
    let keys = a.new_keys(1).unwrap();
    let fetched = b.keys_by_id(&ids(&keys)).unwrap();
    assert_eq!(ids(&fetched), ids(&keys));
    assert_ne!(fetched[0].key.as_bytes(), keys[0].key.as_bytes());
    sites.clear(B);
    let keys = a.new_keys(1).unwrap();
    assert_eq!(b.keys_by_id(&ids(&keys)).unwrap()[0].key.as_bytes(), keys[0].key.as_bytes());
}

#[test]
fn a_duplicate_key_is_refused_within_an_answer_and_across_answers() {
    let sites = Sites::new("");
    let mut a = sites.client(A);
    sites.set(A, What::DuplicateKey);
    let error = a.new_keys(2).unwrap_err();
    assert!(
        matches!(error, SourceError::BadAnswer { .. }) && error.to_string().contains("the same as"),
        "{error}"
    );
    let mut pool = SendPool::new(8);
    pool.add(a.new_keys(1).unwrap().remove(0)).unwrap();
    pool.add(a.new_keys(1).unwrap().remove(0)).unwrap_err();
    sites.clear(A);
    pool.add(a.new_keys(1).unwrap().remove(0)).unwrap();
}

#[test]
fn keys_lost_at_one_side_are_not_found_there() {
    let sites = Sites::new("");
    let (mut a, mut b) = (sites.client(A), sites.client(B));
    sites.set(B, What::LostKey);
    let lost = a.new_keys(2).unwrap();
    assert!(matches!(b.keys_by_id(&ids(&lost)), Err(SourceError::NotFound { .. })));
    sites.clear(B);
    let kept = a.new_keys(2).unwrap();
    assert_eq!(b.keys_by_id(&ids(&kept)).unwrap().len(), 2);
}

#[test]
fn a_restart_empties_the_store() {
    let sites = Sites::new("rate = 0.0");
    let (mut a, mut b) = (sites.client(A), sites.client(B));
    let keys = a.new_keys(2).unwrap();
    assert_eq!(sites.send(B, &Command::Show)["unfetched"], 2);
    let after = sites.set(B, What::Restart);
    assert_eq!((&after["stored"], &after["unfetched"]), (&0.into(), &0.into()));
    assert!(matches!(b.keys_by_id(&ids(&keys)), Err(SourceError::NotFound { .. })));
    assert!(matches!(b.new_keys(1), Err(SourceError::Empty { .. })));
    let fresh = a.new_keys(1).unwrap();
    assert_eq!(b.keys_by_id(&ids(&fresh)).unwrap().len(), 1, "the other side's store is its own");
}

#[test]
fn an_eavesdropper_ends_the_keys_and_status_says_so() {
    let sites = Sites::of(Network::new("store = 5").with_sections("[fibre]\nlength_km = 80"));
    let mut a = sites.client(A);
    let fair = sites.send(A, &Command::Show)["rate"].as_f64().unwrap();
    assert!((400.0..2_000.0).contains(&fair), "{fair} keys a second over 80 km");
    sites.set_to(A, What::Eavesdropper, 0.5);
    let told = a.status().unwrap().extension.unwrap();
    assert!(told.contains("eavesdropper") && told.contains("\"qhaul_key_rate\":0.0"), "{told}");
    assert!(a.new_keys(100).unwrap().len() <= 5, "what was stored before");
    assert!(matches!(a.new_keys(1), Err(SourceError::Empty { .. })));
    sites.clear(A);
    until_keys(&mut a);
}

#[test]
fn keys_come_in_blocks_and_at_the_rate_commanded() {
    let sites = Sites::new("rate = 0.0\ninitial = 0\nblock = 50");
    let mut a = sites.client(A);
    assert!(matches!(a.new_keys(1), Err(SourceError::Empty { .. })));
    sites.set_to(A, What::Rate, 400.0);
    let limit = Instant::now() + PATIENCE;
    let mut seen = 0;
    while seen < 150 {
        seen = a.status().unwrap().stored_key_count;
        assert!(seen.is_multiple_of(50) && Instant::now() < limit, "{seen} keys are no whole blocks");
    }
    sites.set_to(A, What::Rate, 0.0);
    let left = a.status().unwrap().stored_key_count;
    let taken: usize = std::iter::from_fn(|| a.new_keys(100).ok()).map(|keys| keys.len()).sum();
    assert_eq!(taken as u64, left);
}

#[test]
fn a_longer_fibre_ends_the_keys() {
    let sites = Sites::of(Network::new("initial = 0").with_sections("[fibre]\nlength_km = 20"));
    let mut a = sites.client(A);
    until_keys(&mut a);
    assert_eq!(sites.set_to(A, What::Length, 200.0)["rate"], 0.0);
    while a.new_keys(1_000).is_ok() {}
    assert_eq!(a.status().unwrap().stored_key_count, 0);
    sites.clear(A);
    until_keys(&mut a);
}

#[test]
fn the_weather_follows_its_schedule() {
    let schedule = "[[weather]]\nat = 0\nwhat = \"outage\"\n[[weather]]\nat = 0.3\nwhat = \"restart\"";
    let sites = Sites::of(Network::new("rate = 1000.0").with_sections(schedule));
    let mut a = sites.client(A);
    assert_eq!(sites.send(A, &Command::Show)["conditions"][0]["what"], "outage");
    let limit = Instant::now() + PATIENCE;
    while a.status().unwrap().stored_key_count > 0 {
        assert!(Instant::now() < limit, "the restart does not come");
        thread::sleep(Duration::from_millis(20));
    }
    assert!(matches!(a.new_keys(1), Err(SourceError::Empty { .. })), "nothing fills it again");
}

#[test]
fn commands_without_sense_are_refused_in_one_line() {
    let sites = Sites::new("");
    let wrong = Change { what: What::Delay, value: None, lasts: None };
    let error = command(&sites.socket(A), &Command::Set(wrong)).unwrap_err();
    assert!(error.contains("seconds") && !error.contains('\n'), "{error}");
    let nobody = command(&sites.network.pki.folder().join("none.sock"), &Command::Show).unwrap_err();
    assert!(nobody.contains("none.sock") && nobody.contains("[kme] control"), "{nobody}");
}
