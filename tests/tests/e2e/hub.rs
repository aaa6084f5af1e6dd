//! One encryptor with several peers: what befalls one link, no other feels.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use qhaul::lab::wait::{pause, wait_for};
use qhaul::status::{LinkStatus, Rows, Status};
use qhaul_tests::books::{dropped, xdp};
use qhaul_tests::hub::{HubLab, Place, Plan, link_to};
use qhaul_tests::lab::PATIENCE;
use qhaul_tests::traffic::{Passed, Traffic};

/// Datagrams a second for each spoke, each way.
const RATE: u32 = 100;

#[test]
fn of_eight_spokes_one_is_restarted_removed_and_added_and_the_others_lose_nothing() -> Result<()> {
    let mut lab = HubLab::up("ehub", Plan { spokes: 8, ipv6: false, mode: "ethernet", workers: 1 })?;
    let (victim, others): (Place, Vec<Place>) = (8, (1..8).collect());
    let before = lab.status(0)?;
    let traffic: Vec<[Traffic; 2]> =
        others.iter().map(|&spoke| both_ways(&lab, spoke)).collect::<Result<_>>()?;

    restart(&mut lab, victim)?;
    remove(&lab, victim, &others)?;
    add(&lab, victim)?;

    for &spoke in &others {
        let enough = link_to(&before, spoke).context("a link")?.tx.switches + 3;
        lab.wait_link(spoke, "three rotations did not come", |link| link.tx.switches >= enough)?;
    }
    for (spoke, traffic) in others.iter().zip(traffic) {
        for traffic in traffic {
            whole(traffic, *spoke)?;
        }
    }
    let after = lab.settled(0)?;
    for &spoke in &others {
        let drops = |status: &Status| -> Result<Rows> {
            let mut drops = link_to(status, spoke).context("a link")?.counters.drops.clone();
            // A machine that is too busy to agree on an epoch in time gives it up, and its probes with it.
            drops.remove("epoch_unknown");
            Ok(drops)
        };
        ensure!(drops(&after)? == drops(&before)?, "link to {spoke}: {:?}", drops(&after));
        lab.settled(spoke)?;
    }
    ensure!(lab.log(0).matches("panicked").count() == 0, "{}", lab.log(0));
    lab.finish()
}

fn restart(lab: &mut HubLab, victim: Place) -> Result<()> {
    lab.stop(victim)?;
    lab.start(victim)?;
    // Its keys are those of the new process; the hub has some of the old one at first.
    lab.wait_status(victim, "the spoke that was restarted did not come back", is_active)?;
    lab.wait_link(victim, "the hub made no new keys", |link| link.state == "active")?;
    passes(lab, victim)
}

/// What the removed peer sends dies in XDP, and what is for it is for nobody.
fn remove(lab: &HubLab, victim: Place, others: &[Place]) -> Result<()> {
    lab.configure_hub(others)?;
    let said = lab.reload_hub()?;
    ensure!(said.contains("- link hub-s8") && said.contains("1 links removed"), "{said}");
    wait_for("the keys of the removed link were not wiped", PATIENCE, || {
        Ok(lab.log(0).contains("link \"hub-s8\" is gone").then_some(()))
    })?;
    let foreign = xdp(&lab.status(0)?, "cipher", "foreign_source");
    let lost = both_ways(lab, victim)?;
    let status = lab.wait_status(0, "what the removed spoke sends was not dropped in XDP", |status| {
        xdp(status, "cipher", "foreign_source") > foreign + 20
            && status.no_link.drops.contains_key("policy_discard")
    })?;
    ensure!(link_to(&status, victim).is_none() && status.links.len() == 7, "{:?}", status.link);
    for traffic in lost {
        ensure!(traffic.finish()?.arrivals.is_empty(), "a removed link carried something");
    }
    Ok(())
}

fn add(lab: &HubLab, victim: Place) -> Result<()> {
    lab.configure_hub(&(1..=victim).collect::<Vec<_>>())?;
    let said = lab.reload_hub()?;
    ensure!(said.contains("+ link hub-s8") && said.contains("1 added"), "{said}");
    comes_up(lab, victim)
}

/// A link that is new at the hub. Once that has keys, so has the spoke, but it may not use them yet.
fn comes_up(lab: &HubLab, spoke: Place) -> Result<()> {
    lab.wait_link(spoke, "the link that was added did not come up", |link| link.state == "active")?;
    lab.wait_status(spoke, "its spoke made no new keys", is_active)?;
    passes(lab, spoke)
}

fn is_active(status: &Status) -> bool {
    status.state == "active"
}

