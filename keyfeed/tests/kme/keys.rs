use std::collections::HashSet;

use qhaul_keyfeed::{DeliveredKey, Etsi014, KeyId, KeySource, SourceError};

use crate::sites::Network;
use crate::sites::Site::{A, B};

fn ids(keys: &[DeliveredKey]) -> Vec<KeyId> {
    keys.iter().map(|key| key.id.clone()).collect()
}

fn assert_same(ours: &[DeliveredKey], theirs: &[DeliveredKey]) {
    assert_eq!(ids(ours), ids(theirs));
    assert!(ours.iter().zip(theirs).all(|(a, b)| a.key.as_bytes() == b.key.as_bytes()));
}

#[test]
fn status_names_both_sites_and_counts_keys() {
    let (network, _running) = Network::up("rate = 0.0\nstore = 50\ninitial = 20");
    let mut client = network.client(A);
    let status = client.status().unwrap();
    assert_eq!((status.source_kme_id.as_str(), status.target_kme_id.as_str()), ("KME-A", "KME-B"));
    assert_eq!((status.master_sae_id.as_str(), status.slave_sae_id.as_str()), ("sae-a", "sae-b"));
    assert_eq!((status.key_size_bits, status.stored_key_count, status.max_key_count), (256, 20, 50));
    client.new_keys(3).unwrap();
    assert_eq!(client.status().unwrap().stored_key_count, 17);
    assert_eq!(client.kind(), "etsi014");
}

#[test]
fn keys_are_the_same_at_both_sites_in_both_directions() {
    let (network, _running) = Network::up("rate = 0.0");
    let (mut a, mut b) = (network.client(A), network.client(B));
    let round_trip = |master: &mut Etsi014, slave: &mut Etsi014| {
        let keys = master.new_keys(5).unwrap();
        assert_same(&keys, &slave.keys_by_id(&ids(&keys)).unwrap());
        keys
    };
    let mut all = round_trip(&mut a, &mut b);
    all.extend(round_trip(&mut b, &mut a));
    all.extend(round_trip(&mut a, &mut b));
    let distinct: HashSet<&[u8; 32]> = all.iter().map(|key| key.key.as_bytes()).collect();
    assert_eq!((distinct.len(), ids(&all).iter().collect::<HashSet<_>>().len()), (15, 15));
}

#[test]
fn more_keys_than_one_request_allows_take_several() {
    let (network, _running) = Network::up("rate = 0.0\nmax_per_request = 2");
    let keys = network.client(A).new_keys(5).unwrap();
    assert_eq!(keys.len(), 5);
    let mut reversed = ids(&keys);
    reversed.reverse();
    let fetched = network.client(B).keys_by_id(&reversed).unwrap();
    assert_eq!(ids(&fetched), reversed);
    assert_eq!(fetched[4].key.as_bytes(), keys[0].key.as_bytes());
}

#[test]
fn a_kme_that_comes_back_with_lower_limits_is_followed() {
    let (network, [a, _b]) = Network::up("");
    let mut client = network.client(A);
    assert_eq!(client.new_keys(4).unwrap().len(), 4);
    drop(a);
    let _a = network.with_keys("max_per_request = 2").start(A);
    assert!(matches!(client.new_keys(4), Err(SourceError::Refused { status: 400, .. })));
    assert_eq!(client.new_keys(4).unwrap().len(), 4);
}

#[test]
fn a_store_that_runs_dry_gives_what_it_has_and_then_says_empty() {
    let (network, _running) = Network::up("rate = 0.0\nstore = 3");
    let mut client = network.client(A);
    assert_eq!(client.new_keys(100).unwrap().len(), 3);
    let error = client.new_keys(1).unwrap_err();
    assert!(
        matches!(&error, SourceError::Empty { message } if message.contains("not enough keys")),
        "{error}"
    );
    assert!(error.is_transient());
}

#[test]
fn the_store_refills_at_its_rate() {
    let (network, _running) = Network::up("rate = 500.0\nstore = 3\ninitial = 0");
    let mut client = network.client(A);
    let mut fetched = 0;
    for _ in 0..2_000 {
        fetched += client.new_keys(3).map_or(0, |keys| keys.len());
        if fetched >= 9 {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    panic!("only {fetched} keys came of a store that makes 500 a second");
}

#[test]
fn an_unknown_key_id_is_not_found() {
    let (network, _running) = Network::up("");
    let error = network.client(B).keys_by_id(&[KeyId::new("no-such-key").unwrap()]).unwrap_err();
    assert!(
        matches!(&error, SourceError::NotFound { message } if message.contains("are not found on KME")),
        "{error}"
    );
}

#[test]
fn a_key_is_fetched_once_and_by_its_slave_only() {
    let (network, _running) = Network::up("");
    let (mut a, mut b) = (network.client(A), network.client(B));
    let named = ids(&a.new_keys(1).unwrap());
    assert!(
        matches!(a.keys_by_id(&named), Err(SourceError::NotFound { .. })),
        "the master has no second copy"
    );
    assert_eq!(b.keys_by_id(&named).unwrap().len(), 1);
    assert!(matches!(b.keys_by_id(&named), Err(SourceError::NotFound { .. })));
}

#[test]
fn key_ids_match_whatever_their_letter_case() {
    let (network, _running) = Network::up("");
    let keys = network.client(A).new_keys(1).unwrap();
    let upper = KeyId::new(keys[0].id.as_str().to_uppercase()).unwrap();
    assert_same(&keys, &network.client(B).keys_by_id(&[upper]).unwrap());
}

#[test]
fn one_missing_key_refuses_the_batch_and_burns_nothing() {
    let (network, _running) = Network::up("");
    let (mut a, mut b) = (network.client(A), network.client(B));
    let good = ids(&a.new_keys(2).unwrap());
    let mixed = [good[0].clone(), KeyId::new("no-such-key").unwrap(), good[1].clone()];
    assert!(matches!(b.keys_by_id(&mixed), Err(SourceError::NotFound { .. })));
    assert_eq!(b.keys_by_id(&good).unwrap().len(), 2);
}
