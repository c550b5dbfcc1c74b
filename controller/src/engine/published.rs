//! A status as it was last left for writing, and what became of it: what the watch shows is compared
//! with what was wanted, so that whatever others write over it is written again.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::Value;

/// How many writes may be under way before the oldest is taken for lost.
const UNDER_WAY: usize = 8;

/// What others wrote over is written again at most so often: another writer may be as stubborn.
const AGAIN: Duration = Duration::from_secs(5);

/// A status, as wanted and as seen.
#[derive(Debug)]
pub(super) struct Published<S> {
    /// Whose: the object's UID.
    pub uid: String,
    /// As it was last left for writing.
    pub status: S,
    /// When.
    pub at: Option<Instant>,
    seen: S,
    under_way: VecDeque<Value>,
    /// Something of ours is not in the API as nobody here wrote it.
    foreign: bool,
}

impl<S: Clone + PartialEq + Serialize> Published<S> {
    /// As the API has it, before anything was written.
    pub fn found(uid: String, status: &S) -> Self {
        Self {
            uid,
            status: status.clone(),
            at: None,
            seen: status.clone(),
            under_way: VecDeque::new(),
            foreign: false,
        }
    }

    /// The status was left for writing.
    pub fn leave(&mut self, status: S, now: Instant) {
        self.under_way.push_back(stored(&status));
        if self.under_way.len() > UNDER_WAY {
            self.under_way.pop_front();
        }
        (self.status, self.at, self.foreign) = (status, Some(now), false);
    }

    /// The API has this status now.
    pub fn see(&mut self, status: &S) {
        if self.seen == *status {
            return;
        }
        self.seen = status.clone();
        let seen = stored(status);
        match self.under_way.iter().rposition(|written| holds(&seen, written)) {
            // Ours, come back. Later ones are still under way.
            Some(at) => {
                self.under_way.drain(..=at);
                self.foreign = false;
            }
            None => self.foreign = !holds(&seen, &stored(&self.status)),
        }
    }

    /// When the status must be written again although nothing new is to be said.
    pub fn restore_at(&self, now: Instant) -> Option<Instant> {
        self.foreign.then(|| self.at.map_or(now, |last| (last + AGAIN).max(now)))
    }
}

/// The status as the API keeps it: times lose what is finer than their text.
fn stored<S: Serialize>(status: &S) -> Value {
    // What cannot be written as JSON is not written at all.
    serde_json::to_value(status).unwrap_or_default()
}

/// Whether all of `ours` is in `seen`. What others add beside it, such as a condition of another type,
/// is theirs, and no write of ours would remove it.
fn holds(seen: &Value, ours: &Value) -> bool {
    match (seen, ours) {
        (Value::Object(seen), Value::Object(ours)) => {
            ours.iter().all(|(key, value)| seen.get(key).is_some_and(|seen| holds(seen, value)))
        }
        (Value::Array(seen), Value::Array(conditions))
            if !conditions.is_empty() && conditions.iter().all(|one| one["type"].is_string()) =>
        {
            conditions.iter().all(|one| {
                let same = seen.iter().find(|seen| seen["type"] == one["type"]);
                same.is_some_and(|seen| holds(seen, one))
            })
        }
        _ => seen == ours,
    }
}

#[cfg(test)]
mod tests {
    use carrick_crds::{ClusterPeeringStatus, Reason, condition, condition::Verdict};
    use jiff::Timestamp;

    use super::*;

    /// A status as one is made here: with times finer than the API keeps.
    fn saying(message: &str) -> ClusterPeeringStatus {
        let mut status = ClusterPeeringStatus::default();
        let at = Timestamp::new(1_800_000_000, 123_456_789).expect("time");
        let verdict = Verdict::yes(Reason::Connected, message);
        condition::set(&mut status.conditions, "Connected", &verdict, Some(1), at);
        status
    }

    /// The same as the API gives it back.
    fn back(message: &str) -> ClusterPeeringStatus {
        serde_json::from_value(stored(&saying(message))).expect("status")
    }

    #[test]
    fn our_own_writes_come_back_and_are_no_news() {
        let now = Instant::now();
        let mut published = Published::found("u".to_owned(), &back("found"));
        published.leave(saying("one"), now);
        published.leave(saying("two"), now);
        for echo in ["found", "one", "two", "two"] {
            published.see(&back(echo));
            assert_eq!(published.restore_at(now), None, "{echo}");
        }
        assert!(published.under_way.is_empty());
    }

    #[test]
    fn what_others_write_is_written_over_once_in_a_while() {
        let now = Instant::now();
        let mut published = Published::found("u".to_owned(), &back("found"));
        let foreign = back("nonsense");
        published.see(&foreign);
        assert_eq!(published.restore_at(now), Some(now), "nothing was written lately");
        published.leave(saying("found"), now);
        published.see(&foreign);
        assert_eq!(published.restore_at(now), None, "the write is under way");
        published.see(&back("found"));
        assert_eq!(published.restore_at(now), None);
        published.see(&foreign);
        assert_eq!(published.restore_at(now), Some(now + AGAIN));
        assert_eq!(published.restore_at(now + 2 * AGAIN), Some(now + 2 * AGAIN));
        published.see(&back("found"));
        assert_eq!(published.restore_at(now), None, "its writer took it back");
    }

    #[test]
    fn what_others_add_beside_ours_is_theirs() {
        let now = Instant::now();
        let mut published = Published::found("u".to_owned(), &back("found"));
        let other = |message: &str| {
            let (mut status, verdict) = (back(message), Verdict::no(Reason::Refused, "theirs"));
            condition::set(&mut status.conditions, "Theirs", &verdict, None, Timestamp::UNIX_EPOCH);
            status.conditions.reverse();
            status
        };
        published.see(&other("found"));
        assert_eq!(published.restore_at(now), None);
        published.leave(saying("one"), now);
        published.see(&other("one"));
        assert_eq!((published.restore_at(now), published.under_way.len()), (None, 0));
        published.see(&other("nonsense"));
        assert!(published.restore_at(now).is_some());
    }

    #[test]
    fn writes_that_never_come_back_are_forgotten() {
        let mut published = Published::found("u".to_owned(), &back("found"));
        for n in 0..100 {
            published.leave(saying(&n.to_string()), Instant::now());
        }
        assert_eq!(published.under_way.len(), UNDER_WAY);
    }
}
