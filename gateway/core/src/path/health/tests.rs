use std::cell::RefCell;
use std::rc::Rc;

use super::*;
use crate::path::beat;
use crate::testing::start;

const TICK: Duration = Duration::from_millis(1);
const HALF: Duration = Duration::from_millis(10);

/// Two machines with paths between them; what leaves by path n of one side comes from path n of the other.
struct World {
    sides: [Health; 2],
    now: Instant,
    /// When, to whom, by which path, what: a heartbeat, or data.
    wire: Vec<(Instant, usize, u8, Option<Vec<u8>>)>,
    /// Whether a side's path carries anything, and with which delay.
    cut: [[bool; 3]; 2],
    delay: [[Duration; 3]; 2],
    /// Every so many heartbeats are lost.
    loses: [[u32; 3]; 2],
    /// What loses what a side sends by its first path in bursts, perhaps that of other tunnels too.
    bursts: [Rc<RefCell<Bursts>>; 2],
    /// All paths come from one address.
    same: bool,
    sent: u32,
    beats: [u32; 2],
    /// A side is of the release before the short form, and how many came to one that it cannot read.
    older: [bool; 2],
    unread: u32,
    /// How many nodes hear the other side, as it said last of what arrived.
    told: [Option<u16>; 2],
}

/// Gilbert's model: in a bad state all is lost, in the good one nothing. Of what comes, one in `apart` begins a bad
/// state, and one in `lasts` ends it.
#[derive(Default)]
struct Bursts {
    random: Option<Random>,
    apart: u64,
    lasts: u64,
    bad: bool,
}

impl Bursts {
    fn loses(&mut self) -> bool {
        let Some(random) = &mut self.random else { return false };
        let turns = if self.bad { self.lasts } else { self.apart };
        self.bad ^= random.number().is_multiple_of(turns);
        self.bad
    }
}

fn end(side: usize, path: usize) -> SocketAddr {
    SocketAddr::from(([192, 0, path as u8, side as u8], 1))
}

fn ends(side: usize, paths: usize, costs: [u16; 3]) -> impl Iterator<Item = PathEnd> + Clone {
    (0..paths).map(move |path| PathEnd {
        number: path as u8,
        cost: costs[path],
        end: end(1 - side, path),
    })
}

impl World {
    fn new(seed: u64, paths: usize) -> Self {
        let mut world = Self {
            sides: [Health::new(seed), Health::new(!seed)],
            now: start(),
            wire: Vec::new(),
            cut: [[false; 3]; 2],
            delay: [[HALF; 3]; 2],
            loses: [[0; 3]; 2],
            bursts: Default::default(),
            same: false,
            sent: 0,
            beats: [0; 2],
            older: [false; 2],
            unread: 0,
            told: [None; 2],
        };
        for side in [0, 1] {
            world.sides[side].set_paths(world.now, ends(side, paths, [0, 10, 20]));
            world.sides[side].run(world.now);
        }
        world
    }

    fn pass(&mut self, millis: u32) {
        for _ in 0..millis {
            self.step();
        }
    }

    fn step(&mut self) {
        self.now += TICK;
        let now = self.now;
        for side in [0, 1] {
            if self.sides[side].poll_timeout().is_some_and(|at| at > now) {
                continue;
            }
            loop {
                if let Some((path, word)) = self.sides[side].poll_word(now)
                    && !self.cut[side][usize::from(path)]
                {
                    self.told[1 - side] = Some(word.nodes);
                }
                let Some(beat) = self.sides[side].poll(now) else { break };
                self.beats[side] += 1;
                self.sent += 1;
                self.sides[side].note_sent(beat.path);
                let path = usize::from(beat.path);
                let loses = self.loses[side][path];
                let lost = loses != 0 && self.sent.is_multiple_of(loses) || self.bursts(side, path);
                if !self.cut[side][path] && !lost {
                    let at = now + self.delay[side][path];
                    let bytes = self.write(side, &beat);
                    self.wire.push((at, 1 - side, beat.path, Some(bytes)));
                }
            }
        }
        let here: Vec<_> = self.wire.extract_if(.., |(at, ..)| *at <= now).collect();
        for (_, to, path, bytes) in here {
            let from = end(1 - to, if self.same { 0 } else { path.into() });
            if self.older[to] && bytes.as_ref().is_some_and(|b| b.len() == beat::SHORT_LENGTH) {
                self.unread += 1;
                continue;
            }
            self.sides[to].note_data(now, from);
            let Some(bytes) = bytes else { continue };
            let beat = beat::parse(&bytes).expect("good").expect("ours");
            self.sides[to].handle_beat(now, from, &beat).expect("an echo of ours");
        }
    }

