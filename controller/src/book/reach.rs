//! Whether services of a cluster count as reachable: gone at once, back after a while.

use std::time::{Duration, Instant};

/// How long packets must have got there without a break before new connections are led there again.
const RETURN: Duration = Duration::from_secs(5);

/// That time doubles with each loss, up to this.
const LONGEST: Duration = Duration::from_secs(60);

/// Whoever was reached for so long has the first time again.
const CALM: Duration = Duration::from_secs(120);

/// What is known of the way to a cluster, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Word {
    /// It is declared down: packets do not get there.
    Fails,
    /// Nobody who could know says anything.
    Unknown,
    /// Packets get there.
    Works,
}

/// How one cluster is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reach {
    standing: Standing,
    /// How long packets have to get there before it counts again.
    pause: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// They never did: there is nothing to return to.
    Never,
    /// Packets get there; since then, if it was lost before.
    Up(Option<Instant>),
    /// They do not.
    Down,
    /// They do again since then, which is not long enough.
    Returning(Instant),
}

impl Reach {
    /// Of a cluster that is seen for the first time. It counts as soon as nothing speaks against it.
    pub fn first(word: Word) -> Self {
        let standing = if word == Word::Fails { Standing::Never } else { Standing::Up(None) };
        Self { standing, pause: RETURN }
    }

    /// What follows from what is known now. Whoever is not spoken of stays reached, but does not return.
    #[must_use]
    pub fn next(self, word: Word, now: Instant) -> Self {
        let Self { standing, pause } = self;
        let more = (pause * 2).min(LONGEST);
        let (standing, pause) = match (standing, word) {
            (Standing::Up(since), Word::Fails) => {
                let flaps = since.is_some_and(|since| now < since + CALM);
                (Standing::Down, if flaps { more } else { RETURN })
            }
            (Standing::Returning(_), Word::Fails) => (Standing::Down, more),
            (Standing::Returning(_), Word::Unknown) => (Standing::Down, pause),
            (Standing::Returning(since), Word::Works) if now >= since + pause => {
                (Standing::Up(Some(now)), pause)
            }
            (Standing::Down, Word::Works) => (Standing::Returning(now), pause),
            (Standing::Never, Word::Works) => (Standing::Up(None), pause),
            (stays, _) => (stays, pause),
        };
        Self { standing, pause }
    }

    /// Whether new connections are led there.
    pub fn is_up(self) -> bool {
        matches!(self.standing, Standing::Up(_))
    }

    /// When to look again although nothing happens.
    pub fn due(self) -> Option<Instant> {
        match self.standing {
            Standing::Never | Standing::Up(_) | Standing::Down => None,
            Standing::Returning(since) => Some(since + self.pause),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn gone_at_once_and_back_after_a_while_without_a_break() {
        let now = Instant::now();
        let up = Reach::first(Word::Works);
        assert!(up.is_up(), "nothing spoke against it");
        let down = up.next(Word::Fails, now);
        assert!(!down.is_up());
        let back = down.next(Word::Works, now + SECOND);
        assert_eq!(back.due(), Some(now + SECOND + RETURN));
        assert!(!back.next(Word::Works, now + RETURN).is_up());
        assert!(back.next(Word::Works, now + SECOND + RETURN).is_up());
        let broken = back.next(Word::Fails, now + RETURN).next(Word::Works, now + RETURN);
        assert_eq!(broken.due(), Some(now + RETURN + 2 * RETURN), "from the beginning, and longer");
    }

    #[test]
    fn whoever_flaps_waits_longer_each_time_until_it_was_calm() {
        let (mut reach, mut now) = (Reach::first(Word::Works), Instant::now());
        let mut lose = |reach: &mut Reach, after: Duration| {
            now += after;
            let back = reach.next(Word::Fails, now).next(Word::Works, now);
            let due = back.due().expect("returning");
            let waited = due - now;
            now = due;
            *reach = back.next(Word::Works, now);
            assert!(reach.is_up());
            waited.as_secs()
        };
        let waits: Vec<u64> = (0..6).map(|_| lose(&mut reach, SECOND)).collect();
        assert_eq!(waits, [5, 10, 20, 40, 60, 60]);
        assert_eq!(lose(&mut reach, CALM), 5);
    }

    #[test]
    fn a_cluster_that_is_new_counts_as_soon_as_it_is_reached() {
        let now = Instant::now();
        let new = Reach::first(Word::Fails);
        assert!(!new.is_up() && !new.next(Word::Unknown, now).is_up());
        let up = new.next(Word::Works, now);
        assert!(up.is_up());
        let back = up.next(Word::Fails, now).next(Word::Works, now + SECOND);
        assert_eq!(back.due(), Some(now + SECOND + RETURN), "from then on it is as any other");
    }

    #[test]
    fn without_a_word_nothing_changes_and_nobody_returns() {
        let now = Instant::now();
        assert!(Reach::first(Word::Unknown).is_up(), "what was imported earlier stays");
        let up = Reach::first(Word::Works);
        assert_eq!(up.next(Word::Unknown, now), up);
        let down = up.next(Word::Fails, now);
        assert_eq!(down.next(Word::Unknown, now), down);
        let back = down.next(Word::Works, now);
        assert_eq!(back.next(Word::Unknown, now + SECOND).due(), None);
    }

    proptest! {
        /// Whatever is said: what fails is down at once, and what is down is up again only after all of a pause.
        #[test]
        fn never_up_while_down_nor_back_too_soon(
            words in prop::collection::vec((0u64..4000, 0..3u8), 1..200),
        ) {
            let (mut reach, mut now) = (Reach::first(Word::Works), Instant::now());
            let mut works_since = None;
            for (millis, word) in words {
                now += Duration::from_millis(millis);
                let word = [Word::Fails, Word::Unknown, Word::Works][usize::from(word)];
                let before = reach;
                reach = before.next(word, now);
                match word {
                    Word::Works => works_since = works_since.or(Some(now)),
                    Word::Fails | Word::Unknown => works_since = None,
                }
                prop_assert!(word != Word::Fails || !reach.is_up());
                if reach.is_up() && !before.is_up() {
                    prop_assert!(works_since.is_some_and(|since| now >= since + RETURN));
                }
                prop_assert!(reach.due().is_none_or(|due| due > now && due <= now + LONGEST));
            }
        }
    }
}
