use super::*;
use crate::keys::{EpochKey, FlowKey};
use crate::spi::Epoch;
use aes_gcm::aead::{Aead, KeyInit, Payload};

fn spi() -> Spi {
    Spi::new(Epoch::FIRST, 0, 5)
}

fn flow_key(number: u8) -> FlowKey {
    EpochKey::new(&[number; 32]).unwrap().flow_key(spi()).unwrap()
}

/// Both engines. A machine without ipsec-mb cannot test what it may be asked to run: that is a failure with a remedy.
fn engines() -> [Engine; 2] {
    let chosen = choose(Choice::IpsecMb);
    let ipsec_mb =
        chosen.unwrap_or_else(|error| panic!("{error}; these tests need it, `.ci/deps` installs it"));
    [Engine::Ring, ipsec_mb.engine]
}

fn store(engine: Engine, flow: &FlowKey) -> KeyStore {
    let mut keys = KeyStore::with_capacity(engine, 1);
    keys.push(flow);
    keys
}

fn key<'a>(keys: &'a KeyStore, flow: &FlowKey) -> AeadKey<'a> {
    AeadKey { key: keys.get(0), salt: flow.salt() }
}

fn oracle(flow: &FlowKey, sequence: u64, text: &[u8]) -> Vec<u8> {
    let cipher = aes_gcm::Aes256Gcm::new(&(*flow.key()).into());
    let nonce: [u8; 12] = [&flow.salt()[..], &sequence.to_be_bytes()].concat().try_into().unwrap();
    let aad = [spi().value().to_be_bytes().as_slice(), &sequence.to_be_bytes()].concat();
    cipher.encrypt(&nonce.into(), Payload { msg: text, aad: &aad }).unwrap()
}

fn open(key: AeadKey<'_>, (spi, iv, sequence): (Spi, u64, u64), body: &mut [u8]) -> bool {
    let mut jobs = [OpenJob { key, spi, iv, sequence, body, genuine: false }];
    open_burst(&mut jobs);
    jobs[0].genuine
}

#[test]
fn every_length_agrees_with_the_oracle_both_ways() {
    for engine in engines() {
        for length in (0..=2048).chain([8960, 9216]) {
            let flow = flow_key(1 + (length % 200) as u8);
            let keys = store(engine, &flow);
            let text: Vec<u8> = (0..length).map(|i| (i * 7 + length) as u8).collect();
            let sequence = 0xffff_fff0 + length as u64;
            let mut body = [&text[..], &[0; ICV_LEN]].concat();
            let job = SealJob { key: key(&keys, &flow), spi: spi(), sequence, body: &mut body };
            seal_burst(&mut [job]);
            assert_eq!(body, oracle(&flow, sequence, &text), "{}, length {length}", engine.name());
            assert!(open(key(&keys, &flow), (spi(), sequence, sequence), &mut body));
            assert_eq!(&body[..length], &text[..]);
        }
    }
}

#[test]
fn any_change_is_noticed_and_leaves_no_text() {
    let flow = flow_key(9);
    let sealed = oracle(&flow, 77, b"sixteen bytes ok");
    for engine in engines() {
        let keys = store(engine, &flow);
        let genuine = |terms: (Spi, u64, u64), mut body: Vec<u8>| open(key(&keys, &flow), terms, &mut body);
        assert!(genuine((spi(), 77, 77), sealed.clone()));
        assert!(!genuine((spi(), 78, 77), sealed.clone()));
        assert!(!genuine((spi(), 77, 78), sealed.clone()));
        assert!(!genuine((spi(), 77, 77 | 1 << 40), sealed.clone()));
        assert!(!genuine((Spi::new(Epoch::FIRST, 0, 6), 77, 77), sealed.clone()));
        for bit in 0..sealed.len() * 8 {
            let mut flipped = sealed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(!open(key(&keys, &flow), (spi(), 77, 77), &mut flipped), "bit {bit}");
            assert_eq!(flipped[..16], [0; 16], "{}", engine.name());
        }
        assert!(!genuine((spi(), 77, 77), sealed[..ICV_LEN - 1].to_vec()), "shorter than an ICV");
    }
}

#[test]
fn a_burst_of_many_keys_and_lengths_is_sealed_each_with_its_own() {
    let flows: Vec<FlowKey> = (1..=64).map(flow_key).collect();
    for engine in engines() {
        let mut keys = KeyStore::with_capacity(engine, flows.len());
        flows.iter().for_each(|flow| keys.push(flow));
        let mut bodies: Vec<Vec<u8>> = (0..64).map(|i| vec![i as u8; 33 * i + ICV_LEN]).collect();
        let mut jobs: Vec<SealJob<'_>> = Vec::new();
        for (at, body) in bodies.iter_mut().enumerate() {
            let key = AeadKey { key: keys.get(at), salt: flows[at].salt() };
            jobs.push(SealJob { key, spi: spi(), sequence: at as u64, body });
        }
        seal_burst(&mut jobs);
        for (at, body) in bodies.iter().enumerate() {
            assert_eq!(*body, oracle(&flows[at], at as u64, &vec![at as u8; 33 * at]));
        }
    }
}

#[test]
fn both_engines_pass_their_trial() {
    for engine in engines() {
        assert!(trial::known_answer(engine));
        assert_eq!(trial::differs_from_ring(engine), None);
    }
}

#[test]
fn the_engine_that_is_asked_for_works_and_auto_has_one_everywhere() {
    let name = |choice: Choice| choose(choice).unwrap().engine.name();
    assert_eq!(name(Choice::Ring), "ring");
    let [_, ipsec_mb] = engines();
    assert_eq!(name(Choice::IpsecMb), ipsec_mb.name());
    let auto = choose(Choice::Auto).unwrap();
    assert!(auto.line.starts_with(&format!("engine {}", auto.engine.name())), "{}", auto.line);
}

#[test]
fn copies_are_equal_and_debug_shows_no_key() {
    let flow = flow_key(3);
    for engine in engines() {
        let first = store(engine, &flow);
        let mut second = KeyStore::with_capacity(engine, 1);
        second.push_from(&first, 0);
        let mut body = oracle(&flow, 5, b"text");
        assert!(open(key(&second, &flow), (spi(), 5, 5), &mut body));
        assert_eq!(format!("{second:?}"), "KeyStore(1 keys)");
        second.clear();
        assert!(second.is_empty());
    }
}