    /// Whether what leaves now is lost in a burst.
    fn bursts(&self, side: usize, path: usize) -> bool {
        path == 0 && self.bursts[side].borrow_mut().loses()
    }

    fn write(&self, side: usize, beat: &Beat) -> Vec<u8> {
        let knows = self.older == [false; 2];
        let beat = &Beat { asks: beat.asks && knows, answers: knows, ..*beat };
        match (self.older[side], self.sides[side].reads_short()) {
            (true, _) => beat::write(&Beat { reads_short: false, ..*beat }).to_vec(),
            (false, true) => beat::write_short(beat).to_vec(),
            (false, false) => beat::write(beat).to_vec(),
        }
    }

    /// A packet leaves by the path that is used, and arrives or not.
    fn data(&mut self, side: usize, arrives: bool) {
        let path = self.sides[side].active().expect("a path");
        self.sides[side].note_sent(path);
        if arrives {
            let at = self.now + self.delay[side][usize::from(path)];
            self.wire.push((at, 1 - side, path, None));
        }
    }

    /// The same where bursts decide; whether it arrives.
    fn data_in_bursts(&mut self, side: usize) -> bool {
        let path = self.sides[side].active().map_or(0, usize::from);
        let arrives = !self.bursts(side, path);
        self.data(side, arrives);
        arrives
    }

    fn state(&self, side: usize, path: usize) -> HealthState {
        self.sides[side].reports().nth(path).expect("a path").state
    }

    fn active(&self) -> [Option<u8>; 2] {
        [self.sides[0].active(), self.sides[1].active()]
    }

    /// Lets time pass until `done`; how many milliseconds that took.
    fn until(&mut self, most: u32, done: impl Fn(&Self) -> bool) -> u32 {
        for millis in 0..most {
            if done(self) {
                return millis;
            }
            self.step();
        }
        panic!("not within {most} ms");
    }
}

#[test]
fn paths_come_up_within_two_round_trips() {
    let mut world = World::new(1, 3);
    let took = world.until(1000, |world| world.active() == [Some(0); 2]);
    assert!(took <= 42, "{took} ms");
    assert_eq!(world.sides[0].fitness(), Some(Fitness::Fit));
    world.pass(2000);
    for report in world.sides[0].reports() {
        let rtt = report.rtt.expect("a round trip").as_millis();
        assert!((20..=23).contains(&rtt), "{report:?}");
        assert_eq!((report.loss_out, report.loss_in), (0, 0));
    }
}

#[test]
fn a_cut_is_noticed_by_whom_it_concerns() {
    // With one path only, a cut in one direction ends both. Where more is left, what the peer says of a
    // path arrives, half a round trip later, and a direction that works is left alone.
    for (paths, ways, older, most) in [
        (1, [true, true], false, 262),
        (1, [true, false], false, 272),
        (2, [true, true], false, 272),
        (2, [true, false], false, 272),
        // One who can't be asked is waited for.
        (1, [true, true], true, 310),
        (2, [true, false], true, 320),
    ] {
        let mut times = Vec::new();
        for seed in 0..50 {
            let mut world = World::new(seed, paths);
            world.older[1] = older;
            world.pass(1000 + seed as u32 * 7);
            (world.cut[0][0], world.cut[1][0]) = (ways[0], ways[1]);
            let ends = |side: usize| paths == 1 || ways[side];
            let noticed = |world: &World| {
                [0, 1].iter().all(|side| !ends(*side) || world.state(*side, 0) == HealthState::Down)
            };
            let took = world.until(1000, noticed);
            assert!(took <= most, "{paths} paths, {ways:?}, seed {seed}: {took} ms");
            times.push(took);
            let left = (paths > 1).then_some(1);
            assert_eq!(world.active(), [0, 1].map(|side| if ends(side) { left } else { Some(0) }));
        }
        times.sort_unstable();
        let (median, most) = (times[times.len() / 2], times.last());
        println!("{paths} paths, {ways:?}, older {older}: {median} ms, at most {most:?}");
    }
}

