use std::net::Ipv6Addr;
use std::os::fd::BorrowedFd;

use crate::attachment::{AttachMode, Attachment};
use crate::object::{Buffers, Embedded, Loaded};
use crate::{ClearSettings, Error, PlainCounters};

static IMAGE: &Embedded<[u8]> = &Embedded(*include_bytes!(concat!(env!("OUT_DIR"), "/plain.bpf.o")));

/// Addresses that [`PlainRouter`] has at the most.
pub const MAX_OWN_V6: usize = 16;

/// This host as the plain side's router: ARP and IPv6 neighbour discovery go to the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlainRouter {
    /// The port's IPv6 addresses, for which neighbours may ask; of more than [`MAX_OWN_V6`] the first count.
    pub own_v6: Vec<Ipv6Addr>,
}

/// The program of the plain port: every frame goes to the AF_XDP socket of its queue, and without one is dropped. For a router
/// what resolves neighbours goes to the kernel.
///
/// Dropping this detaches the program. A process that is killed leaves it attached: without sockets it drops everything.
#[derive(Debug)]
pub struct PlainProgram {
    // First, so that the program is detached before it is unloaded.
    attachment: Attachment,
    loaded: Loaded,
}

impl PlainProgram {
    /// Loads the program and attaches it to `interface`, with no sockets yet: from here on the port is closed.
    pub fn attach(interface: &str, mode: AttachMode, buffers: Buffers) -> Result<Self, Error> {
        Self::load_and_attach(interface, mode, buffers, None)
    }

    /// The same for the plain side's router.
    pub fn attach_router(
        interface: &str,
        mode: AttachMode,
        buffers: Buffers,
        router: &PlainRouter,
    ) -> Result<Self, Error> {
        Self::load_and_attach(interface, mode, buffers, Some(router))
    }

    fn load_and_attach(
        interface: &str,
        mode: AttachMode,
        buffers: Buffers,
        router: Option<&PlainRouter>,
    ) -> Result<Self, Error> {
        let loaded = load(interface, router, buffers)?;
        let attachment = Attachment::new(interface, mode, &loaded.program())?;
        Ok(Self { attachment, loaded })
    }

    /// Gives the frames of receive queue `queue` (below [`crate::MAX_QUEUES`]) to `socket`, an AF_XDP socket bound to it.
    pub fn set_socket(&self, queue: u32, socket: BorrowedFd<'_>) -> Result<(), Error> {
        self.loaded.set_socket(queue, socket)
    }

    /// Whether the port was shut by a program of an earlier run, which this one took the place of.
    pub fn replaced_stale(&self) -> bool {
        self.attachment.replaced_stale()
    }

    /// Leaves the program attached when this is dropped. Without a socket it drops every frame, so that the kernel gets none
    /// to forward: for a process that fails.
    pub fn stay_shut(&mut self) {
        self.attachment.leave();
    }

    /// Says what may cross in clear, from the next frame on. Until then: nothing.
    pub fn set_clear(&self, settings: &ClearSettings) -> Result<(), Error> {
        self.loaded.set_clear(settings)
    }

    /// What the program has done with the frames since it was attached.
    pub fn counters(&self) -> Result<PlainCounters, Error> {
        self.loaded.counters(|map| PlainCounters::read(map))
    }

    /// The kernel's id of the program, as `ip link` and `bpftool` show it.
    pub fn id(&self) -> u32 {
        self.attachment.id()
    }
}

fn load(interface: &str, router: Option<&PlainRouter>, buffers: Buffers) -> Result<Loaded, Error> {
    Loaded::load(interface, &IMAGE.0, Some(&settings(router)), buffers)
}

