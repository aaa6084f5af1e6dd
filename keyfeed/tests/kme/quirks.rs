use std::thread;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use qhaul_keyfeed::kme::Quirk;
use qhaul_keyfeed::{DeliveredKey, Etsi014, KeyId, KeySource, SourceError};

use crate::sites::Site::{A, B};
use crate::sites::{Network, PATIENCE};

/// Two KMEs with the quirk, and both sites' clients.
fn clients(quirk: Quirk, keys: &str, run: impl FnOnce(&Network, Etsi014, Etsi014)) {
    let name = quirk.to_possible_value().unwrap().get_name().to_owned();
    let network = Network::new(keys).with_kme(&format!("quirks = [\"{name}\"]"));
    let _running = [network.start(A), network.start(B)];
    run(&network, network.client(A), network.client(B));
}

/// `number` keys go from A to B, whatever the KMEs' quirk.
fn works(quirk: Quirk, number: usize) {
    clients(quirk, "", |_, mut a, mut b| {
        let keys = patient(|| a.new_keys(number));
        let ids: Vec<KeyId> = keys.iter().map(|key| key.id.clone()).collect();
        let fetched = patient(|| b.keys_by_id(&ids));
        assert_eq!(keys.len(), number, "{quirk:?}");
        assert!(keys.iter().zip(&fetched).all(|(a, b)| a.key.as_bytes() == b.key.as_bytes()), "{quirk:?}");
        let unknown = b.keys_by_id(&[KeyId::new("no-such-key").unwrap()]).unwrap_err();
        assert!(matches!(unknown, SourceError::NotFound { .. }) || quirk == Quirk::NotFound401, "{unknown}");
    });
}

/// Repeats what may succeed later.
fn patient(mut call: impl FnMut() -> Result<Vec<DeliveredKey>, SourceError>) -> Vec<DeliveredKey> {
    let limit = Instant::now() + PATIENCE;
    loop {
        match call() {
            Ok(keys) => return keys,
            Err(error) => {
                let may_pass = error.is_transient() || matches!(error, SourceError::NotFound { .. });
                assert!(may_pass && Instant::now() < limit, "{error}");
            }
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// Get key fails with one line that holds `named`, and is not taken for a passing trouble.
fn new_keys_refused(quirk: Quirk, keys: &str, number: usize, named: &str) {
    clients(quirk, keys, |_, mut a, _| {
        let error = a.new_keys(number).unwrap_err();
        let line = error.to_string();
        assert!(line.contains(named) && !line.contains('\n') && !error.is_transient(), "{quirk:?}: {line}");
    });
}

/// An empty store is understood as one, and keys come once there are some.
fn empty_understood(quirk: Quirk) {
    clients(quirk, "rate = 0.0\nstore = 1", |_, mut a, _| {
        assert_eq!(a.new_keys(1).unwrap().len(), 1);
        let error = a.new_keys(1).unwrap_err();
        assert!(matches!(error, SourceError::Empty { .. }) && error.is_transient(), "{quirk:?}: {error}");
    });
}

fn error_body_is_read(quirk: Quirk) {
    works(quirk, 3);
    clients(quirk, "", |network, _, mut b| {
        let path = "/api/v1/keys/sae-a/dec_keys?key_ID=a";
        assert!(network.get(B, path).body.contains("not found on KME"), "{quirk:?}");
        let unknown = b.keys_by_id(&[KeyId::new("a").unwrap()]).unwrap_err();
        let SourceError::NotFound { message } = &unknown else { panic!("{quirk:?}: {unknown}") };
        assert!(message.contains("are not found on KME"), "{quirk:?}: {message}");
    });
}

/// The table: what the client makes of each quirk. Exhaustive, so a new quirk needs a row.
fn check(quirk: Quirk) {
    match quirk {
        Quirk::NotFound404
        | Quirk::NotFound401
        | Quirk::CapitalKeys
        | Quirk::KeyFirstOrder
        | Quirk::UpperCaseIds
        | Quirk::RepeatableDec
        | Quirk::BareKeyIds
        | Quirk::StatusLies
        | Quirk::EarlyAnswer
        | Quirk::LenientRequests
        | Quirk::NoKeepAlive => works(quirk, 5),
        Quirk::Conflict409 => {
            works(quirk, 1);
            clients(quirk, "", |_, mut a, _| {
                a.new_keys(1).unwrap();
                assert!(matches!(a.new_keys(1), Err(SourceError::Empty { .. })));
                a.new_keys(1).unwrap();
            });
        }
        Quirk::Empty404 | Quirk::Empty400 => {
            works(quirk, 5);
            empty_understood(quirk);
        }
        Quirk::HtmlErrors | Quirk::DetailErrors | Quirk::UntypedErrors => error_body_is_read(quirk),
        Quirk::SizeIgnored => {
            works(quirk, 5);
            new_keys_refused(quirk, "size = 128", 1, "not 256 bits");
        }
        Quirk::SizeInBytes => {
            new_keys_refused(quirk, "", 1, "it gives keys of 8 to 128 bits, 256 are needed")
        }
        Quirk::NumberIgnored => {
            works(quirk, 1);
            new_keys_refused(quirk, "", 5, "5 keys were asked for, 1 came");
        }
        Quirk::SlaveIdInDecPath => clients(quirk, "", |_, mut a, mut b| {
            let keys = a.new_keys(1).unwrap();
            let error = b.keys_by_id(&[keys[0].id.clone()]).unwrap_err();
            assert!(error.to_string().contains("shall name the slave SAE"), "{error}");
        }),
    }
}

#[test]
fn the_client_works_with_each_quirk_or_refuses_it_clearly() {
    thread::scope(|scope| {
        for quirk in Quirk::value_variants() {
            scope.spawn(|| check(*quirk));
        }
    });
}

#[test]
fn a_401_for_an_unknown_key_is_said_so() {
    clients(Quirk::NotFound401, "", |_, _, mut b| {
        let error = b.keys_by_id(&[KeyId::new("no-such-key").unwrap()]).unwrap_err();
        assert_eq!(error, SourceError::Unauthorised { request: "dec_keys" });
    });
}
