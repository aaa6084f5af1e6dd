use std::net::TcpListener;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, unbounded};
use qhaul_keyfeed::{
    Etsi014, Etsi014Config, FeedReply, Feeder, KeyId, KeySource, ReceivePool, SendPool, SourceError, Want,
};

use crate::sites::Site::{self, A, B};
use crate::sites::{Network, PATIENCE};

fn start(config: Etsi014Config) -> (Feeder, Receiver<()>) {
    let (wake, woken) = unbounded();
    let make = move || Ok(Box::new(Etsi014::new(config.clone())?) as Box<dyn KeySource>);
    (Feeder::start(make, move || wake.send(()).unwrap_or_default()).unwrap(), woken)
}

fn feeder_of(network: &Network, site: Site) -> (Feeder, Receiver<()>) {
    start(network.client_config(site))
}

fn next((feeder, woken): &(Feeder, Receiver<()>)) -> FeedReply {
    woken.recv_deadline(Instant::now() + PATIENCE).expect("a reply in time");
    feeder.poll().expect("a wake-up means that a reply is there")
}

#[test]
fn keys_go_from_pool_to_pool() {
    let (network, _running) = Network::up("");
    let (a, b) = (feeder_of(&network, A), feeder_of(&network, B));
    let (mut send, mut receive) = (SendPool::new(8), ReceivePool::new(8));
    assert!(a.0.ask_new(send.want()));
    let FeedReply::New(Ok(keys)) = next(&a) else { panic!("no new keys") };
    let places: Vec<u64> = keys.into_iter().map(|key| send.add(key).unwrap()).collect();
    assert_eq!(places, (0..8).collect::<Vec<_>>());
    let announced = send.to_announce(8);
    assert!(announced.iter().all(|(place, id)| receive.wants(*place, id) == Want::Fetch));
    assert!(b.0.ask_by_id(announced.clone()));
    let FeedReply::ById(items) = next(&b) else { panic!("no keys by key_ID") };
    for (place, _, key) in items {
        receive.add(place, key.unwrap()).unwrap();
        send.held(place);
    }
    for (expected, id) in announced {
        let (place, sent) = send.take().unwrap();
        let received = receive.take(place, &id).unwrap();
        assert_eq!((place, sent.key.as_bytes()), (expected, received.key.as_bytes()));
    }
    assert!(send.take().is_none() && receive.is_empty());
}

#[test]
fn one_missing_key_does_not_sink_the_batch() {
    let (network, _running) = Network::up("");
    let keys = network.client(A).new_keys(2).unwrap();
    let b = feeder_of(&network, B);
    let unknown = KeyId::new("no-such-key").unwrap();
    assert!(b.0.ask_by_id(vec![(0, keys[0].id.clone()), (1, unknown), (2, keys[1].id.clone())]));
    let (mut good, mut missing) = (Vec::new(), Vec::new());
    while good.len() + missing.len() < 3 {
        let FeedReply::ById(items) = next(&b) else { panic!("not by key_ID") };
        for (place, _, result) in items {
            match result {
                Ok(_) => good.push(place),
                Err(SourceError::NotFound { .. }) => missing.push(place),
                Err(other) => panic!("{other}"),
            }
        }
    }
    assert_eq!((good, missing), (vec![0, 2], vec![1]));
}

#[test]
fn a_kme_that_hangs_blocks_neither_the_caller_nor_its_end() {
    let network = Network::new("");
    let _listener = TcpListener::bind((network.host(A), 8443)).unwrap();
    let config = Etsi014Config { timeout: Duration::from_secs(2), ..network.client_config(A) };
    let hanging = start(config);
    assert!(hanging.0.ask_new(1));
    assert!(hanging.0.ask_by_id(vec![(0, KeyId::new("a").unwrap()), (1, KeyId::new("b").unwrap())]));
    // Nothing can have come: the threads are inside requests that only their time limit ends.
    assert!(hanging.0.poll().is_none() && !hanging.0.ask_new(1));
    let replies = [next(&hanging), next(&hanging)];
    for reply in replies {
        match reply {
            FeedReply::New(result) => assert!(matches!(result, Err(SourceError::Silent { .. }))),
            FeedReply::ById(items) => {
                assert_eq!(items.len(), 2);
                assert!(items.iter().all(|(_, _, result)| matches!(result, Err(SourceError::Silent { .. }))));
            }
            FeedReply::Status(_) => panic!("nobody asked"),
        }
    }
    assert!(hanging.0.ask_new(1), "after the reply the next one may be asked");
    let (feeder, woken) = hanging;
    drop(feeder);
    // The wake function lives on the threads alone: its channel closes when both have ended.
    let limit = Instant::now() + PATIENCE;
    while woken.recv_deadline(limit) != Err(crossbeam_channel::RecvTimeoutError::Disconnected) {
        assert!(Instant::now() < limit, "the threads live on");
    }
}
