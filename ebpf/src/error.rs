use libbpf_rs::ErrorKind;

/// Why a program could not be loaded, attached or reached. Each text is one line: the cause, then the remedy.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no interface of this name in this network namespace.
    #[error("{interface}: no such interface; see `ip link` for the names there are")]
    NoInterface {
        /// As asked for.
        interface: String,
    },
    /// Loading or attaching needs privileges that this process lacks.
    #[error(
        "{interface}: not allowed to {action}; run as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON"
    )]
    Denied {
        /// The port's interface.
        interface: String,
        /// What was refused.
        action: &'static str,
    },
    /// Another program than ours is attached.
    #[error(
        "{interface}: XDP program {id} ({name}) of another owner is attached; if it may go: ip link set dev {interface} {keyword} off"
    )]
    Foreign {
        /// The port's interface.
        interface: String,
        /// The kernel's id of the foreign program.
        id: u32,
        /// The foreign program's name, as far as the kernel knows it.
        name: String,
        /// `ip link`'s word for the mode it is attached in: `xdpdrv`, `xdpgeneric` or `xdpoffload`.
        keyword: &'static str,
    },
    /// The driver has no native XDP.
    #[error("{interface}: the driver has no native XDP{kernel}; ask for generic mode")]
    NoNative {
        /// The port's interface.
        interface: String,
        /// The kernel's own words, if any.
        kernel: String,
    },
    /// ENOSPC: the driver has too few queues; on veth, fewer than its peer sends on.
    #[error(
        "{interface}: too few receive queues for native XDP{kernel}; create both ends of a veth with equal numrxqueues and numtxqueues, or lower the channels with ethtool -L"
    )]
    TooFewQueues {
        /// The port's interface.
        interface: String,
        /// The kernel's own words, if any.
        kernel: String,
    },
    /// ERANGE: the MTU (or that of a veth's peer) does not fit into one page with the headroom.
    #[error(
        "{interface}: the MTU is too large for XDP{kernel}; set it, and that of a veth's peer, to at most about 3,500, or let the frames be of several buffers"
    )]
    MtuTooLarge {
        /// The port's interface.
        interface: String,
        /// The kernel's own words, if any.
        kernel: String,
    },
    /// The queue number does not fit into the program's table of sockets.
    #[error(
        "{interface}: queue {queue} is out of range; at most {} queues are served: lower them with ethtool -L",
        crate::MAX_QUEUES
    )]
    QueueOutOfRange {
        /// The port's interface.
        interface: String,
        /// As asked for.
        queue: u32,
    },
    /// Anything else that the kernel refused.
    #[error("{interface}: cannot {action}: {source}{kernel}")]
    Kernel {
        /// The port's interface.
        interface: String,
        /// What was tried.
        action: &'static str,
        /// The library's error.
        source: libbpf_rs::Error,
        /// The kernel's own words, if any.
        kernel: String,
    },
}

impl Error {
    /// Names the cause of `source`, met while trying to `action`; `messages` is what the kernel said meanwhile.
    pub(crate) fn from_kernel(
        interface: &str,
        action: &'static str,
        source: libbpf_rs::Error,
        messages: &[String],
    ) -> Self {
        let interface = interface.to_owned();
        let kernel = kernel_words(messages);
        match (source.kind(), errno(&source)) {
            (ErrorKind::PermissionDenied, _) => Self::Denied { interface, action },
            (_, Some(ENOSPC)) => Self::TooFewQueues { interface, kernel },
            (_, Some(ERANGE)) => Self::MtuTooLarge { interface, kernel },
            (_, Some(EOPNOTSUPP)) => Self::NoNative { interface, kernel },
            _ => Self::Kernel { interface, action, source, kernel },
        }
    }
}

const ENOSPC: i32 = nix::errno::Errno::ENOSPC as i32;
const ERANGE: i32 = nix::errno::Errno::ERANGE as i32;
const EOPNOTSUPP: i32 = nix::errno::Errno::EOPNOTSUPP as i32;

/// The error number. libbpf-rs keeps it to itself and gives only a coarse kind, but the standard library's text ends with it.
fn errno(error: &libbpf_rs::Error) -> Option<i32> {
    let text = error.to_string();
    let (_, number) = text.rsplit_once("(os error ")?;
    number.strip_suffix(')')?.parse().ok()
}

/// The kernel's extended acknowledgement, as libbpf logs it.
fn kernel_words(messages: &[String]) -> String {
    let said = messages.iter().find_map(|line| line.split_once("Kernel error message: "));
    said.map(|(_, words)| format!(" (kernel: {})", words.trim())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(errno: i32) -> String {
        let source = libbpf_rs::Error::from_raw_os_error(errno);
        let said = ["libbpf: Kernel error message: Peer MTU is too large to set XDP\n".to_owned()];
        Error::from_kernel("veth7", "attach the program", source, &said).to_string()
    }

    #[test]
    fn each_known_error_number_gets_its_remedy() {
        assert!(named(1).contains("run as root"));
        assert!(named(ENOSPC).contains("numrxqueues"));
        assert!(named(EOPNOTSUPP).contains("generic"));
        let mtu = named(ERANGE);
        assert!(mtu.contains("veth7") && mtu.contains("Peer MTU is too large"), "{mtu}");
        assert!(named(22).contains("cannot attach the program"));
    }

    #[test]
    fn errors_are_one_line() {
        for errno in [1, ENOSPC, ERANGE, EOPNOTSUPP, 22] {
            assert_eq!(named(errno).lines().count(), 1);
        }
    }
}
