//! `lab up` and `lab down`: a lab that stays, to be tried by hand.

use super::error::Result;
use super::plan::{Node, Side, VLAN};
use super::progress::Progress;
use super::sites::Sites;
use super::wait::catch_signals;
use super::{Options, removal};

/// Brings the lab up, leaves it standing, and prints what to try.
pub fn up(options: &Options) -> Result<()> {
    catch_signals()?;
    let progress = Progress::start();
    progress.say("making hosts, encryptors, key servers and the backhaul as network namespaces");
    let mut sites = Sites::prepare(options)?;
    progress.say("starting both key servers and both encryptors");
    if let Err(error) = sites.start_all() {
        let dir = sites.keep_files();
        println!("the logs are in {}", dir.display());
        return Err(error);
    }
    progress.say("both encryptors are active: the lab stands");
    print!("{}", things_to_try(options, &sites));
    sites.leave_standing()
}

/// Removes the lab of this prefix with all its processes, in whatever state it is.
pub fn down(options: &Options) -> Result<()> {
    let (processes, namespaces) = removal::remove(&options.prefix)?;
    match namespaces {
        0 => println!("no lab named `{}` was up", options.prefix),
        _ => println!("removed the lab `{}`: {processes} processes, {namespaces} namespaces", options.prefix),
    }
    Ok(())
}

fn things_to_try(options: &Options, sites: &Sites) -> String {
    let prefix = &options.prefix;
    let host_a = Node::Host(Side::A).namespace(prefix);
    let backhaul = Node::Backhaul.namespace(prefix);
    let gateway_a = Node::Gateway(Side::A).namespace(prefix);
    let (v4, v6, vlan) = (Side::B.host_v4(), Side::B.host_v6(), Side::B.vlan_v4());
    let (config, dir) = (sites.config_path(Side::A), sites.topology().dir().display());
    let (config, qhaul) = (config.display(), options.bin_dir.join("qhaul"));
    let qhaul = qhaul.display();
    format!(
        "
Try:
  ip netns exec {host_a} ping {v4}               host a to host b, through both encryptors
  ip netns exec {host_a} ping {v6}               the same over IPv6; {vlan} is on VLAN {VLAN}
  ip netns exec {backhaul} tcpdump -ni br0         what the eavesdropper sees meanwhile
  {qhaul} status --config {config}   state, epoch, flows and drops of encryptor a
  kill -9 $(ip netns pids {gateway_a})             crash encryptor a: the ping stops, nothing passes in clear
  ip netns exec {gateway_a} {qhaul} run --config {config}   start it again: the ping goes on under new keys
Logs and configurations: {dir}
Remove it all: {qhaul} lab down --prefix {prefix}
"
    )
}
