//! When a gateway that was told to end may do so: once nobody uses it any more.
//!
//! Nodes and peers hear at once that it drains, and move their flows while it still carries them. Where it
//! is the only one left they go on with it, so it waits for another to come up, but not for ever.

use std::time::{Duration, Instant};

/// No packet of a user for so long: whoever still meant to use us has had time to move.
const QUIET: Duration = Duration::from_secs(1);

/// How it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Look again then, at the latest.
    Wait(Instant),
    /// Nobody uses us.
    Quiet,
    /// Somebody does, but time is up.
    TimedOut,
}

/// The state of draining.
#[derive(Debug)]
pub struct Drain {
    deadline: Instant,
    /// How many packets had been carried when that last changed, and when it did.
    carried: (u64, Instant),
}

impl Drain {
    /// Draining begins `now` and takes `most` at most; so many packets of users had been carried by then.
    pub fn new(now: Instant, most: Duration, packets: u64) -> Self {
        Self { deadline: now + most, carried: (packets, now) }
    }

    /// Looks again; `packets` of users have been carried by `now`.
    pub fn look(&mut self, now: Instant, packets: u64) -> Progress {
        if packets != self.carried.0 {
            self.carried = (packets, now);
        }
        let quiet = self.carried.1 + QUIET;
        match now {
            now if now >= quiet => Progress::Quiet,
            now if now >= self.deadline => Progress::TimedOut,
            _ => Progress::Wait(quiet.min(self.deadline)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_millis(250);

    /// When it ends, with so many packets carried by then.
    fn end(most: Duration, carried: impl Fn(Duration) -> u64) -> (Duration, Progress) {
        let start = Instant::now();
        let mut drain = Drain::new(start, most, carried(Duration::ZERO));
        let ticks = (1..).map(|tick| TICK * tick);
        let mut looks = ticks.map(|at| (at, drain.look(start + at, carried(at))));
        looks.find(|(_, progress)| !matches!(progress, Progress::Wait(_))).expect("it ends")
    }

    #[test]
    fn it_ends_a_second_after_the_last_packet() {
        let most = Duration::from_secs(20);
        assert_eq!(end(most, |_| 7), (QUIET, Progress::Quiet));
        let until_3s = |at: Duration| at.min(Duration::from_secs(3)).as_millis() as u64;
        assert_eq!(end(most, until_3s), (Duration::from_secs(4), Progress::Quiet));
    }

    #[test]
    fn it_does_not_wait_for_ever() {
        let most = Duration::from_secs(20);
        assert_eq!(end(most, |at| at.as_millis() as u64), (most, Progress::TimedOut));
    }

    #[test]
    fn the_next_look_is_when_it_may_have_ended() {
        let start = Instant::now();
        let mut drain = Drain::new(start, Duration::from_millis(1500), 0);
        assert_eq!(drain.look(start, 0), Progress::Wait(start + QUIET));
        let later = start + Duration::from_millis(900);
        assert_eq!(drain.look(later, 1), Progress::Wait(start + Duration::from_millis(1500)));
    }
}
