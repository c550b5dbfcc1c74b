//! Which of a tunnel's paths is used: by health, then by the operator's cost, then by loss and latency.

use std::time::{Duration, Instant};

use super::grade::Grade;

/// A path has to be better for so long before traffic moves to it from one that does.
const SETTLED: Duration = Duration::from_secs(5);
/// How much shorter round trips have to be on a path of the same cost: by a quarter, and by this.
const SHORTER: Duration = Duration::from_millis(10);
/// How much less may be lost on a path that is worth a move: half, and this share.
const LESS: f64 = 0.01;

/// A path that may be chosen.
#[derive(Debug, Clone, Copy, Default)]
pub struct Candidate {
    /// Its number.
    pub number: u8,
    /// It works but has flapped: it is chosen only where no other is left.
    pub held: bool,
    /// How good it is.
    pub grade: Grade,
    /// The operator's cost: dearer paths are for when cheaper ones fail.
    pub cost: u16,
    /// The share that is lost, from 0 to 1.
    pub loss: f64,
    /// Round-trip time; `None` while it is not known.
    pub rtt: Option<Duration>,
}

impl Candidate {
    /// What counts at once.
    fn health(&self) -> (bool, Grade) {
        (self.held, self.grade)
    }

    /// What counts where nothing is used yet.
    fn rank(&self) -> (bool, Grade, u16, Duration, u8) {
        let rtt = self.rtt.unwrap_or(Duration::MAX);
        (self.held, self.grade, self.cost, rtt, self.number)
    }

    /// Whether it is worth a move from `used`, if that lasts.
    fn is_worth(&self, used: &Self) -> bool {
        if self.health() != used.health() || self.cost != used.cost {
            return self.health() <= used.health() && self.cost < used.cost;
        }
        let lossy = used.loss > 2.0 * self.loss + LESS;
        let clean = self.loss <= used.loss + LESS / 2.0;
        let quicker = self.rtt.zip(used.rtt).is_some_and(|(a, b)| a + a / 4 + SHORTER < b);
        lossy || clean && quicker
    }
}

/// The machine, one a tunnel.
#[derive(Debug, Clone, Copy, Default)]
pub struct Choice {
    used: Option<u8>,
    /// A path that would be better, and since when.
    better: Option<(u8, Instant)>,
}

impl Choice {
    /// Chooses from the paths that work. Without any, none is chosen.
    pub fn choose(&mut self, now: Instant, candidates: &[Candidate]) -> Option<u8> {
        let used = candidates.iter().find(|c| Some(c.number) == self.used);
        let best = candidates.iter().min_by_key(|c| c.rank());
        let at_once = match (used, best) {
            (Some(used), Some(best)) => best.health() < used.health(),
            _ => true,
        };
        if at_once {
            self.better = None;
            self.used = best.map(|best| best.number);
            return self.used;
        }
        let worth = used.and_then(|used| {
            let better = candidates.iter().filter(|candidate| candidate.is_worth(used));
            better.min_by_key(|candidate| candidate.rank())
        });
        self.better = worth.map(|worth| {
            let since = self.better.filter(|(number, _)| *number == worth.number);
            (worth.number, since.map_or(now, |(_, since)| since))
        });
        let settled = |(_, since): &(u8, Instant)| now.saturating_duration_since(*since) >= SETTLED;
        if let Some((number, _)) = self.better.take_if(|better| settled(better)) {
            self.used = Some(number);
        }
        self.used
    }

