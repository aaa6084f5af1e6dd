use super::super::counts::HostCounts;
use super::super::tap::OnWire;
use super::*;

/// 100 frames from a to b and 3 probes, all of which arrive; nothing from b to a.
fn whole() -> Counts {
    let rows = |rows: &[(&str, u64)]| rows.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
    let host = |sent, received| HostCounts { sent, received, ..HostCounts::default() };
    Counts {
        sites: [
            rows(&[("plain:received", 100), ("cipher_out", 100), ("probes_out", 3), ("tx:no_epoch", 0)]),
            rows(&[("cipher:to_socket", 103), ("plain_out", 100), ("dummies_in", 3), ("rx:icv", 0)]),
        ],
        wire: [OnWire { traffic: 100, probes: 3 }, OnWire::default()],
        hosts: [host(100, 0), host(0, 100)],
    }
}

fn set(counts: &mut Counts, side: Side, name: &str, count: u64) {
    counts.sites[side.index()].insert(name.to_owned(), count);
}

fn account(to: &Counts, licence: Licence) -> Account {
    Account::between(&Counts::default(), to, licence)
}

#[test]
fn a_whole_stretch_has_nothing_to_explain() {
    let found = account(&whole(), Licence::default());
    assert_eq!(found, Account { sent: 100, received: 100, ..Account::default() });
}

#[test]
fn a_named_drop_explains_a_loss_and_a_loss_without_name_stays() {
    let mut counts = whole();
    counts.hosts[1].received = 98;
    set(&mut counts, Side::B, "plain_out", 98);
    set(&mut counts, Side::B, "rx:icv", 2);
    let found = account(&counts, Licence::default());
    assert_eq!((found.lost(), found.unexplained), (2, 0));
    assert_eq!(found.left_at, Rows::from([("rx:icv".to_owned(), 2)]));

    let mut counts = whole();
    counts.hosts[1].received = 98;
    let found = account(&counts, Licence::default());
    assert_eq!((found.lost(), found.unexplained), (2, 2), "between plain port and far host");
    let mut counts = whole();
    counts.wire[0].traffic = 99;
    assert_eq!(account(&counts, Licence::default()).unexplained, 2, "before the tap, and none behind it");
}

#[test]
fn forged_packets_are_left_where_a_counter_says() {
    let mut counts = whole();
    set(&mut counts, Side::B, "cipher:to_socket", 143);
    set(&mut counts, Side::B, "cipher:fragment", 10);
    set(&mut counts, Side::B, "rx:icv", 40);
    let found = account(&counts, Licence { forged: 50, ..Licence::default() });
    assert_eq!((found.lost(), found.unexplained), (0, 0));
    assert_eq!(found.left_at.values().sum::<u64>(), 50);
    assert_eq!(account(&counts, Licence { forged: 51, ..Licence::default() }).unexplained, 1);
}

#[test]
fn what_came_while_a_process_was_away_is_counted_at_its_port() {
    // Site a: 10 of 110 frames came to its port while nobody was there, and it had put out 5 since its last books.
    let mut counts = whole();
    (counts.hosts[0].sent, counts.hosts[1].received, counts.wire[0].traffic) = (115, 105, 105);
    set(&mut counts, Side::B, "cipher:to_socket", 108);
    set(&mut counts, Side::B, "plain_out", 105);
    let licence = Licence { down: Some(Side::A), ..Licence::default() };
    let found = account(&counts, licence);
    assert_eq!((found.lost(), found.unexplained), (10, 0), "{found:?}");
    assert_eq!(found.left_at, Rows::from([("site_a_down".to_owned(), 10)]));
    assert!(account(&counts, Licence::default()).unexplained > 0, "it was there");

    // Site b: 20 packets and a probe came while nobody was there.
    let mut counts = whole();
    (counts.hosts[0].sent, counts.wire[0]) = (120, OnWire { traffic: 120, probes: 4 });
    set(&mut counts, Side::A, "plain:received", 120);
    set(&mut counts, Side::A, "cipher_out", 120);
    set(&mut counts, Side::A, "probes_out", 4);
    let licence = Licence { down: Some(Side::B), ..Licence::default() };
    let found = account(&counts, licence);
    assert_eq!((found.lost(), found.probes_lost, found.unexplained), (20, 1, 0), "{found:?}");
    assert_eq!(found.left_at, Rows::from([("site_b_down".to_owned(), 21)]));
    let cut = account(&counts, Licence { cut: true, ..Licence::default() });
    assert_eq!(cut.left_at, Rows::from([("wire_cut".to_owned(), 21)]));
}
