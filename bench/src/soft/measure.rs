//! How each figure of the soft bench is made.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use serde::{Serialize, Serializer};

use qhaul::BURST;
use qhaul::aead::{AeadKey, Engine, KeyStore, OpenJob, SealJob, open_burst, seal_burst};
use qhaul::esp::tail_len;
use qhaul::keys::EpochKey;
use qhaul::spi::{Epoch, Spi};
use qhaul::xsk::{Frame, Umem};

use crate::rig::{LARGEST, Rig};

/// Twelve frames of the simple IMIX, in an order that spreads the sizes.
const IMIX: [usize; 12] = [64, 570, 64, 64, 570, 64, 1514, 64, 570, 64, 64, 570];

/// How long plain frames are, in bytes.
#[derive(Clone, Copy)]
pub(crate) enum Length {
    Fixed(usize),
    Imix,
}

impl Length {
    /// The length of frame `number`.
    fn of(self, number: usize) -> usize {
        match self {
            Length::Fixed(size) => size,
            Length::Imix => IMIX[number % IMIX.len()],
        }
    }

    fn largest(self) -> usize {
        (0..IMIX.len()).map(|number| self.of(number)).max().unwrap_or_default()
    }

    pub(super) fn mean(self) -> f64 {
        let total: usize = (0..IMIX.len()).map(|number| self.of(number)).sum();
        total as f64 / IMIX.len() as f64
    }
}

impl FromStr for Length {
    type Err = String;

    fn from_str(text: &str) -> Result<Length, String> {
        match text.parse() {
            Ok(size @ 60..=LARGEST) => Ok(Length::Fixed(size)),
            _ if text == "imix" => Ok(Length::Imix),
            _ => Err("a size is within 60 to 9000, or \"imix\"".into()),
        }
    }
}

impl fmt::Display for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Length::Fixed(size) => size.fmt(f),
            Length::Imix => f.pad("imix"),
        }
    }
}

/// A number where there is one, so that rows can be drawn.
impl Serialize for Length {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Length::Fixed(size) => serializer.serialize_u64(*size as u64),
            Length::Imix => serializer.serialize_str("imix"),
        }
    }
}

/// A packet path whose flows are all known at both ends.
pub(crate) struct PacketPath {
    rig: Rig,
    size: Length,
    flows: u32,
    random: u64,
}

/// Makes a path and sends a packet of each flow through it.
pub(crate) fn packet_path(engine: Engine, size: Length, flows: u32) -> Result<PacketPath> {
    let mut rig = Rig::new(engine, flows, size.largest())?;
    let mut next = 0..flows;
    while !next.is_empty() {
        rig.load(|_| 64, || next.next().unwrap_or_default())?;
        rig.protect()?;
        rig.unprotect()?;
    }
    Ok(PacketPath { rig, size, flows, random: 0x9e37_79b9_7f4a_7c15 })
}

impl PacketPath {
    /// Nanoseconds a packet to protect and to unprotect, flows in random order. Writing the plain frames anew is not timed.
    pub(crate) fn run(&mut self, span: Duration) -> Result<(f64, f64)> {
        let mut spent = Spent::default();
        while spent.total() < span {
            spent.add(self.burst()?);
        }
        Ok(spent.per_packet())
    }

    /// A burst there and back: how long each way took.
    fn burst(&mut self) -> Result<(Duration, Duration)> {
        self.load()?;
        let start = Instant::now();
        self.rig.protect()?;
        let middle = Instant::now();
        self.rig.unprotect()?;
        Ok((middle - start, middle.elapsed()))
    }

    /// Writes plain frames anew.
    pub(super) fn load(&mut self) -> Result<()> {
        let (size, random, flows) = (self.size, &mut self.random, u64::from(self.flows));
        self.rig.load(|number| size.of(number), || (xorshift(random) % flows) as u32)
    }

    pub(crate) fn rig(&mut self) -> &mut Rig {
        &mut self.rig
    }

    pub(crate) fn close(self) {
        self.rig.close();
    }
}

/// The bare engine on bursts of as many bytes as the packet path gives it, with one key. They lie as packets do: where in a cache line
/// they began would else be the heap's affair, and was felt.
pub(super) struct BareAead {
    keys: KeyStore,
    umem: Umem,
    bodies: Vec<Frame>,
    sequence: u64,
}

