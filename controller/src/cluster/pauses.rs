//! How long a watch waits after it failed. kube's own pauses grow to a minute, in which an API server may long be back.

use std::time::Duration;

use kube::runtime::utils::Backoff;

const FIRST: Duration = Duration::from_millis(200);

/// A dozen watches that ask every few seconds are no load for a server that is about to come back.
const LONGEST: Duration = Duration::from_secs(5);

/// Pauses that double from [`FIRST`] to [`LONGEST`], and begin anew with the first success.
#[derive(Debug, Default)]
pub struct Pauses {
    last: Option<Duration>,
}

impl Iterator for Pauses {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.last = Some(self.last.map_or(FIRST, |last| (last * 2).min(LONGEST)));
        self.last
    }
}

impl Backoff for Pauses {
    fn reset(&mut self) {
        self.last = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_begin_anew() {
        let mut pauses = Pauses::default();
        let first: Vec<u128> = pauses.by_ref().take(7).map(|pause| pause.as_millis()).collect();
        assert_eq!(first, [200, 400, 800, 1600, 3200, 5000, 5000]);
        pauses.reset();
        assert_eq!(pauses.next(), Some(FIRST));
    }
}