#[test]
fn a_heartbeat_that_was_lost_is_asked_for() {
    let mut world = World::new(11, 1);
    world.pass(1000);
    let before = world.beats;
    world.pass(10_000);
    let usual = world.beats[1] - before[1];
    world.loses = [[3; 3]; 2];
    let before = world.beats;
    let mut down = 0;
    for _ in 0..10_000 {
        world.step();
        down += u32::from(world.state(0, 0) == HealthState::Down);
    }
    let asked = world.beats[1] - before[1];
    println!("{usual} heartbeats in 10 s, {asked} where a third are lost; down for {down} ms");
    assert!((95..=112).contains(&usual), "{usual}: nothing was overdue");
    assert!((usual..=usual * 4).contains(&asked), "{asked} instead of {usual}");
    assert!(down < 500, "down for {down} ms");
}

#[test]
fn who_is_far_away_has_the_time_to_answer() {
    let mut world = World::new(12, 1);
    world.delay = [[Duration::from_millis(100); 3]; 2];
    world.pass(3000);
    (world.cut[0][0], world.cut[1][0]) = (true, true);
    let took = world.until(1000, |world| world.state(0, 0) == HealthState::Down);
    assert!((300..=410).contains(&took), "{took} ms");
}

#[test]
fn who_asks_all_the_time_gets_four_times_as_much_at_most() {
    let mut world = World::new(14, 1);
    world.pass(1000);
    let before = world.beats[1];
    // The other side could not make sense of answers to what it did not say.
    world.cut[1][0] = true;
    for _ in 0..1000 {
        world.step();
        let now = world.now;
        let sequence = world.sides[0].sequence;
        world.sides[0].sequence = sequence.wrapping_add(1);
        let beat = Beat { asks: true, ..beat_of(sequence) };
        world.sides[1].handle_beat(now, end(0, 0), &beat).expect("no echo");
    }
    let answered = world.beats[1] - before;
    assert!((30..=45).contains(&answered), "{answered} a second");
}

fn beat_of(sequence: u16) -> Beat {
    Beat {
        path: 0,
        sequence,
        draining: false,
        hears: 1,
        interval: Duration::from_millis(100),
        sent: 0,
        echo: None,
        reads_short: true,
        asks: false,
        answers: true,
    }
}

#[test]
fn what_comes_back_is_heard_three_times_and_taken_after_a_while() {
    let mut world = World::new(3, 2);
    world.pass(1000);
    world.cut[0][0] = true;
    world.pass(1000);
    assert_eq!(world.active(), [Some(1), Some(0)]);
    world.cut[0][0] = false;
    let took = world.until(1000, |world| world.state(0, 0) == HealthState::Up);
    assert!((200..=420).contains(&took), "{took} ms");
    assert_eq!(world.active()[0], Some(1));
    world.pass(6000);
    assert_eq!(world.active(), [Some(0); 2], "it is the cheaper one");
}

#[test]
fn a_flapping_path_is_left_alone() {
    let mut world = World::new(4, 2);
    let (mut moves, mut last) = (0, None);
    for second in 0..300 {
        world.cut[0][0] = second % 8 < 1;
        world.pass(1000);
        moves += u32::from(world.active()[0] != last);
        last = world.active()[0];
        assert_ne!(last, None);
    }
    assert!(moves <= 8, "{moves} moves in 5 minutes");
    assert_eq!(last, Some(1));
}

