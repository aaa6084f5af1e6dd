//! Several links in one file: each of `[[peers]]`, with what it does not say taken from the rest of the file, is checked like a
//! file of one link; then all are checked beside each other.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::{Table, Value};

use super::feed::{RawKeyFiles, RawKmes};
use super::policy::RawRule;
use super::raw::{Raw, demand};
use super::{Config, LinkConfig, MAX_LINKS};
use crate::policy::Action;

/// A peer as it is typed. What of it is used is read from the table, so that its own settings and those of the file meet as text.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "it says where in the file a mistake is")]
pub(super) struct RawPeer {
    link: String,
    sae: String,
    address: std::net::IpAddr,
    next_hop: Option<std::net::IpAddr>,
    channel_name: Option<String>,
    channel_fingerprint: Option<String>,
    flows: Option<u32>,
    #[serde(default)]
    kme: RawKmes,
    key_files: Option<RawKeyFiles>,
    keys: Option<Table>,
    #[serde(default)]
    policy: Vec<RawRule>,
}

/// Section and setting of a file of one link, and the setting of a peer that stands for it.
const NAMES: [(&str, &str, &str); 6] = [
    ("", "link", "link"),
    ("site", "peer_sae", "sae"),
    ("cipher", "peer", "address"),
    ("cipher", "next_hop", "next_hop"),
    ("channel", "peer_name", "channel_name"),
    ("channel", "peer_fingerprint", "channel_fingerprint"),
];
/// The same, of what the file can say for all peers.
const FLOWS: (&str, &str, &str) = ("worker", "flows", "flows");

/// The configuration of a file with `[[peers]]`.
pub(super) fn check_all(file: Table, folder: &Path) -> Result<Config, String> {
    let mut shared = file;
    let peers: Vec<Table> = tables(shared.remove("peers"));
    for (section, key, peers_key) in NAMES {
        let set = section_of(&mut shared, section).is_some_and(|section| section.contains_key(key));
        let name = dotted(section, key);
        demand(
            !set,
            &format!("{name} is set beside [[peers]]: write it as {peers_key} of the peer it is of"),
        )?;
    }
    demand(peers.len() <= MAX_LINKS, &format!("[[peers]] are {}: {MAX_LINKS} at the most", peers.len()))?;
    check_actions(&shared, "policy", Action::Protect, "stands below its peer, as [[peers.policy]]")?;
    let checked: Vec<Result<Config, String>> =
        peers.iter().map(|peer| check_peer(&shared, peer, folder)).collect();
    let mut problems = checked.iter().map(|one| one.as_ref().err());
    if let Some(Some(first)) = problems.next()
        && problems.all(|problem| problem == Some(first))
    {
        // It is wrong for all, so it is no peer's own.
        return Err(first.clone());
    }
    let mut links = Vec::new();
    let mut site = None;
    for ((number, peer), checked) in peers.iter().enumerate().zip(checked) {
        let config = checked.map_err(|problem| format!("{}: {}", called(number, peer), reworded(problem)))?;
        links.extend(config.links.iter().cloned().map(|link| LinkConfig { typed: settings(peer), ..link }));
        site.get_or_insert(config);
    }
    let site = site.ok_or("[[peers]] is empty: name a peer")?;
    check_together(&links)?;
    shared.remove("policy");
    Ok(Config { links, typed: shared, ..site })
}

/// The configuration of a file of one link, with what is typed told apart: what is the link's, as if it were a peer, and the rest.
pub(super) fn apart(file: Table, config: Config) -> Result<Config, String> {
    let mut shared = file;
    shared.remove("policy");
    let mut typed = Table::new();
    for (section, key, peers_key) in NAMES {
        let taken = section_of(&mut shared, section).and_then(|section| section.remove(key));
        typed.extend(taken.map(|value| (peers_key.to_string(), value)));
    }
    let links = config.links.into_iter().map(|link| LinkConfig { typed: typed.clone(), ..link }).collect();
    Ok(Config { links, typed: shared, ..config })
}

/// Names of settings that differ, such as "worker.flows", sorted.
pub(super) fn changes(ours: &Table, theirs: &Table) -> Vec<String> {
    let flat = |table: &Table| -> BTreeMap<String, Value> {
        let sections = table.iter().flat_map(|(name, value)| match value {
            Value::Table(section) => {
                section.iter().map(|(key, value)| (dotted(name, key), value.clone())).collect()
            }
            value => vec![(name.clone(), value.clone())],
        });
        sections.collect()
    };
    let (ours, theirs) = (flat(ours), flat(theirs));
    let names: BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
    names.into_iter().filter(|name| ours.get(*name) != theirs.get(*name)).cloned().collect()
}

impl LinkConfig {
    /// Its settings besides the policy that are not as they are in `other`, as they are called in `[[peers]]`, sorted.
    pub fn changed_settings(&self, other: &LinkConfig) -> Vec<String> {
        changes(&self.typed, &other.typed)
    }
}

