use std::os::fd::AsFd;

use libbpf_rs::{Program, ProgramHandle, Xdp, XdpFlags};
use nix::net::if_::if_nametoindex;

use crate::Error;
use crate::object::hear;

/// Where in the kernel the program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachMode {
    /// In the driver, before the kernel builds a packet of its own. Needs a driver with XDP.
    Native,
    /// In the network core. Works with every driver, and is slow.
    Generic,
}

/// A program's place at an interface. Dropping it detaches the program, unless another has taken the place.
#[derive(Debug)]
pub(crate) struct Attachment {
    interface: String,
    ifindex: i32,
    mode: AttachMode,
    program: ProgramHandle,
    replaced: bool,
    stays: bool,
}

impl Attachment {
    /// Attaches `program`, in place of a stale one of ours; a foreign one is refused.
    pub(crate) fn new(interface: &str, mode: AttachMode, program: &Program<'_>) -> Result<Self, Error> {
        let ifindex = if_nametoindex(interface)
            .map_err(|_| Error::NoInterface { interface: interface.to_owned() })?
            .cast_signed();
        let failed = |action, e, said: &[String]| Error::from_kernel(interface, action, e, said);
        let handle = Program::id_from_fd(program.as_fd())
            .and_then(ProgramHandle::from_prog_id)
            .map_err(|e| failed("open the XDP program", e, &[]))?;
        let xdp = Xdp::new(program.as_fd());

        let stale = occupant(&xdp, interface, ifindex)?;
        let exclusive = match stale {
            // Over one of our own in the same mode there is no moment without a program.
            Some(found) if found == mode => XdpFlags::NONE,
            // The kernel takes no second mode beside the first, so there has to be such a moment.
            Some(found) => {
                xdp.detach(ifindex, flags(found))
                    .map_err(|e| failed("detach the stale XDP program", e, &[]))?;
                XdpFlags::UPDATE_IF_NOEXIST
            }
            None => XdpFlags::UPDATE_IF_NOEXIST,
        };
        let (attached, said) = hear(|| xdp.attach(ifindex, flags(mode) | exclusive));
        attached.map_err(|e| failed("attach the XDP program", e, &said))?;
        let replaced = stale.is_some();
        Ok(Self { interface: interface.to_owned(), ifindex, mode, program: handle, replaced, stays: false })
    }

    pub(crate) fn id(&self) -> u32 {
        self.program.id()
    }

    /// Whether a program of ours, left by a process that was killed or failed, was there before.
    pub(crate) fn replaced_stale(&self) -> bool {
        self.replaced
    }

    /// Leaves the program attached when this is dropped: the port stays shut without its process.
    pub(crate) fn leave(&mut self) {
        self.stays = true;
    }

    fn detach(&self) -> libbpf_rs::Result<()> {
        let xdp = Xdp::new(self.program.as_fd());
        if xdp.query_id(self.ifindex, flags(self.mode))? != self.program.id() {
            return Ok(());
        }
        // A window of microseconds remains between the look and the act: libbpf-rs cannot name the program to detach.
        xdp.detach(self.ifindex, flags(self.mode))
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        if self.stays {
            return;
        }
        let Self { interface, program, .. } = &*self;
        match self.detach() {
            Ok(()) => tracing::debug!("{interface}: XDP program {} detached", program.id()),
            Err(error) => tracing::warn!("{interface}: cannot detach XDP program {}: {error}", program.id()),
        }
    }
}

/// Programs of ours, of whatever version, are known by their names.
const OUR_PREFIX: &str = "qhaul_";

/// The mode in which a program of ours is attached already, if one is; any other program is an error.
fn occupant(xdp: &Xdp<'_>, interface: &str, ifindex: i32) -> Result<Option<AttachMode>, Error> {
    let found = xdp
        .query(ifindex, XdpFlags::NONE)
        .map_err(|e| Error::from_kernel(interface, "ask for the attached XDP program", e, &[]))?;
    let places = [
        (found.drv_prog_id, "xdpdrv", Some(AttachMode::Native)),
        (found.skb_prog_id, "xdpgeneric", Some(AttachMode::Generic)),
        (found.hw_prog_id, "xdpoffload", None),
    ];
    let Some((id, keyword, mode)) = places.into_iter().find(|(id, ..)| *id != 0) else {
        return Ok(None);
    };
    let name = ProgramHandle::from_prog_id(id).map(|program| program.name().to_string_lossy().into_owned());
    let name = name.unwrap_or_else(|_| "unknown".to_owned());
    match mode {
        Some(mode) if name.starts_with(OUR_PREFIX) => {
            tracing::info!("{interface}: replacing XDP program {id} ({name}), left by an earlier run");
            Ok(Some(mode))
        }
        _ => Err(Error::Foreign { interface: interface.to_owned(), id, name, keyword }),
    }
}

fn flags(mode: AttachMode) -> XdpFlags {
    match mode {
        AttachMode::Native => XdpFlags::DRV_MODE,
        AttachMode::Generic => XdpFlags::SKB_MODE,
    }
}
