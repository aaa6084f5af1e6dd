//! Attaching at a veth pair in a network namespace of the test's own: replaced, refused, detached. Needs root.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use libbpf_rs::{ObjectBuilder, Xdp, XdpFlags};
use nix::sched::{CloneFlags, unshare};
use qhaul_ebpf::{AttachMode, Buffers, CipherPeer, CipherProgram, CipherSettings, PlainProgram};

const SETTINGS: CipherSettings = CipherSettings {
    own: std::net::IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 1)),
    esp_port: std::num::NonZeroU16::new(4500),
    channel_port: 4600,
};

#[test]
fn a_stale_program_is_replaced_and_only_the_owner_detaches() {
    in_namespace(|| {
        for mode in [AttachMode::Native, AttachMode::Generic] {
            let stale = PlainProgram::attach("near", mode, Buffers::One).unwrap();
            assert_eq!(attached("near"), Some(stale.id()));
            let fresh = CipherProgram::attach("near", mode, Buffers::One, &SETTINGS, &[]).unwrap();
            assert_ne!(stale.id(), fresh.id());
            assert_eq!(attached("near"), Some(fresh.id()), "the new program is in place");
            drop(stale);
            assert_eq!(attached("near"), Some(fresh.id()), "the old owner leaves the new program alone");
            drop(fresh);
            assert_eq!(attached("near"), None, "the owner detaches its own");
        }
    });
}

#[test]
fn a_stale_program_of_the_other_mode_is_replaced() {
    in_namespace(|| {
        let generic = PlainProgram::attach("near", AttachMode::Generic, Buffers::One).unwrap();
        let native = PlainProgram::attach("near", AttachMode::Native, Buffers::One).unwrap();
        assert_eq!(attached("near"), Some(native.id()));
        drop(native);
        drop(generic);
        assert_eq!(attached("near"), None);
    });
}

#[test]
fn a_killed_process_leaves_a_program_that_drops_and_that_the_next_start_replaces() {
    in_namespace(|| {
        // What SIGKILL does: the program stays, no destructor runs, the sockets are gone.
        let killed = PlainProgram::attach("near", AttachMode::Native, Buffers::One).unwrap();
        let id = killed.id();
        std::mem::forget(killed);
        assert_eq!(attached("near"), Some(id));
        let next = PlainProgram::attach("near", AttachMode::Native, Buffers::One).unwrap();
        assert_ne!(next.id(), id);
        drop(next);
        assert_eq!(attached("near"), None);
    });
}

#[test]
fn a_foreign_program_is_refused_by_its_id_and_stays() {
    in_namespace(|| {
        let folder = tempfile::tempdir().unwrap();
        let object = foreign_object(folder.path());
        let loaded = ObjectBuilder::default().open_file(&object).unwrap().load().unwrap();
        let program = loaded.progs().next().unwrap();
        let ifindex = nix::net::if_::if_nametoindex("near").unwrap().cast_signed();
        let xdp = Xdp::new(std::os::fd::AsFd::as_fd(&program));
        xdp.attach(ifindex, XdpFlags::DRV_MODE).unwrap();
        let id = attached("near").unwrap();

        for mode in [AttachMode::Native, AttachMode::Generic] {
            let refused = PlainProgram::attach("near", mode, Buffers::One).unwrap_err().to_string();
            assert!(refused.contains(&format!("XDP program {id} (somebodys)")), "{refused}");
            assert!(refused.ends_with("ip link set dev near xdpdrv off"), "{refused}");
        }
        assert_eq!(attached("near"), Some(id), "the foreign program is untouched");

        run("ip", &["link", "set", "dev", "near", "xdpdrv", "off"]);
        PlainProgram::attach("near", AttachMode::Native, Buffers::One)
            .expect("the remedy of the message helps");
    });
}

#[test]
fn refusals_of_the_kernel_name_the_cause_and_the_remedy() {
    in_namespace(|| {
        let missing =
            PlainProgram::attach("nowhere", AttachMode::Native, Buffers::One).unwrap_err().to_string();
        assert!(missing.starts_with("nowhere: no such interface"), "{missing}");

        let native = PlainProgram::attach("lo", AttachMode::Native, Buffers::One).unwrap_err().to_string();
        assert!(native.contains("no native XDP") && native.contains("generic"), "{native}");

        run("ip", &["link", "set", "near", "mtu", "9000"]);
        run("ip", &["link", "set", "far", "mtu", "9000"]);
        let mtu = PlainProgram::attach("near", AttachMode::Native, Buffers::One).unwrap_err().to_string();
        assert!(mtu.contains("MTU is too large"), "{mtu}");

        veth("few", 1, "many", 4);
        let queues = PlainProgram::attach("few", AttachMode::Native, Buffers::One).unwrap_err().to_string();
        assert!(queues.contains("numrxqueues"), "{queues}");
        for text in [missing, native, mtu, queues] {
            assert_eq!(text.lines().count(), 1, "{text}");
        }
    });
}

