//! Whether the gateway at the other end of a tunnel is heard by as many nodes of its cluster as others of its
//! gateways are. One that is not loses packets to some nodes, and others are to be chosen.
//!
//! Only gateways of one cluster are compared: where all lose the same nodes, because these have failed or their agents
//! are replaced, nobody is behind. All of them notice that at about the same time, so there is some patience.

use std::time::{Duration, Instant};

use super::health::REORDERED;
use super::hold::Hold;
use super::word::Word;

/// For so long another one has to be heard by more.
const PATIENCE: Duration = Duration::from_millis(200);
/// After each fall but the first it is on trial for so long at least, and at most.
const LEAST_TRIAL: Duration = Duration::from_secs(1);
const MOST_TRIAL: Duration = Duration::from_secs(16);

/// How a gateway stands among those of its cluster, the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Standing {
    /// As many nodes hear it as any, or nobody knows.
    #[default]
    Even,
    /// It is so again, but has fallen behind too often of late to be trusted.
    Trial,
    /// More nodes hear another one.
    Behind,
}

impl Standing {
    /// The label in metrics, logs and status.
    pub fn label(self) -> &'static str {
        match self {
            Self::Even => "even",
            Self::Trial => "trial",
            Self::Behind => "behind",
        }
    }
}

/// The machine, one a tunnel. Time must not go backwards.
#[derive(Debug)]
pub(crate) struct Reach {
    told: Option<Word>,
    standing: Standing,
    /// It has been compared before.
    compared: bool,
    /// Since when more nodes hear another one, or not any more.
    less: Option<Instant>,
    even: Option<Instant>,
    hold: Hold,
}

impl Default for Reach {
    fn default() -> Self {
        Self {
            told: None,
            standing: Standing::Even,
            compared: false,
            less: None,
            even: None,
            hold: Hold::new(LEAST_TRIAL, MOST_TRIAL),
        }
    }
}

impl Reach {
    /// Takes what the gateway says of itself, unless it was overtaken by something newer.
    pub fn take(&mut self, word: Word) {
        let behind = self.told.map_or(0, |told| told.number.wrapping_sub(word.number));
        if behind == 0 || behind >= REORDERED {
            self.told = Some(word);
        }
    }

    /// How many nodes hear it, by its own word.
    pub fn nodes(&self) -> Option<u16> {
        self.told.map(|told| told.nodes)
    }

    /// How it stands.
    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// Compares it with that gateway of its cluster which most nodes hear; whether it stands otherwise now.
    pub fn compare(&mut self, now: Instant, most: u16) -> bool {
        let Some(told) = self.told else { return false };
        let first = !std::mem::replace(&mut self.compared, true);
        let standing = if told.nodes < most { self.fall(now, first) } else { self.rise(now) };
        std::mem::replace(&mut self.standing, standing) != standing
    }

    fn fall(&mut self, now: Instant, first: bool) -> Standing {
        self.even = None;
        let since = *self.less.get_or_insert(now);
        let lasting = now.saturating_duration_since(since) >= PATIENCE;
        if self.standing == Standing::Behind || !lasting && !first {
            return self.standing;
        }
        if !first {
            self.hold.fail(now);
        }
        Standing::Behind
    }

    fn rise(&mut self, now: Instant) -> Standing {
        self.less = None;
        if self.standing == Standing::Even {
            return Standing::Even;
        }
        let since = *self.even.get_or_insert(now);
        let trusted = now.saturating_duration_since(since) >= self.hold.time();
        if trusted { Standing::Even } else { Standing::Trial }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::start;

    const MILLI: Duration = Duration::from_millis(1);

    /// One that so many nodes hear, as any, and when that was.
    fn reach(nodes: u16) -> (Reach, Instant) {
        let (mut reach, start) = (Reach::default(), start());
        reach.take(Word { number: 1, nodes });
        reach.compare(start, nodes);
        (reach, start)
    }

    fn say(reach: &mut Reach, nodes: u16) {
        let number = reach.told.map_or(0, |told| told.number) + 1;
        reach.take(Word { number, nodes });
    }

    #[test]
    fn one_that_is_heard_by_fewer_is_behind_after_a_moment_and_even_again_at_once() {
        let (mut reach, start) = reach(3);
        say(&mut reach, 2);
        assert!(!reach.compare(start, 3) && !reach.compare(start + MILLI * 199, 3));
        assert!(reach.compare(start + MILLI * 200, 3));
        assert_eq!(reach.standing(), Standing::Behind);
        say(&mut reach, 3);
        assert!(reach.compare(start + MILLI * 300, 3));
        assert_eq!(reach.standing(), Standing::Even);
    }

    #[test]
    fn where_all_lose_a_node_nobody_is_behind() {
        let (mut reach, start) = reach(3);
        say(&mut reach, 2);
        assert!(!reach.compare(start, 3), "the others have not noticed yet");
        assert!(!reach.compare(start + MILLI * 150, 2) && !reach.compare(start + MILLI * 400, 2));
        assert_eq!(reach.standing(), Standing::Even);
    }

    #[test]
    fn one_that_has_just_begun_is_behind_until_nodes_hear_it() {
        let (mut reach, start) = (Reach::default(), start());
        assert!(!reach.compare(start, 3), "an older release says nothing");
        say(&mut reach, 0);
        assert!(reach.compare(start, 3), "at once");
        say(&mut reach, 3);
        assert!(reach.compare(start + MILLI, 3));
        assert_eq!(reach.standing(), Standing::Even, "without a trial");
    }

    #[test]
    fn one_that_falls_again_and_again_is_on_trial_longer_each_time() {
        let (mut reach, mut now) = reach(3);
        let mut trials = Vec::new();
        for _ in 0..7 {
            say(&mut reach, 1);
            reach.compare(now, 3);
            now += PATIENCE;
            assert!(reach.compare(now, 3));
            say(&mut reach, 3);
            reach.compare(now, 3);
            let up = now;
            while reach.standing() != Standing::Even {
                assert_eq!(reach.standing(), Standing::Trial);
                now += MILLI * 100;
                reach.compare(now, 3);
            }
            trials.push((now - up).as_secs());
        }
        assert_eq!(trials, [0, 1, 2, 4, 8, 16, 16]);
    }

    #[test]
    fn what_was_overtaken_says_nothing_new() {
        let mut reach = Reach::default();
        reach.take(Word { number: 5, nodes: 3 });
        reach.take(Word { number: 4, nodes: 0 });
        assert_eq!(reach.nodes(), Some(3));
        reach.take(Word { number: 6, nodes: 2 });
        assert_eq!(reach.nodes(), Some(2));
        reach.take(Word { number: 1000, nodes: 1 });
        assert_eq!(reach.nodes(), Some(1), "it has begun anew");
    }
}
