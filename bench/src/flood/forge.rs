//! Forged packets, each kind after its own recipe.

use anyhow::{Result, ensure};
use qhaul::spi::{Epoch, Spi};
use qhaul::wire::source_port;
use serde::Serialize;

/// Where things stand in a packet of the lab: Ethernet 14, IPv4 20, UDP 8, ESP 8, IV 8.
const IP: usize = 14;
const UDP: usize = 34;
const ESP: usize = 42;
const BODY: usize = 58;

/// A kind of forged packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// A random slot in the live epoch: each would cost a key derivation.
    RandomSpi,
    /// The SPI of a flow, and a fresh number: each costs an AEAD operation.
    BadIcv,
    /// An epoch that no keys are held for.
    UnknownEpoch,
    /// A genuine packet again.
    Replay,
    /// The same on each queue in turn.
    ReplayElsewhere,
    /// Cut in the middle.
    Truncated,
    /// As large as the wire takes, and random.
    Oversized,
    /// An IP fragment.
    Fragment,
    /// Another UDP port.
    WrongPort,
    /// Another source address.
    ForeignSource,
}

impl Kind {
    pub(crate) const ALL: [Kind; 10] = [
        Kind::RandomSpi,
        Kind::BadIcv,
        Kind::UnknownEpoch,
        Kind::Replay,
        Kind::ReplayElsewhere,
        Kind::Truncated,
        Kind::Oversized,
        Kind::Fragment,
        Kind::WrongPort,
        Kind::ForeignSource,
    ];
}

/// Makes forged packets out of a genuine one.
pub(crate) struct Forger {
    kind: Kind,
    genuine: Vec<u8>,
    epoch: Epoch,
    made: u64,
    random: u64,
}

impl Forger {
    pub(crate) fn new(kind: Kind, genuine: &[u8]) -> Result<Forger> {
        let epoch = epoch_of(genuine)?;
        Ok(Forger { kind, genuine: genuine.to_vec(), epoch, made: 0, random: 0x9e37_79b9_7f4a_7c15 })
    }

    /// From here on out of another genuine packet, such as one of the epoch in use now.
    pub(crate) fn renew(&mut self, genuine: &[u8]) -> Result<()> {
        self.epoch = epoch_of(genuine)?;
        self.genuine = genuine.to_vec();
        Ok(())
    }

    /// The queue that the next packet is sent on.
    pub(super) fn queue(&self) -> usize {
        match self.kind {
            Kind::Replay => 0,
            _ => (self.made % 2) as usize,
        }
    }

    /// The next packet.
    pub(super) fn make(&mut self) -> Vec<u8> {
        self.made += 1;
        let mut packet = self.genuine.clone();
        match self.kind {
            Kind::RandomSpi => {
                let slot = 1 + self.any() as u32 % 2047;
                let lane = self.any() as u8 % 2;
                write_spi(&mut packet, Spi::new(self.epoch, lane, slot));
                self.garble(&mut packet);
            }
            Kind::BadIcv => self.garble(&mut packet),
            Kind::UnknownEpoch => {
                let slot = self.any() as u32 % 4096;
                write_spi(&mut packet, Spi::new(self.epoch.next().next(), 0, slot));
            }
            Kind::Replay | Kind::ReplayElsewhere => {}
            Kind::Truncated => packet.truncate(packet.len() / 2),
            Kind::Oversized => {
                packet.resize(IP + 1600, 0x5a);
                set_lengths(&mut packet);
                self.garble(&mut packet);
            }
            Kind::Fragment => packet[IP + 6] = 0x20,
            Kind::WrongPort => packet[UDP + 3] ^= 1,
            Kind::ForeignSource => packet[IP + 15] ^= 0x40,
        }
        packet
    }

    /// A number that was never seen, and a body that is not genuine.
    fn garble(&mut self, packet: &mut [u8]) {
        let number = (1 << 20) + self.made;
        packet[ESP + 4..ESP + 8].copy_from_slice(&(number as u32).to_be_bytes());
        packet[ESP + 8..BODY].copy_from_slice(&number.to_be_bytes());
        let noise = self.any().to_be_bytes();
        packet[BODY..BODY + 8].copy_from_slice(&noise);
    }

    /// Marsaglia's xorshift: enough to be no pattern.
    fn any(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}

/// Whether a frame is ESP in UDP, and no probe.
pub(crate) fn is_traffic(frame: &[u8]) -> bool {
    let esp = frame.len() > BODY + 100 && frame[12..14] == [8, 0] && frame[IP + 9] == 17;
    esp && frame[UDP + 2..UDP + 4] == 4500_u16.to_be_bytes()
        && frame[ESP + 1..ESP + 4].iter().any(|byte| byte & 0x1f != 0)
}

fn epoch_of(genuine: &[u8]) -> Result<Epoch> {
    ensure!(is_traffic(genuine), "the packet is no ESP in UDP");
    Epoch::try_from(genuine[ESP] >> 2).map_err(anyhow::Error::msg)
}

fn write_spi(packet: &mut [u8], spi: Spi) {
    packet[ESP..ESP + 4].copy_from_slice(&spi.value().to_be_bytes());
    packet[UDP..UDP + 2].copy_from_slice(&source_port(spi).to_be_bytes());
}

/// Lengths of IP and UDP that agree with the frame's. The receiver leaves the IP checksum to the network card.
fn set_lengths(packet: &mut [u8]) {
    let (ip, udp) = ((packet.len() - IP) as u16, (packet.len() - UDP) as u16);
    packet[IP + 2..IP + 4].copy_from_slice(&ip.to_be_bytes());
    packet[UDP + 4..UDP + 6].copy_from_slice(&udp.to_be_bytes());
}