#[test]
fn loss_and_delay_move_it_away_and_not_to_and_fro() {
    for (loses, delay, within) in [(3, 10, 2000), (0, 210, 1000)] {
        let mut world = World::new(5, 2);
        world.pass(3000);
        world.loses[0][0] = loses;
        (world.delay[0][0], world.delay[1][0]) =
            (Duration::from_millis(delay), Duration::from_millis(delay));
        let took = world.until(within, |world| world.active()[0] == Some(1));
        println!("every {loses}th lost, {delay} ms: moved after {took} ms");
        for _ in 0..60 {
            world.pass(1000);
            assert_eq!(world.active()[0], Some(1));
        }
    }
}

#[test]
fn a_little_loss_shows_although_a_path_that_is_no_more_came_from_there_too() {
    for gone in [false, true] {
        let mut world = World::new(13, 3);
        world.same = gone;
        world.pass(1000);
        for side in [0, 1] {
            world.sides[side].set_paths(world.now, ends(side, 2, [0, 10, 20]));
        }
        world.same = false;
        world.pass(3000);
        let took = (0..10_000).find(|millis| {
            // 2 % of 250 packets a second, ten in a row.
            if millis % 4 == 0 {
                world.data(0, millis / 4 % 500 >= 10);
            }
            world.step();
            world.active()[0] == Some(1)
        });
        println!("moved after {took:?} ms");
        assert!(took.is_some(), "with a path that is gone: {gone}");
    }
}

/// Four tunnels that share a way, as those of two gateways to two others do. It begins to lose 2 % in bursts.
fn with_two_percent_in_bursts(seed: u64) -> Vec<World> {
    let mut tunnels: Vec<World> = (0..4).map(|n| World::new(100 * seed + n, 2)).collect();
    for tunnel in &mut tunnels {
        tunnel.pass(3000);
    }
    for side in [0, 1] {
        let random = Some(Random::new(10 * seed + side as u64));
        let bursts = Bursts { random, apart: 500, lasts: 10, bad: false };
        let bursts = Rc::new(RefCell::new(bursts));
        tunnels.iter_mut().for_each(|tunnel| tunnel.bursts[side] = bursts.clone());
    }
    tunnels
}

#[test]
fn a_path_that_loses_in_bursts_is_left_by_traffic_that_spreads_unevenly() {
    let mut left: Vec<usize> = Vec::new();
    for seed in 20..60 {
        let mut tunnels = with_two_percent_in_bursts(seed);
        let mut random = Random::new(!seed);
        let mut by = || (random.number() >> 32) as usize % 4;
        // Eight flows with 1,000 packets a second each way, one of which may have a tunnel for itself, and twenty with 400.
        let flows: [[usize; 2]; 28] = std::array::from_fn(|_| [by(), by()]);
        let mut last = 0;
        for millis in 0..25_000 {
            let small = (8..28).filter(|flow| millis % 50 == flow * 7 % 50);
            for flow in small.chain([millis % 8]) {
                for side in [0, 1] {
                    let is_lost = !tunnels[flows[flow][side]].data_in_bursts(side);
                    last = if is_lost && flow < 8 { millis } else { last };
                }
            }
            tunnels.iter_mut().for_each(World::step);
        }
        left.push(last);
    }
    left.sort_unstable();
    println!("the eight lose nothing after so many milliseconds: {left:?}");
    assert!(left[left.len() / 2] < 10_000 && left[left.len() - 1] < 15_000, "{left:?}");
}

#[test]
fn traffic_does_not_return_to_a_path_that_goes_on_losing_in_bursts() {
    let mut lost_after = 0;
    for seed in 0..6 {
        let mut tunnels = with_two_percent_in_bursts(seed);
        let mut lost = Vec::new();
        for millis in 0..300_000 {
            // 1,000 packets a second each way.
            let tunnel = &mut tunnels[millis % 4];
            for side in [0, 1] {
                lost.extend((!tunnel.data_in_bursts(side)).then_some(millis));
            }
            tunnels.iter_mut().for_each(World::step);
        }
        let after: Vec<_> = lost.iter().filter(|at| **at > 20_000).collect();
        let last = lost.iter().filter(|at| **at <= 20_000).max();
        println!("{} lost until {last:?} ms, then {after:?}", lost.len() - after.len());
        assert!(after.iter().all(|at| **at > 120_000), "within two minutes");
        lost_after += after.len();
    }
    // Once in a while nothing is lost of 600 heartbeats in a row.
    assert!(lost_after < 200, "{lost_after} of 3.4 million");
}

