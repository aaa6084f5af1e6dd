/// The type list of `clear.h`.
const MAX_TYPES: usize = 16;
const ANY: u32 = 1;
const PTP: u32 = 2;

/// What may cross in clear, as the policy's bypass rules have it. The default: nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClearSettings {
    /// Frames of every type are given to the worker.
    pub any: bool,
    /// Frames of these types are, by what stands behind their addresses; 0 for IEEE 802.2. More than fit count as all.
    pub types: Vec<u16>,
    /// Untagged PTP is forwarded to the interface of this number, past the worker.
    pub ptp_port: Option<u32>,
}

impl ClearSettings {
    /// `struct clear` of `clear.h`, in host byte order.
    pub(crate) fn to_bytes(&self) -> [u8; 44] {
        let any = self.any || self.types.len() > MAX_TYPES;
        let flags = if any { ANY } else { 0 } | if self.ptp_port.is_some() { PTP } else { 0 };
        let mut bytes = [0; 44];
        bytes[0..4].copy_from_slice(&flags.to_ne_bytes());
        bytes[4..8].copy_from_slice(&self.ptp_port.unwrap_or(0).to_ne_bytes());
        bytes[8..12].copy_from_slice(&(self.types.len().min(MAX_TYPES) as u32).to_ne_bytes());
        for (place, ethertype) in bytes[12..].chunks_exact_mut(2).zip(&self.types) {
            place.copy_from_slice(&ethertype.to_ne_bytes());
        }
        bytes
    }
}
