//! Whether this host can carry a configuration out: each finding is one line with its remedy.

use std::fs;
use std::net::IpAddr;

use nix::unistd::geteuid;

use crate::address::{self, Held};
use crate::aead;
use crate::config::{Config, LinkConfig, Payload};
use crate::datapath::{MAX_PLAIN_MTU, ONE_BUFFER_MTU, cipher_mtu_needed};
use crate::fit::Oversize;
use crate::keys::Psk;
use crate::link::ChannelIdentity;
use crate::netlink;
use crate::plan::Plan;
use crate::wake_latency::WakeLatency;
use crate::xsk::{Interface, knows_chains, offloads_on};

mod cores;

/// What IPv6 asks of every link (RFC 8200 section 5).
const IPV6_MTU: u32 = 1280;

/// Whether a finding forbids running.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Grade {
    /// Fine.
    Fine,
    /// It runs, but somebody should know.
    Warning,
    /// It does not run.
    Fault,
}

/// One finding.
#[derive(Clone, Debug)]
pub struct Finding {
    /// How bad it is.
    pub grade: Grade,
    /// Cause and remedy.
    pub line: String,
}

/// The ports as the host has them.
#[derive(Clone, Debug)]
pub struct Ports {
    /// The plain port.
    pub plain: Interface,
    /// The cipher port.
    pub cipher: Interface,
}

/// Looks at the host. The ports are there if both interfaces are.
pub fn host(config: &Config) -> (Vec<Finding>, Option<Ports>) {
    let mut findings = Findings::default();
    privileges(&mut findings);
    let ports = interfaces(config, &mut findings);
    if let Some(ports) = &ports {
        mtu(config, ports, &mut findings);
        large_frames(config, ports, &mut findings);
        offloads(config, &mut findings);
        cipher_address(config, &mut findings);
        if config.payload == Payload::Ip {
            router(config, ports, &mut findings);
        }
        leaks(config, &mut findings);
        queues(config, ports, &mut findings);
    }
    policy(config, &mut findings);
    cores::look(config, &mut findings);
    engine(config, &mut findings);
    wake_latency(config, &mut findings);
    for link in &config.links {
        if link.combine.needs_qkd() {
            let verdict = Plan::new(&link.plan_input()).verdict();
            findings.add(Grade::Fine, format!("{}{verdict}", config.about(link)));
        }
        certificates(link, &config.about(link), &mut findings);
    }
    (findings.0, ports)
}

#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, grade: Grade, line: String) {
        self.0.push(Finding { grade, line });
    }

    fn expect(&mut self, holds: bool, grade: Grade, fine: String, otherwise: String) {
        if holds { self.add(Grade::Fine, fine) } else { self.add(grade, otherwise) }
    }
}

/// The capabilities that XDP, AF_XDP and locked memory need, by their bit in /proc/self/status
/// (kernel: include/uapi/linux/capability.h).
const CAPABILITIES: [(&str, u32); 4] =
    [("CAP_NET_ADMIN", 12), ("CAP_NET_RAW", 13), ("CAP_IPC_LOCK", 14), ("CAP_BPF", 39)];

fn privileges(findings: &mut Findings) {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = effective.and_then(|text| u64::from_str_radix(text.trim(), 16).ok()).unwrap_or(0);
    let missing: Vec<&str> =
        CAPABILITIES.iter().filter(|(_, bit)| bits & (1 << bit) == 0).map(|(name, _)| *name).collect();
    let otherwise = format!(
        "no privileges: {} missing (user {}): run as root or give the binary these capabilities",
        missing.join(", "),
        geteuid()
    );
    findings.expect(missing.is_empty(), Grade::Fault, "privileges: all that is needed".into(), otherwise);
}

fn interfaces(config: &Config, findings: &mut Findings) -> Option<Ports> {
    let mut find = |setting: &str, name: &str| match Interface::find(name) {
        Ok(interface) => {
            let fine =
                format!("{setting} = \"{name}\": up, {} queue(s), MTU {}", interface.queues, interface.mtu);
            let down = format!("{setting} = \"{name}\" is down: `ip link set {name} up`");
            findings.expect(interface.up, Grade::Fault, fine, down);
            Some(interface)
        }
        Err(_) => {
            let line = format!(
                "{setting} = \"{name}\": no such interface here; `ip link` lists those that there are"
            );
            findings.add(Grade::Fault, line);
            None
        }
    };
    let (plain, cipher) = (find("plain.interface", &config.plain), find("cipher.interface", &config.cipher));
    Some(Ports { plain: plain?, cipher: cipher? })
}

