//! Log lines that others can cause as often as they please: one in a while, which says how many were
//! left out.

use std::time::{Duration, Instant};

/// The time between two lines.
const PAUSE: Duration = Duration::from_secs(10);

/// When a line was last written, and what was left out since.
#[derive(Debug, Default)]
pub struct Sparing {
    last: Option<Instant>,
    left_out: u64,
}

impl Sparing {
    /// Whether a line is to be written now; if so, how many were left out before it.
    pub fn due(&mut self, now: Instant) -> Option<u64> {
        if self.last.is_some_and(|last| now < last + PAUSE) {
            self.left_out += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_few_and_say_how_many_were_left_out() {
        let (mut sparing, now) = (Sparing::default(), Instant::now());
        assert_eq!(sparing.due(now), Some(0));
        for _ in 0..500 {
            assert_eq!(sparing.due(now + PAUSE / 2), None);
        }
        assert_eq!(sparing.due(now + PAUSE), Some(500));
        assert_eq!(sparing.due(now + 2 * PAUSE), Some(0));
    }
}
