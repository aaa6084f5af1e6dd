use anyhow::{Result, ensure};
use qhaul::lab::Topology;
use qhaul::lab::plan::Node;
use qhaul::xsk::{BindMode, Port, PortConfig, Umem};

use crate::namespace::inside;

const RING: u32 = 256;

/// Sends frames out of one queue of an interface, so that they arrive on the same queue at the other end of a veth cable. (The
/// queue of a packet socket's frame is the kernel's choice.)
#[derive(Debug)]
pub struct QueuePort {
    umem: Umem,
    port: Option<Port>,
}

impl QueuePort {
    /// Opens a queue of a node's interface for sending.
    pub fn open(topology: &Topology, node: Node, interface: &str, queue: u32) -> Result<QueuePort> {
        inside(topology, node, || {
            let mut umem = Umem::new(4 * RING, 4096)?;
            let sizes = PortConfig {
                rx: RING,
                tx: RING,
                fill: RING,
                completion: RING,
                bind: BindMode::Copy,
                ..PortConfig::default()
            };
            let port = Port::open(&mut umem, interface, queue, &sizes)?;
            Ok(QueuePort { umem, port: Some(port) })
        })
    }

    /// Sends one frame.
    pub fn send(&mut self, frame: &[u8]) -> Result<()> {
        let Some(port) = &mut self.port else { return Ok(()) };
        port.complete(&mut self.umem);
        let mut frames = Vec::from_iter(self.umem.alloc());
        ensure!(frames.iter_mut().all(|out| out.fill_from(frame)), "a frame of {} bytes", frame.len());
        let sent = port.transmit(&mut self.umem, &mut frames);
        port.kick()?;
        frames.into_iter().for_each(|frame| self.umem.free(frame));
        ensure!(sent == 1, "the kernel took no frame");
        Ok(())
    }
}

impl Drop for QueuePort {
    fn drop(&mut self) {
        if let Some(port) = self.port.take() {
            port.close(&mut self.umem);
        }
    }
}