fn engine(config: &Config, findings: &mut Findings) {
    match aead::choose(config.engine) {
        Ok(chosen) => findings.add(Grade::Fine, chosen.line),
        Err(error) => findings.add(Grade::Fault, error.to_string()),
    }
}

fn wake_latency(config: &Config, findings: &mut Findings) {
    let Some(latency) = config.wake_latency_us else { return };
    match WakeLatency::ask(latency) {
        Ok(_) => findings.add(
            Grade::Fine,
            format!(
                "worker.wake_latency_us = {latency}: holds for all cores of this machine while qhaul runs"
            ),
        ),
        Err(error) => findings.add(Grade::Fault, error.to_string()),
    }
}

fn mtu(config: &Config, ports: &Ports, findings: &mut Findings) {
    let (plain, cipher) = (ports.plain.mtu, ports.cipher.mtu);
    let shape = config.outer_shape();
    let (needed, least) =
        [plain, plain.min(IPV6_MTU)].map(|mtu| cipher_mtu_needed(config.payload, mtu, shape)).into();
    let remedy = format!("`ip link set {} mtu {needed}`, or lower the plain side's", config.cipher);
    if cipher >= needed {
        let line =
            format!("MTU: {plain} on the plain side fits {cipher} on the cipher side ({needed} needed)");
        findings.add(Grade::Fine, line);
    } else if cipher < least {
        let line = format!(
            "MTU too small for the overhead: {} has {cipher}, but {plain} on {} needs {needed}, and the {IPV6_MTU} bytes that \
             IPv6 asks for need {least}: {remedy}",
            config.cipher, config.plain
        );
        findings.add(Grade::Fault, line);
    } else {
        let what = match config.sizes.oversize {
            Oversize::Icmp => "are answered with ICMP where they may be, else dropped",
            Oversize::Fragment => "are fragmented or answered with ICMP",
            Oversize::Drop => "are dropped",
        };
        let line = format!(
            "MTU too small for the overhead: {} has {cipher}, but {plain} on {} needs {needed}: larger packets than fit {what} \
             (sizes.oversize); if the backhaul carries more, {remedy}",
            config.cipher, config.plain
        );
        findings.add(Grade::Warning, line);
    }
}

/// What frames of several buffers ask of the kernel, and how long they may be.
fn large_frames(config: &Config, ports: &Ports, findings: &mut Findings) {
    let (plain, cipher) = (ports.plain.mtu, ports.cipher.mtu);
    if plain > MAX_PLAIN_MTU {
        let line = format!(
            "MTU {plain} of {name} is above {MAX_PLAIN_MTU}, the most that is carried: \
             `ip link set {name} mtu {MAX_PLAIN_MTU}`",
            name = config.plain
        );
        findings.add(Grade::Fault, line);
    }
    for (name, mtu) in [(&config.plain, plain), (&config.cipher, cipher)] {
        if mtu > ONE_BUFFER_MTU && !knows_chains() {
            let line = format!(
                "MTU {mtu} of {name} is above {ONE_BUFFER_MTU}, the most that one XDP buffer holds, and this kernel's AF_XDP \
                 has no frames of several: `ip link set {name} mtu {ONE_BUFFER_MTU}`, or use Linux 6.6 or later"
            );
            findings.add(Grade::Fault, line);
        }
    }
}

fn offloads(config: &Config, findings: &mut Findings) {
    for name in [&config.plain, &config.cipher] {
        let on = offloads_on(name).unwrap_or_default();
        let names: Vec<&str> = on.iter().map(|offload| offload.name()).collect();
        if !names.is_empty() {
            let line =
                format!("offloads of {name}: {} are on; they are off while qhaul runs", names.join(", "));
            findings.add(Grade::Fine, line);
        }
    }
}

