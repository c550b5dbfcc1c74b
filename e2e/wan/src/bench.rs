//! Measures what the emulator forwards: full-size UDP between two namespaces of its own.

use crate::conditions::Conditions;
use crate::config::{Config, LinkConfig, SiteConfig};
use crate::emulator::{Emulator, EmulatorError};
use crate::netns::{Netns, add_address};
use crate::stats::Stats;
use crate::sys;
use nix::sys::socket::{setsockopt, sockopt};
use std::io;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// UDP payload of a 1,500-byte IPv4 packet.
const PAYLOAD: usize = 1472;
const FROM: &str = "172.31.1.1";
const TO: &str = "172.31.2.1";

/// What to measure.
#[derive(Clone, Debug)]
pub struct Plan {
    /// For how long.
    pub duration: Duration,
    /// Packets offered a second.
    pub rate: u64,
    /// Conditions of the direction.
    pub conditions: Conditions,
}

/// What was measured.
#[derive(Clone, Debug)]
pub struct Report {
    /// Packets a second that were sent.
    pub offered: f64,
    /// Packets a second that the emulator wrote to the far site.
    pub forwarded: f64,
    /// Packets a second that the far socket got.
    pub received: f64,
    /// Every counter, unintended drops among them.
    pub stats: Stats,
}

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// Namespaces, sockets.
    #[error("cannot prepare the namespaces or sockets: {0}; run as root")]
    Io(#[from] io::Error),
    /// The emulator.
    #[error(transparent)]
    Emulator(#[from] EmulatorError),
    /// No counters.
    #[error("the emulator has no counters for its own direction; this is a bug")]
    NoCounters,
}

/// Runs one measurement. The namespaces have no name and vanish with it.
///
/// # Errors
/// When namespaces, sockets or the emulator can't be set up.
pub fn run(plan: &Plan) -> Result<Report, BenchError> {
    let (near, far) = (Netns::create()?, Netns::create()?);
    let mut config =
        Config::new(vec![site("near", &near, "172.31.1.0/24"), site("far", &far, "172.31.2.0/24")]);
    config.links.push(LinkConfig {
        from: "near".into(),
        to: "far".into(),
        named: None,
        conditions: Some(plan.conditions.clone()),
    });
    let emulator = Emulator::start(config)?;
    let receiver = far.run(|| socket(TO))??;
    let sender = near.run(|| socket(FROM))??;
    receiver.set_read_timeout(Some(Duration::from_millis(100)))?;
    sender.connect(receiver.local_addr()?)?;
    let (stop, received) = (AtomicBool::new(false), AtomicU64::new(0));
    let sent = std::thread::scope(|scope| {
        scope.spawn(|| count(&receiver, &stop, &received));
        let sent = send(&sender, plan).and_then(|sent| {
            settle(&emulator)?;
            Ok(sent)
        });
        stop.store(true, Ordering::Relaxed);
        sent
    })?;
    let stats = emulator.stats()?;
    let forwarded = stats.direction("near", "far").ok_or(BenchError::NoCounters)?.forwarded;
    let per_second = |count: u64| count as f64 / plan.duration.as_secs_f64();
    Ok(Report {
        offered: per_second(sent),
        forwarded: per_second(forwarded),
        received: per_second(received.load(Ordering::Relaxed)),
        stats,
    })
}

fn site(name: &str, netns: &Netns, prefix: &str) -> SiteConfig {
    let prefixes = vec![prefix.parse().expect("a constant prefix")];
    SiteConfig::new(name.into(), netns.path(), prefixes)
}

fn socket(address: &str) -> io::Result<UdpSocket> {
    let net = format!("{address}/32").parse().expect("a constant address");
    add_address("lo", net)?;
    let socket = UdpSocket::bind((address, 0))?;
    setsockopt(&socket, sockopt::RcvBufForce, &(32 << 20))?;
    Ok(socket)
}

fn count(receiver: &UdpSocket, stop: &AtomicBool, received: &AtomicU64) {
    while !stop.load(Ordering::Relaxed) {
        // A time-out shows whether to stop.
        if let Ok(more) = sys::receive_many(receiver) {
            received.fetch_add(more as u64, Ordering::Relaxed);
        }
    }
}

/// Sends by the clock: as many as should have been sent by now.
fn send(sender: &UdpSocket, plan: &Plan) -> Result<u64, BenchError> {
    let payload = [0u8; PAYLOAD];
    let start = Instant::now();
    let mut sent = 0;
    loop {
        let elapsed = start.elapsed();
        if elapsed >= plan.duration {
            return Ok(sent);
        }
        let due = (elapsed.as_secs_f64() * plan.rate as f64) as u64;
        match due.saturating_sub(sent) {
            0 => std::thread::sleep(Duration::from_micros(100)),
            missing => {
                let count = missing.min(sys::BATCH as u64) as usize;
                sent += sys::send_many(sender, &payload, count)? as u64;
            }
        }
    }
}

/// Waits until nothing is under way any more.
fn settle(emulator: &Emulator) -> Result<(), BenchError> {
    let mut before = 0;
    let deadline = Instant::now() + Duration::from_secs(10);
    while Instant::now() < deadline {
        let stats = emulator.stats()?;
        let direction = stats.direction("near", "far").ok_or(BenchError::NoCounters)?;
        if direction.forwarded == before && stats.sites.iter().all(|site| site.in_flight == 0) {
            break;
        }
        before = direction.forwarded;
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
