use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::error::Error;
use super::interface::Interface;
use super::memory::{Mapping, Plain};
use super::port::{LiveMode, Port};
use super::ring::{Consumer, Producer};
use super::rings::Rings;
use super::socket::Socket;
use super::tuning::Tuning;
use super::umem::Umem;

/// A queue is freed by a worker of the kernel some time after its socket was closed: how long to wait for that.
const QUEUE_DEADLINE: Duration = Duration::from_secs(1);

/// How ports are bound to their queues.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BindMode {
    /// Zero-copy if all ports can, else copy for all: ports that share a UMEM share the mode of the first.
    #[default]
    Auto,
    /// Zero-copy or an error.
    ZeroCopy,
    /// Copy, even if the device could do without.
    Copy,
}

/// How a port is opened. Sizes are entries, each a power of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortConfig {
    /// Receive ring.
    pub rx: u32,
    /// Transmit ring.
    pub tx: u32,
    /// Fill ring. It is filled when the port is opened, so the UMEM needs as many free frames per port.
    pub fill: u32,
    /// Completion ring: the bound of frames being sent.
    pub completion: u32,
    /// How to bind.
    pub bind: BindMode,
    /// Whether a frame may span several chunks (XDP_USE_SG). The UMEM then needs jumbo buffers, and the XDP programs have to
    /// be loaded for it.
    pub chains: bool,
    /// How to deal with the kernel.
    pub tuning: Tuning,
}

impl Default for PortConfig {
    fn default() -> Self {
        let (rx, tx, fill, completion) = (2048, 2048, 2048, 2048);
        Self { rx, tx, fill, completion, bind: BindMode::Auto, chains: false, tuning: Tuning::default() }
    }
}

impl Port {
    /// Opens one port: `queue` of `interface`.
    pub fn open(umem: &mut Umem, interface: &str, queue: u32, config: &PortConfig) -> Result<Self, Error> {
        let mut ports = Self::open_all(umem, &[(interface, queue)], config)?;
        Ok(ports.remove(0))
    }

    /// Opens a port for each interface and queue, in this order. They share `umem`, so that a frame received on one can be
    /// sent on any other, and they share one mode.
    ///
    /// Open all ports of a UMEM in one call; ports opened by another call register the memory with the kernel again.
    pub fn open_all(
        umem: &mut Umem,
        queues: &[(&str, u32)],
        config: &PortConfig,
    ) -> Result<Vec<Self>, Error> {
        config.check()?;
        let (free, ports, fill) = (umem.available(), queues.len(), config.fill);
        if (free as usize) < ports * fill as usize {
            return Err(Error::TooFewFrames { free, ports, fill });
        }
        let places =
            queues.iter().map(|(name, queue)| Place::find(name, *queue)).collect::<Result<Vec<_>, _>>()?;
        let mut abandoned = Vec::new();
        let opened = match config.bind {
            BindMode::ZeroCopy => open_in_mode(umem, &places, config, LiveMode::ZeroCopy, &mut abandoned),
            BindMode::Copy => open_in_mode(umem, &places, config, LiveMode::Copy, &mut abandoned),
            BindMode::Auto => open_in_best_mode(umem, &places, config, &mut abandoned),
        };
        umem.region().strand(abandoned.len() as u32);
        opened
    }
}

/// Whether this kernel has frames of several chunks (Linux 6.6 and later).
pub fn knows_chains() -> bool {
    Socket::new().is_ok_and(|socket| socket.knows_chains())
}

fn open_in_best_mode(
    umem: &mut Umem,
    places: &[Place],
    config: &PortConfig,
    abandoned: &mut Vec<u32>,
) -> Result<Vec<Port>, Error> {
    match open_in_mode(umem, places, config, LiveMode::ZeroCopy, abandoned) {
        Err(Error::NoZeroCopy { interface, queue, source }) => {
            tracing::info!("{interface} queue {queue}: no zero-copy ({source}), all ports use copy mode");
        }
        result => return result,
    }
    let mut ports = open_in_mode(umem, places, config, LiveMode::Copy, &mut Vec::new())?;
    // A port that was bound in zero-copy may have given chunks to its device. That its queue could be bound again proves
    // that the device let go of them: the kernel has one pool per queue (net/xdp/xsk_buff_pool.c, xp_assign_dev).
    abandoned.drain(..).for_each(|index| umem.give_back(index));
    for port in &mut ports {
        port.refill(umem, config.fill);
    }
    Ok(ports)
}

/// Opens all ports in one mode or none. The chunks of ports that did not stay go to `umem`, or in zero-copy, where the device
/// may have them, to `abandoned`.
fn open_in_mode(
    umem: &mut Umem,
    places: &[Place],
    config: &PortConfig,
    mode: LiveMode,
    abandoned: &mut Vec<u32>,
) -> Result<Vec<Port>, Error> {
    let mut ports: Vec<Port> = Vec::new();
    for place in places {
        match open_one(umem, place, config, mode, ports.first()) {
            Ok(port) => ports.push(port),
            Err(error) => {
                let chunks = ports.into_iter().flat_map(Port::abandon);
                match mode {
                    LiveMode::ZeroCopy => abandoned.extend(chunks),
                    LiveMode::Copy => chunks.for_each(|index| umem.give_back(index)),
                }
                return Err(error);
            }
        }
    }
    Ok(ports)
}

