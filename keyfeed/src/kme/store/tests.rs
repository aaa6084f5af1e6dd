use super::*;

const TTL: Duration = Duration::from_secs(10);

fn sae(id: &str) -> SaeId {
    SaeId::new(id).unwrap()
}

fn id(number: u8) -> KeyId {
    KeyId::new(format!("id-{number}")).unwrap()
}

fn waiting(number: u8) -> (KeyId, Waiting) {
    (id(number), Waiting::new(Zeroizing::new(vec![number; 32]), sae("a"), vec![sae("b")]))
}

fn store_of(numbers: &[u8], now: Instant) -> Store {
    let mut store = Store::new(TTL, 4);
    store.insert(numbers.iter().map(|n| waiting(*n)).collect(), now).unwrap();
    store
}

fn fetch(
    store: &mut Store,
    caller: &str,
    master: &str,
    ids: &[KeyId],
    now: Instant,
) -> Result<Vec<(KeyId, KeyBytes)>, FetchError> {
    store.fetch(&Fetch { caller: &sae(caller), master: Some(&sae(master)), keep: false }, ids, now)
}

#[test]
fn each_slave_that_the_master_named_gets_the_key_once() {
    let now = Instant::now();
    let mut store = Store::new(TTL, 4);
    let shared = Waiting::new(Zeroizing::new(vec![1; 32]), sae("a"), vec![sae("b"), sae("c")]);
    store.insert(vec![(id(1), shared)], now).unwrap();
    assert!(fetch(&mut store, "b", "a", &[id(1)], now).is_ok());
    assert_eq!(fetch(&mut store, "b", "a", &[id(1)], now), Err(FetchError::NotFound));
    assert_eq!(fetch(&mut store, "d", "a", &[id(1)], now), Err(FetchError::NotNamed));
    assert!(fetch(&mut store, "c", "a", &[id(1)], now).is_ok());
    assert!(store.keys.is_empty(), "all have it");
}

#[test]
fn a_key_is_given_once() {
    let now = Instant::now();
    let mut store = store_of(&[1], now);
    assert_eq!(*fetch(&mut store, "b", "a", &[id(1)], now).unwrap()[0].1, vec![1; 32]);
    assert_eq!(fetch(&mut store, "b", "a", &[id(1)], now), Err(FetchError::NotFound));
}

#[test]
fn one_unknown_key_id_leaves_the_others_in_place() {
    let now = Instant::now();
    let mut store = store_of(&[1, 2], now);
    assert_eq!(fetch(&mut store, "b", "a", &[id(1), id(9), id(2)], now), Err(FetchError::NotFound));
    assert_eq!(fetch(&mut store, "b", "a", &[id(2), id(1)], now).unwrap().len(), 2);
}

#[test]
fn only_the_slave_named_by_the_master_gets_the_key() {
    let now = Instant::now();
    let mut store = store_of(&[1], now);
    assert_eq!(fetch(&mut store, "c", "a", &[id(1)], now), Err(FetchError::NotNamed));
    assert_eq!(fetch(&mut store, "b", "x", &[id(1)], now), Err(FetchError::NotFound));
    assert!(fetch(&mut store, "b", "a", &[id(1)], now).is_ok());
}

#[test]
fn keys_expire() {
    let now = Instant::now();
    let mut store = store_of(&[1], now);
    store.insert(vec![waiting(2)], now + TTL / 2).unwrap();
    let later = now + TTL;
    assert_eq!(fetch(&mut store, "b", "a", &[id(1)], later), Err(FetchError::NotFound));
    assert!(fetch(&mut store, "b", "a", &[id(2)], later).is_ok());
    store.expire(later + TTL);
    assert!(store.keys.is_empty() && store.expiry.is_empty());
}

#[test]
fn the_store_is_bounded_and_takes_all_or_none() {
    let now = Instant::now();
    let mut store = store_of(&[1, 2, 3], now);
    assert_eq!(store.insert(vec![waiting(4), waiting(5)], now), Err(StoreError::Full));
    assert_eq!(store.keys.len(), 3);
    for round in 0..1000u32 {
        let key = KeyId::new(format!("round-{round}")).unwrap();
        store.insert(vec![(key.clone(), waiting(7).1)], now).unwrap();
        fetch(&mut store, "b", "a", &[key], now).unwrap();
    }
    assert!(store.expiry.len() <= 9, "{} entries for 3 keys", store.expiry.len());
}

#[test]
fn a_repeated_message_is_no_error_but_another_key_is() {
    let now = Instant::now();
    let mut store = store_of(&[1], now);
    assert_eq!(store.insert(vec![waiting(1)], now), Ok(()));
    assert_eq!(store.insert(vec![(id(1), waiting(2).1)], now), Err(StoreError::Conflict));
    assert!(!format!("{store:?}").contains("[1, 1"));
}