#[test]
fn counters_count_real_frames() {
    in_namespace(|| {
        let plain = PlainProgram::attach("near", AttachMode::Native, Buffers::One).unwrap();
        let before = plain.counters().unwrap();
        // No socket on any queue: whatever the far end says dies here, and the kernel cannot answer.
        run("ip", &["address", "add", "192.0.2.1/24", "dev", "far"]);
        run("ip", &["neighbour", "add", "192.0.2.2", "lladdr", "02:00:00:00:00:02", "dev", "far"]);
        let ping =
            Command::new("ping").args(["-c", "3", "-i", "0.01", "-W", "0.1", "192.0.2.2"]).output().unwrap();
        assert!(!ping.status.success());
        let after = plain.counters().unwrap();
        assert!(after.received >= before.received + 3, "{after:?}");
        assert_eq!((after.received, after.to_socket), (after.no_socket, 0));
    });
}

#[test]
fn a_peer_that_calls_at_once_is_let_in() {
    in_namespace(|| {
        run("ip", &["address", "add", "198.51.100.2/24", "dev", "far"]);
        run("ip", &["neighbour", "add", "198.51.100.1", "lladdr", "02:00:00:00:00:02", "dev", "far"]);
        let attach = |peers: &[CipherPeer]| {
            CipherProgram::attach("near", AttachMode::Native, Buffers::One, &SETTINGS, peers).unwrap()
        };
        let call = |program: &CipherProgram| {
            let (own, patience) =
                (SocketAddr::new(SETTINGS.own, SETTINGS.channel_port), Duration::from_millis(100));
            TcpStream::connect_timeout(&own, patience).expect_err("nobody listens");
            let counted = program.counters().unwrap();
            (counted.to_kernel_channel > 0, counted.foreign_source > 0)
        };
        let peer = CipherPeer { address: "198.51.100.2".parse().unwrap(), number: 3, calls: true };
        assert_eq!(call(&attach(&[peer])), (true, false));
        assert_eq!(call(&attach(&[])), (false, true));
    });
}

/// Runs `test` on a thread with a network namespace of its own, in which `near` and `far` are the ends of a veth pair. The
/// namespace and all in it go with the thread.
fn in_namespace(test: impl FnOnce() + Send + 'static) {
    assert!(nix::unistd::geteuid().is_root(), "this test makes a network namespace: run it as root");
    let inside = thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        veth("near", 2, "far", 2);
        test();
    });
    if let Err(panic) = inside.join() {
        std::panic::resume_unwind(panic);
    }
}

/// A veth pair, up, whose ends have so many queues in each direction.
fn veth(one: &str, queues: u32, other: &str, other_queues: u32) {
    let pair = format!(
        "link add {one} numrxqueues {queues} numtxqueues {queues} \
         type veth peer name {other} numrxqueues {other_queues} numtxqueues {other_queues}"
    );
    run("ip", &pair.split(' ').collect::<Vec<_>>());
    run("ip", &["link", "set", one, "up"]);
    run("ip", &["link", "set", other, "up"]);
}

fn run(program: &str, arguments: &[&str]) {
    let run = Command::new(program).args(arguments).output().unwrap_or_else(|e| panic!("{program}: {e}"));
    assert!(run.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&run.stderr));
}

/// The id of the XDP program at `interface`, as `ip` sees it.
fn attached(interface: &str) -> Option<u32> {
    let shown = Command::new("ip").args(["-details", "link", "show", "dev", interface]).output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    let (_, after) = shown.split_once("prog/xdp id ")?;
    after.split(' ').next()?.parse().ok()
}

/// An XDP program that is not ours.
fn foreign_object(folder: &Path) -> std::path::PathBuf {
    let (source, object) = (folder.join("foreign.c"), folder.join("foreign.o"));
    let text = "__attribute__((section(\"xdp\"), used)) int somebodys(void *ctx) { return 2; }";
    std::fs::write(&source, text).unwrap();
    let paths = [source.to_str().unwrap(), object.to_str().unwrap()];
    run("clang", &["-O2", "-g", "-target", "bpf", "-c", paths[0], "-o", paths[1]]);
    object
}
