//! The rules as they are typed: `[[policy]]`, several times, in order.

use std::net::IpAddr;

use serde::Deserialize;

use super::raw::demand;
use crate::classify::Granularity;
use crate::policy::{Action, Condition, Policy, Prefix, Preset, Ranges, Rule, UNTAGGED};

/// Rules at the most: each frame may have to be held against all.
const MAX_RULES: usize = 256;
/// Values at the most in one setting of a rule.
const MAX_VALUES: usize = 64;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRule {
    name: Option<String>,
    action: Action,
    granularity: Option<Granularity>,
    frame: Option<OneOrMany<Preset>>,
    ethertype: Option<OneOrMany<Value>>,
    vlan: Option<OneOrMany<Value>>,
    inner_vlan: Option<OneOrMany<Value>>,
    mpls: Option<OneOrMany<Value>>,
    inner_mpls: Option<OneOrMany<Value>>,
    source: Option<OneOrMany<String>>,
    destination: Option<OneOrMany<String>>,
    protocol: Option<OneOrMany<Value>>,
    port: Option<OneOrMany<Value>>,
    source_port: Option<OneOrMany<Value>>,
    destination_port: Option<OneOrMany<Value>>,
    dscp: Option<OneOrMany<Value>>,
    teid: Option<OneOrMany<Value>>,
    qfi: Option<OneOrMany<Value>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

impl<T> OneOrMany<T> {
    fn into_vec(self) -> Vec<T> {
        match self {
            OneOrMany::One(one) => vec![one],
            OneOrMany::Many(many) => many,
        }
    }
}

/// A number, a range such as "100-199", or a name.
#[derive(Deserialize)]
#[serde(untagged)]
enum Value {
    Number(i64),
    Text(String),
}

/// What a setting's values may be.
struct Kind {
    setting: &'static str,
    most: u32,
    names: &'static [(&'static str, (u32, u32))],
}

const fn kind(setting: &'static str, most: u32) -> Kind {
    Kind { setting, most, names: &[] }
}

const fn one(number: u32) -> (u32, u32) {
    (number, number)
}

const ETHERTYPE: Kind = Kind {
    setting: "ethertype",
    most: 0xffff,
    names: &[
        ("ipv4", one(0x0800)),
        ("ipv6", one(0x86dd)),
        ("arp", one(0x0806)),
        ("mpls", (0x8847, 0x8848)),
        ("llc", (0, 0x05ff)),
    ],
};
const VLAN_NAMES: &[(&str, (u32, u32))] = &[("untagged", one(UNTAGGED))];
const VLAN: Kind = Kind { setting: "vlan", most: 4095, names: VLAN_NAMES };
const INNER_VLAN: Kind = Kind { setting: "inner_vlan", most: 4095, names: VLAN_NAMES };
const PROTOCOL: Kind = Kind {
    setting: "protocol",
    most: 255,
    names: &[
        ("icmp", one(1)),
        ("tcp", one(6)),
        ("udp", one(17)),
        ("gre", one(47)),
        ("esp", one(50)),
        ("icmpv6", one(58)),
        ("ospf", one(89)),
        ("sctp", one(132)),
    ],
};
const DSCP: Kind = Kind { setting: "dscp", most: 63, names: &[("ef", one(46)), ("default", one(0))] };

/// Checks all rules. `own`: the cipher port's address.
pub(super) fn policy(rules: Vec<RawRule>, own: IpAddr) -> Result<Policy, String> {
    demand(
        rules.len() <= MAX_RULES,
        &format!("policy has {} rules: it is {MAX_RULES} at the most", rules.len()),
    )?;
    let rules = rules.into_iter().enumerate().map(|(at, rule)| {
        let called = rule.name.as_deref().map(|name| format!(" ({name})")).unwrap_or_default();
        rule.check().map_err(|problem| format!("policy rule {}{called}: {problem}", at + 1))
    });
    Ok(Policy::new(rules.collect::<Result<_, _>>()?, Some(own)))
}

