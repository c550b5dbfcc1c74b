//! How long something that came back has to stay before it counts: twice as long each time it fails again.

use std::time::{Duration, Instant};

/// What lasts so many times its hold (and a bit) starts with a clean slate.
const FORGIVEN: u32 = 4;
const FORGIVEN_LEAST: Duration = Duration::from_secs(30);

/// A hold-down, one for each thing that may flap.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hold {
    first: Duration,
    most: Duration,
    current: Duration,
    failed: Option<Instant>,
}

impl Hold {
    /// Nothing for the first failure, then from `first` on, up to `most`.
    pub fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, current: Duration::ZERO, failed: None }
    }

    /// It failed.
    pub fn fail(&mut self, now: Instant) {
        if let Some(last) = self.failed.replace(now) {
            let lasted = now.saturating_duration_since(last);
            let peace = (self.current.max(self.first) * FORGIVEN).max(FORGIVEN_LEAST);
            self.current = if lasted >= peace {
                Duration::ZERO
            } else {
                (self.current * 2).clamp(self.first, self.most)
            };
        }
    }

    /// How long it has to stay.
    pub fn time(&self) -> Duration {
        self.current
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::start;

    #[test]
    fn each_failure_doubles_it_up_to_a_bound_and_peace_ends_it() {
        let second = Duration::from_secs(1);
        let (mut hold, mut now) = (Hold::new(second, second * 8), start());
        let mut times = Vec::new();
        for _ in 0..6 {
            hold.fail(now);
            times.push(hold.time().as_secs());
            now += second * 10;
        }
        assert_eq!(times, [0, 1, 2, 4, 8, 8]);
        hold.fail(now + second * 60);
        assert_eq!(hold.time(), Duration::ZERO);
        // However long the first one is, what fails soon after it was over is no better for that.
        let mut long = Hold::new(second * 60, second * 300);
        let times = [0, 70, 140, 300, 600].map(|at| {
            long.fail(start() + second * at);
            long.time().as_secs()
        });
        assert_eq!(times, [0, 60, 120, 240, 300]);
    }
}
