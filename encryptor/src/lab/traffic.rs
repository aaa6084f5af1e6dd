//! Paced UDP that counts itself.

use std::collections::HashSet;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, UdpSocket};
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt::RcvBufForce};

use super::error::{LabError, Result, io_error};
use super::namespace::{inside, inside_named};
use super::ping::MARKER;
use super::plan::{Node, Side};
use super::topology::Topology;

const PORT: u16 = 7000;
/// Flows, each from a port of its own: enough that several queues get some of them.
const FLOWS: usize = 16;
/// Silence after which nothing is under way any more, once sending has ended.
const SILENCE: Duration = Duration::from_millis(1500);

/// Numbered UDP datagrams at a steady pace from one host to the other, over sixteen flows unless told otherwise. Each carries the text that the
/// eavesdropper looks for.
#[derive(Debug)]
pub struct Traffic {
    flows: usize,
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    received: Arc<AtomicU64>,
    sender: JoinHandle<Result<Vec<Instant>>>,
    receiver: JoinHandle<Result<Vec<Arrival>>>,
}

/// What passed.
#[derive(Clone, Debug)]
pub struct Passed {
    /// Flows, taken in turn.
    pub flows: usize,
    /// When each datagram was sent, by its number.
    pub sent: Vec<Instant>,
    /// Each that arrived, in the order in which they did.
    pub arrivals: Vec<Arrival>,
}

/// A datagram that arrived.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// Its number.
    pub number: u64,
    /// When it came.
    pub at: Instant,
}

impl Traffic {
    /// Starts sending from one host to the other, `rate` datagrams a second.
    pub fn start(topology: &Topology, from: Side, rate: u32) -> Result<Traffic> {
        Traffic::of_flows(topology, from, FLOWS, rate)
    }

    /// The same over so many flows.
    pub fn of_flows(topology: &Topology, from: Side, flows: usize, rate: u32) -> Result<Traffic> {
        let addresses = [from.host_v4(), from.peer().host_v4()].map(IpAddr::from);
        Traffic::open(topology, from, addresses, flows, rate)
    }

    /// The same from one address of that host to one of the other.
    pub fn between(topology: &Topology, from: Side, addresses: [IpAddr; 2], rate: u32) -> Result<Traffic> {
        Traffic::open(topology, from, addresses, FLOWS, rate)
    }

    fn open(
        topology: &Topology,
        from: Side,
        [source, destination]: [IpAddr; 2],
        flows: usize,
        rate: u32,
    ) -> Result<Traffic> {
        let inbox = inside(topology, Node::Host(from.peer()), || inbox(destination, PORT))?;
        let outboxes = inside(topology, Node::Host(from), || outboxes(source, destination, PORT, flows))?;
        Ok(Traffic::through(inbox?, outboxes?, rate))
    }

    /// The same between hosts of any namespaces, to a port of its own.
    pub fn between_namespaces(
        [from, to]: [&str; 2],
        [source, destination]: [IpAddr; 2],
        port: u16,
        rate: u32,
    ) -> Result<Traffic> {
        let inbox = inside_named(to, || inbox(destination, port))?;
        let outboxes = inside_named(from, || outboxes(source, destination, port, FLOWS))?;
        Ok(Traffic::through(inbox?, outboxes?, rate))
    }

    fn through(inbox: UdpSocket, outboxes: Vec<UdpSocket>, rate: u32) -> Traffic {
        let flows = outboxes.len();
        let (stop, sent, received) = <(Arc<AtomicBool>, Arc<AtomicU64>, Arc<AtomicU64>)>::default();
        let sender = {
            let (stop, count) = (stop.clone(), sent.clone());
            thread::spawn(move || send(&outboxes, rate, &stop, &count))
        };
        let receiver = {
            let (stop, sent, count) = (stop.clone(), sent.clone(), received.clone());
            thread::spawn(move || receive(&inbox, &stop, &sent, &count))
        };
        Traffic { flows, stop, sent, received, sender, receiver }
    }

    /// Datagrams sent so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Datagrams that have arrived so far.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Stops sending and waits for what is under way.
    pub fn finish(self) -> Result<Passed> {
        self.stop.store(true, Ordering::Relaxed);
        let sent = self.sender.join().unwrap_or_else(|panic| resume_unwind(panic))?;
        let arrivals = self.receiver.join().unwrap_or_else(|panic| resume_unwind(panic))?;
        Ok(Passed { flows: self.flows, sent, arrivals })
    }
}

impl Passed {
    /// Numbers that never arrived.
    pub fn lost(&self) -> Vec<u64> {
        let arrived: HashSet<u64> = self.arrivals.iter().map(|arrival| arrival.number).collect();
        (0..self.sent.len() as u64).filter(|number| !arrived.contains(number)).collect()
    }

    /// Datagrams that arrived a second time.
    pub fn duplicates(&self) -> usize {
        self.arrivals.len() - (self.sent.len() - self.lost().len())
    }