fn cipher_address(config: &Config, findings: &mut Findings) {
    let (name, address) = (&config.cipher, config.own);
    let held = address::settled(name, address);
    let line = match held {
        Held::Yes => format!("cipher.address = {address} is on {name}"),
        Held::No => format!(
            "cipher.address = {address} is not on {name}: `ip address add {address}/PREFIX dev {name}`"
        ),
        Held::Tentative => format!(
            "cipher.address = {address} on {name} is still checked for duplicates after {} s: wait, see that {name} has a \
             carrier, or add it with `nodad`",
            address::PATIENCE.as_secs()
        ),
        Held::Duplicate => format!(
            "cipher.address = {address} on {name} is used by another host of the network (duplicate address detection \
             failed): give one of them another address"
        ),
    };
    findings.add(if held == Held::Yes { Grade::Fine } else { Grade::Fault }, line);
}

/// In mode `ip` the plain side's hosts have this host as their router.
fn router(config: &Config, ports: &Ports, findings: &mut Findings) {
    let name = &config.plain;
    let own = netlink::addresses(ports.plain.index).unwrap_or_default();
    let routable = |entry: &&netlink::Address| match entry.address {
        IpAddr::V4(_) => true,
        IpAddr::V6(v6) => !v6.is_unicast_link_local(),
    };
    let shown: Vec<String> = own.iter().filter(routable).map(|entry| entry.address.to_string()).collect();
    let fine = format!("mode = \"ip\": the plain side's router is {}", shown.join(", "));
    let otherwise = format!(
        "mode = \"ip\" needs an address on {name}, which the plain side's hosts have as their router: \
         `ip address add ADDRESS/PREFIX dev {name}`"
    );
    findings.expect(!shown.is_empty(), Grade::Fault, fine, otherwise);
}

/// While qhaul runs, its program takes every frame of the plain port. When it was stopped, the kernel has the port:
/// then nothing else may carry clear frames across.
fn leaks(config: &Config, findings: &mut Findings) {
    for name in [&config.plain, &config.cipher] {
        let owned = fs::exists(format!("/sys/class/net/{name}/master")).unwrap_or(false);
        if owned {
            let line = format!(
                "{name} belongs to a bridge or bond, which would pass clear frames: `ip link set {name} nomaster`"
            );
            findings.add(Grade::Fault, line);
        }
    }
    for family in ["ipv4", "ipv6"] {
        let knob = format!("/proc/sys/net/{family}/conf/{}/forwarding", config.plain);
        if fs::read_to_string(&knob).is_ok_and(|value| value.trim() == "1") {
            // To a router's neighbours it is all the same who routes.
            let grade = if config.payload == Payload::Ip { Grade::Fault } else { Grade::Warning };
            let line = format!(
                "{family} forwarding is on for {}: once qhaul is stopped the kernel may route clear traffic; \
                 `sysctl net.{family}.conf.{}.forwarding=0`",
                config.plain, config.plain
            );
            findings.add(grade, line);
        }
    }
}

fn policy(config: &Config, findings: &mut Findings) {
    let warnings = config.policy_warnings();
    if warnings.is_empty() {
        let rules: usize = config.links.iter().map(|link| link.policy.rules().len()).sum();
        findings.add(Grade::Fine, format!("policy: {rules} rule(s), nothing crosses in clear"));
    }
    warnings.into_iter().for_each(|line| findings.add(Grade::Warning, line));
}

/// Each worker needs a queue of its own at both ports: an AF_XDP socket sends only on the queue that it is bound to.
fn queues(config: &Config, ports: &Ports, findings: &mut Findings) {
    for (name, queues) in [(&config.plain, ports.plain.queues), (&config.cipher, ports.cipher.queues)] {
        if (queues as usize) < config.cores.len() {
            let workers = config.cores.len();
            let line = format!(
                "worker.cores names {workers} cores, but {name} has {queues} queue(s): \
                 `ethtool -L {name} combined {workers}`, or name fewer cores"
            );
            findings.add(Grade::Fault, line);
        }
    }
}

/// `about`: the link, where there are several.
fn certificates(link: &LinkConfig, about: &str, findings: &mut Findings) {
    if let Some(path) = &link.psk {
        match Psk::load(path) {
            Ok(_) => findings.add(Grade::Fine, format!("{about}pre-shared key: 32 bytes, private")),
            Err(line) => findings.add(Grade::Fault, format!("{about}{line}")),
        }
    }
    match ChannelIdentity::load(&link.channel) {
        Ok(_) => findings.add(Grade::Fine, format!("{about}channel: certificate, key and CA fit")),
        Err(error) => findings.add(Grade::Fault, format!("{about}{error}")),
    }
}