#[test]
fn data_counts_as_life() {
    let mut world = World::new(6, 1);
    world.pass(1000);
    world.cut[1][0] = true;
    // Only heartbeats are lost; something else still comes.
    for _ in 0..20 {
        world.pass(100);
        let now = world.now;
        world.sides[0].note_data(now, end(1, 0));
    }
    assert_eq!(world.state(1, 0), HealthState::Up);
    world.pass(200);
    assert_eq!([0, 1].map(|side| world.state(side, 0)), [HealthState::Down; 2]);
}

#[test]
fn the_slower_sides_wish_wins_and_changes_of_it_lose_nothing() {
    let mut world = World::new(7, 1);
    world.pass(1000);
    for millis in [1500u32, 300, 3000, 150] {
        let now = world.now;
        world.sides[0].set_detection(now, Duration::from_millis(millis.into()));
        for tick in 0..20_000 {
            world.step();
            assert_eq!(world.state(0, 0), HealthState::Up, "{millis} {tick}");
            assert_eq!(world.state(1, 0), HealthState::Up, "{millis}");
        }
        let before = world.beats;
        world.pass(10_000);
        let expected = 10_000.0 / f64::from(millis.max(300) / 3) / 0.95;
        for side in [0, 1] {
            let beats = f64::from(world.beats[side] - before[side]);
            assert!((beats / expected - 1.0).abs() < 0.1, "{millis}: {beats} of {expected}");
        }
    }
}

#[test]
fn who_stood_still_blames_nobody() {
    let mut world = World::new(8, 1);
    world.pass(1000);
    world.cut[0][0] = true;
    world.now += Duration::from_secs(5);
    let now = world.now;
    assert!(world.sides[0].poll(now).is_some());
    assert_eq!(world.state(0, 0), HealthState::Up, "what came meanwhile is still to be read");
    // Time that stands still divides by nothing.
    world.cut[0][0] = false;
    let mut fresh = [Health::new(1), Health::new(2)];
    for (side, health) in fresh.iter_mut().enumerate() {
        health.set_paths(now, ends(side, 1, [0; 3]));
        health.run(now);
    }
    for turn in 0..100 {
        fresh[turn % 2].hurry();
        let beat = fresh[turn % 2].poll(now).expect("a heartbeat");
        let from = end(turn % 2, 0);
        fresh[1 - turn % 2].note_data(now, from);
        fresh[1 - turn % 2].handle_beat(now, from, &beat).expect("good");
    }
    assert_eq!(fresh.each_ref().map(Health::fitness), [Some(Fitness::Fit); 2]);
}

#[test]
fn a_peer_that_says_nothing_gets_one_a_second() {
    let mut world = World::new(9, 1);
    world.cut[1][0] = true;
    world.pass(5000);
    let before = world.beats[0];
    world.pass(10_000);
    assert!(world.beats[0] - before <= 12);
    assert_eq!((world.sides[0].fitness(), world.state(0, 0)), (None, HealthState::Unknown));
}

#[test]
fn a_path_that_works_late_is_found() {
    let mut world = World::new(12, 2);
    (world.cut[0][1], world.cut[1][1]) = (true, true);
    world.pass(60_000);
    let before = world.beats[0];
    world.pass(10_000);
    assert!((105..130).contains(&(world.beats[0] - before)), "one path costs next to nothing");
    (world.cut[0][1], world.cut[1][1]) = (false, false);
    let took = world.until(3000, |world| world.state(0, 1) == HealthState::Up);
    println!("found after {took} ms");
}