    /// Datagrams that were sent after the one moment and before the other, and arrived, whenever they did.
    pub fn through(&self, after: Instant, before: Instant) -> usize {
        let sent = |arrival: &&Arrival| self.sent[arrival.number as usize];
        self.arrivals.iter().filter(|arrival| sent(arrival) > after && sent(arrival) < before).count()
    }

    /// Whether each flow's datagrams arrived in the order in which they were sent.
    pub fn in_order(&self) -> bool {
        self.reordered().is_empty()
    }

    /// Datagrams that arrived behind one of their flow that was sent later.
    pub fn reordered(&self) -> Vec<Arrival> {
        let mut newest = vec![None; self.flows];
        let is_late = |arrival: &&Arrival| {
            let newest = &mut newest[arrival.number as usize % self.flows];
            let late = newest.is_some_and(|newest| arrival.number <= newest);
            *newest = (*newest).max(Some(arrival.number));
            late
        };
        self.arrivals.iter().filter(is_late).copied().collect()
    }

    /// Time from `moment` to the first arrival of a datagram that was sent after it.
    pub fn resumed_after(&self, moment: Instant) -> Option<Duration> {
        let late = |arrival: &&Arrival| self.sent[arrival.number as usize] >= moment;
        self.arrivals.iter().find(late).map(|arrival| arrival.at.saturating_duration_since(moment))
    }
}

fn inbox(address: IpAddr, port: u16) -> Result<UdpSocket> {
    let open = || -> io::Result<UdpSocket> {
        let socket = UdpSocket::bind((address, port))?;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        // What this process does not read in time is not the encryptor's loss.
        setsockopt(&socket, RcvBufForce, &(16 << 20))?;
        Ok(socket)
    };
    open().map_err(io_error(format!("cannot receive at {address}")))
}

fn outboxes(source: IpAddr, destination: IpAddr, port: u16, flows: usize) -> Result<Vec<UdpSocket>> {
    let open = |_| -> io::Result<UdpSocket> {
        let socket = UdpSocket::bind((source, 0))?;
        socket.connect((destination, port))?;
        Ok(socket)
    };
    let opened: io::Result<Vec<UdpSocket>> = (0..flows.max(1)).map(open).collect();
    opened.map_err(io_error(format!("cannot send from {source}")))
}

fn send(outboxes: &[UdpSocket], rate: u32, stop: &AtomicBool, count: &AtomicU64) -> Result<Vec<Instant>> {
    let pace = Duration::from_secs(1) / rate.max(1);
    let mut sent = Vec::new();
    let mut next = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let number = sent.len();
        let datagram = datagram(number);
        sent.push(Instant::now());
        let handed_over = outboxes[number % outboxes.len()].send(&datagram);
        handed_over.map_err(io_error(format!("cannot send datagram {number}")))?;
        count.store(sent.len() as u64, Ordering::Relaxed);
        // A machine that was busy elsewhere makes the pace slower, never a burst.
        next = (next + pace).max(Instant::now());
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    Ok(sent)
}

fn receive(
    inbox: &UdpSocket,
    stop: &AtomicBool,
    sent: &AtomicU64,
    count: &AtomicU64,
) -> Result<Vec<Arrival>> {
    let mut arrivals = Vec::new();
    let mut buffer = [0; 2048];
    let mut last = Instant::now();
    loop {
        match inbox.recv(&mut buffer) {
            Ok(length) => {
                last = Instant::now();
                let number = genuine(&buffer[..length], sent.load(Ordering::Relaxed) + 1)?;
                arrivals.push(Arrival { number, at: last });
                count.store(arrivals.len() as u64, Ordering::Relaxed);
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                let all = arrivals.len() as u64 >= sent.load(Ordering::Relaxed);
                let over = stop.load(Ordering::Relaxed) && (all || last.elapsed() > SILENCE);
                if over {
                    return Ok(arrivals);
                }
            }
            Err(error) => return Err(io_error("cannot receive datagrams")(error)),
        }
    }
}

/// The number of a datagram that arrived, if it is what was sent under this number, and below `end`.
fn genuine(bytes: &[u8], end: u64) -> Result<u64> {
    let number = bytes.first_chunk().map(|number| u64::from_be_bytes(*number));
    number.filter(|number| *number < end && bytes == datagram(*number as usize)).ok_or_else(|| {
        let detail = format!("it was never sent: {:02x?}", &bytes[..bytes.len().min(40)]);
        LabError::Unreadable { what: "a datagram that arrived".to_owned(), detail }
    })
}

/// The number, then the marker over and over; 64 to 1,400 bytes.
fn datagram(number: usize) -> Vec<u8> {
    let mut datagram = (number as u64).to_be_bytes().to_vec();
    datagram.extend(MARKER.iter().cycle().take(56 + number * 61 % 1337));
    datagram
}
