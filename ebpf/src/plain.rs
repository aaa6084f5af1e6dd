use std::os::fd::BorrowedFd;

use crate::attachment::{AttachMode, Attachment};
use crate::object::{Buffers, Embedded, Loaded};
use crate::{ClearSettings, Error, PlainCounters};

static IMAGE: &Embedded<[u8]> = &Embedded(*include_bytes!(concat!(env!("OUT_DIR"), "/plain.bpf.o")));

/// The program of the plain port: every frame goes to the AF_XDP socket of its queue, and without one is dropped.
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
        let loaded = load(interface, buffers)?;
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

fn load(interface: &str, buffers: Buffers) -> Result<Loaded, Error> {
    Loaded::load(interface, &IMAGE.0, None, buffers)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;
    use crate::testing::{DROP, REDIRECT, need_root, unbound_socket};

    #[test]
    fn every_frame_goes_to_the_socket_and_without_one_is_dropped() {
        need_root();
        let loaded = load("test", Buffers::One).unwrap();
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
        assert_eq!(counters, PlainCounters { received: 7, to_socket: 3, no_socket: 4, ptp_forwarded: 0 });
    }

    #[test]
    fn frames_of_several_buffers_are_run_only_by_a_program_for_them() {
        need_root();
        let socket = unbound_socket();
        let loaded = load("test", Buffers::Several).unwrap();
        loaded.set_socket(0, socket.as_fd()).unwrap();
        for length in [14, 1514, 9216] {
            assert_eq!(loaded.run(&vec![0x5a; length]), REDIRECT, "{length} bytes");
        }
    }

    #[test]
    fn a_queue_beyond_the_table_is_refused() {
        need_root();
        let socket = unbound_socket();
        let refused =
            load("test", Buffers::One).unwrap().set_socket(crate::MAX_QUEUES, socket.as_fd()).unwrap_err();
        assert!(refused.to_string().contains("queue 64 is out of range"), "{refused}");
    }
}
