//! What was sent and has not come back yet.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::tally::Tally;

/// What has not come back by then is lost.
pub const PATIENCE: Duration = Duration::from_secs(8);
/// Numbers of lost ones that are remembered, in case that they come after all.
const MOST_LATE: usize = 10_000;

/// Numbered requests of one flow.
pub struct Outstanding<'a> {
    name: &'static str,
    tally: &'a Tally,
    waiting: BTreeMap<u64, Duration>,
    late: BTreeSet<u64>,
}

impl<'a> Outstanding<'a> {
    pub fn new(name: &'static str, tally: &'a Tally) -> Self {
        Self { name, tally, waiting: BTreeMap::new(), late: BTreeSet::new() }
    }

    /// These numbers are sent now.
    pub fn sent(&mut self, numbers: std::ops::Range<u64>) {
        let now = self.tally.now();
        self.tally.begin(self.name, numbers.end - numbers.start);
        self.waiting.extend(numbers.map(|number| (number, now)));
    }

    /// These could not be sent.
    pub fn unsent(&mut self, numbers: std::ops::Range<u64>) {
        for at in numbers.filter_map(|number| self.waiting.remove(&number)) {
            self.tally.lost(at);
        }
    }

    /// This one came back.
    pub fn answered(&mut self, number: u64) {
        match self.waiting.remove(&number) {
            Some(_) => self.tally.done(self.name),
            // It counts as lost already.
            None if self.late.remove(&number) => {}
            None => self.tally.duplicate(),
        }
    }

    /// Counts what has been waited for too long as lost.
    pub fn expire(&mut self) {
        let now = self.tally.now();
        while let Some((number, at)) = self.waiting.first_key_value().map(|(n, at)| (*n, *at))
            && now - at > PATIENCE
        {
            self.waiting.remove(&number);
            self.tally.lost(at);
            if self.late.len() == MOST_LATE {
                self.late.pop_first();
            }
            self.late.insert(number);
        }
    }

    /// Whether nothing is waited for.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_losses_and_duplicates_are_told_apart() {
        let tally = Tally::default();
        let mut outstanding = Outstanding::new("x", &tally);
        outstanding.sent(0..5);
        outstanding.answered(0);
        outstanding.answered(0);
        outstanding.answered(3);
        outstanding.unsent(4..5);
        outstanding.expire();
        let counts = tally.counts();
        assert_eq!((counts.begun["x"], counts.done["x"], counts.duplicates), (5, 2, 1));
        assert_eq!((counts.all_lost(), outstanding.is_empty()), (1, false));
    }
}
