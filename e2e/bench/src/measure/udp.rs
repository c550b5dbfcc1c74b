//! UDP at rising rate: how many datagrams a second arrive, and what is lost on the way.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use carrick_wan::sys;
use nix::sys::socket::{setsockopt, sockopt};

use crate::measure::{Figures, Stop, Subject};

/// Datagrams a second that are offered, one after the other.
const RATES: [u32; 13] = [
    5_000, 10_000, 15_000, 20_000, 30_000, 45_000, 65_000, 90_000, 120_000, 160_000, 220_000,
    300_000, 400_000,
];
/// How long each rate is offered.
const STEP: Duration = Duration::from_millis(500);
/// Nothing has come for so long: all that comes has come.
const QUIET: Duration = Duration::from_millis(60);
/// The queues of a contestant may take so long to empty, no longer.
const DRAIN: Duration = Duration::from_secs(1);
/// A look at whether to stop.
const LOOK: Duration = Duration::from_millis(20);
/// At most this share is lost at a clean rate.
const CLEAN: f64 = 0.01;
/// After so many rates in a row that were no better than one before, higher ones won't be either.
const WORSE: u32 = 2;

/// In the keys of what single rates gave: kept in files, too many for tables.
pub const AT: &str = ".at-";

/// What one rate gave.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Step {
    rate: u32,
    sent: f64,
    arrived: f64,
}

impl Step {
    fn lost(self) -> f64 {
        (1.0 - self.arrived / self.sent).max(0.0)
    }
}

/// Figures of datagrams with this many bytes of payload.
///
/// # Errors
/// When the sockets fail.
pub fn ladder(subject: &Subject<'_>, size: usize) -> anyhow::Result<Figures> {
    let world = subject.world;
    let receiver = world.far.netns.run(|| UdpSocket::bind((subject.far, 0)))?;
    let receiver = receiver.context("the receiver's socket")?;
    let sender = world.near.netns.run(|| UdpSocket::bind((subject.near, 0)))?;
    let sender = sender.context("the sender's socket")?;
    setsockopt(&receiver, sockopt::RcvBufForce, &(16 << 20)).context("the receive buffer")?;
    receiver.set_read_timeout(Some(LOOK))?;
    sender.connect(receiver.local_addr()?).context("connecting the sender")?;
    let (done, arrived) = (AtomicBool::new(false), AtomicU64::new(0));
    let steps = std::thread::scope(|scope| {
        let _stop = Stop(&done);
        scope.spawn(|| count(&receiver, &done, &arrived));
        climb(|rate| step(&sender, &vec![0; size], rate, &arrived))
    })?;
    Ok(summarize(size, &steps))
}

/// Offers rate after rate until more makes nothing better.
fn climb(mut offer: impl FnMut(u32) -> anyhow::Result<Step>) -> anyhow::Result<Vec<Step>> {
    let mut steps: Vec<Step> = Vec::new();
    let (mut best, mut worse) = (0.0, 0);
    for rate in RATES {
        let step = offer(rate)?;
        steps.push(step);
        worse = if step.arrived > best { 0 } else { worse + 1 };
        best = step.arrived.max(best);
        // A sender that can't offer that much can't offer more either.
        let sender_is_full = step.sent < 0.8 * f64::from(rate);
        if worse >= WORSE || sender_is_full {
            break;
        }
    }
    Ok(steps)
}

fn summarize(size: usize, steps: &[Step]) -> Figures {
    let mut figures = Figures::new();
    if let Some(best) = steps.iter().copied().max_by(|a, b| a.arrived.total_cmp(&b.arrived)) {
        figures.insert(format!("udp{size}.best"), best.arrived / 1e3);
        figures.insert(format!("udp{size}.best.lost"), best.lost() * 100.0);
    }
    let clean = steps.iter().filter(|step| step.lost() <= CLEAN).map(|step| step.arrived);
    figures.insert(format!("udp{size}.clean"), clean.fold(0.0, f64::max) / 1e3);
    for step in steps {
        let at = format!("udp{size}{AT}{}", step.rate);
        figures.insert(format!("{at}.delivered"), step.arrived / 1e3);
        figures.insert(format!("{at}.lost"), step.lost() * 100.0);
    }
    figures
}

/// Offers one rate by the clock, and waits until what is under way has come.
fn step(
    sender: &UdpSocket,
    payload: &[u8],
    rate: u32,
    arrived: &AtomicU64,
) -> anyhow::Result<Step> {
    let before = arrived.load(Ordering::Relaxed);
    let (start, mut sent) = (Instant::now(), 0);
    loop {
        let elapsed = start.elapsed();
        if elapsed >= STEP {
            break;
        }
        let due = (elapsed.as_secs_f64() * f64::from(rate)) as u64;
        match due.saturating_sub(sent) {
            0 => std::thread::sleep(Duration::from_micros(50)),
            missing => {
                let count = missing.min(sys::BATCH as u64) as usize;
                sent += sys::send_many(sender, payload, count).context("sending")? as u64;
            }
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    let all = drain(arrived) - before;
    Ok(Step { rate, sent: sent as f64 / seconds, arrived: all as f64 / seconds })
}

fn drain(arrived: &AtomicU64) -> u64 {
    let start = Instant::now();
    let (mut last, mut changed) = (arrived.load(Ordering::Relaxed), start);
    while changed.elapsed() < QUIET && start.elapsed() < DRAIN {
        std::thread::sleep(Duration::from_millis(5));
        let now = arrived.load(Ordering::Relaxed);
        if now != last {
            (last, changed) = (now, Instant::now());
        }
    }
    last
}

fn count(receiver: &UdpSocket, done: &AtomicBool, arrived: &AtomicU64) {
    while !done.load(Ordering::Relaxed) {
        // A time-out shows whether to stop.
        if let Ok(more) = sys::receive_many(receiver) {
            arrived.fetch_add(more as u64, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A path that delivers up to a limit, and less the more is offered above it.
    fn path(limit: f64) -> impl FnMut(u32) -> anyhow::Result<Step> {
        move |rate| {
            let sent = f64::from(rate);
            Ok(Step {
                rate,
                sent,
                arrived: if sent <= limit { sent } else { limit * limit / sent },
            })
        }
    }

    #[test]
    fn climbing_ends_when_more_makes_nothing_better() {
        let steps = climb(path(50_000.0)).expect("steps");
        assert_eq!(steps.last().expect("steps").sent, 90_000.0);
        let figures = summarize(64, &steps);
        assert_eq!((figures["udp64.best"], figures["udp64.best.lost"]), (45.0, 0.0));
        assert_eq!(figures["udp64.clean"], 45.0);
        assert_eq!(figures["udp64.at-5000.delivered"], 5.0);
        assert!(figures["udp64.at-65000.lost"] > 40.0);
    }

    #[test]
    fn a_full_sender_ends_the_climb() {
        let steps = climb(|rate| {
            let sent = f64::from(rate).min(100_000.0);
            Ok(Step { rate, sent, arrived: sent * 0.9 })
        });
        let steps = steps.expect("steps");
        assert_eq!(steps.last().expect("steps").sent, 100_000.0);
        assert_eq!(steps.len(), 10);
        let figures = summarize(1200, &steps);
        assert!((figures["udp1200.best.lost"] - 10.0).abs() < 1e-6);
        assert_eq!(figures["udp1200.clean"], 0.0);
    }
}