/// Checks the file that a peer's settings and those of the whole file make.
fn check_peer(shared: &Table, peer: &Table, folder: &Path) -> Result<Config, String> {
    check_actions(peer, "policy", Action::Bypass, "is the whole site's: put it into [[policy]]")?;
    let mut file = shared.clone();
    for (section, key, peers_key) in NAMES.into_iter().chain([FLOWS]) {
        let Some(value) = peer.get(peers_key) else { continue };
        let into = if section.is_empty() { Some(&mut file) } else { table_in(&mut file, section) };
        into.map(|into| into.insert(key.to_string(), value.clone()));
    }
    if peer.contains_key("kme") || peer.contains_key("key_files") {
        for name in ["kme", "key_files"] {
            file.remove(name);
            file.extend(peer.get(name).map(|value| (name.to_string(), value.clone())));
        }
    }
    if let (Some(Value::Table(own)), Some(keys)) = (peer.get("keys"), table_in(&mut file, "keys")) {
        keys.extend(own.clone());
    }
    let rules = match peer.get("policy") {
        Some(Value::Array(rules)) => rules.clone(),
        _ => vec![Value::Table(Table::from_iter([("action".to_string(), "protect".into())]))],
    };
    let site_rules = shared.get("policy").and_then(Value::as_array).cloned().unwrap_or_default();
    file.insert("policy".into(), Value::Array([site_rules, rules].concat()));
    let default_control = {
        let sae = section_of(&mut file, "site").and_then(|site| site.get("sae")).and_then(Value::as_str);
        PathBuf::from(format!("/run/qhaul/{}.sock", sae.unwrap_or_default()))
    };
    let named = section_of(&mut file, "site").is_some_and(|site| site.contains_key("control"));
    let raw = Raw::deserialize(file).map_err(|error| error.message().replace('\n', ", "))?;
    let config = raw.check(folder)?;
    Ok(if named { config } else { Config { control: default_control, ..config } })
}

/// What no link can see by itself.
fn check_together(links: &[LinkConfig]) -> Result<(), String> {
    for (at, link) in links.iter().enumerate() {
        for (before, other) in links[..at].iter().enumerate() {
            let both =
                format!("peers {} (\"{}\") and {} (\"{}\")", before + 1, other.name, at + 1, link.name);
            demand(other.name != link.name, &format!("{both} have one link name: give each its own"))?;
            let address = other.ends.peer() != link.ends.peer();
            demand(address, &format!("{both} have one address: each site has an encryptor of its own"))?;
            let sae = other.peer_sae != link.peer_sae;
            demand(sae, &format!("{both} have one sae: each site has an SAE of its own"))?;
        }
        let everything = |link: &LinkConfig| link.policy.protects_whatever_comes();
        if let (true, Some(next)) = (everything(link), links.get(at + 1)) {
            return Err(format!(
                "peers {} (\"{}\") protects whatever comes, so that nothing is left for \"{}\": give it [[peers.policy]] rules \
                 that say what is its own, such as destination = \"10.1.0.0/16\" or vlan = 101, or put it last",
                at + 1,
                link.name,
                next.name
            ));
        }
    }
    Ok(())
}

/// Refuses rules of an action that has no place here; `remedy` says where it has.
fn check_actions(table: &Table, key: &str, misplaced: Action, remedy: &str) -> Result<(), String> {
    let name = if misplaced == Action::Bypass { "bypass" } else { "protect" };
    let rules = table.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    let at = rules.iter().position(|rule| rule.get("action").and_then(Value::as_str) == Some(name));
    match at {
        Some(at) => Err(format!("policy rule {}: beside [[peers]] a {name} rule {remedy}", at + 1)),
        None => Ok(()),
    }
}

/// The names that somebody who writes `[[peers]]` knows.
fn reworded(problem: String) -> String {
    NAMES
        .into_iter()
        .chain([FLOWS])
        .filter(|(section, ..)| !section.is_empty())
        .fold(problem, |problem, (section, key, peers_key)| problem.replace(&dotted(section, key), peers_key))
}

fn called(number: usize, peer: &Table) -> String {
    let name = peer.get("link").and_then(Value::as_str).unwrap_or_default();
    format!("peers {} (\"{name}\")", number + 1)
}

fn settings(peer: &Table) -> Table {
    let mut settings = peer.clone();
    settings.remove("policy");
    settings
}

fn tables(value: Option<Value>) -> Vec<Table> {
    let Some(Value::Array(values)) = value else { return Vec::new() };
    values.into_iter().filter_map(|value| value.try_into().ok()).collect()
}

/// A section that is there; "" for the file itself.
fn section_of<'t>(file: &'t mut Table, section: &str) -> Option<&'t mut Table> {
    match section {
        "" => Some(file),
        section => file.get_mut(section).and_then(Value::as_table_mut),
    }
}

/// A section, made if it is not there.
fn table_in<'t>(file: &'t mut Table, section: &str) -> Option<&'t mut Table> {
    file.entry(section).or_insert_with(|| Value::Table(Table::new())).as_table_mut()
}

fn dotted(section: &str, key: &str) -> String {
    if section.is_empty() { key.to_string() } else { format!("{section}.{key}") }
}

#[cfg(test)]
#[path = "peers_tests.rs"]
mod tests;
