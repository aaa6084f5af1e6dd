use std::io;

use super::socket::Socket;

/// How ports deal with the kernel, beyond their sizes. The default is what a worker uses; the tuning bench varies it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// Frames that one kick may send in copy mode: at least 32 and at most the transmit ring's size, which is what none stands for.
    /// A kernel before 6.17 sends 32; it refuses any other number, but not none.
    pub tx_budget: Option<u32>,
    /// Whether a zero-copy driver tells when it has to be woken (XDP_USE_NEED_WAKEUP). If not, each kick is a system call.
    pub need_wakeup: bool,
    /// Whether receiving from an empty ring polls the device (SO_PREFER_BUSY_POLL and what belongs to it). It pays where the
    /// device's interrupts are deferred (`napi_defer_hard_irqs` and `gro_flush_timeout` of the interface).
    pub busy_poll: bool,
}

impl Default for Tuning {
    fn default() -> Self {
        Self { tx_budget: None, need_wakeup: true, busy_poll: false }
    }
}

impl Tuning {
    /// Tells the kernel, for a socket with a transmit ring of `ring` entries.
    pub(super) fn apply(&self, socket: &Socket, ring: u32) -> io::Result<()> {
        match self.tx_budget {
            Some(frames) => socket.set_tx_budget(frames)?,
            None => {
                if let Err(error) = socket.set_tx_budget(ring) {
                    tracing::debug!("XDP_MAX_TX_SKB_BUDGET: {error}");
                }
            }
        }
        if self.busy_poll { socket.set_busy_poll() } else { Ok(()) }
    }

    /// Flags to bind with.
    pub(super) fn flags(&self) -> u16 {
        if self.need_wakeup { libc::XDP_USE_NEED_WAKEUP } else { 0 }
    }
}
