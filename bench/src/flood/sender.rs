//! Sends forged packets out of both queues of an interface, at a rate or as fast as it goes, for a time.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use qhaul::lab::wait::check_interrupt;
use qhaul::xsk::{BindMode, Frame, Port, PortConfig, Umem};

use super::QUEUES;
use super::forge::Forger;
use crate::wire::end::within;

const RING: u32 = 1024;
/// Packets handed to the kernel in one go.
const BURST: u64 = 32;

/// How many were sent, and how long it took. `renew` is asked in front of each burst whether there is a better genuine packet.
pub(crate) fn send(
    namespace: &str,
    interface: &str,
    forger: &mut Forger,
    rate: u32,
    time: Duration,
    renew: impl FnMut(&mut Forger) -> Result<()>,
) -> Result<(u64, Duration)> {
    within(namespace, || {
        let mut umem = Umem::new(RING * 4, 4096)?;
        let (bind, rx, tx, fill, completion) = (BindMode::Copy, 64, RING, 64, RING);
        let sizes = PortConfig { rx, tx, fill, completion, bind, ..PortConfig::default() };
        let queues: Vec<(&str, u32)> = (0..u32::from(QUEUES)).map(|queue| (interface, queue)).collect();
        let mut ports = Port::open_all(&mut umem, &queues, &sizes)?;
        let sent = pour(&mut umem, &mut ports, forger, rate, time, renew);
        for port in ports {
            port.close(&mut umem);
        }
        sent
    })
}

fn pour(
    umem: &mut Umem,
    ports: &mut [Port],
    forger: &mut Forger,
    rate: u32,
    time: Duration,
    mut renew: impl FnMut(&mut Forger) -> Result<()>,
) -> Result<(u64, Duration)> {
    let (start, mut made, mut sent) = (Instant::now(), 0, 0);
    while start.elapsed() < time {
        check_interrupt()?;
        renew(forger)?;
        let due = match rate {
            0 => made + BURST,
            rate => (start.elapsed().as_secs_f64() * f64::from(rate)) as u64,
        };
        if made >= due {
            std::thread::sleep(Duration::from_micros(300));
        }
        let mut out: Vec<Vec<Frame>> = ports.iter().map(|_| Vec::new()).collect();
        let end = due.min(made + BURST);
        while made < end {
            let queue = forger.queue();
            let Some(mut frame) = umem.alloc() else { break };
            let fits = frame.fill_from(&forger.make());
            out[queue].push(frame);
            ensure!(fits, "a forged packet does not fit a frame");
            made += 1;
        }
        for (port, mut frames) in ports.iter_mut().zip(out) {
            sent += port.transmit(umem, &mut frames) as u64;
            port.kick()?;
            port.complete(umem);
            frames.into_iter().for_each(|frame| umem.free(frame));
        }
    }
    Ok((sent, start.elapsed()))
}
