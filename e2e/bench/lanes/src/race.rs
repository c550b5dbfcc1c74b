//! Pairs of lanes at work, each on a core of its own.

use std::sync::Barrier;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use serde::Serialize;

use crate::pair::{Pair, Turn};
use crate::traffic::PACKET;

/// Turns before the clock runs: caches fill, the processor speeds up.
const WARM_UP: usize = 100;

/// Packets a second of all lanes at work together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Rates {
    /// Cut and sealed.
    pub seal: f64,
    /// Opened and joined.
    pub open: f64,
}

impl Rates {
    fn of(turn: Turn) -> Self {
        let rate = |time: Duration| turn.packets as f64 / time.as_secs_f64();
        Self { seal: rate(turn.seal), open: rate(turn.open) }
    }

    fn map(self, other: Self, join: impl Fn(f64, f64) -> f64) -> Self {
        Self { seal: join(self.seal, other.seal), open: join(self.open, other.open) }
    }

    /// The same in Gbit/s of inner packets.
    fn gbits(self) -> Self {
        let gbits = |rate: f64| rate * (PACKET * 8) as f64 / 1e9;
        Self { seal: gbits(self.seal), open: gbits(self.open) }
    }
}

/// One round.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Round {
    /// One lane on one core: the mean of both cores.
    pub one: Rates,
    /// Two lanes, on both.
    pub two: Rates,
    /// The first in Gbit/s.
    pub one_gbit: Rates,
    /// The second.
    pub two_gbit: Rates,
    /// How much more two do.
    pub ratio: Rates,
}

/// Two cores that we may use.
///
/// # Errors
/// When there is only one.
pub fn two_cores() -> anyhow::Result<[usize; 2]> {
    let allowed = sched_getaffinity(Pid::from_raw(0)).context("asking for the cores")?;
    let mut cores = (0..CpuSet::count()).filter(|core| allowed.is_set(*core).unwrap_or(false));
    match (cores.next(), cores.next()) {
        (Some(one), Some(two)) => Ok([one, two]),
        _ => bail!("two lanes need two cores; this process may use only one"),
    }
}

/// One lane on the one core, two lanes, one lane on the other core, each for `length`.
///
/// # Errors
/// When a core can't be had or packets are lost.
pub fn round(cores: [usize; 2], length: Duration) -> anyhow::Result<Round> {
    let first = run(&cores[..1], length)?;
    let two = run(&cores, length)?;
    let one = first.map(run(&cores[1..], length)?, f64::midpoint);
    let ratio = two.map(one, |two, one| two / one);
    Ok(Round { one, two, one_gbit: one.gbits(), two_gbit: two.gbits(), ratio })
}

/// A pair on each core, all at once.
fn run(cores: &[usize], length: Duration) -> anyhow::Result<Rates> {
    let pairs = cores.iter().map(|_| Pair::new()).collect::<anyhow::Result<Vec<_>>>()?;
    let start = Barrier::new(cores.len());
    let start = &start;
    std::thread::scope(|scope| {
        let start = |(pair, core)| scope.spawn(move || work(pair, core, start, length));
        let threads: Vec<_> = pairs.into_iter().zip(cores.iter().copied()).map(start).collect();
        let mut sum = Rates::default();
        for thread in threads {
            let turn = thread.join().map_err(|_| anyhow::anyhow!("a lane panicked"))??;
            sum = sum.map(Rates::of(turn), |sum, own| sum + own);
        }
        Ok(sum)
    })
}

fn work(mut pair: Pair, core: usize, start: &Barrier, length: Duration) -> anyhow::Result<Turn> {
    let pinned = pin(core);
    // Whoever fails must not keep the others waiting.
    let warm = (0..WARM_UP).try_for_each(|_| pair.turn().map(drop));
    start.wait();
    pinned?;
    warm?;
    let (start, mut sum) = (Instant::now(), Turn::default());
    while start.elapsed() < length {
        let turn = pair.turn()?;
        sum.packets += turn.packets;
        sum.seal += turn.seal;
        sum.open += turn.open;
    }
    Ok(sum)
}

fn pin(core: usize) -> anyhow::Result<()> {
    let mut set = CpuSet::new();
    set.set(core)
        .and_then(|()| sched_setaffinity(Pid::from_raw(0), &set))
        .with_context(|| format!("taking core {core}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_has_all_rates() {
        let cores = two_cores().expect("two cores");
        let round = round(cores, Duration::from_millis(1)).expect("a round");
        let all = [round.one, round.two, round.ratio];
        assert!(all.iter().all(|rates| rates.seal > 0.0 && rates.open > 0.0), "{round:?}");
        assert!((round.ratio.seal - round.two.seal / round.one.seal).abs() < 1e-9);
    }

    #[test]
    fn rates_follow_from_times() {
        let (seal, open) = (Duration::from_secs(2), Duration::from_secs(4));
        let rates = Rates::of(Turn { packets: 1_000_000, seal, open });
        assert_eq!((rates.seal, rates.open), (500_000.0, 250_000.0));
        assert!((rates.gbits().seal - 5.68).abs() < 1e-9);
    }
}
