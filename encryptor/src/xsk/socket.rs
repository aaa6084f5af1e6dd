use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use super::memory::{Mapping, Plain};

/// XDP_MAX_TX_SKB_BUDGET of `linux/if_xdp.h` since 6.17; the `libc` crate does not have it yet.
const XDP_MAX_TX_SKB_BUDGET: libc::c_int = 9;

/// Microseconds that one busy poll goes on, and frames that it takes at the most: what the kernel's documentation shows.
const BUSY_POLL_TIME: u32 = 20;
const BUSY_POLL_FRAMES: u32 = 64;

/// The system calls on an AF_XDP socket, one method each. Dropping it closes the socket.
#[derive(Debug)]
pub(super) struct Socket {
    fd: OwnedFd,
}

impl Socket {
    pub(super) fn new() -> io::Result<Self> {
        // SAFETY: the call takes no pointers.
        let fd = unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just given out this descriptor; nothing else owns it.
        Ok(Self { fd: unsafe { OwnedFd::from_raw_fd(fd) } })
    }

    /// Registers the first `len` bytes of `memory` as this socket's UMEM, in chunks of `chunk` bytes.
    pub(super) fn register_umem(&self, (memory, len): (&Mapping, usize), chunk: u32) -> io::Result<()> {
        assert!(len <= memory.len(), "a UMEM beyond its mapping");
        // Every field is named: what the kernel would read as a request must not be left to chance.
        let registration = libc::xdp_umem_reg {
            addr: memory.base().addr().get() as u64,
            len: len as u64,
            chunk_size: chunk,
            headroom: 0,
            flags: 0,
            tx_metadata_len: 0,
        };
        self.set(libc::XDP_UMEM_REG, &registration)
    }

    /// Makes a ring of `size` entries: `option` is XDP_RX_RING, XDP_TX_RING, XDP_UMEM_FILL_RING or _COMPLETION_RING.
    pub(super) fn make_ring(&self, option: libc::c_int, size: u32) -> io::Result<()> {
        self.set(option, &size)
    }

    /// Sets how many frames one kick may send in copy mode: at least 32, the kernel's own number, and at most the transmit ring's
    /// size. Kernels before 6.17 refuse.
    pub(super) fn set_tx_budget(&self, frames: u32) -> io::Result<()> {
        self.set(XDP_MAX_TX_SKB_BUDGET, &frames)
    }

    /// Has the device polled by the system calls on this socket, in place of its interrupts where they are deferred.
    pub(super) fn set_busy_poll(&self) -> io::Result<()> {
        let options = [
            (libc::SO_PREFER_BUSY_POLL, 1),
            (libc::SO_BUSY_POLL, BUSY_POLL_TIME),
            (libc::SO_BUSY_POLL_BUDGET, BUSY_POLL_FRAMES),
        ];
        options.iter().try_for_each(|(option, value)| self.set_at(libc::SOL_SOCKET, *option, value))
    }

    /// Maps `len` bytes of the ring at the kernel's `offset`.
    pub(super) fn map_ring(&self, offset: libc::off_t, len: usize) -> io::Result<Mapping> {
        Mapping::of(self.as_fd(), len, offset)
    }

    /// Binds to a queue. `shared` is the socket whose UMEM is used, with XDP_SHARED_UMEM in `flags`.
    pub(super) fn bind(&self, ifindex: u32, queue: u32, flags: u16, shared: Option<RawFd>) -> io::Result<()> {
        let address = libc::sockaddr_xdp {
            sxdp_family: libc::AF_XDP as u16,
            sxdp_flags: flags,
            sxdp_ifindex: ifindex,
            sxdp_queue_id: queue,
            sxdp_shared_umem_fd: shared.map_or(0, RawFd::cast_unsigned),
        };
        let len = size_of_val(&address) as libc::socklen_t;
        // SAFETY: the pointer is to a whole sockaddr_xdp that lives through the call, and `len` is its size.
        check(unsafe { libc::bind(self.fd.as_raw_fd(), (&raw const address).cast(), len) } as isize)
    }

    /// Whether the kernel has XDP_USE_SG (6.6 and later). It looks at the flags before it looks for the interface, and none
    /// has the number 0 (kernel: net/xdp/xsk.c, xsk_bind).
    pub(super) fn knows_chains(&self) -> bool {
        let refused = self.bind(0, 0, libc::XDP_USE_SG, None);
        refused.is_err_and(|error| error.raw_os_error() == Some(libc::ENODEV))
    }

    /// Asks the kernel to send what is in the transmit ring.
    pub(super) fn wake_tx(&self) -> io::Result<()> {
        let fd = self.fd.as_raw_fd();
        // SAFETY: null with length 0 is no buffer, and a null address with length 0 is no address: nothing is read.
        check(unsafe { libc::sendto(fd, ptr::null(), 0, libc::MSG_DONTWAIT, ptr::null(), 0) })
    }

    /// Asks the kernel to look at the fill ring, and polls the device if it is to be busy polled.
    pub(super) fn wake_rx(&self) -> io::Result<()> {
        let fd = self.fd.as_raw_fd();
        let (nowhere, no_address) = (ptr::null_mut(), ptr::null_mut());
        // SAFETY: null with length 0 is no buffer, and no address is asked for: nothing is written.
        check(unsafe { libc::recvfrom(fd, nowhere, 0, libc::MSG_DONTWAIT, no_address, ptr::null_mut()) })
    }

    /// Where the parts of each ring lie in its mapping.
    pub(super) fn ring_offsets(&self) -> io::Result<libc::xdp_mmap_offsets> {
        self.get(libc::XDP_MMAP_OFFSETS)
    }

    pub(super) fn statistics(&self) -> io::Result<libc::xdp_statistics> {
        self.get(libc::XDP_STATISTICS)
    }

    /// Whether the bound socket is in zero-copy mode.
    pub(super) fn is_zero_copy(&self) -> io::Result<bool> {
        let options: libc::xdp_options = self.get(libc::XDP_OPTIONS)?;
        Ok(options.flags & libc::XDP_OPTIONS_ZEROCOPY != 0)
    }

    fn set<T: Plain>(&self, option: libc::c_int, value: &T) -> io::Result<()> {
        self.set_at(libc::SOL_XDP, option, value)
    }

    fn set_at<T: Plain>(&self, level: libc::c_int, option: libc::c_int, value: &T) -> io::Result<()> {
        let (pointer, len) = (ptr::from_ref(value).cast(), size_of::<T>() as libc::socklen_t);
        // SAFETY: the pointer is to a whole T that lives through the call, and `len` is its size; the kernel only reads.
        check(unsafe { libc::setsockopt(self.fd.as_raw_fd(), level, option, pointer, len) } as isize)
    }

    fn get<T: Plain>(&self, option: libc::c_int) -> io::Result<T> {
        let mut value = MaybeUninit::<T>::zeroed();
        let mut len = size_of::<T>() as libc::socklen_t;
        let pointer = value.as_mut_ptr().cast();
        let fd = self.fd.as_raw_fd();
        // SAFETY: the pointer is to room for a whole T, and `len` is its size, beyond which the kernel does not write.
        let result = unsafe { libc::getsockopt(fd, libc::SOL_XDP, option, pointer, &raw mut len) };
        check(result as isize)?;
        if (len as usize) < size_of::<T>() {
            return Err(io::Error::other("the kernel is too old: it gives the options of before 5.4"));
        }
        // SAFETY: every byte was zeroed or written by the kernel, and `Plain` makes any bit pattern a value.
        Ok(unsafe { value.assume_init() })
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn check(result: isize) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
