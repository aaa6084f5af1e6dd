//! Legitimate traffic from host a to host b: UDP in several flows at a steady pace, counted at both ends.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use nix::sys::socket::{setsockopt, sockopt::RcvBufForce};
use qhaul::lab::Topology;
use qhaul::lab::plan::{Node, Side};

use crate::wire::end::within;

const PORT: u16 = 7002;
const FLOWS: usize = 16;
const SIZE: usize = 400;

/// Traffic that flows until it is finished.
pub(super) struct Legit {
    stop: Arc<AtomicBool>,
    sender: JoinHandle<Result<u64>>,
    receiver: JoinHandle<u64>,
}

impl Legit {
    pub(super) fn start(topology: &Topology, rate: u32) -> Result<Legit> {
        let inbox = within(&topology.namespace(Node::Host(Side::B)), || {
            let socket = UdpSocket::bind((Side::B.host_v4(), PORT))?;
            socket.set_read_timeout(Some(Duration::from_millis(100)))?;
            // What this process does not read in time is not the encryptor's loss.
            setsockopt(&socket, RcvBufForce, &(32 << 20))?;
            Ok(socket)
        })?;
        let outboxes = within(&topology.namespace(Node::Host(Side::A)), || {
            let open = |_| -> Result<UdpSocket> {
                let socket = UdpSocket::bind((Side::A.host_v4(), 0))?;
                socket.connect((Side::B.host_v4(), PORT))?;
                Ok(socket)
            };
            (0..FLOWS).map(open).collect::<Result<Vec<_>>>()
        })?;
        let stop = Arc::new(AtomicBool::new(false));
        let (sender_stop, receiver_stop) = (stop.clone(), stop.clone());
        let sender = thread::spawn(move || send(&outboxes, rate, &sender_stop));
        let receiver = thread::spawn(move || receive(&inbox, &receiver_stop));
        Ok(Legit { stop, sender, receiver })
    }

    /// Packets sent and received, once nothing is under way any more.
    pub(super) fn finish(self) -> Result<(u64, u64)> {
        self.stop.store(true, Ordering::Relaxed);
        let panicked = |_| anyhow!("the traffic panicked");
        let sent = self.sender.join().map_err(panicked)??;
        let received = self.receiver.join().map_err(panicked)?;
        Ok((sent, received))
    }
}

fn send(outboxes: &[UdpSocket], rate: u32, stop: &AtomicBool) -> Result<u64> {
    let pace = Duration::from_secs(1) / rate.max(1);
    let (mut sent, mut next) = (0, Instant::now());
    while !stop.load(Ordering::Relaxed) {
        outboxes[sent as usize % FLOWS].send(&[0x55; SIZE])?;
        sent += 1;
        // A machine that was busy elsewhere makes the pace slower, never a burst.
        next = (next + pace).max(Instant::now());
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    Ok(sent)
}

/// Until a second of silence after the end of sending.
fn receive(inbox: &UdpSocket, stop: &AtomicBool) -> u64 {
    let (mut received, mut last, mut buffer) = (0, Instant::now(), [0; 2 * SIZE]);
    while !stop.load(Ordering::Relaxed) || last.elapsed() < Duration::from_secs(1) {
        if inbox.recv(&mut buffer).is_ok() {
            received += 1;
            last = Instant::now();
        }
    }
    received
}
