//! Ports at real queues: two veth pairs in a network namespace of the test's own. Needs root.

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use qhaul_ebpf::{AttachMode, Buffers, PlainProgram};
use std::os::fd::AsFd;

use crate::xsk::{BindMode, Error, Frame, HEADROOM, Interface, LiveMode, Port, PortConfig, Tuning, Umem};

const FRAMES: u64 = 20_000;
const QUEUES: u32 = 2;
const HEADER: usize = 20;

#[test]
fn every_frame_crosses_two_ports_of_one_umem() {
    in_namespace(|| {
        for (mode, queue) in [(AttachMode::Native, 0), (AttachMode::Native, 1), (AttachMode::Generic, 0)] {
            forward(mode, queue, Buffers::One, Tuning::default());
        }
    });
}

#[test]
fn frames_of_several_buffers_cross_like_others() {
    in_namespace(|| {
        ["a0", "a1", "b0", "b1"].into_iter().for_each(|end| run(&format!("ip link set {end} mtu 9300")));
        forward(AttachMode::Native, 0, Buffers::Several, Tuning::default());
        forward(AttachMode::Generic, 0, Buffers::Several, Tuning::default());
    });
}

#[test]
fn every_frame_crosses_ports_of_any_tuning() {
    in_namespace(|| {
        forward(AttachMode::Native, 0, Buffers::One, Tuning { need_wakeup: false, ..Tuning::default() });
        forward(AttachMode::Native, 0, Buffers::One, Tuning { busy_poll: true, ..Tuning::default() });
    });
}

#[test]
fn a_budget_is_taken_within_its_bounds_and_else_refused() {
    in_namespace(|| {
        let mut umem = Umem::new(128, 2048).unwrap();
        let mut open = |tx_budget| {
            let tuning = Tuning { tx_budget, ..Tuning::default() };
            let config =
                PortConfig { rx: 64, tx: 64, fill: 64, completion: 64, tuning, ..PortConfig::default() };
            let opened = Port::open(&mut umem, "a0", 0, &config).map(|port| port.close(&mut umem));
            assert_eq!(umem.available(), 128);
            opened
        };
        assert!(matches!(open(None), Ok(0)), "a worker's ports do not depend on it");
        assert!(open(Some(65)).is_err(), "more than the ring holds");
        match open(Some(32)) {
            Ok(stranded) => assert_eq!(stranded, 0),
            Err(error) => assert!(matches!(error, Error::Kernel { .. }), "before Linux 6.17: {error}"),
        }
    });
}

