//! What each link of a site has for itself.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use qhaul_keyfeed::SaeId;

use super::{Config, Feed};
use crate::flows::FlowLimits;
use crate::keys::Combine;
use crate::link::IdentityFiles;
use crate::plan::PlanInput;
use crate::policy::Policy;
use crate::replay::WindowSize;
use crate::wire::Ends;

/// A link, checked in itself.
#[derive(Clone, Debug)]
pub struct LinkConfig {
    /// Its name, the same at both ends.
    pub name: String,
    /// The peer's SAE ID.
    pub peer_sae: SaeId,
    /// Our address on the backhaul, and the peer's.
    pub ends: Ends,
    /// Whether ours is the end that listens on the link channel: the one with the lesser SAE ID, so that the two sites never both
    /// wait or both call.
    pub listens: bool,
    /// The router towards the peer, if it is not to be taken from the routes.
    pub next_hop: Option<IpAddr>,
    /// Certificates of the link channel.
    pub channel: IdentityFiles,
    /// Where keys come from, unless `combine` needs none.
    pub feed: Option<Feed>,
    /// What epoch secrets are made of.
    pub combine: Combine,
    /// The pre-shared key's file, if `combine` needs one.
    pub psk: Option<PathBuf>,
    /// Age at which an epoch is replaced.
    pub rotate: Duration,
    /// Soft and hard limits of a flow's key.
    pub limits: FlowLimits,
    /// How long the receiver keeps an epoch that was left.
    pub grace: Duration,
    /// Age at which an epoch is no longer used.
    pub hard_limit: Duration,
    /// Keys held ahead.
    pub pool: usize,
    /// Flows per direction and epoch at the most.
    pub flows: u32,
    /// How many sequence numbers of a flow are told apart.
    pub replay_window: WindowSize,
    /// What may cross, and how. With several links, each protects what its own rules mean and none in front of it takes.
    pub policy: Policy,
    /// Its settings as typed, the policy left out.
    pub typed: toml::Table,
}

impl LinkConfig {
    /// What `qhaul plan` starts from: this link alone, of which the key server's rate is not known.
    pub fn plan_input(&self) -> PlanInput {
        PlanInput {
            rotate: self.rotate,
            hard_limit: self.hard_limit,
            links: NonZeroU32::MIN,
            hops: NonZeroU32::MIN,
            rate: None,
            pool: self.pool,
            stored: None,
            outage: None,
        }
    }

    /// The kind of key source that both sites must share.
    pub fn key_source(&self) -> &'static str {
        self.feed.as_ref().map_or("none", |feed| feed.kind)
    }
}

impl Config {
    /// `link "NAME": ` in front of what is said of one of several links, and nothing where there is but one.
    pub fn about(&self, link: &LinkConfig) -> String {
        if self.links.len() > 1 { format!("link \"{}\": ", link.name) } else { String::new() }
    }
}
