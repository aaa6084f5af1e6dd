use std::io;

/// Why memory, an interface or a port could not be had. Each text is one line: the cause, then the remedy.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A chunk size that the kernel does not take.
    #[error("frames of {chunk} bytes are not possible: the frame size is 2048 or 4096")]
    ChunkSize {
        /// As asked for, in bytes.
        chunk: u32,
    },
    /// A UMEM of nothing.
    #[error("the number of frames is 0: it has to cover the rings of all ports")]
    NoFrames,
    /// A ring size that the kernel does not take.
    #[error("a {ring} ring of {size} entries is not possible: the size is a power of two")]
    RingSize {
        /// `rx`, `tx`, `fill` or `completion`.
        ring: &'static str,
        /// As asked for, in entries.
        size: u32,
    },
    /// The UMEM does not cover the fill rings.
    #[error(
        "{free} free frames do not fill the fill rings of {ports} ports ({fill} entries each): raise the number of frames"
    )]
    TooFewFrames {
        /// Free frames of the UMEM.
        free: u32,
        /// Ports to open.
        ports: usize,
        /// Entries of one fill ring.
        fill: u32,
    },
    /// No memory for the frames.
    #[error("cannot have {len} bytes of memory for frames: {source}; lower the number of frames")]
    Memory {
        /// Bytes asked for.
        len: usize,
        /// The kernel's answer.
        source: io::Error,
    },
    /// There are no huge pages for the frames.
    #[error("the kernel put no huge pages behind {len} bytes of frames: {source}")]
    HugePages {
        /// Bytes asked for.
        len: usize,
        /// The kernel's answer.
        source: io::Error,
    },
    /// There is no interface of this name in this network namespace.
    #[error("{interface}: no such interface; see `ip link` for the names there are")]
    NoInterface {
        /// As asked for.
        interface: String,
    },
    /// The interface has no such queue.
    #[error(
        "{interface}: there is no queue {queue}: it has {queues} (for receiving and sending); see ethtool -l {interface}"
    )]
    NoQueue {
        /// The port's interface.
        interface: String,
        /// As asked for.
        queue: u32,
        /// Queues that the interface has in both directions.
        queues: u32,
    },
    /// EPERM.
    #[error(
        "{interface}: not allowed to {action}; run as root, or with CAP_NET_RAW, CAP_NET_ADMIN and CAP_IPC_LOCK"
    )]
    Denied {
        /// The port's interface.
        interface: String,
        /// What was refused.
        action: &'static str,
    },
    /// EAFNOSUPPORT: the kernel was built without AF_XDP.
    #[error(
        "{interface}: this kernel has no AF_XDP (CONFIG_XDP_SOCKETS); use a kernel that has, 6.1 or later"
    )]
    NoAfXdp {
        /// The port's interface.
        interface: String,
    },
    /// XDP_USE_SG is not known to this kernel.
    #[error(
        "{interface}: this kernel's AF_XDP has no frames of several buffers: lower the MTU of both ports to 3498, or use Linux 6.6 or later"
    )]
    NoChains {
        /// The port's interface.
        interface: String,
    },
    /// EBUSY at bind.
    #[error(
        "{interface}: queue {queue} belongs to another AF_XDP socket; end the process that has it (see ss --xdp -p)"
    )]
    QueueTaken {
        /// The port's interface.
        interface: String,
        /// The queue.
        queue: u32,
    },
    /// EOPNOTSUPP, with zero-copy demanded.
    #[error("{interface}: queue {queue} cannot do AF_XDP zero-copy ({source}); let the mode be auto or copy")]
    NoZeroCopy {
        /// The port's interface.
        interface: String,
        /// The queue.
        queue: u32,
        /// The kernel's answer.
        source: io::Error,
    },
    /// ENETDOWN.
    #[error("{interface}: the interface is down; ip link set {interface} up")]
    Down {
        /// The port's interface.
        interface: String,
    },
    /// ENOBUFS: the memory that the kernel has to lock for the frames is over the limit.
    #[error(
        "{interface}: the frames exceed the limit of locked memory; raise it (ulimit -l, LimitMEMLOCK=) or run as root"
    )]
    LockedMemory {
        /// The port's interface.
        interface: String,
    },
    /// Anything else that the kernel refused.
    #[error("{interface}: cannot {action} on queue {queue}: {source}")]
    Kernel {
        /// The port's interface.
        interface: String,
        /// The queue.
        queue: u32,
        /// What was tried.
        action: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl Error {
    /// Names the cause of `source`, met while trying to `action` at a queue of an interface.
    pub(super) fn from_kernel(interface: &str, queue: u32, action: &'static str, source: io::Error) -> Self {
        let interface = interface.to_owned();
        match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Self::Denied { interface, action },
            Some(libc::EAFNOSUPPORT) => Self::NoAfXdp { interface },
            Some(libc::EBUSY) => Self::QueueTaken { interface, queue },
            Some(libc::ENETDOWN) => Self::Down { interface },
            Some(libc::ENODEV | libc::ENXIO) => Self::NoInterface { interface },
            Some(libc::ENOBUFS) => Self::LockedMemory { interface },
            _ => Self::Kernel { interface, queue, action, source },
        }
    }
}