/// Source `a0` -> `a1` [one UMEM] `b0` -> `b1`, where they are compared. The middle prepends a header in the headroom.
fn forward(mode: AttachMode, queue: u32, buffers: Buffers, tuning: Tuning) {
    let chains = buffers == Buffers::Several;
    let (frames, longest): (u64, u64) = if chains { (FRAMES / 10, 9216) } else { (FRAMES, 1400) };
    let programs = [
        PlainProgram::attach("a1", mode, buffers).unwrap(),
        PlainProgram::attach("b1", mode, buffers).unwrap(),
    ];
    let config =
        PortConfig { rx: 512, tx: 512, fill: 512, completion: 512, bind: BindMode::Auto, chains, tuning };
    let mut ends = Umem::with_jumbos(2048, 2048, 500).unwrap();
    let mut middle = Umem::with_jumbos(2048, 2048, 500).unwrap();
    let [mut source, mut sink] = open(&mut ends, [("a0", queue), ("b1", queue)], &config);
    let [mut left, mut right] = open(&mut middle, [("a1", queue), ("b0", queue)], &config);
    programs[0].set_socket(queue, left.as_fd()).unwrap();
    programs[1].set_socket(queue, sink.as_fd()).unwrap();

    let (mut next, mut seen) = (0, 0);
    let (mut out, mut crossing, mut arrived) = (Vec::new(), Vec::new(), Vec::new());
    let deadline = Instant::now() + Duration::from_secs(60);
    while seen < frames {
        assert!(
            Instant::now() < deadline,
            "{seen} of {frames} arrived: {:?} {:?}",
            left.statistics(),
            sink.statistics()
        );
        while out.len() < 64 && next < frames && next - seen < 400 / longest.div_ceil(2048) {
            out.push(packet(&mut ends, content(next, longest)));
            next += 1;
        }
        send(&mut source, &mut ends, &mut out);

        left.receive(&mut middle, &mut crossing, usize::MAX);
        crossing.iter_mut().for_each(|frame| frame.prepend(HEADER).unwrap().fill(0x45));
        send(&mut right, &mut middle, &mut crossing);
        left.refill(&mut middle, config.fill);
        assert!(middle.is_whole([&left, &right], crossing.len()));

        sink.receive(&mut ends, &mut arrived, usize::MAX);
        for frame in arrived.drain(..) {
            assert_eq!(frame.data()[..HEADER], [0x45; HEADER]);
            assert_eq!(frame.data()[HEADER..], content(seen, longest), "frame {seen}");
            seen += 1;
            ends.free(frame);
        }
        sink.refill(&mut ends, config.fill);
        assert!(ends.is_whole([&source, &sink], out.len()));
    }
    for (port, passed) in [(&left, left.counters().rx_frames), (&right, right.counters().tx_frames)] {
        assert_eq!((passed, port.live_mode()), (frames, LiveMode::Copy));
        assert_eq!(port.counters().tx_lost, 0);
        let statistics = port.statistics().unwrap();
        assert_eq!((statistics.rx_dropped, statistics.rx_ring_full, statistics.tx_invalid_descs), (0, 0, 0));
    }
    assert_eq!(programs[0].counters().unwrap().to_socket, frames);
    let stranded =
        [left.close(&mut middle), right.close(&mut middle), source.close(&mut ends), sink.close(&mut ends)];
    assert_eq!(stranded, [0; 4]);
    assert_eq!((middle.available(), ends.available()), (2048, 2048), "all frames are home");
}

#[test]
fn refusals_name_the_cause_and_leave_the_frames() {
    in_namespace(|| {
        let mut umem = Umem::new(256, 2048).unwrap();
        let small = PortConfig {
            rx: 64,
            tx: 64,
            fill: 64,
            completion: 64,
            bind: BindMode::Copy,
            ..PortConfig::default()
        };
        let mut refused = |queue: (&str, u32), config: &PortConfig| {
            // The first port is fine, so that an opened one has to be undone as well.
            let error = Port::open_all(&mut umem, &[("a1", 0), queue], config).unwrap_err();
            assert_eq!(umem.available(), 256, "after: {error}");
            assert_eq!(error.to_string().lines().count(), 1);
            error
        };
        assert!(matches!(refused(("nowhere", 0), &small), Error::NoInterface { .. }));
        assert!(matches!(refused(("b1", QUEUES), &small), Error::NoQueue { queues: QUEUES, .. }));
        let zero_copy = PortConfig { bind: BindMode::ZeroCopy, ..small };
        assert!(matches!(refused(("b1", 0), &zero_copy), Error::NoZeroCopy { .. }));
        assert!(matches!(
            refused(("b1", 0), &PortConfig { tx: 65, ..small }),
            Error::RingSize { ring: "tx", .. }
        ));
        assert!(matches!(refused(("b1", 0), &PortConfig { fill: 256, ..small }), Error::TooFewFrames { .. }));
        run("ip link set b1 down");
        assert!(matches!(refused(("b1", 0), &small), Error::Down { .. }));
        run("ip link set b1 up");

        let mut other = Umem::new(64, 2048).unwrap();
        let holder = Port::open(&mut other, "b1", 1, &small).unwrap();
        assert!(matches!(refused(("b1", 1), &small), Error::QueueTaken { queue: 1, .. }));
        holder.close(&mut other);
        let ports =
            Port::open_all(&mut umem, &[("a1", 0), ("b1", 1)], &small).expect("the queue is free again");
        ports.into_iter().for_each(|port| assert_eq!(port.close(&mut umem), 0));
    });
}