impl RawRule {
    fn check(self) -> Result<Rule, String> {
        let protects = self.action == Action::Protect;
        demand(
            protects || self.granularity.is_none(),
            "granularity is of keys: it goes with action = \"protect\" alone",
        )?;
        let name = self.name.unwrap_or_default();
        let printable = name.len() <= 64 && !name.chars().any(char::is_control);
        demand(printable, "name takes 64 characters at the most, on one line")?;
        let frame = self.frame.map(|presets| filled("frame", presets.into_vec()).map(Condition::Frame));
        let conditions = [
            frame,
            ranges(self.ethertype, &ETHERTYPE, Condition::Ethertype),
            ranges(self.vlan, &VLAN, Condition::Vlan),
            ranges(self.inner_vlan, &INNER_VLAN, Condition::InnerVlan),
            ranges(self.mpls, &kind("mpls", 0xf_ffff), Condition::Mpls),
            ranges(self.inner_mpls, &kind("inner_mpls", 0xf_ffff), Condition::InnerMpls),
            prefixes(self.source, "source", Condition::Source),
            prefixes(self.destination, "destination", Condition::Destination),
            ranges(self.protocol, &PROTOCOL, Condition::Protocol),
            ranges(self.port, &kind("port", 0xffff), Condition::Port),
            ranges(self.source_port, &kind("source_port", 0xffff), Condition::SourcePort),
            ranges(self.destination_port, &kind("destination_port", 0xffff), Condition::DestinationPort),
            ranges(self.dscp, &DSCP, Condition::Dscp),
            ranges(self.teid, &kind("teid", u32::MAX), Condition::Teid),
            ranges(self.qfi, &kind("qfi", 63), Condition::Qfi),
        ];
        let conditions: Vec<Condition> = conditions.into_iter().flatten().collect::<Result<_, _>>()?;
        demand(
            self.action != Action::Bypass || !conditions.is_empty(),
            "a bypass rule without a condition would send everything in clear: say what it is for",
        )?;
        let arp_alone = |condition: &Condition| matches!(condition, Condition::Ethertype(Ranges(list)) if list[..] == [one(0x0806)]);
        demand(
            self.action != Action::Bypass || !conditions.iter().any(arp_alone),
            "ARP cannot bypass: on the cipher port it is the encryptor's own",
        )?;
        Ok(Rule { name, action: self.action, conditions, granularity: self.granularity.unwrap_or_default() })
    }
}

type Checked = Option<Result<Condition, String>>;

fn filled<T>(setting: &str, values: Vec<T>) -> Result<Vec<T>, String> {
    let some = (1..=MAX_VALUES).contains(&values.len());
    demand(some, &format!("{setting} takes 1 to {MAX_VALUES} values; leave it out if it does not matter"))?;
    Ok(values)
}

fn ranges(values: Option<OneOrMany<Value>>, kind: &Kind, condition: fn(Ranges) -> Condition) -> Checked {
    let values = filled(kind.setting, values?.into_vec());
    let ranges = values.and_then(|values| values.iter().map(|value| kind.range(value)).collect());
    Some(ranges.map(|ranges| condition(Ranges(ranges))))
}

fn prefixes(
    values: Option<OneOrMany<String>>,
    setting: &str,
    condition: fn(Vec<Prefix>) -> Condition,
) -> Checked {
    let prefix = |text: &String| {
        parse_prefix(text).ok_or_else(|| {
            format!("{setting} = \"{text}\" is no prefix: write \"10.1.0.0/16\" or \"2001:db8::/32\"")
        })
    };
    let values = filled(setting, values?.into_vec());
    Some(values.and_then(|values| values.iter().map(prefix).collect()).map(condition))
}

/// An address alone is a prefix of its whole length.
fn parse_prefix(text: &str) -> Option<Prefix> {
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address.parse().ok()?, length.parse().ok()?),
        None => {
            let address: IpAddr = text.parse().ok()?;
            (address, if address.is_ipv4() { 32 } else { 128 })
        }
    };
    Prefix::new(address, length)
}

impl Kind {
    fn range(&self, value: &Value) -> Result<(u32, u32), String> {
        let found = match value {
            Value::Number(number) => u32::try_from(*number).ok().map(one),
            Value::Text(text) => match self.names.iter().find(|(name, _)| name == text) {
                Some((_, range)) => return Ok(*range),
                None => numbers(text),
            },
        };
        found.filter(|&(from, to)| from <= to && to <= self.most).ok_or_else(|| {
            let shown = match value {
                Value::Number(number) => number.to_string(),
                Value::Text(text) => format!("\"{text}\""),
            };
            let names: Vec<&str> = self.names.iter().map(|(name, _)| *name).collect();
            let names = if names.is_empty() { String::new() } else { format!(", or {}", names.join(", ")) };
            format!("{} = {shown}: it takes 0 to {}, a range such as \"1-9\"{names}", self.setting, self.most)
        })
    }
}

fn numbers(text: &str) -> Option<(u32, u32)> {
    match text.split_once('-') {
        Some((from, to)) => Some((number(from)?, number(to)?)),
        None => number(text).map(one),
    }
}

fn number(text: &str) -> Option<u32> {
    match text.trim().strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.trim().parse().ok(),
    }
}