/// Their first heartbeats arrived, so that each lost the other's path, and then none did for long.
#[test]
fn two_who_never_worked_and_hear_little_of_each_other_find_together() {
    let mut times = Vec::new();
    for seed in 0..200 {
        let mut world = World::new(seed, 1);
        world.cut = [[true; 3]; 2];
        for side in [0, 1] {
            let (now, from) = (world.now, end(1 - side, 0));
            let sequence = world.sides[1 - side].sequence;
            let beat = Beat { hears: 0, ..beat_of(sequence) };
            world.sides[side].handle_beat(now, from, &beat).expect("no echo");
        }
        world.pass(4000 + 13 * seed as u32);
        world.cut = [[false; 3]; 2];
        let works =
            |world: &World| [0, 1].iter().all(|side| world.state(*side, 0) == HealthState::Up);
        times.push(world.until(60_000, works));
    }
    times.sort_unstable();
    println!("{} ms, at most {} ms", times[times.len() / 2], times[times.len() - 1]);
    assert!(times[times.len() - 1] <= 3500, "{times:?}");
}

#[test]
fn echoes_of_what_was_never_sent_and_overtaken_heartbeats_count_for_nothing() {
    let mut world = World::new(10, 1);
    world.pass(1000);
    let now = world.now;
    let sequence = world.sides[1].sequence;
    let echo = beat::Echo { path: 0, sequence: 9, held: Duration::ZERO, loss: 1.0, missing: true };
    let lie = Beat { echo: Some(echo), ..beat_of(sequence.wrapping_add(1)) };
    let before = world.sides[0].reports().next();
    assert_eq!(world.sides[0].handle_beat(now, end(1, 0), &lie), Err(Unexpected));
    let old = Beat { sequence: sequence.wrapping_sub(3), hears: 0, echo: None, ..lie };
    assert_eq!(world.sides[0].handle_beat(now, end(1, 0), &old), Ok(()));
    let after = world.sides[0].reports().next();
    assert_eq!(
        after.map(|r| (r.state, r.rtt, r.loss_out)),
        before.map(|r| (r.state, r.rtt, r.loss_out))
    );
}

#[test]
fn who_leaves_says_so_at_once_and_is_believed() {
    let mut world = World::new(11, 1);
    world.pass(1000);
    world.sides[1].set_draining(true);
    let took = world.until(100, |world| world.sides[0].fitness() == Some(Fitness::Wanted));
    assert!(took <= 12, "{took} ms");
    world.sides[1].set_draining(false);
    world.until(100, |world| world.sides[0].fitness() == Some(Fitness::Fit));
}

#[test]
fn a_peer_of_the_release_before_the_short_form_gets_the_long_one() {
    let mut world = World::new(13, 2);
    world.older[1] = true;
    world.pass(5000);
    assert_eq!((world.unread, world.active()), (0, [Some(0); 2]));
    assert!(!world.sides[0].reads_short());
    world.older[1] = false;
    world.pass(200);
    assert!(world.sides.iter().all(Health::reads_short));
    // It is replaced, with the same key, by one of that release.
    let now = world.now;
    world.sides[1] = Health::new(99);
    world.sides[1].set_paths(now, ends(1, 2, [0, 10, 20]));
    world.sides[1].run(now);
    world.older[1] = true;
    world.pass(1500);
    assert!(world.unread <= 8, "{}", world.unread);
    assert!(world.active().iter().all(Option::is_some), "{:?}", world.active());
}

#[test]
fn who_heard_nothing_is_told_anew() {
    for seed in 0..20 {
        for cut in [[true, true], [true, false]] {
            let mut world = World::new(seed, 1);
            world.sides[0].set_nodes(world.now, Some(2));
            world.pass(3000);
            assert_eq!(world.told[1], Some(2));
            for (side, cut) in cut.into_iter().enumerate() {
                world.cut[side][0] = cut;
            }
            world.pass(1000);
            world.sides[0].set_nodes(world.now, Some(1));
            world.pass(2000);
            assert_eq!(world.told[1], Some(2), "it hears nothing");
            world.cut = [[false; 3]; 2];
            let millis = world.until(3000, |world| world.told[1] == Some(1));
            assert!(millis <= 600, "told after {millis} ms");
        }
    }
}
