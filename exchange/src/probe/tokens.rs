//! A token bucket: how much is answered.

use std::time::{Duration, Instant};

/// Lets so many pass a second, and so many at once.
#[derive(Debug)]
pub(super) struct Tokens {
    rate: u32,
    burst: u32,
    left: u32,
    refilled: Instant,
}

impl Tokens {
    /// A full one.
    pub fn new(now: Instant, rate: u32, burst: u32) -> Self {
        Self { rate, burst, left: burst, refilled: now }
    }

    /// Whether one more may pass.
    pub fn take(&mut self, now: Instant) -> bool {
        let interval = Duration::from_secs(1) / self.rate;
        let elapsed = now.saturating_duration_since(self.refilled);
        let earned = u32::try_from(elapsed.as_nanos() / interval.as_nanos()).unwrap_or(u32::MAX);
        if earned > 0 {
            self.left = self.left.saturating_add(earned).min(self.burst);
            self.refilled = now;
        }
        self.left.checked_sub(1).map(|left| self.left = left).is_some()
    }
}
