//! How good a path is that works: it gets worse at once, and better only after a while.

use std::time::{Duration, Instant};

use super::hold::Hold;

/// From this share lost on a path is bad, or poor.
const BAD_LOSS: f64 = 0.1;
const POOR_LOSS: f64 = 0.01;
/// Below this share of a limit it has kept it again.
const RELIEF: f64 = 0.5;
/// A path whose round trips are longer than usual by this is poor.
const POOR_GAIN: Duration = Duration::from_millis(75);
/// A path stays poor or bad at least so long, and twice as long each time, up to a bound.
const LEAST_HOLD: Duration = Duration::from_secs(10);
/// It stays poor at least so long where it lost packets: an idle path has ten heartbeats a second, and where 600 all
/// arrive less than 0.5 % are lost, with 95 % confidence (rule of three).
const LOSS_HOLD: Duration = Duration::from_secs(60);
const MOST_HOLD: Duration = Duration::from_secs(300);
/// For so long a little loss has to last.
const LASTING: Duration = Duration::from_secs(1);

/// How good a path is, the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Grade {
    /// As it should be.
    #[default]
    Good,
    /// It loses 1 % or more, or takes 75 ms more than usual.
    Poor,
    /// It loses 10 % or more, or no longer carries the packets that it did.
    Bad,
}

impl Grade {
    /// The label in metrics, logs and status.
    pub fn label(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Poor => "poor",
            Self::Bad => "bad",
        }
    }
}

/// What is measured of a path.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Measured {
    /// The share lost, from 0 to 1.
    pub loss: f64,
    /// How much longer round trips take than usual.
    pub gained: Duration,
    /// Large packets that it carried no longer pass.
    pub narrow: bool,
}

/// The machine, one a path.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grading {
    grade: Grade,
    /// Until when it is bad, and until when poor at least.
    bad: Option<Instant>,
    poor: Option<Instant>,
    /// Since when it loses a little.
    losing: Option<Instant>,
    /// How long it stays what it is, and how long where it lost packets.
    hold: Hold,
    loss_hold: Hold,
}

impl Default for Grading {
    fn default() -> Self {
        let hold = Hold::new(LEAST_HOLD, MOST_HOLD);
        let loss_hold = Hold::new(LOSS_HOLD, MOST_HOLD);
        Self { grade: Grade::Good, bad: None, poor: None, losing: None, hold, loss_hold }
    }
}

impl Grading {
    /// Takes what was measured just now; how good the path is.
    pub fn note(&mut self, now: Instant, measured: Measured) -> Grade {
        let before = self.grade;
        // What it is already takes less to go on.
        let limit = |is: bool| if is { RELIEF } else { 1.0 };
        let (was_poor, was_bad) = (before >= Grade::Poor, before == Grade::Bad);
        let much = measured.loss >= BAD_LOSS * limit(was_bad);
        let little = measured.loss >= POOR_LOSS * limit(was_poor);
        self.losing = little.then(|| self.losing.unwrap_or(now));
        let lasting = self.losing.is_some_and(|at| now.saturating_duration_since(at) >= LASTING);
        let lossy = much || lasting || little && was_poor;
        let slow = measured.gained.as_secs_f64() >= POOR_GAIN.as_secs_f64() * limit(was_poor);
        let bad = much || measured.narrow;
        if bad && !was_bad || !was_poor && (lossy || slow) {
            self.hold.fail(now);
        }
        if !was_poor && lossy {
            self.loss_hold.fail(now);
        }
        let hold = self.hold.time().max(LEAST_HOLD);
        // None comes before all times.
        self.bad = self.bad.max(bad.then(|| now + hold));
        self.poor = self.poor.max((bad || slow).then(|| now + hold));
        self.poor = self.poor.max(lossy.then(|| now + self.loss_hold()));
        let lasts = |until: Option<Instant>| until.is_some_and(|until| now < until);
        self.grade = match (lasts(self.bad), lasts(self.poor)) {
            (true, _) => Grade::Bad,
            (_, true) => Grade::Poor,
            _ => Grade::Good,
        };
        self.grade
    }

    /// The path fell silent: what it lost then is not counted, but one that was poor or bad, for whatever reason, is
    /// taken to have lost some.
    pub fn note_silence(&mut self, now: Instant) {
        if self.grade >= Grade::Poor {
            self.poor = self.poor.max(Some(now + self.loss_hold()));
        }
    }

    fn loss_hold(&self) -> Duration {
        self.loss_hold.time().max(LOSS_HOLD)
    }

    /// How good it is, as it was noted last.
    pub fn grade(&self) -> Grade {
        self.grade
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::start;

    const TICK: Duration = Duration::from_millis(100);

    /// The seconds at which the grade changes within ten minutes, and what to.
    fn changes(measured: impl Fn(f64) -> Measured) -> Vec<(u64, Grade)> {
        let (mut grading, mut last) = (Grading::default(), Grade::Good);
        let mut changes = Vec::new();
        for tick in 0..6000 {
            let at = TICK * tick;
            let grade = grading.note(start() + at, measured(at.as_secs_f64()));
            if std::mem::replace(&mut last, grade) != grade {
                changes.push((at.as_secs(), grade));
            }
        }
        changes
    }

    fn losing(loss: f64) -> Measured {
        Measured { loss, ..Measured::default() }
    }

    #[test]
    fn it_falls_at_once_and_rises_after_a_while() {
        let worst = changes(|at| losing(if at < 5.0 { 0.3 } else { 0.0 }));
        assert_eq!(worst, [(0, Grade::Bad), (14, Grade::Poor), (64, Grade::Good)]);
        let little = changes(|at| losing(if at < 5.0 { 0.02 } else { 0.0 }));
        assert_eq!(little, [(1, Grade::Poor), (64, Grade::Good)]);
        let spike = changes(|at| losing(if at < 0.5 { 0.02 } else { 0.0 }));
        assert_eq!(spike, []);
        let slow = changes(|at| {
            let gained = Duration::from_millis(if at < 5.0 { 200 } else { 0 });
            Measured { gained, ..Measured::default() }
        });
        assert_eq!(slow, [(0, Grade::Poor), (14, Grade::Good)]);
        let narrow = changes(|at| Measured { narrow: at < 1.0, ..Measured::default() });
        assert_eq!(narrow, [(0, Grade::Bad), (10, Grade::Good)]);
    }

    #[test]
    fn one_that_comes_and_goes_is_not_trusted() {
        // Two seconds of loss in each twenty.
        let flapping = changes(|at| losing(if at % 20.0 < 2.0 { 0.3 } else { 0.0 }));
        assert!(flapping.len() <= 6, "{flapping:?}");
        // Loss within seconds of each return, as where a path can carry heartbeats and no traffic.
        let (mut grading, mut falls, mut since) = (Grading::default(), Vec::new(), None);
        for tick in 0..12_000 {
            let now = start() + TICK * tick;
            let used = *since.get_or_insert(now);
            let loss = if now - used >= Duration::from_secs(5) { 0.3 } else { 0.0 };
            let before = grading.grade();
            if grading.note(now, losing(loss)) != Grade::Good {
                since = None;
                if before == Grade::Good {
                    falls.push(tick / 10);
                }
            }
        }
        assert!(falls.len() <= 7, "20 minutes: {falls:?}");
    }
}
