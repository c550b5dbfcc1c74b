use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::testing::start;

/// A path, and the gateway at its other end, which answers every probe that arrives.
struct World {
    machine: PathMtu,
    now: Instant,
    start: Instant,
    /// The largest packet that passes.
    truth: u16,
    /// What the local link refuses to send.
    link: u16,
    rtt: Duration,
    /// Of a thousand packets so many are lost, each way.
    loss: u64,
    answers: bool,
    ceiling: u16,
    quiet: bool,
    random: Random,
    under_way: BTreeMap<(Instant, u32), (Echo, u16)>,
    bytes: u64,
    sent: u64,
    /// Every value that was found, with the time of its finding.
    history: Vec<(Duration, Option<u16>)>,
}

impl World {
    fn new(truth: u16, rtt: u64, loss: u64, seed: u64) -> Self {
        let now = start();
        Self {
            machine: PathMtu::new(seed),
            now,
            start: now,
            truth,
            link: u16::MAX,
            rtt: Duration::from_millis(rtt),
            loss,
            answers: true,
            ceiling: 9080,
            quiet: false,
            random: Random::new(!seed),
            under_way: BTreeMap::new(),
            bytes: 0,
            sent: 0,
            history: Vec::new(),
        }
    }

    fn send(&mut self, probe: Probe) {
        if probe.size > self.link {
            self.machine.handle_refused(self.now, probe.size);
            return;
        }
        self.bytes += u64::from(probe.size);
        self.sent += 1;
        let survives = |random: &mut Random| random.number() % 1000 >= self.loss;
        let arrives = survives(&mut self.random) && survives(&mut self.random);
        if arrives && self.answers && probe.size <= self.truth {
            let at = self.now + self.rtt;
            self.under_way.insert((at, probe.echo.sequence), (probe.echo, probe.size));
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        self.machine.run(self.now, self.ceiling);
        loop {
            while let Some(probe) = self.machine.poll(self.now, self.quiet) {
                self.send(probe);
            }
            let found = self.machine.report().mtu;
            if self.history.last().is_none_or(|(_, last)| *last != found) {
                self.history.push((self.now - self.start, found));
            }
            let answer = self.under_way.first_key_value().map(|((at, _), _)| *at);
            let due = self.machine.poll_timeout();
            let Some(next) = answer.into_iter().chain(due).min().filter(|at| *at <= end) else {
                break;
            };
            self.now = self.now.max(next);
            if answer.is_some_and(|at| at <= self.now)
                && let Some((_, (echo, size))) = self.under_way.pop_first()
            {
                self.machine.handle_answer(self.now, echo, size).expect("awaited");
            }
        }
        self.now = end;
    }

    fn found(&self) -> Option<u16> {
        self.machine.report().mtu
    }

    fn seconds(&mut self, seconds: u64) {
        self.run(Duration::from_secs(seconds));
    }

    fn state(&self) -> PathState {
        self.machine.report().state
    }
}

#[test]
fn common_sizes_are_found_in_two_seconds_on_long_paths_and_odd_ones_in_four() {
    for (rtt, common, odd) in [(1, 200, 400), (20, 300, 600), (200, 2000, 4000)] {
        for truth in [1280, 1400, 1492, 1500, 9000] {
            let mut world = World::new(truth, rtt, 0, 1);
            world.run(Duration::from_millis(common));
            assert_eq!(world.found(), Some(truth), "rtt {rtt} ms: {:?}", world.history);
        }
        for truth in [600, 1337, 1501, 3000, 7777] {
            let mut world = World::new(truth, rtt, 0, 1);
            world.run(Duration::from_millis(odd));
            assert_eq!(world.found(), Some(truth), "rtt {rtt} ms: {:?}", world.history);
        }
    }
}

#[test]
fn at_rest_a_path_costs_less_than_10_kilobits_a_second() {
    for truth in [1280, 1500, 9000] {
        let mut world = World::new(truth, 20, 0, 1);
        world.seconds(10);
        let before = world.bytes;
        world.seconds(600);
        let bits = (world.bytes - before) * 8 / 600;
        assert!(bits < 10_000, "{bits} bit/s at {truth}");
        assert_eq!((world.found(), world.state()), (Some(truth), PathState::Verified));
    }
}

#[test]
fn nothing_above_the_ceiling_is_tried_and_the_ceiling_itself_is_found() {
    let mut world = World::new(9000, 20, 0, 1);
    world.ceiling = 1480;
    world.seconds(200);
    assert_eq!(world.found(), Some(1480));
    assert!(world.bytes < world.sent * 1480);
    world.ceiling = 9080;
    world.seconds(2);
    assert_eq!(world.found(), Some(9000));
    world.ceiling = 1400;
    world.seconds(2);
    assert_eq!(world.found(), Some(1400));
}

#[test]
fn a_path_that_shrinks_is_a_black_hole_for_seconds_only() {
    for rtt in [1, 20, 200] {
        let mut world = World::new(1500, rtt, 0, 1);
        world.seconds(10);
        world.truth = 1400;
        world.seconds(6);
        assert_eq!(world.found(), Some(1400), "rtt {rtt}: {:?}", world.history);
        // It fell to a size that passes at once and then rose, without a value in between that fails.
        let fallen = world.history.iter().skip_while(|(_, found)| *found != Some(1500));
        assert!(fallen.skip(1).all(|(_, found)| found.is_some_and(|found| found <= 1400)));
    }
}

#[test]
fn a_brief_black_hole_is_over_as_soon_as_it_was_long() {
    // Whatever the phase in which it ends; of 500 bytes, nothing that is tried passes.
    for truth in [500, 1280] {
        for brief in (1000..20_000).step_by(333) {
            let mut world = World::new(1500, 20, 0, 7);
            world.seconds(30);
            world.truth = truth;
            world.machine.confirm(world.now);
            world.run(Duration::from_millis(brief));
            world.truth = 1500;
            world.run(Duration::from_millis(brief + 1500));
            assert_eq!(world.found(), Some(1500), "{truth} for {brief} ms: {:?}", world.history);
        }
    }
}

#[test]
fn a_path_that_grows_is_seen_within_a_minute_or_at_once_when_told() {
    let mut world = World::new(1400, 20, 0, 1);
    world.seconds(10);
    world.truth = 1410;
    world.seconds(62);
    assert_eq!(world.found(), Some(1410));
    world.truth = 1500;
    world.machine.recheck(world.now);
    world.seconds(2);
    assert_eq!(world.found(), Some(1500));
}

#[test]
fn the_local_link_is_known_at_once_both_ways() {
    let mut world = World::new(9000, 200, 0, 1);
    world.link = 1300;
    world.run(Duration::from_millis(1));
    assert_eq!(world.machine.link(), Some(1399), "before any answer");
    world.seconds(3);
    assert_eq!(world.found(), Some(1300));
    world.link = 1500;
    world.machine.recheck(world.now);
    world.seconds(4);
    assert_eq!(world.found(), Some(1500));
    world.link = 1280;
    world.machine.recheck(world.now);
    world.run(Duration::ZERO);
    assert!(world.found().is_some_and(|found| found < 1500), "{:?}", world.found());
    world.seconds(3);
    assert_eq!((world.found(), world.state()), (Some(1280), PathState::Verified));
}

#[test]
fn what_happens_soon_after_is_looked_at_again_a_second_later() {
    let mut world = World::new(1500, 20, 0, 1);
    world.seconds(10);
    world.machine.recheck(world.now);
    world.run(Duration::from_millis(200));
    world.truth = 1600;
    for _ in 0..100 {
        world.machine.recheck(world.now);
    }
    world.seconds(2);
    assert_eq!(world.found(), Some(1600), "at rest");
    world.truth = 1300;
    world.machine.restart(world.now);
    world.run(Duration::from_millis(1));
    world.truth = 1500;
    world.machine.recheck(world.now);
    world.seconds(3);
    assert_eq!(world.found(), Some(1500), "while searching");
    let before = world.sent;
    for _ in 0..200 {
        world.machine.recheck(world.now);
        world.run(Duration::from_millis(50));
    }
    assert!(world.sent - before <= 33, "{} probes in 10 s", world.sent - before);
}

#[test]
fn a_silent_peer_is_asked_seldom_and_found_when_it_speaks() {
    let mut world = World::new(1500, 20, 0, 1);
    world.answers = false;
    world.seconds(60);
    assert_eq!((world.found(), world.state()), (None, PathState::Unanswered));
    let before = world.sent;
    world.seconds(300);
    assert!(world.sent - before <= 10, "{} probes in 5 minutes", world.sent - before);
    world.answers = true;
    world.seconds(32);
    assert_eq!((world.found(), world.state()), (Some(1500), PathState::Verified));
}

#[test]
fn a_path_that_dies_keeps_its_size() {
    let mut world = World::new(1500, 20, 0, 1);
    world.seconds(10);
    world.answers = false;
    world.seconds(120);
    assert_eq!((world.found(), world.state()), (Some(1500), PathState::Unanswered));
    world.answers = true;
    world.seconds(32);
    assert_eq!((world.found(), world.state()), (Some(1500), PathState::Verified));
    assert_eq!(world.history.len(), 2, "{:?}", world.history);
}

#[test]
fn another_path_is_searched_at_once_and_the_old_size_counts_until_then() {
    let mut world = World::new(1500, 20, 0, 1);
    world.seconds(10);
    world.truth = 1300;
    world.machine.restart(world.now);
    assert_eq!((world.found(), world.state()), (Some(1500), PathState::Searching));
    world.seconds(1);
    assert_eq!((world.found(), world.state()), (Some(1300), PathState::Verified));
}

#[test]
fn a_quiet_tunnel_stays_quiet() {
    let mut world = World::new(1500, 20, 0, 1);
    world.seconds(10);
    world.quiet = true;
    let before = world.sent;
    world.seconds(600);
    assert_eq!(world.sent, before);
    world.quiet = false;
    world.truth = 1400;
    world.seconds(10);
    assert_eq!(world.found(), Some(1400));
}

#[test]
fn stopped_it_sends_nothing_and_goes_on_where_it_was() {
    let mut world = World::new(1500, 20, 0, 1);
    world.seconds(10);
    world.machine.stop();
    assert_eq!(world.machine.poll_timeout(), None);
    assert_eq!(world.machine.poll(world.now + PEEK, false), None);
    assert_eq!(world.found(), Some(1500));
    world.seconds(1);
    assert_eq!(world.state(), PathState::Verified);
}

#[test]
fn answers_that_nobody_waits_for_change_nothing() {
    let mut machine = PathMtu::new(7);
    let now = start();
    machine.run(now, 1500);
    let probes: Vec<Probe> = std::iter::from_fn(|| machine.poll(now, false)).collect();
    let (probe, last) = (probes[0], probes[probes.len() - 1]);
    let forged = Echo { nonce: probe.echo.nonce ^ 1, ..probe.echo };
    assert_eq!(machine.handle_answer(now, forged, probe.size), Err(Unexpected));
    assert_eq!(machine.handle_answer(now, probe.echo, probe.size + 1), Err(Unexpected), "a lie");
    assert_eq!(machine.handle_answer(now, last.echo, last.size), Ok(()));
    assert_eq!(machine.handle_answer(now, last.echo, last.size), Err(Unexpected), "twice");
    let other = PathMtu::new(8).probe(SMALL);
    assert_ne!(other.echo.nonce, PathMtu::new(7).probe(SMALL).echo.nonce);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_is_found_passes_and_is_the_most_that_does(
        truth in 1280u16..=9000, rtt in 1u64..400, seed: u64,
    ) {
        let mut world = World::new(truth, rtt, 0, seed);
        world.seconds(8);
        prop_assert_eq!(world.found(), Some(truth), "{:?}", world.history);
        prop_assert!(world.sent < 300, "{} probes", world.sent);
    }

    /// Of ten probes up to five are not answered.
    #[test]
    fn loss_is_not_taken_for_size(
        truth in 1280u16..=9000, rtt in 1u64..300, loss in 0u64..=300, seed: u64,
    ) {
        let mut world = World::new(truth, rtt, loss, seed);
        world.seconds(900);
        let found = || world.history.iter().filter_map(|(_, found)| *found);
        prop_assert!(found().all(|found| found <= truth), "{:?}", world.history);
        prop_assert!(found().any(|found| found == truth), "{:?}", world.history);
        let bits = world.bytes * 8 / 900;
        prop_assert!(bits < 80_000, "{} bit/s", bits);
    }

    /// Up to 5 % each way is what a bad path loses.
    #[test]
    fn what_was_found_stays_on_a_bad_path(
        truth in 1280u16..=9000, rtt in 1u64..300, loss in 0u64..=50, seed: u64,
    ) {
        let mut world = World::new(truth, rtt, loss, seed);
        world.seconds(120);
        prop_assert_eq!(world.found(), Some(truth), "{:?}", world.history);
        let changes = world.history.len();
        world.seconds(1800);
        prop_assert_eq!(world.history.len(), changes, "{:?}", world.history);
    }

    #[test]
    fn changes_are_followed(
        truths in proptest::collection::vec(1280u16..=9000, 1..6), rtt in 1u64..200, seed: u64,
    ) {
        let mut world = World::new(1500, rtt, 10, seed);
        world.seconds(10);
        for truth in truths {
            world.truth = truth;
            world.seconds(200);
            prop_assert_eq!(world.found(), Some(truth), "{:?}", world.history);
        }
    }
}
