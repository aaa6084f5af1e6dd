use std::cell::RefCell;
use std::os::fd::{AsRawFd, BorrowedFd};

use libbpf_rs::{ErrorKind, Map, MapCore, MapFlags, Object, ObjectBuilder, PrintLevel, Program};

use crate::{ClearSettings, Error};

/// The highest number of receive queues that a port's program serves: the size of its table of sockets.
pub const MAX_QUEUES: u32 = 64;

/// How many buffers of its driver a frame may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Buffers {
    /// One: drivers then refuse an MTU above about 3,500 bytes.
    One,
    /// Several (Linux 5.18 and later). The program sees the first, where all headers are; maps may not be shared with programs
    /// of the other kind.
    Several,
}

/// BPF_F_XDP_HAS_FRAGS of include/uapi/linux/bpf.h.
const HAS_FRAGS: u32 = 1 << 5;

/// An embedded object file, aligned as ELF wants it.
#[repr(C, align(8))]
pub(crate) struct Embedded<T: ?Sized>(pub(crate) T);

/// A program that is loaded into the kernel, with its maps.
#[derive(Debug)]
pub(crate) struct Loaded {
    object: Object,
    interface: String,
}

impl Loaded {
    /// Loads an embedded object for `interface`; `constants` is what its read-only data becomes first, if it has any.
    pub(crate) fn load(
        interface: &str,
        image: &[u8],
        constants: Option<&[u8]>,
        buffers: Buffers,
    ) -> Result<Self, Error> {
        let (loaded, messages) = hear(|| {
            let mut open = ObjectBuilder::default().open_memory(image)?;
            if let Some(constants) = constants {
                let mut map = open.maps_mut().find(|map| map.name().to_string_lossy().ends_with(".rodata"));
                map.as_mut().expect("the object was built with settings").set_initial_value(constants)?;
            }
            if buffers == Buffers::Several {
                open.progs_mut().for_each(|mut program| program.set_flags(HAS_FRAGS));
            }
            open.load()
        });
        let object =
            loaded.map_err(|e| Error::from_kernel(interface, "load the XDP program", e, &messages))?;
        Ok(Self { object, interface: interface.to_owned() })
    }

    /// The object's one program.
    pub(crate) fn program(&self) -> Program<'_> {
        self.object.progs().next().expect("the object was built with a program")
    }

    /// Runs the program in the kernel over one frame, as if received on queue 0, and returns its verdict.
    #[cfg(test)]
    pub(crate) fn run(&self, frame: &[u8]) -> u32 {
        let mut out = vec![0; frame.len() + 256];
        let input =
            libbpf_rs::ProgramInput { data_in: Some(frame), data_out: Some(&mut out), ..Default::default() };
        let program = self.object.progs_mut().next().expect("the object was built with a program");
        program.test_run(input).expect("BPF_PROG_TEST_RUN").return_value
    }

    /// Gives the frames of receive queue `queue` to the AF_XDP socket `socket`.
    pub(crate) fn set_socket(&self, queue: u32, socket: BorrowedFd<'_>) -> Result<(), Error> {
        if queue >= MAX_QUEUES {
            return Err(Error::QueueOutOfRange { interface: self.interface.clone(), queue });
        }
        let (key, value) = (queue.to_ne_bytes(), socket.as_raw_fd().to_ne_bytes());
        self.update("xsks", &key, &value, "put the socket into the XDP program's table")
    }

    /// Says what may cross in clear, from the next frame on.
    pub(crate) fn set_clear(&self, settings: &ClearSettings) -> Result<(), Error> {
        let action = "tell the XDP program what may cross in clear";
        self.update("clear", &0u32.to_ne_bytes(), &settings.to_bytes(), action)
    }

    /// Writes an entry of the map `name`; `action` says what for.
    pub(crate) fn update(
        &self,
        name: &str,
        key: &[u8],
        value: &[u8],
        action: &'static str,
    ) -> Result<(), Error> {
        let written = self.map(name).update(key, value, MapFlags::ANY);
        written.map_err(|e| Error::from_kernel(&self.interface, action, e, &[]))
    }

    /// Deletes an entry of the hash map `name`, if it is there.
    pub(crate) fn delete(&self, name: &str, key: &[u8], action: &'static str) -> Result<(), Error> {
        match self.map(name).delete(key) {
            Err(e) if e.kind() != ErrorKind::NotFound => {
                Err(Error::from_kernel(&self.interface, action, e, &[]))
            }
            _ => Ok(()),
        }
    }

    /// The map of the counters, for `read`.
    pub(crate) fn counters<T>(&self, read: impl Fn(&Map<'_>) -> libbpf_rs::Result<T>) -> Result<T, Error> {
        read(&self.map("counters"))
            .map_err(|e| Error::from_kernel(&self.interface, "read the XDP program's counters", e, &[]))
    }

    fn map(&self, name: &str) -> Map<'_> {
        self.object.maps().find(|map| map.name() == name).expect("the object was built with this map")
    }
}

thread_local! {
    static HEARD: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Runs `call` and returns with its result what libbpf said on this thread meanwhile: the kernel's reasons are only there.
pub(crate) fn hear<T>(call: impl FnOnce() -> T) -> (T, Vec<String>) {
    libbpf_rs::set_print(Some((PrintLevel::Warn, listen)));
    HEARD.take();
    let result = call();
    (result, HEARD.take())
}

fn listen(_: PrintLevel, message: String) {
    tracing::debug!(target: "libbpf", "{}", message.trim_end());
    HEARD.with_borrow_mut(|heard| heard.push(message));
}