#[test]
fn a_port_that_is_dropped_strands_its_frames_and_says_so() {
    in_namespace(|| {
        let mut umem = Umem::new(128, 4096).unwrap();
        let config = PortConfig {
            rx: 64,
            tx: 64,
            fill: 64,
            completion: 64,
            bind: BindMode::Auto,
            ..PortConfig::default()
        };
        drop(Port::open(&mut umem, "a0", 0, &config).unwrap());
        assert_eq!(umem.available(), 64);
        assert!(umem.is_whole([], 0), "they are accounted for");
    });
}

#[test]
fn sending_on_a_port_that_is_down_fails_and_the_frames_come_home() {
    in_namespace(|| {
        let mut umem = Umem::new(128, 2048).unwrap();
        let config = PortConfig {
            rx: 64,
            tx: 64,
            fill: 64,
            completion: 64,
            bind: BindMode::Auto,
            ..PortConfig::default()
        };
        let mut port = Port::open(&mut umem, "a0", 0, &config).unwrap();
        let mut frames = (0..10).map(|number| packet(&mut umem, content(number, 1400))).collect();
        assert_eq!(port.transmit(&mut umem, &mut frames), 10);
        run("ip link set a0 down");
        let error = port.kick().unwrap_err();
        assert!(matches!(error, Error::Down { .. }), "{error}");
        assert_eq!(port.outstanding().tx, 10);
        assert_eq!(port.close(&mut umem), 0);
        assert_eq!(umem.available(), 128);
    });
}

#[test]
fn an_interface_tells_its_properties() {
    in_namespace(|| {
        run("ip link set a0 mtu 1400 address 02:00:00:00:0a:00");
        run("ip link set a0 down");
        let a0 = Interface::find("a0").unwrap();
        assert_eq!((a0.mac, a0.mtu, a0.queues, a0.up), ([2, 0, 0, 0, 10, 0], 1400, QUEUES, false));
        assert!(Interface::find("a1").unwrap().up);
    });
}

fn open(umem: &mut Umem, places: [(&str, u32); 2], config: &PortConfig) -> [Port; 2] {
    let ports = Port::open_all(umem, &places, config).unwrap();
    ports.try_into().expect("as many ports as places")
}

fn send(port: &mut Port, umem: &mut Umem, frames: &mut Vec<Frame>) {
    port.transmit(umem, frames);
    port.kick().unwrap();
    port.complete(umem);
}

fn packet(umem: &mut Umem, content: Vec<u8>) -> Frame {
    let large = content.len() > 2048 - HEADROOM;
    let mut frame = if large { umem.alloc_jumbo() } else { umem.alloc() }.expect("a free frame");
    assert!(frame.fill_from(&content));
    frame
}

/// A frame of an unassigned ethertype whose every byte depends on its number; 64 to `longest` bytes.
fn content(number: u64, longest: u64) -> Vec<u8> {
    let len = 64 + (number * 37 % (longest - 63)) as usize;
    let mut bytes = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x88, 0xb5];
    bytes.extend(
        (14..len).map(|at| (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (at % 57)) as u8 ^ at as u8),
    );
    bytes
}

/// Runs `test` on a thread with a network namespace of its own, with the veth pairs a0-a1 and b0-b1. The namespace and all
/// in it go with the thread.
fn in_namespace(test: impl FnOnce() + Send + 'static) {
    assert!(nix::unistd::geteuid().is_root(), "this test makes a network namespace: run it as root");
    let inside = thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        for pair in ["a", "b"] {
            run(&format!(
                "ip link add {pair}0 numrxqueues {QUEUES} numtxqueues {QUEUES} \
                 type veth peer name {pair}1 numrxqueues {QUEUES} numtxqueues {QUEUES}"
            ));
            for end in 0..2 {
                run(&format!("sysctl -qw net.ipv6.conf.{pair}{end}.disable_ipv6=1"));
                run(&format!("ip link set {pair}{end} up"));
            }
        }
        test();
    });
    if let Err(panic) = inside.join() {
        std::panic::resume_unwind(panic);
    }
}

fn run(command: &str) {
    let words: Vec<_> = command.split(' ').collect();
    let run = Command::new(words[0]).args(&words[1..]).output().unwrap_or_else(|e| panic!("{command}: {e}"));
    assert!(run.status.success(), "{command}: {}", String::from_utf8_lossy(&run.stderr));
}
