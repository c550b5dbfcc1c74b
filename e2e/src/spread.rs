//! How long something took, over many trials: its distribution, for people and for the record.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The value that `percent` of all do not exceed (nearest rank), 0 without values.
#[must_use]
pub fn nearest_rank(all: impl IntoIterator<Item = f64>, percent: usize) -> f64 {
    let mut all: Vec<f64> = all.into_iter().collect();
    all.sort_unstable_by(f64::total_cmp);
    let rank = (all.len() * percent).div_ceil(100).max(1);
    all.get(rank - 1).copied().unwrap_or(0.0)
}

/// All trials of one thing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// What took so long, for a person.
    pub what: String,
    /// How long, in milliseconds, in the order of the trials.
    pub ms: Vec<f64>,
}

impl Spread {
    /// Of nothing yet.
    #[must_use]
    pub fn of(what: &str) -> Self {
        Self { what: what.to_owned(), ms: Vec::new() }
    }

    /// One more trial.
    pub fn add(&mut self, took: Duration) {
        self.ms.push(took.as_micros() as f64 / 1e3);
    }

    /// The head of the table whose rows are [`Self::row`]'s.
    #[must_use]
    pub fn head() -> &'static str {
        "| | trials | p50, ms | p95 | p99 | most |\n|---|---|---|---|---|---|"
    }

    /// A row of the table. Of less than 100 trials the 99th percentile is the longest.
    #[must_use]
    pub fn row(&self) -> String {
        let [p50, p95, p99, most] =
            [50, 95, 99, 100].map(|percent| nearest_rank(self.ms.iter().copied(), percent));
        let count = self.ms.len();
        format!("| {} | {count} | {p50:.0} | {p95:.0} | {p99:.0} | {most:.0} |", self.what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_the_nearest_ranks() {
        let mut spread = Spread::of("a look");
        (1..=200).rev().for_each(|ms| spread.add(Duration::from_millis(ms)));
        assert_eq!(spread.row(), "| a look | 200 | 100 | 190 | 198 | 200 |");
        let columns = |text: &str| text.lines().map(|line| line.matches('|').count()).max();
        assert_eq!(columns(Spread::head()), columns(&spread.row()));
        assert_eq!(Spread::of("none").row(), "| none | 0 | 0 | 0 | 0 | 0 |");
    }
}