/// `struct settings` of `plain.bpf.c`: numbers in the host's order, addresses in the network's.
fn settings(router: Option<&PlainRouter>) -> [u8; 8 + 16 * MAX_OWN_V6] {
    let mut bytes = [0; 8 + 16 * MAX_OWN_V6];
    let Some(router) = router else { return bytes };
    let own = &router.own_v6[..router.own_v6.len().min(MAX_OWN_V6)];
    bytes[0..4].copy_from_slice(&1u32.to_ne_bytes());
    bytes[4..8].copy_from_slice(&(own.len() as u32).to_ne_bytes());
    for (place, address) in bytes[8..].chunks_exact_mut(16).zip(own) {
        place.copy_from_slice(&address.octets());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;
    use crate::testing::{DROP, PASS, REDIRECT, need_root, unbound_socket};

    #[test]
    fn every_frame_goes_to_the_socket_and_without_one_is_dropped() {
        need_root();
        let loaded = load("test", None, Buffers::One).unwrap();
        let frames = [vec![0; 14], vec![0xff; 60], vec![0x5a; 1514]];
        for frame in &frames {
            assert_eq!(loaded.run(frame), DROP);
        }
        let socket = unbound_socket();
        loaded.set_socket(0, socket.as_fd()).unwrap();
        for frame in &frames {
            assert_eq!(loaded.run(frame), REDIRECT);
        }
        // The kernel takes a closed socket out of the table: a killed encryptor leaves a closed port.
        drop(socket);
        assert_eq!(loaded.run(&frames[0]), DROP);
        let counters = loaded.counters(|map| PlainCounters::read(map)).unwrap();
        assert_eq!(
            counters,
            PlainCounters { received: 7, to_socket: 3, no_socket: 4, ..PlainCounters::default() }
        );
    }

    #[test]
    fn a_routers_kernel_gets_what_resolves_neighbours_and_nothing_that_it_could_forward() {
        need_root();
        let own: Ipv6Addr = "fd01::fe".parse().unwrap();
        let router = PlainRouter { own_v6: vec!["fe80::1".parse().unwrap(), own] };
        let loaded = load("test", Some(&router), Buffers::One).unwrap();
        let message = |destination: &str, next: u8, hops: u8, kind: u8| {
            let mut frame = vec![2; 12];
            frame.extend_from_slice(&[0x86, 0xdd, 0x60, 0, 0, 0, 0, 24, next, hops]);
            frame.extend_from_slice(&[0xfe; 16]);
            frame.extend_from_slice(&destination.parse::<Ipv6Addr>().unwrap().octets());
            frame.push(kind);
            frame.resize(86, 0);
            frame
        };
        let arp = [&[0xff; 12][..], &[8, 6], &[0; 46]].concat();
        let group = "ff02::1:ff00:fe";
        let to_kernel = [
            arp.clone(),
            message(group, 58, 255, 135),
            message("fd01::fe", 58, 255, 135),
            message("fe80::1", 58, 255, 136),
        ];
        for frame in &to_kernel {
            assert_eq!(loaded.run(frame), PASS, "{frame:02x?}");
        }
        let mut tagged = arp.clone();
        tagged.splice(12..12, [0x81, 0, 0, 5]);
        let never = [
            message("fd02::1", 58, 255, 135),
            message("fd01::ff", 58, 255, 136),
            message(group, 58, 254, 135),
            message(group, 17, 255, 135),
            message(group, 58, 255, 133),
            message(group, 58, 255, 137),
            message("fd01::fe", 58, 255, 128),
            message(group, 58, 255, 135)[..54].to_vec(),
            [&[2; 12][..], &[8, 0], &[0x45; 40]].concat(),
            tagged,
        ];
        for frame in &never {
            assert_eq!(loaded.run(frame), DROP, "{frame:02x?}");
        }
        assert_eq!(load("test", None, Buffers::One).unwrap().run(&arp), DROP, "a wire keeps its ARP");
        let counters = loaded.counters(|map| PlainCounters::read(map)).unwrap();
        let expected = PlainCounters {
            received: 14,
            no_socket: 10,
            to_kernel_arp: 1,
            to_kernel_neighbour: 3,
            ..PlainCounters::default()
        };
        assert_eq!(counters, expected);
    }

    #[test]
    fn frames_of_several_buffers_are_run_only_by_a_program_for_them() {
        need_root();
        let socket = unbound_socket();
        let loaded = load("test", None, Buffers::Several).unwrap();
        loaded.set_socket(0, socket.as_fd()).unwrap();
        for length in [14, 1514, 9216] {
            assert_eq!(loaded.run(&vec![0x5a; length]), REDIRECT, "{length} bytes");
        }
    }

    #[test]
    fn a_queue_beyond_the_table_is_refused() {
        need_root();
        let socket = unbound_socket();
        let program = load("test", None, Buffers::One).unwrap();
        let refused = program.set_socket(crate::MAX_QUEUES, socket.as_fd()).unwrap_err();
        assert!(refused.to_string().contains("queue 64 is out of range"), "{refused}");
    }
}
