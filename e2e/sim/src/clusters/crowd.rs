//! Many worlds, on several threads.

use std::panic::UnwindSafe;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::story::Story;
use super::world::{Outcome, World};

/// What to run.
#[derive(Debug, Clone)]
pub struct Crowd {
    /// The first seed.
    pub first: u64,
    /// How many worlds.
    pub worlds: u64,
    /// How many threads.
    pub threads: usize,
    /// No more worlds are begun after this time.
    pub time: Option<Duration>,
    /// Stop at the first violation.
    pub stop: bool,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Report {
    /// How many worlds ran.
    pub worlds: u64,
    /// How many things happened in them.
    pub events: u64,
    /// Users' packets that were sent, and that arrived.
    pub sent: u64,
    /// As above.
    pub arrived: u64,
    /// The most changes of one node's next hops and of one gateway's reach in one world.
    pub changes: (u64, u64),
    /// Seeds with what was violated, ascending.
    pub violations: Vec<(u64, u64, String)>,
    /// How long it took.
    pub took: Duration,
}

impl Report {
    fn add(&mut self, seed: u64, outcome: Outcome) {
        self.worlds += 1;
        self.events += outcome.events;
        self.sent += outcome.sent;
        self.arrived += outcome.arrived;
        self.changes.0 = self.changes.0.max(outcome.changes.0);
        self.changes.1 = self.changes.1.max(outcome.changes.1);
        if let Some((at, what)) = outcome.violation {
            self.violations.push((seed, at, what));
        }
    }

    /// Worlds a minute.
    pub fn pace(&self) -> f64 {
        self.worlds as f64 * 60.0 / self.took.as_secs_f64().max(1e-9)
    }
}

/// The world of a seed.
pub fn run(seed: u64) -> Outcome {
    judged(|| World::new(Story::new(seed)).run())
}

/// A panic of what runs in a world is a violation like any other: it has a seed that replays it.
fn judged(world: impl FnOnce() -> Outcome + UnwindSafe) -> Outcome {
    std::panic::catch_unwind(world).unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().map(String::as_str);
        let said = said.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no words");
        Outcome { violation: Some((0, format!("a panic: {said}"))), ..Outcome::default() }
    })
}

impl Crowd {
    /// Runs them; `progress` hears now and then how far it is.
    pub fn run(&self, progress: impl Fn(&Report) + Sync) -> Report {
        let begun = Instant::now();
        let (next, stop) = (AtomicU64::new(0), AtomicBool::new(false));
        let report = Mutex::new(Report::default());
        let work = || {
            while !stop.load(Ordering::Relaxed)
                && self.time.is_none_or(|time| begun.elapsed() < time)
            {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= self.worlds {
                    return;
                }
                let seed = self.first + number;
                let outcome = run(seed);
                if outcome.violation.is_some() && self.stop {
                    stop.store(true, Ordering::Relaxed);
                }
                let mut report = report.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                report.add(seed, outcome);
                report.took = begun.elapsed();
                progress(&report);
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..self.threads.max(1) {
                scope.spawn(work);
            }
        });
        let mut report = report.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        report.violations.sort();
        report
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_a_violation() {
        let left = std::hint::black_box(1_u8);
        let outcome = judged(|| Outcome { events: (left - 2).into(), ..Outcome::default() });
        let (_, what) = outcome.violation.expect("a violation");
        assert!(what.contains("subtract with overflow"), "{what}");
    }
}