impl BareAead {
    pub(super) fn new(engine: Engine, size: Length) -> Result<BareAead> {
        let mut keys = KeyStore::with_capacity(engine, 1);
        keys.push(&EpochKey::new(&[7; 32])?.flow_key(Self::spi())?);
        let mut umem = Umem::with_jumbos(BURST as u32, 4096, BURST as u32)?;
        let body = |number: usize| {
            let length = size.of(number) + tail_len(size.of(number));
            let mut frame = umem.alloc_for(length).context("the UMEM has a burst of frames")?;
            ensure!(frame.fill_from(&vec![0x5a; length]), "a body of {length} bytes does not fit");
            Ok(frame)
        };
        let bodies = (0..BURST).map(body).collect::<Result<_>>()?;
        Ok(BareAead { keys, umem, bodies, sequence: 0 })
    }

    /// Gives the memory back.
    pub(super) fn close(mut self) {
        self.bodies.drain(..).for_each(|frame| self.umem.free(frame));
    }

    fn spi() -> Spi {
        Spi::new(Epoch::FIRST, 0, 1)
    }

    /// Seals and opens a burst: how long each took. Making the jobs is not timed.
    pub(super) fn burst(&mut self) -> Result<(Duration, Duration)> {
        let (key, spi) = (AeadKey { key: self.keys.get(0), salt: [7; 4] }, Self::spi());
        let first = self.sequence + 1;
        self.sequence += BURST as u64;
        let jobs = (first..).zip(self.bodies.iter_mut().map(Frame::data_mut));
        let mut jobs: Vec<SealJob<'_>> =
            jobs.map(|(sequence, body)| SealJob { key, spi, sequence, body }).collect();
        let start = Instant::now();
        seal_burst(&mut jobs);
        let seal = start.elapsed();
        let jobs = (first..).zip(self.bodies.iter_mut().map(Frame::data_mut));
        let mut jobs: Vec<OpenJob<'_>> =
            jobs.map(|(iv, body)| OpenJob { key, spi, iv, sequence: iv, body, genuine: false }).collect();
        let start = Instant::now();
        open_burst(&mut jobs);
        let open = start.elapsed();
        ensure!(jobs.iter().all(|job| job.genuine), "the engine opens what it sealed");
        Ok((seal, open))
    }
}

/// Marsaglia's generator: fast, and the same in each run.
fn xorshift(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// Time that bursts took, there and back.
#[derive(Default)]
struct Spent {
    there: Duration,
    back: Duration,
    bursts: u32,
}

impl Spent {
    fn add(&mut self, (there, back): (Duration, Duration)) {
        self.there += there;
        self.back += back;
        self.bursts += 1;
    }

    fn total(&self) -> Duration {
        self.there + self.back
    }

    /// In nanoseconds.
    fn per_packet(&self) -> (f64, f64) {
        let packets = f64::from(self.bursts) * BURST as f64;
        (self.there.as_nanos() as f64 / packets, self.back.as_nanos() as f64 / packets)
    }
}

/// Nanoseconds a packet in each direction, by the packet path and by the engine alone.
pub(super) struct Pair {
    pub(super) path: (f64, f64),
    pub(super) bare: (f64, f64),
}

impl Pair {
    pub(super) fn round_trip(&self) -> f64 {
        self.path.0 + self.path.1
    }

    pub(super) fn aead(&self) -> f64 {
        self.bare.0 + self.bare.1
    }
}

/// Bursts of one before it is the other's turn: about a millisecond, so that a neighbour's work and the clock's steps fall on both.
const TURN: u32 = 64;

/// Both in turns, until the path was at work for `span`.
pub(super) fn in_turns(path: &mut PacketPath, bare: &mut BareAead, span: Duration) -> Result<Pair> {
    let [mut with, mut without] = [Spent::default(), Spent::default()];
    while with.total() < span {
        for _ in 0..TURN {
            without.add(bare.burst()?);
        }
        for _ in 0..TURN {
            with.add(path.burst()?);
        }
    }
    Ok(Pair { path: with.per_packet(), bare: without.per_packet() })
}