    /// The path that was chosen last.
    pub fn used(&self) -> Option<u8> {
        self.used
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::start;

    const TICK: Duration = Duration::from_millis(100);

    fn path(number: u8, cost: u16, millis: u64) -> Candidate {
        let rtt = Some(Duration::from_millis(millis));
        Candidate { number, held: false, grade: Grade::Good, cost, loss: 0.0, rtt }
    }

    /// What is used at each tenth of a second, and how often that changed.
    fn run(ticks: u32, at: impl Fn(u32) -> Vec<Candidate>) -> (Vec<Option<u8>>, usize) {
        let mut choice = Choice::default();
        let used: Vec<_> =
            (0..ticks).map(|tick| choice.choose(start() + TICK * tick, &at(tick))).collect();
        let moves = used.windows(2).filter(|pair| pair[0] != pair[1]).count();
        (used, moves)
    }

    #[test]
    fn the_cheapest_of_the_healthy_is_used() {
        let cheap = path(1, 10, 80);
        assert_eq!(run(1, |_| vec![path(0, 20, 5), cheap, path(2, 30, 1)]).0, [Some(1)]);
        let poor = Candidate { grade: Grade::Poor, ..cheap };
        assert_eq!(run(1, |_| vec![path(0, 20, 5), poor]).0, [Some(0)]);
        let held = Candidate { held: true, ..cheap };
        assert_eq!(
            run(1, |_| vec![Candidate { grade: Grade::Bad, ..path(0, 20, 5) }, held]).0[0],
            Some(0)
        );
        assert_eq!(run(1, |_| vec![held]).0, [Some(1)], "better than none");
        assert_eq!(run(1, |_| Vec::new()).0, [None]);
    }

    #[test]
    fn a_path_that_fails_is_left_at_once_and_taken_again_after_a_while() {
        let (used, moves) = run(200, |tick| {
            let dear = path(1, 10, 20);
            if (20..50).contains(&tick) { vec![dear] } else { vec![path(0, 0, 20), dear] }
        });
        assert_eq!((used[19], used[20], used[99], used[101]), (Some(0), Some(1), Some(1), Some(0)));
        assert_eq!(moves, 2);
    }

    #[test]
    fn shorter_and_less_lossy_ones_are_taken_where_that_lasts() {
        let (used, moves) = run(100, |_| vec![path(0, 0, 20), path(1, 0, 20)]);
        assert_eq!((used[99], moves), (Some(0), 0), "equals");
        let (used, moves) =
            run(200, |tick| vec![path(0, 0, if tick < 10 { 20 } else { 100 }), path(1, 0, 30)]);
        assert_eq!((used[199], moves), (Some(1), 1));
        let (used, moves) = run(200, |tick| {
            let loss = if tick < 10 { 0.0 } else { 0.5 };
            let bad = |c| Candidate { grade: Grade::Bad, ..c };
            vec![
                bad(Candidate { loss, ..path(0, 0, 20) }),
                bad(Candidate { loss: 0.2, ..path(1, 0, 90) }),
            ]
        });
        assert_eq!((used[199], moves), (Some(1), 1));
        let swings = |tick: u32| path(0, 0, if (tick / 20).is_multiple_of(2) { 20 } else { 100 });
        let (_, moves) = run(1000, |tick| vec![swings(tick), path(1, 0, 30)]);
        assert_eq!(moves, 0, "what swings faster than that moves nothing");
    }

    fn any_candidate(number: u8) -> impl Strategy<Value = Candidate> {
        let grade = prop_oneof![Just(Grade::Good), Just(Grade::Poor), Just(Grade::Bad)];
        (any::<bool>(), grade, 0..3u16, 0.0..1.0f64, 0..300u64).prop_map(
            move |(held, grade, cost, loss, millis)| {
                let rtt = (millis > 0).then(|| Duration::from_millis(millis));
                Candidate { number, held, grade, cost, loss, rtt }
            },
        )
    }

    proptest! {
        #[test]
        fn what_stays_as_it_is_is_left_alone_and_never_for_a_sicker_one(
            paths in (any_candidate(0), any_candidate(1), any_candidate(2)), from in 0..3usize,
        ) {
            let all = [paths.0, paths.1, paths.2];
            let mut choice = Choice::default();
            choice.choose(start(), &all[from..=from]);
            let mut used = Vec::new();
            for tick in 1..600 {
                used.push(choice.choose(start() + TICK * tick, &all).expect("one"));
            }
            let moves = used.windows(2).filter(|pair| pair[0] != pair[1]).count();
            prop_assert!(moves <= 3, "{used:?}");
            prop_assert!(used[300..].iter().all(|number| *number == used[598]), "{used:?}");
            let best = all.iter().map(Candidate::health).min();
            prop_assert_eq!(Some(all[usize::from(used[0])].health()), best);
        }
    }
}
