//! When a handshake that was not answered is begun again.

use std::time::{Duration, Instant};

use crate::path::random::Random;

/// Pauses after the first handshake attempts. Until the other side is configured it cannot answer, so
/// the first retries come soon; afterwards WireGuard's own 5 s.
const RETRIES: [Duration; 5] = [
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
];
const LAST_RETRY: Duration = Duration::from_secs(5);
/// Each pause lasts up to a third longer, by chance, but no longer than this: two who begin at the same moment would
/// otherwise go on doing so.
const SPREAD: Duration = Duration::from_millis(333);

/// Attempts since a session stood last.
#[derive(Debug)]
pub(super) struct Retries {
    attempts: usize,
    /// Not before this; `None` is at once.
    next: Option<Instant>,
    random: Random,
}

impl Retries {
    /// Without any attempt. `seed` is a random number for the pauses.
    pub fn new(seed: u64) -> Self {
        Self { attempts: 0, next: None, random: Random::new(seed) }
    }

    /// Whether an attempt may be made now.
    pub fn is_due(&self, now: Instant) -> bool {
        self.next.is_none_or(|at| at <= now)
    }

    /// Makes an attempt; how many there were before.
    pub fn begin(&mut self, now: Instant) -> usize {
        let pause = RETRIES.get(self.attempts).copied().unwrap_or(LAST_RETRY);
        self.count(now, pause)
    }

    /// Notes an attempt that boringtun made by itself; how many there were before.
    pub fn note_begun(&mut self, now: Instant) -> usize {
        self.count(now, LAST_RETRY)
    }

    /// All begins anew.
    pub fn reset(&mut self) {
        (self.attempts, self.next) = (0, None);
    }

    fn count(&mut self, now: Instant, pause: Duration) -> usize {
        let share = (self.random.number() % 1000) as u32;
        self.next = Some(now + pause + (pause / 3).min(SPREAD) * share / 1000);
        self.attempts += 1;
        self.attempts - 1
    }
}
