//! Figures with their goals beside them: all are printed, and a case fails afterwards if one was missed.

use crate::common::{check, figure};
use crate::world::Outcome;

/// What was measured so far.
#[derive(Debug, Default)]
pub struct Goals {
    missed: Vec<String>,
}

impl Goals {
    /// It may be so much.
    pub fn at_most(&mut self, what: &str, value: f64, goal: f64) {
        self.judge(what, value, "at most", goal, value <= goal);
    }

    /// It has to be so much.
    pub fn at_least(&mut self, what: &str, value: f64, goal: f64) {
        self.judge(what, value, "at least", goal, value >= goal);
    }

    fn judge(&mut self, what: &str, value: f64, bound: &str, goal: f64, met: bool) {
        let words = format!("{what}: {} (goal: {bound} {})", short(value), short(goal));
        figure(&if met { words.clone() } else { format!("{words}: MISSED") });
        if !met {
            self.missed.push(words);
        }
    }

    /// Whether all were met.
    pub fn outcome(self) -> Outcome {
        check(self.missed.is_empty(), || format!("missed: {}", self.missed.join("; ")))
    }
}

/// A number as people read it.
fn short(value: f64) -> String {
    if value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}
