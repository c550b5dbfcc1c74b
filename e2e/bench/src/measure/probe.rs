//! Round trips: small UDP datagrams sent by the clock, echoed at the far end, whether or not earlier
//! ones have come back.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use carrick_wan::sys::prefer_thread;

use crate::measure::iperf::{Way, client, parse, server};
use crate::measure::{Figures, Stop, Subject};
use crate::statistics::quantile;
use crate::world::World;

/// Datagrams of one measure.
const SAMPLES: u32 = 2000;
/// Between two of them.
const PACE: Duration = Duration::from_millis(1);
/// What comes later is lost.
const PATIENCE: Duration = Duration::from_secs(1);
/// A look at whether to stop.
const LOOK: Duration = Duration::from_millis(50);
/// Bytes of a datagram.
const SIZE: usize = 64;

/// Round trips without other traffic.
///
/// # Errors
/// When the sockets fail or nothing comes back.
pub fn idle(subject: &Subject<'_>) -> anyhow::Result<Figures> {
    figures("rtt", round_trips(subject.world, subject.near, subject.far, SAMPLES)?)
}

/// Round trips beside one TCP stream.
///
/// # Errors
/// When the sockets or iperf3 fail, or nothing comes back.
pub fn loaded(subject: &Subject<'_>) -> anyhow::Result<Figures> {
    let _server = server(subject)?;
    // Longer than the samples take, by far.
    let transfer = client(subject, Way::There, 1, 2 * SAMPLES / 1000)?;
    let trips = round_trips(subject.world, subject.near, subject.far, SAMPLES)?;
    parse(&transfer.output()?).context("the load")?;
    figures("rtt-loaded", trips)
}

/// Whether one datagram crosses and comes back.
///
/// # Errors
/// When it doesn't.
pub fn crosses(world: &World, near: Ipv4Addr, far: Ipv4Addr) -> anyhow::Result<()> {
    let back = round_trips(world, near, far, 1)?;
    back.first().map(drop).context("nothing came back")
}

fn figures(key: &str, mut trips: Vec<f64>) -> anyhow::Result<Figures> {
    trips.sort_by(f64::total_cmp);
    let at = |share| quantile(&trips, share).context("no datagram came back");
    let lost = 100.0 * (1.0 - trips.len() as f64 / f64::from(SAMPLES));
    let all = [("p50", at(0.5)?), ("p99", at(0.99)?), ("lost", lost)];
    Ok(all.into_iter().map(|(name, value)| (format!("{key}.{name}"), value)).collect())
}

/// Milliseconds of each datagram that came back.
fn round_trips(
    world: &World,
    near: Ipv4Addr,
    far: Ipv4Addr,
    count: u32,
) -> anyhow::Result<Vec<f64>> {
    let server = world.far.netns.run(|| UdpSocket::bind((far, 0)))?.context("the echo's socket")?;
    let client = world.near.netns.run(|| UdpSocket::bind((near, 0)))?.context("the probe's")?;
    client.connect(server.local_addr()?).context("connecting the probe")?;
    server.set_read_timeout(Some(LOOK))?;
    client.set_read_timeout(Some(LOOK))?;
    let (done, epoch) = (AtomicBool::new(false), Instant::now());
    std::thread::scope(|scope| {
        let _stop = Stop(&done);
        scope.spawn(|| echo(&server, &done));
        let receiver = scope.spawn(|| receive(&client, epoch, count));
        send(&client, epoch, count);
        receiver.join().map_err(|_| anyhow::anyhow!("the probe's receiver panicked"))
    })
}

/// The probe itself comes before ordinary threads: what it waits for is not what is measured. Where
/// that isn't allowed, its own waits count with every contestant alike.
fn prefer() {
    let _ = nix::sys::prctl::set_timerslack(1);
    let _ = prefer_thread();
}

fn echo(server: &UdpSocket, done: &AtomicBool) {
    prefer();
    let mut buffer = [0; SIZE];
    while !done.load(Ordering::Relaxed) {
        // A time-out shows whether to stop; an answer that can't be sent is a lost one.
        if let Ok((len, from)) = server.recv_from(&mut buffer) {
            let _ = server.send_to(&buffer[..len], from);
        }
    }
}

fn send(client: &UdpSocket, epoch: Instant, count: u32) {
    let mut datagram = [0; SIZE];
    for number in 0..count {
        let due = PACE * number;
        std::thread::sleep(due.saturating_sub(epoch.elapsed()));
        let now = epoch.elapsed().as_nanos() as u64;
        datagram[..8].copy_from_slice(&now.to_be_bytes());
        // A full queue on the way loses it, as any other queue would.
        let _ = client.send(&datagram);
    }
}

fn receive(client: &UdpSocket, epoch: Instant, count: u32) -> Vec<f64> {
    prefer();
    let deadline = PACE * count + PATIENCE;
    let mut trips = Vec::with_capacity(count as usize);
    let mut buffer = [0; SIZE];
    while trips.len() < count as usize && epoch.elapsed() < deadline {
        let Ok(len) = client.recv(&mut buffer) else { continue };
        let now = epoch.elapsed().as_nanos() as u64;
        if let Some(sent) = buffer[..len].first_chunk::<8>() {
            trips.push(now.saturating_sub(u64::from_be_bytes(*sent)) as f64 / 1e6);
        }
    }
    trips
}
