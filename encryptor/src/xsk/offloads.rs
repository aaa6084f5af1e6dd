use std::io;

use super::error::Error;
use super::interface::Query;

/// Something that a device or its driver does to frames before XDP sees them, or to what the kernel sends from a port after it,
/// so that bytes would be hidden or wrong: a tag that is stripped, segments that are merged or not yet cut, a checksum that is
/// not yet there (kernel: Documentation/networking/segmentation-offloads.rst, checksum-offloads.rst).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Offload {
    /// VLAN tags are taken out of received frames: a frame would lose its VLAN.
    RxVlan,
    /// Received segments are merged by the device: frames would come out larger than they went in.
    Lro,
    /// The same by the kernel.
    Gro,
    /// TCP segments are cut by the device.
    Tso,
    /// The same by the kernel, late.
    Gso,
    /// Checksums are written by the device; on veth by nobody, for the other end is trusted to be the same host.
    TxChecksum,
}

impl Offload {
    /// All, in the order in which they are switched off.
    pub const ALL: [Offload; 6] =
        [Offload::RxVlan, Offload::Lro, Offload::Gro, Offload::Tso, Offload::Gso, Offload::TxChecksum];

    /// What `ethtool -K` calls it.
    pub fn name(self) -> &'static str {
        match self {
            Offload::RxVlan => "rxvlan",
            Offload::Lro => "lro",
            Offload::Gro => "gro",
            Offload::Tso => "tso",
            Offload::Gso => "gso",
            Offload::TxChecksum => "tx",
        }
    }

    /// Whether received frames would not be what was sent: then a device that does not stop is of no use. The others touch only
    /// what the kernel sends or would receive.
    fn is_vital(self) -> bool {
        matches!(self, Offload::RxVlan | Offload::Lro)
    }

    /// The commands to ask and to set it, and its bit in their data (`linux/ethtool.h`).
    fn commands(self) -> (u32, u32, u32) {
        match self {
            Offload::RxVlan => (0x25, 0x26, 1 << 8),
            Offload::Lro => (0x25, 0x26, 1 << 15),
            Offload::Gro => (0x2b, 0x2c, 1),
            Offload::Tso => (0x1e, 0x1f, 1),
            Offload::Gso => (0x23, 0x24, 1),
            Offload::TxChecksum => (0x16, 0x17, 1),
        }
    }

    /// Whether it is on. A driver that does not know it does not do it.
    fn is_on(self, query: &mut Query) -> io::Result<bool> {
        let (get, _, bit) = self.commands();
        match query.ethtool(get, 0) {
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(false),
            answer => answer.map(|data| data & bit != 0),
        }
    }

    fn switch(self, query: &mut Query, on: bool) -> io::Result<()> {
        let (get, set, bit) = self.commands();
        let data = query.ethtool(get, 0)?;
        let wanted = if on { data | bit } else { data & !bit };
        query.ethtool(set, wanted).map(drop)
    }
}

/// Which offloads of the interface `name` are on.
pub fn offloads_on(name: &str) -> Result<Vec<Offload>, Error> {
    let failed = |source: io::Error| Error::from_kernel(name, 0, "ask for its offloads (ethtool -k)", source);
    let mut query = Query::new(name).map_err(failed)?;
    let mut on = Vec::new();
    for offload in Offload::ALL {
        if offload.is_on(&mut query).map_err(failed)? {
            on.push(offload);
        }
    }
    Ok(on)
}

/// Offloads of an interface that were on and are off for as long as this lives.
#[derive(Debug)]
pub struct OffloadsOff {
    interface: String,
    switched: Vec<Offload>,
}

impl OffloadsOff {
    /// Switches off all that are on. One that cannot be is an error where it matters for received frames.
    pub fn new(name: &str) -> Result<OffloadsOff, Error> {
        let mut off = OffloadsOff { interface: name.to_owned(), switched: Vec::new() };
        // From here on a failure drops `off`, which puts back what was switched.
        for offload in offloads_on(name)? {
            match Query::new(name).and_then(|mut query| offload.switch(&mut query, false)) {
                Ok(()) => off.switched.push(offload),
                Err(error) if !offload.is_vital() => {
                    tracing::debug!("{name}: {} stays on: {error}", offload.name());
                }
                Err(error) => {
                    let action = "switch rxvlan and lro off (ethtool -K)";
                    return Err(Error::from_kernel(name, 0, action, error));
                }
            }
        }
        Ok(off)
    }

    /// The names of what was switched off, as `ethtool -K` calls them.
    pub fn names(&self) -> Vec<&'static str> {
        self.switched.iter().map(|offload| offload.name()).collect()
    }
}

impl Drop for OffloadsOff {
    /// In the opposite order: segmentation needs the checksums.
    fn drop(&mut self) {
        let name = &self.interface;
        for offload in self.switched.iter().rev() {
            if let Err(error) = Query::new(name).and_then(|mut query| offload.switch(&mut query, true)) {
                tracing::warn!("{name}: {} cannot be switched on again: {error}", offload.name());
            }
        }
    }
}
