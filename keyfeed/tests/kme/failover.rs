use std::net::TcpListener;
use std::time::{Duration, Instant};

use qhaul_keyfeed::{DeliveredKey, Etsi014, Etsi014Config, Failover, KeyId, KeySource, Pauses};

use crate::sites::Site::{self, A, B};
use crate::sites::{Network, PATIENCE};

/// A site's SAE on both QKD networks, in that order.
fn on_both(networks: [&Network; 2], site: Site) -> Failover {
    let client = |network: &Network| {
        let config = Etsi014Config { timeout: Duration::from_millis(500), ..network.client_config(site) };
        Box::new(Etsi014::new(config).unwrap()) as Box<dyn KeySource>
    };
    let pauses = Pauses { first: Duration::from_millis(50), longest: Duration::from_millis(200) };
    Failover::new(networks.map(client).into(), pauses).unwrap()
}

fn count(network: &Network) -> u64 {
    network.client(A).status().unwrap().stored_key_count
}

fn round_trip(a: &mut Failover, b: &mut Failover) {
    let keys = a.new_keys(2).unwrap();
    let ids: Vec<KeyId> = keys.iter().map(|key: &DeliveredKey| key.id.clone()).collect();
    let fetched = b.keys_by_id(&ids).unwrap();
    assert!(keys.iter().zip(&fetched).all(|(a, b)| a.key.as_bytes() == b.key.as_bytes()));
}

#[test]
fn the_second_network_steps_in_and_the_first_is_returned_to() {
    let (first, [a1, _b1]) = Network::up("rate = 0.0");
    let (second, _second) = Network::up("rate = 0.0");
    let networks = [&first, &second];
    let (mut a, mut b) = (on_both(networks, A), on_both(networks, B));
    round_trip(&mut a, &mut b);
    assert_eq!((count(&first), count(&second)), (998, 1000));
    drop(a1);
    round_trip(&mut a, &mut b);
    assert_eq!(count(&second), 998);
    let _a1 = first.start(A);
    let limit = Instant::now() + PATIENCE;
    while count(&first) == 1000 {
        assert!(Instant::now() < limit, "the first network is not returned to");
        round_trip(&mut a, &mut b);
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_kme_that_hangs_is_passed_over() {
    let first = Network::new("");
    let _hangs = TcpListener::bind((first.host(A), 8443)).unwrap();
    let (second, _second) = Network::up("rate = 0.0");
    let mut a = on_both([&first, &second], A);
    assert_eq!(a.new_keys(3).unwrap().len(), 3);
    assert_eq!(a.status().unwrap().stored_key_count, 997);
}