#[test]
fn over_ipv6_a_router_of_two_workers_has_two_spokes_and_bad_files_change_nothing() -> Result<()> {
    let lab = HubLab::up("ehubip", Plan { spokes: 2, ipv6: true, mode: "ip", workers: 2 })?;
    // A packet whose next hop on the plain side is not known yet has it asked for, and ends there.
    for spoke in [1, 2] {
        for traffic in both_ways(&lab, spoke)? {
            wait_for("no traffic passed", PATIENCE, || Ok((traffic.received() > 0).then_some(())))?;
            traffic.finish()?;
        }
    }
    let traffic = [1, 2].map(|spoke| both_ways(&lab, spoke));
    // The same link twice, then no link that runs, then none at all.
    for (spokes, why) in [(&[1, 1][..], "have one link name"), (&[3], "this is"), (&[], "link is missing")] {
        lab.configure_hub(spokes)?;
        let refused = lab.reload_hub().err().context("it was taken")?;
        ensure!(format!("{refused:#}").contains(why), "{refused:#}");
    }
    lab.configure_hub(&[2, 1])?;
    let said = lab.reload_hub()?;
    ensure!(said.contains("links are asked in this order: hub-s2, hub-s1"), "{said}");
    for traffic in traffic {
        for traffic in traffic? {
            wait_for("no traffic passed", PATIENCE, || Ok((traffic.received() > 50).then_some(())))?;
            // Where a worker waits for a core for long, a flow that another one owns from the next epoch on may overtake itself.
            complete(traffic, 0)?;
        }
    }
    let status = lab.settled(0)?;
    let order: Vec<&str> = status.links.iter().map(|link| &*link.link).collect();
    ensure!(order == ["hub-s2", "hub-s1"], "{order:?}");
    println!("handed over: {}", status.counters.tallies["handed_over"]);
    ensure!(
        dropped(&status, "no_link") == 0 && dropped(&status, "policy_inbound") == 0,
        "{:?}",
        status.counters
    );
    renamed(&lab)?;
    lab.finish()
}

/// A link that goes and one that comes in the same reload may have one peer address.
fn renamed(lab: &HubLab) -> Result<()> {
    lab.configure_hub_changed(&[2, 1], |text| text.replacen("hub-s2", "hub-other", 1))?;
    let said = lab.reload_hub()?;
    ensure!(said.contains("- link hub-s2") && said.contains("+ link hub-other"), "{said}");
    lab.configure_hub(&[2, 1])?;
    lab.reload_hub()?;
    comes_up(lab, 2)
}

#[test]
fn a_peer_of_other_terms_and_a_silent_key_server_are_their_links_own_trouble() -> Result<()> {
    let silent = r#"kme = { url = "https://10.88.0.100:9", ca = "kme-ca.pem", cert = "sae-hub.pem", key = "sae-hub.key", startup = "1s" }"#;
    let change = |place: Place, text: String| match place {
        0 => text.replacen("sae = \"sae-s3\"", &format!("sae = \"sae-s3\"\n{silent}"), 1),
        2 => text.replacen("[keys]", "[keys]\ncombine = \"qkd\"", 1),
        _ => text,
    };
    let plan = Plan { spokes: 3, ipv6: false, mode: "ethernet", workers: 1 };
    let lab = HubLab::up_changed("ehubill", plan, change, &[1])?;
    lab.wait_link(1, "the good link did not come up", |link| link.state == "active")?;
    let traffic = both_ways(&lab, 1)?;
    let told = |why: &str| {
        let failure = format!("the hub did not say: {why}");
        wait_for(&failure, PATIENCE, || {
            let log = lab.log(0);
            let lines = log.lines().filter(|line| line.contains(why) && line.contains("it is tried again"));
            Ok((lines.count() > 0).then_some(()))
        })
    };
    told("name=\"hub-s2\"")?;
    told("name=\"hub-s3\"")?;
    let rotated = |link: &LinkStatus| link.tx.switches >= 3;
    lab.wait_link(1, "the good link did not rotate", rotated)?;
    traffic.into_iter().try_for_each(|traffic| whole(traffic, 1))?;
    let status = lab.settled(0)?;
    let states: Vec<&str> = status.links.iter().map(|link| &*link.state).collect();
    ensure!(states == ["active", "waiting", "waiting"] && status.state == "waiting", "{states:?}");
    ensure!(link_to(&status, 3).is_some_and(|link| link.keys.trouble.is_some()), "{:?}", status.links);
    let page = lab.page(0)?;
    ensure!(page.contains("hub-s1: active") && page.contains("hub-s2: waiting"), "{page}");
    lab.finish()
}

fn both_ways(lab: &HubLab, spoke: Place) -> Result<[Traffic; 2]> {
    Ok([lab.traffic(spoke, true, RATE)?, lab.traffic(spoke, false, RATE)?])
}

/// Traffic passes both ways, and nothing is lost.
fn passes(lab: &HubLab, spoke: Place) -> Result<()> {
    let traffic = both_ways(lab, spoke)?;
    pause(Duration::from_secs(1))?;
    traffic.into_iter().try_for_each(|traffic| complete(traffic, spoke).map(drop))
}

/// All of it arrived, once, and each flow's in order.
fn whole(traffic: Traffic, spoke: Place) -> Result<()> {
    let passed = complete(traffic, spoke)?;
    ensure!(passed.in_order(), "spoke {spoke}: out of order");
    Ok(())
}

/// All of it arrived, once.
fn complete(traffic: Traffic, spoke: Place) -> Result<Passed> {
    let passed = traffic.finish()?;
    let (lost, sent) = (passed.lost(), passed.sent.len());
    ensure!(lost.is_empty() && sent > 20, "spoke {spoke}: lost {lost:?} of {sent}");
    ensure!(passed.duplicates() == 0, "spoke {spoke}: {} of {sent} came twice", passed.duplicates());
    Ok(passed)
}
