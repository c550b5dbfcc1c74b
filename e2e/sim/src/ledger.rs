//! What was sent one way, and what of it arrived.

use std::time::Duration;

/// The books of one direction.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    /// Whether each number has arrived.
    arrived: Vec<bool>,
    count: u64,
    twice: u64,
    foreign: u64,
    overtaken: u64,
    newest: Option<u64>,
    last: Option<Duration>,
    quiet: Duration,
}

impl Ledger {
    /// Notes that so many were sent; the first one's number.
    pub(crate) fn send(&mut self, count: usize) -> u64 {
        let first = self.arrived.len();
        self.arrived.resize(first + count, false);
        first as u64
    }

    /// Notes what arrived at a time: numbers, or something that was never sent like that.
    pub(crate) fn arrive(&mut self, now: Duration, numbers: Option<&[u64]>) {
        let Some(numbers) = numbers else {
            self.foreign += 1;
            return;
        };
        self.quiet = self.quiet.max(now.saturating_sub(self.last.unwrap_or(now)));
        self.last = Some(now);
        for number in numbers {
            match self.arrived.get_mut(*number as usize) {
                None => self.foreign += 1,
                Some(true) => self.twice += 1,
                Some(arrived) => {
                    *arrived = true;
                    self.count += 1;
                }
            }
            self.overtaken += u64::from(self.newest.is_some_and(|newest| *number < newest));
            self.newest = self.newest.max(Some(*number));
        }
    }

    /// How many were sent.
    pub fn sent(&self) -> u64 {
        self.arrived.len() as u64
    }

    /// How many of them arrived.
    pub fn arrived(&self) -> u64 {
        self.count
    }

    /// How many did not.
    pub fn missing(&self) -> u64 {
        self.sent() - self.count
    }

    /// How many came after a later one.
    pub fn overtaken(&self) -> u64 {
        self.overtaken
    }

    /// When the last one arrived.
    pub fn last(&self) -> Option<Duration> {
        self.last
    }

    /// The longest time between two arrivals.
    pub fn longest_quiet(&self) -> Duration {
        self.quiet
    }

    /// Fails if anything arrived that was not sent, or arrived twice.
    pub fn assert_honest(&self) {
        assert_eq!(self.foreign, 0, "something arrived that was never sent");
        assert_eq!(self.twice, 0, "something arrived twice");
    }

    /// Fails unless all arrived, once each and in order.
    pub fn assert_complete(&self) {
        self.assert_honest();
        assert_eq!((self.missing(), self.overtaken), (0, 0), "missing, and overtaken");
    }
}
