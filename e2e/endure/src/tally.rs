//! What became of all that was sent.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Failures that are kept with their words; of more, only the number.
const MOST_WORDS: usize = 20;
/// Losses whose time is kept; of more, only the number.
const MOST_TIMES: usize = 100_000;

/// Counters of one run, shared by its flows.
#[derive(Debug)]
pub struct Tally {
    began: Instant,
    counts: Mutex<Counts>,
}

/// The figures.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// By flow: datagrams, echo requests or streams begun.
    pub begun: BTreeMap<&'static str, u64>,
    /// By flow: of those, answered or ended well.
    pub done: BTreeMap<&'static str, u64>,
    /// Bytes of streams that arrived as they were sent.
    pub bytes: u64,
    /// Arrivals whose content differs from what was sent.
    pub corrupted: u64,
    /// Answers that came again.
    pub duplicates: u64,
    /// When those were sent that never arrived, after the run's begin.
    pub lost: Vec<Duration>,
    /// Lost ones beyond those.
    pub lost_more: u64,
    /// What failed, and when; the first few.
    pub failures: Vec<(Duration, String)>,
    /// Failures beyond those.
    pub failures_more: u64,
}

impl Default for Tally {
    fn default() -> Self {
        Self { began: Instant::now(), counts: Mutex::default() }
    }
}

impl Tally {
    /// Since the run's begin.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// The figures so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.lock().clone()
    }

    /// So many of this flow were sent or begun.
    pub fn begin(&self, flow: &'static str, many: u64) {
        *self.lock().begun.entry(flow).or_default() += many;
    }

    /// One of this flow ended well.
    pub fn done(&self, flow: &'static str) {
        *self.lock().done.entry(flow).or_default() += 1;
    }

    /// Bytes of a stream arrived.
    pub fn bytes(&self, many: usize) {
        self.lock().bytes += many as u64;
    }

    /// What arrived is not what was sent.
    pub fn corrupted(&self, what: &str) {
        self.lock().corrupted += 1;
        self.failed(self.now(), format!("corrupted: {what}"));
    }

    /// What arrived had arrived before.
    pub fn duplicate(&self) {
        self.lock().duplicates += 1;
    }

    /// What was sent at `at` never arrived.
    pub fn lost(&self, at: Duration) {
        let mut counts = self.lock();
        match counts.lost.len() < MOST_TIMES {
            true => counts.lost.push(at),
            false => counts.lost_more += 1,
        }
    }

    /// Something failed that was begun at `at`.
    pub fn failed(&self, at: Duration, what: String) {
        let mut counts = self.lock();
        match counts.failures.len() < MOST_WORDS {
            true => counts.failures.push((at, what)),
            false => counts.failures_more += 1,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        // Each change is whole before the next begins.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    /// All that were sent and whose fate is known to be loss.
    #[must_use]
    pub fn all_lost(&self) -> u64 {
        self.lost.len() as u64 + self.lost_more
    }

    /// Those of them that were sent at a time that `when` picks; those whose time is not known are.
    pub fn lost_when(&self, when: impl Fn(Duration) -> bool) -> u64 {
        self.lost.iter().filter(|at| when(**at)).count() as u64 + self.lost_more
    }

    /// Failures of what was begun at a time that `when` picks; those whose time is not known are.
    pub fn failed_when(&self, when: impl Fn(Duration) -> bool) -> u64 {
        self.failures.iter().filter(|(at, _)| when(*at)).count() as u64 + self.failures_more
    }
}
