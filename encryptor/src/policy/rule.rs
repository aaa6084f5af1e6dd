//! One rule: all that it asks must hold.

use std::fmt;

use super::condition::Ranges;
use super::{ClearTypes, Condition, Direction, Match, Preset, UNTAGGED};
use crate::classify::Granularity;
use crate::wire::{EtherType, L2, L3, MacAddr, Seen, Session, Transport, View};

/// What a rule does to the frames that it means.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Encrypt, or demand that it was.
    Protect,
    /// Let through in clear.
    Bypass,
    /// Drop.
    Discard,
}

/// A rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rule {
    /// What people call it; may be empty.
    pub name: String,
    /// What it does.
    pub action: Action,
    /// What it asks; nothing: it means every frame.
    pub conditions: Vec<Condition>,
    /// How finely the flows of a protect rule are told apart.
    pub granularity: Granularity,
}

impl Rule {
    /// The built-in rule.
    pub(super) fn protect_everything() -> Rule {
        let (name, granularity) = (String::new(), Granularity::FiveTuple);
        Rule { name, action: Action::Protect, conditions: Vec::new(), granularity }
    }

    /// How surely it means a frame.
    pub fn matches(&self, view: &View, direction: Direction) -> Match {
        let mut least = Match::Yes;
        for condition in &self.conditions {
            least = least.min(condition.test(view, direction));
            if least == Match::No {
                break;
            }
        }
        least
    }

    /// The types behind the addresses that frames it means may have.
    pub(super) fn outer_types(&self) -> ClearTypes {
        let tags = EtherType::TAGS.map(|tag| tag.0);
        let mut types = ClearTypes::Any;
        let mut tagged = None;
        for condition in &self.conditions {
            match condition {
                Condition::Vlan(ranges) => tagged = Some(!ranges.has(UNTAGGED)),
                Condition::Ethertype(ranges) => types = listed(ranges),
                Condition::Frame(presets) => {
                    let all = presets.iter().flat_map(|preset| preset.outer_types());
                    return ClearTypes::These(all.copied().collect());
                }
                _ => {}
            }
        }
        match (tagged, types) {
            (Some(true), _) => ClearTypes::These(tags.to_vec()),
            (_, ClearTypes::These(types)) => ClearTypes::These(types.into_iter().chain(tags).collect()),
            (_, ClearTypes::Any) => ClearTypes::Any,
        }
    }

    /// Whether it lets all PTP through in clear.
    pub(super) fn bypasses_all_ptp(&self) -> bool {
        let asks_for_ptp = |presets: &[Preset]| presets.contains(&Preset::Ptp);
        self.action == Action::Bypass
            && matches!(&self.conditions[..], [Condition::Frame(presets)] if asks_for_ptp(presets))
    }

    /// Whether it surely means no untagged PTP frame, whoever its parties are.
    pub(super) fn leaves_ptp_alone(&self) -> bool {
        ptp_views().iter().all(|view| {
            let excludes = |condition: &Condition| {
                !condition.is_about_parties() && condition.test(view, Direction::Outbound) == Match::No
            };
            self.conditions.iter().any(excludes)
        })
    }
}

/// The single types among `ranges`; a wide range counts as any.
fn listed(ranges: &Ranges) -> ClearTypes {
    let mut types = Vec::new();
    for &(from, to) in &ranges.0 {
        match (from, to) {
            (_, ..0x0600) => types.push(0),
            _ if from == to => types.push(from as u16),
            _ => return ClearTypes::Any,
        }
    }
    ClearTypes::These(types)
}

/// PTP as it may come: over Ethernet, IPv4 and IPv6.
fn ptp_views() -> [View; 3] {
    [0x88f7, 0x0800, 0x86dd].map(|ethertype| {
        let transport = Transport::Ports(319, 319);
        let l3 = L3 { source: [0; 16], destination: [0; 16], traffic_class: 0, protocol: 17, transport };
        View {
            destination: MacAddr([0; 6]),
            l2: L2 { vlans: [0; 2], tags: 0, ethertype: EtherType(ethertype), payload: 14 },
            lead: [0; 2],
            labels: Seen::Absent,
            network: if ethertype == 0x88f7 { Seen::Absent } else { Seen::Is(l3) },
            guessed: false,
            session: Session::None,
        }
    })
}

impl fmt::Display for Rule {
    /// On one line, such as `users: protect protocol=17 port=2152 by teid`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.name.is_empty() {
            write!(f, "{}: ", self.name)?;
        }
        f.write_str(match self.action {
            Action::Protect => "protect",
            Action::Bypass => "bypass",
            Action::Discard => "discard",
        })?;
        if self.conditions.is_empty() {
            f.write_str(" everything")?;
        }
        for condition in &self.conditions {
            write!(f, " {condition}")?;
        }
        match self.action {
            Action::Protect => write!(f, " by {}", self.granularity.name()),
            Action::Bypass | Action::Discard => Ok(()),
        }
    }
}