fn open_one(
    umem: &mut Umem,
    place: &Place,
    config: &PortConfig,
    mode: LiveMode,
    first: Option<&Port>,
) -> Result<Port, Error> {
    let name = place.interface.name.as_str();
    let socket = Socket::new().map_err(|e| place.failed("open an AF_XDP socket", e))?;
    if first.is_none() {
        let region = umem.region();
        socket
            .register_umem(region.shared(), region.chunk())
            .map_err(|e| place.failed("register the UMEM", e))?;
    }
    if config.chains && !socket.knows_chains() {
        return Err(Error::NoChains { interface: name.to_owned() });
    }
    let rings = make_rings(&socket, umem, config).map_err(|e| place.failed("make the rings", e))?;
    config.tuning.apply(&socket, config.tx).map_err(|e| place.failed("tune the AF_XDP socket", e))?;
    let mut port = Port::new(socket, rings, name, place.queue, config.tuning);
    // Before binding: some drivers take their first frames at that moment.
    port.prefill(umem, config.fill);

    let deadline = Instant::now() + QUEUE_DEADLINE;
    let wanted = config.tuning.flags() | if config.chains { libc::XDP_USE_SG } else { 0 };
    // With XDP_SHARED_UMEM any other flag is an error: the first port's flags hold.
    let flags = match (first, mode) {
        (Some(_), _) => libc::XDP_SHARED_UMEM,
        (None, LiveMode::ZeroCopy) => libc::XDP_ZEROCOPY | wanted,
        (None, LiveMode::Copy) => libc::XDP_COPY | wanted,
    };
    loop {
        let Err(source) = port.bind(place.interface.index, flags, first.map(AsFd::as_fd)) else {
            return Ok(port);
        };
        if source.raw_os_error() == Some(libc::EBUSY) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(10));
            continue;
        }
        // The kernel refused, so it used none of the chunks.
        port.abandon().into_iter().for_each(|index| umem.give_back(index));
        return Err(place.bind_failed(mode, source));
    }
}

fn make_rings(socket: &Socket, umem: &Umem, config: &PortConfig) -> io::Result<Rings> {
    socket.make_ring(libc::XDP_UMEM_FILL_RING, config.fill)?;
    socket.make_ring(libc::XDP_UMEM_COMPLETION_RING, config.completion)?;
    socket.make_ring(libc::XDP_RX_RING, config.rx)?;
    socket.make_ring(libc::XDP_TX_RING, config.tx)?;
    let offsets = socket.ring_offsets()?;
    let rx = map::<libc::xdp_desc>(socket, libc::XDP_PGOFF_RX_RING, &offsets.rx, config.rx)?;
    let tx = map::<libc::xdp_desc>(socket, libc::XDP_PGOFF_TX_RING, &offsets.tx, config.tx)?;
    let fill = map::<u64>(socket, libc::XDP_UMEM_PGOFF_FILL_RING as libc::off_t, &offsets.fr, config.fill)?;
    let completion = map::<u64>(
        socket,
        libc::XDP_UMEM_PGOFF_COMPLETION_RING as libc::off_t,
        &offsets.cr,
        config.completion,
    )?;
    Ok(Rings::new(
        Arc::clone(umem.region()),
        Consumer::new(rx, &offsets.rx, config.rx),
        Producer::new(tx, &offsets.tx, config.tx),
        Producer::new(fill, &offsets.fr, config.fill),
        Consumer::new(completion, &offsets.cr, config.completion),
    ))
}

fn map<T: Plain>(
    socket: &Socket,
    at: libc::off_t,
    offsets: &libc::xdp_ring_offset,
    size: u32,
) -> io::Result<Arc<Mapping>> {
    let len = offsets.desc as usize + size as usize * size_of::<T>();
    socket.map_ring(at, len).map(Arc::new)
}

impl PortConfig {
    fn check(&self) -> Result<(), Error> {
        let rings = [("rx", self.rx), ("tx", self.tx), ("fill", self.fill), ("completion", self.completion)];
        match rings.into_iter().find(|(_, size)| !size.is_power_of_two()) {
            Some((ring, size)) => Err(Error::RingSize { ring, size }),
            None => Ok(()),
        }
    }
}

/// A queue that exists, of an interface that is up.
struct Place {
    interface: Interface,
    queue: u32,
}

impl Place {
    fn find(name: &str, queue: u32) -> Result<Self, Error> {
        let interface = Interface::find(name)?;
        if !interface.up {
            return Err(Error::Down { interface: interface.name });
        }
        if queue >= interface.queues {
            return Err(Error::NoQueue { interface: interface.name, queue, queues: interface.queues });
        }
        Ok(Self { interface, queue })
    }

    fn failed(&self, action: &'static str, source: io::Error) -> Error {
        Error::from_kernel(&self.interface.name, self.queue, action, source)
    }

    /// Drivers refuse zero-copy with many error numbers; those that copy mode would meet as well are no such refusal.
    fn bind_failed(&self, mode: LiveMode, source: io::Error) -> Error {
        let common = matches!(
            source.raw_os_error(),
            Some(libc::EBUSY | libc::ENETDOWN | libc::ENODEV | libc::ENXIO | libc::EPERM | libc::EACCES)
        );
        if mode == LiveMode::ZeroCopy && !common {
            let (interface, queue) = (self.interface.name.clone(), self.queue);
            return Error::NoZeroCopy { interface, queue, source };
        }
        self.failed("bind the AF_XDP socket", source)
    }
}
