//! Whether services of a cluster count as reachable: gone at once, and back after a while. Where no other cluster serves
//! they go a moment later and are back soon, as the alternative is a refusal.

use std::time::{Duration, Instant};

use crate::services::Access;

/// How long packets must have got there without a break before new connections are led there again.
const RETURN: Duration = Duration::from_secs(5);

/// That time doubles with each loss, up to this.
const LONGEST: Duration = Duration::from_secs(60);

/// Whoever was reached for so long has the first time again.
const CALM: Duration = Duration::from_secs(120);

/// After this part of that time it serves what no other cluster does. Not at once: who flaps would have all of its
/// services' EndpointSlices written each time.
const LAST_RESORT: u32 = 50;

/// A lost one still serves what no other cluster does for so long: on busy machines many a path is back by then, and nodes refuse
/// what they have no path for in any case. With all else that there is to a loss it has to be less than a second.
const LINGER: Duration = Duration::from_millis(300);

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
    /// They do not since then, for a moment.
    Failing(Instant),
    /// They do not.
    Down,
    /// They do again since then, which is not long enough.
    Returning(Instant),
    /// They do again since then, which is long enough where no other cluster serves; or did so when somebody last knew.
    LastResort(Option<Instant>),
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
                (Standing::Failing(now), if flaps { more } else { RETURN })
            }
            (Standing::Failing(since), Word::Fails) if now >= since + LINGER => {
                (Standing::Down, pause)
            }
            (Standing::LastResort(_), Word::Fails) => (Standing::Failing(now), more),
            (Standing::Failing(_) | Standing::LastResort(_), Word::Unknown) => {
                (Standing::LastResort(None), pause)
            }
            (Standing::Failing(_) | Standing::LastResort(None), Word::Works) => {
                (Standing::LastResort(Some(now)), pause)
            }
            (Standing::Returning(_), Word::Fails) => (Standing::Down, more),
            (Standing::Returning(_), Word::Unknown) => (Standing::Down, pause),
            (Standing::Returning(since) | Standing::LastResort(Some(since)), Word::Works)
                if now >= since + pause =>
            {
                (Standing::Up(Some(now)), pause)
            }
            (Standing::Returning(since), Word::Works) if now >= since + pause / LAST_RESORT => {
                (Standing::LastResort(Some(since)), pause)
            }
            (Standing::Down, Word::Works) => (Standing::Returning(now), pause),
            (Standing::Never, Word::Works) => (Standing::Up(None), pause),
            (stays, _) => (stays, pause),
        };
        Self { standing, pause }
    }

    /// Whether new connections are led there.
    pub fn access(self) -> Access {
        match self.standing {
            Standing::Never | Standing::Down | Standing::Returning(_) => Access::Lost,
            Standing::Failing(_) | Standing::LastResort(_) => Access::LastResort,
            Standing::Up(_) => Access::Full,
        }
    }

    /// When to look again although nothing happens.
    pub fn due(self) -> Option<Instant> {
        match self.standing {
            Standing::Never | Standing::Up(_) | Standing::Down | Standing::LastResort(None) => None,
            Standing::Failing(since) => Some(since + LINGER),
            Standing::Returning(since) => Some(since + self.pause / LAST_RESORT),
            Standing::LastResort(Some(since)) => Some(since + self.pause),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// What fails until it counts as lost.
    fn lost(reach: Reach, now: Instant) -> Reach {
        let failing = reach.next(Word::Fails, now);
        assert_eq!((failing.access(), failing.due()), (Access::LastResort, Some(now + LINGER)));
        failing.next(Word::Fails, now + LINGER)
    }

    #[test]
    fn gone_at_once_and_back_after_a_while_without_a_break() {
        let now = Instant::now();
        let up = Reach::first(Word::Works);
        assert_eq!(up.access(), Access::Full, "nothing spoke against it");
        let down = lost(up, now);
        assert_eq!((down.access(), down.due()), (Access::Lost, None));
        let returning = down.next(Word::Works, now + SECOND);
        assert_eq!(returning.access(), Access::Lost);
        let resort = now + SECOND + RETURN / LAST_RESORT;
        assert_eq!(returning.due(), Some(resort));
        let resort = returning.next(Word::Works, resort);
        assert_eq!(resort.access(), Access::LastResort);
        assert_eq!(resort.due(), Some(now + SECOND + RETURN));
        assert_eq!(resort.next(Word::Works, now + RETURN).access(), Access::LastResort);
        for back in [returning, resort] {
            assert_eq!(back.next(Word::Works, now + SECOND + RETURN).access(), Access::Full);
        }
        for broken in [returning.next(Word::Fails, now + RETURN), lost(resort, now + RETURN)] {
            assert_eq!(broken.access(), Access::Lost);
            let broken = broken.next(Word::Works, now + 2 * RETURN);
            let resort = now + 2 * RETURN + 2 * RETURN / LAST_RESORT;
            assert_eq!(broken.due(), Some(resort), "from the beginning, and longer");
            let resort = broken.next(Word::Works, resort);
            assert_eq!(resort.due(), Some(now + 2 * RETURN + 2 * RETURN));
        }
    }

    #[test]
    fn a_short_break_costs_the_trust_of_others_and_no_more() {
        let now = Instant::now();
        let failing = Reach::first(Word::Works).next(Word::Fails, now);
        let (soon, back) = (now + LINGER / 2, failing.next(Word::Works, now + LINGER / 2));
        assert_eq!((back.access(), back.due()), (Access::LastResort, Some(soon + RETURN)));
        assert_eq!(back.next(Word::Works, soon + RETURN).access(), Access::Full);
        assert_eq!(failing.next(Word::Fails, soon), failing, "its time runs from the beginning");
        let unknown = failing.next(Word::Unknown, soon);
        assert_eq!((unknown.access(), unknown.due()), (Access::LastResort, None));
    }

    #[test]
    fn whoever_flaps_waits_longer_each_time_until_it_was_calm() {
        let (mut reach, mut now) = (Reach::first(Word::Works), Instant::now());
        let mut lose = |reach: &mut Reach, after: Duration| {
            now += after;
            let back = now + LINGER;
            *reach = lost(*reach, now).next(Word::Works, back);
            now = back;
            while let Some(due) = reach.due() {
                now = due;
                *reach = reach.next(Word::Works, now);
            }
            assert_eq!(reach.access(), Access::Full);
            (now - back).as_secs()
        };
        let waits: Vec<u64> = (0..6).map(|_| lose(&mut reach, SECOND)).collect();
        assert_eq!(waits, [5, 10, 20, 40, 60, 60]);
        assert_eq!(lose(&mut reach, CALM), 5);
    }

    #[test]
    fn a_cluster_that_is_new_counts_as_soon_as_it_is_reached() {
        let now = Instant::now();
        let new = Reach::first(Word::Fails);
        assert_eq!(new.access(), Access::Lost);
        assert_eq!(new.next(Word::Unknown, now).access(), Access::Lost);
        let up = new.next(Word::Works, now);
        assert_eq!(up.access(), Access::Full);
        let back = lost(up, now).next(Word::Works, now + SECOND);
        assert_eq!(back.access(), Access::Lost, "from then on it is as any other");
    }

    #[test]
    fn without_a_word_nothing_changes_and_nobody_returns() {
        let now = Instant::now();
        let first = Reach::first(Word::Unknown);
        assert_eq!(first.access(), Access::Full, "what was imported earlier stays");
        let up = Reach::first(Word::Works);
        assert_eq!(up.next(Word::Unknown, now), up);
        let down = lost(up, now);
        assert_eq!(down.next(Word::Unknown, now), down);
        let returning = down.next(Word::Works, now);
        assert_eq!(returning.next(Word::Unknown, now + SECOND), down);
        let resort = returning.next(Word::Works, now + SECOND);
        let kept = resort.next(Word::Unknown, now + SECOND);
        assert_eq!((kept.access(), kept.due()), (Access::LastResort, None));
        let known = kept.next(Word::Works, now + 2 * SECOND);
        assert_eq!(known.due(), Some(now + 2 * SECOND + RETURN), "from the beginning");
    }

    proptest! {
        /// Whatever is said: what fails is trusted by nobody at once, and lost after a moment; and what was lost serves again
        /// only after all of a pause, or a part of it where no other does.
        #[test]
        fn never_reached_while_down_nor_back_too_soon(
            words in prop::collection::vec((0u64..4000, 0..3u8), 1..200),
        ) {
            let (mut reach, mut now) = (Reach::first(Word::Works), Instant::now());
            let (mut works_since, mut fails_since) = (None, None);
            for (millis, word) in words {
                now += Duration::from_millis(millis);
                let word = [Word::Fails, Word::Unknown, Word::Works][usize::from(word)];
                let before = reach.access();
                reach = reach.next(word, now);
                let since = |said, since: Option<Instant>| {
                    (word == said).then(|| since.unwrap_or(now))
                };
                works_since = since(Word::Works, works_since);
                fails_since = since(Word::Fails, fails_since);
                let after = reach.access();
                let lasted = |since: Option<Instant>, pause| {
                    since.is_some_and(|since| now >= since + pause)
                };
                prop_assert!(word != Word::Fails || after != Access::Full);
                prop_assert!(!lasted(fails_since, LINGER) || after == Access::Lost);
                let trusted = after == Access::Full && before != after;
                prop_assert!(!trusted || lasted(works_since, RETURN));
                let risen = before == Access::Lost && after != Access::Lost;
                prop_assert!(!risen || lasted(works_since, RETURN / LAST_RESORT));
                prop_assert!(word == Word::Fails || after != Access::Lost || before == after);
                prop_assert!(reach.due().is_none_or(|due| due > now && due <= now + LONGEST));
            }
        }
    }
}
