//! Gateways in virtual time: how soon one that has stopped is noticed, and that others are left alone.

use carrick_model::gateway_probe::digest;

use super::*;

const RTT: Duration = Duration::from_micros(400);
const A: Ipv4Addr = Ipv4Addr::new(240, 1, 31, 254);
const OSAKA: [u8; 4] = [240, 2, 32, 1];
const LIMA: [u8; 4] = [240, 3, 48, 1];

/// A gateway that answers, or not, in virtual time.
struct World {
    watch: Watch,
    start: Instant,
    now: Instant,
    seed: u64,
    /// It forwards.
    alive: bool,
    /// It stands still: what is asked waits for it.
    still: bool,
    waiting: Vec<Question>,
    /// How many of a thousand packets are lost, each way.
    lost: u64,
    epoch: u64,
    draining: bool,
    reached: Vec<[u8; 4]>,
    /// How well all of these are reached; `None`: it is of a release that does not say so.
    rank: Option<u8>,
    /// The asker reads ranks, as far as it has said.
    asks_ranks: bool,
    /// Answers under way.
    under_way: VecDeque<(Instant, Vec<u8>)>,
    asked: Vec<(Instant, Question)>,
}

fn target(answers: bool) -> Target {
    Target { name: "gw".to_owned(), address: A, answers }
}

impl World {
    fn new(seed: u64) -> Self {
        let start = Instant::now();
        let mut watch = Watch::new(seed);
        watch.configure(start, &[target(true)], INTERVAL);
        Self {
            watch,
            start,
            now: start,
            seed,
            alive: true,
            still: false,
            waiting: Vec::new(),
            lost: 0,
            epoch: 1,
            draining: false,
            reached: vec![OSAKA],
            rank: Some(0),
            asks_ranks: false,
            under_way: VecDeque::new(),
            asked: Vec::new(),
        }
    }

    fn random(&mut self) -> u64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.seed)
    }

    fn ranks(&self) -> Vec<[u8; 5]> {
        let rank = self.rank.unwrap_or(0);
        self.reached.iter().map(|[a, b, c, d]| [*a, *b, *c, *d, rank]).collect()
    }

    /// As a lane does.
    fn note(&mut self, known: u32) {
        let knows = [digest(&self.ranks()), digest(&self.reached)].map(|digest| digest == known);
        self.asks_ranks = match (known, knows) {
            (RANKS, _) | (_, [true, _]) => true,
            (0, _) | (_, [_, true]) => false,
            _ => self.asks_ranks,
        };
    }

    fn bytes(&self, question: Question, unasked: bool) -> Vec<u8> {
        let known = if unasked { 0 } else { question.known };
        let ranks = self.ranks();
        let ranked = Reach::ranked(&ranks, known);
        let ranked = ranked.filter(|_| self.rank.is_some() && self.asks_ranks);
        let (digest, reach) = ranked.unwrap_or_else(|| Reach::of(&self.reached, known));
        let (nonce, sequence) = (question.nonce, question.sequence);
        let (epoch, draining) = (self.epoch, self.draining);
        let answer = Answer { nonce, sequence, epoch, draining, unasked, digest, reach };
        let mut out = vec![0; carrick_model::gateway_probe::LONGEST];
        let length = answer.write(&mut out);
        out.truncate(length);
        out
    }

    fn turn(&mut self) {
        while self.under_way.front().is_some_and(|(at, _)| *at <= self.now) {
            let (_, bytes) = self.under_way.pop_front().expect("one");
            self.watch.handle_answer(self.now, A, &bytes);
        }
        self.watch.handle_timeout(self.now);
        while let Some(sent) = self.watch.poll_transmit(self.now) {
            assert_eq!(sent.target, A);
            let question = Question::parse(&sent.payload).expect("a question");
            self.asked.push((self.now, question));
            self.note(question.known);
            let crosses = self.random() % 1000 >= self.lost && self.random() % 1000 >= self.lost;
            if self.still {
                self.waiting.push(question);
            } else if self.alive && crosses {
                let answer = self.bytes(question, false);
                self.under_way.push_back((self.now + RTT, answer));
            }
        }
    }

    /// Lets time pass, until `done` if that is sooner.
    fn run(&mut self, time: Duration, done: impl Fn(&Self) -> bool) -> bool {
        let end = self.now + time;
        let mut turns = 0;
        loop {
            self.turn();
            turns += 1;
            assert!(turns < 100_000, "a busy loop");
            if done(self) {
                return true;
            }
            let answer = self.under_way.front().map(|(at, _)| *at);
            let due = self.watch.poll_timeout().into_iter().chain(answer).min();
            let Some(due) = due.filter(|at| *at <= end) else { break };
            self.now = self.now.max(due);
        }
        self.now = end;
        false
    }

    fn pass(&mut self, time: Duration) {
        self.run(time, |_| false);
    }

    /// What stood still goes on, with what waits for it.
    fn go_on(&mut self) {
        self.still = false;
        for question in std::mem::take(&mut self.waiting) {
            let answer = self.bytes(question, false);
            self.under_way.push_back((self.now + RTT, answer));
        }
    }

    fn verdict(&self) -> Verdict {
        self.watch.seen()[0].verdict.clone()
    }

    fn is_silent(&self) -> bool {
        matches!(self.verdict(), Verdict::Silent { .. })
    }

    fn answers(&self) -> bool {
        matches!(self.verdict(), Verdict::Answers { .. })
    }

    fn reaches(&self, router: [u8; 4]) -> bool {
        self.rank(router).is_some()
    }

    fn rank(&self, router: [u8; 4]) -> Option<u8> {
        match self.verdict() {
            Verdict::Answers { reach: Some(reached), .. } => reached.get(&router).copied(),
            _ => None,
        }
    }
}

fn answers(reach: &[[u8; 4]], draining: bool) -> Verdict {
    let reach = reach.iter().map(|router| (*router, 0)).collect();
    Verdict::Answers { reach: Some(Arc::new(reach)), draining }
}

#[test]
fn one_that_stops_is_silent_within_three_intervals() {
    let mut took: Vec<Duration> = (0..2000)
        .map(|seed| {
            let mut world = World::new(seed);
            let before = Duration::from_micros(2_000_000 + world.random() % 1_000_000);
            world.pass(before);
            assert_eq!(world.verdict(), answers(&[OSAKA], false));
            world.alive = false;
            world.under_way.clear();
            let died = world.now;
            assert!(world.run(Duration::from_secs(1), World::is_silent), "seed {seed}");
            world.now - died
        })
        .collect();
    took.sort_unstable();
    let (p50, p99, most) = (took[1000], took[1980], took[1999]);
    println!("silent after, 2000 seeds: p50 {p50:?}, p99 {p99:?}, most {most:?}");
    assert!(most <= 3 * INTERVAL, "{most:?}");
    assert!(took[0] >= INTERVAL, "{:?}", took[0]);
}

#[test]
fn loss_on_the_way_is_not_taken_for_silence() {
    // Where a fifth of all round trips fails, one fall in some minutes.
    for (lost, bound) in [(20, 0), (100, 60)] {
        let falls = |seed| {
            let mut world = World::new(seed);
            world.lost = lost;
            world.pass(Duration::from_secs(600));
            world.watch.seen()[0].falls
        };
        let falls: u64 = (0..20).map(falls).sum();
        println!("{lost} of 1000 lost each way: {falls} falls in 200 minutes");
        assert!(falls <= bound, "{lost}: {falls}");
    }
}

#[test]
fn our_own_sleep_is_not_the_gateways_silence() {
    let mut world = World::new(1);
    for _ in 0..50 {
        world.pass(Duration::from_millis(130));
        // We get no turn, while answers arrive.
        world.now += Duration::from_millis(700);
    }
    assert_eq!(world.watch.seen()[0].falls, 0);
}

#[test]
fn it_is_back_after_three_answers_and_later_if_it_falls_again() {
    let mut world = World::new(2);
    world.pass(Duration::from_secs(1));
    let mut back = Vec::new();
    for _ in 0..5 {
        world.alive = false;
        assert!(world.run(Duration::from_secs(1), World::is_silent));
        world.alive = true;
        let begin = world.now;
        assert!(world.run(Duration::from_secs(20), World::answers));
        back.push((world.now - begin).as_millis());
        world.pass(Duration::from_millis(300));
    }
    println!("back after {back:?} ms");
    assert!(back[0] <= 310, "{back:?}");
    assert!(back[1] >= 1000 && back[2] >= 2000 && back[4] <= 10_500, "{back:?}");
    world.pass(MEMORY);
    world.alive = false;
    assert!(world.run(Duration::from_secs(1), World::is_silent));
    world.alive = true;
    assert!(world.run(Duration::from_millis(310), World::answers), "all is forgiven");
}

#[test]
fn one_that_stood_still_is_back_at_once_and_has_fallen_once() {
    let mut world = World::new(4);
    world.pass(Duration::from_secs(1));
    world.still = true;
    world.pass(Duration::from_secs(5));
    assert_eq!(world.verdict(), Verdict::Silent { gone: true });
    world.go_on();
    // What it answers late says nothing of how soon it answers.
    assert!(world.run(Duration::from_millis(310), World::answers));
    world.pass(Duration::from_secs(5));
    assert_eq!((world.answers(), world.watch.seen()[0].falls), (true, 1));
}

#[test]
fn one_that_fell_often_is_better_than_none_as_soon_as_it_answers() {
    let mut world = World::new(5);
    world.pass(Duration::from_secs(1));
    for fall in 0..4 {
        world.alive = false;
        world.pass(Duration::from_secs(3));
        assert_eq!(world.verdict(), Verdict::Silent { gone: true }, "fall {fall}");
        world.alive = true;
        world.pass(Duration::from_millis(310));
        // With what it says that it reaches: nobody else may know.
        let verdict = world.verdict();
        let known = match &verdict {
            Verdict::Answers { reach, .. } if fall == 0 => reach.is_some(),
            Verdict::Returns { reach } if fall > 0 => reach.is_some(),
            _ => false,
        };
        assert!(known, "fall {fall}: {verdict:?}");
        world.run(Duration::from_secs(20), World::answers);
    }
}

#[test]
fn a_silent_one_is_gone_after_a_second() {
    let mut world = World::new(3);
    world.pass(Duration::from_secs(1));
    world.alive = false;
    let died = world.now;
    assert!(world.run(Duration::from_secs(1), World::is_silent));
    assert_eq!(world.verdict(), Verdict::Silent { gone: false });
    assert!(world.run(Duration::from_secs(2), |w| w.verdict() == Verdict::Silent { gone: true }));
    let took = world.now - died;
    assert!((9 * INTERVAL..=11 * INTERVAL).contains(&took), "{took:?}");
    world.pass(Duration::from_secs(30));
    assert!(world.is_silent());
}

#[test]
fn who_never_answered_is_as_the_controller_says_unless_it_can() {
    let mut world = World::new(4);
    world.alive = false;
    world.watch.configure(world.now, &[target(false)], INTERVAL);
    world.pass(Duration::from_secs(60));
    assert_eq!(world.verdict(), Verdict::Unknown);
    assert!(world.asked.len() < 80, "an older release is not pestered: {}", world.asked.len());
    // It has told the controller that it answers.
    world.watch.configure(world.now, &[target(true)], INTERVAL);
    world.pass(Duration::from_millis(900));
    assert_eq!(world.verdict(), Verdict::Unknown);
    world.pass(Duration::from_millis(1500));
    assert!(world.is_silent());
    world.alive = true;
    world.pass(Duration::from_secs(1));
    assert!(world.answers());
}

#[test]
fn what_is_reached_and_that_it_leaves_is_heard_unasked() {
    let mut world = World::new(5);
    world.pass(Duration::from_secs(1));
    assert!(world.reaches(OSAKA) && !world.reaches(LIMA));
    let known = world.asked.last().expect("asked").1;
    assert_ne!(known.known, 0, "it need not say again what we know");
    let version = world.watch.version();
    (world.reached, world.draining) = (vec![LIMA], true);
    let news = world.bytes(known, true);
    world.watch.handle_answer(world.now, A, &news);
    assert_eq!(world.verdict(), answers(&[LIMA], true));
    assert!(world.watch.version() > version);
    // Late words of before change nothing, and it is no sign of life.
    (world.reached, world.draining) = (vec![OSAKA], false);
    let late = world.bytes(world.asked[world.asked.len() - 2].1, true);
    world.watch.handle_answer(world.now, A, &late);
    assert_eq!(world.verdict(), answers(&[LIMA], true));
    world.alive = false;
    for _ in 0..40 {
        world.watch.handle_answer(world.now, A, &news);
        world.pass(Duration::from_millis(10));
    }
    assert!(world.is_silent());
}

#[test]
fn forged_and_repeated_answers_count_for_nothing() {
    let mut world = World::new(6);
    world.pass(Duration::from_secs(1));
    let question = world.asked.last().expect("asked").1;
    world.alive = false;
    world.reached = vec![LIMA];
    let again = world.bytes(question, false);
    let strange = world.bytes(Question { nonce: question.nonce ^ 1, ..question }, false);
    let ahead = world.bytes(Question { sequence: question.sequence + 100, ..question }, false);
    let end = world.now + Duration::from_millis(310);
    while world.now < end {
        for bytes in [&again, &strange, &ahead] {
            world.watch.handle_answer(world.now, A, bytes);
        }
        world.watch.handle_answer(world.now, Ipv4Addr::new(240, 1, 31, 253), &again);
        world.watch.handle_answer(world.now, A, &again[..20]);
        world.pass(Duration::from_millis(10));
    }
    assert!(world.is_silent());
    assert!(!world.reaches(LIMA));
}

#[test]
fn asking_costs_little_and_more_gateways_are_asked_less() {
    let mut world = World::new(7);
    world.pass(Duration::from_secs(10));
    let asked = world.asked.len();
    assert!((100..=112).contains(&asked), "{asked} in 10 s");
    let targets: Vec<Target> =
        (0..64).map(|n| Target { address: Ipv4Addr::new(240, 1, 31, n), ..target(true) }).collect();
    let mut watch = Watch::new(1);
    watch.configure(world.start, &targets, INTERVAL);
    assert_eq!(watch.interval, 2 * INTERVAL);
    watch.configure(world.start, &targets[..3], Duration::from_secs(60));
    assert_eq!(watch.interval, LONGEST_INTERVAL);
}

#[test]
fn a_gateway_that_began_anew_tells_all_again() {
    let mut world = World::new(8);
    world.pass(Duration::from_secs(1));
    (world.epoch, world.reached) = (2, Vec::new());
    world.pass(Duration::from_millis(120));
    assert_eq!(world.verdict(), answers(&[], false));
    assert_eq!(world.watch.seen()[0].falls, 1);
}

#[test]
fn how_well_is_heard_asked_and_unasked() {
    let mut world = World::new(9);
    world.pass(Duration::from_secs(1));
    assert_eq!(world.rank(OSAKA), Some(0));
    let known = world.asked.last().expect("asked").1;
    assert!(![0, RANKS].contains(&known.known), "it need not say again what we know");
    let version = world.watch.version();
    world.rank = Some(2);
    let news = world.bytes(known, true);
    world.watch.handle_answer(world.now, A, &news);
    assert_eq!(world.rank(OSAKA), Some(2));
    assert!(world.watch.version() > version, "flows are to be moved");
    // The news of the next change are lost.
    world.rank = Some(1);
    world.pass(Duration::from_millis(120));
    assert_eq!(world.rank(OSAKA), Some(1));
}

#[test]
fn a_gateway_of_an_older_release_is_asked_for_ranks_until_it_answered_once() {
    let mut world = World::new(10);
    world.rank = None;
    world.pass(Duration::from_secs(1));
    assert_eq!(world.rank(OSAKA), Some(0), "for all that it says");
    let plain = digest(&world.reached);
    let known = |world: &World| world.asked.last().expect("asked").1.known;
    assert_eq!(known(&world), plain, "and need not say it again and again");
    // A newer one takes over, and reaches the same; then an older one again.
    (world.rank, world.epoch) = (Some(3), 2);
    world.pass(Duration::from_millis(500));
    assert_eq!(world.rank(OSAKA), Some(3));
    assert_ne!(known(&world), plain);
    (world.rank, world.epoch) = (None, 3);
    world.pass(Duration::from_millis(500));
    assert_eq!((world.rank(OSAKA), known(&world)), (Some(0), plain));
}

#[test]
fn a_gateway_that_is_not_heard_is_told_so_until_it_is() {
    let mut world = World::new(11);
    world.pass(Duration::from_secs(1));
    let known = |world: &World| world.asked.last().expect("asked").1.known;
    let digest = known(&world);
    assert_ne!(digest, RANKS);
    for fall in 0..4 {
        world.alive = false;
        world.pass(Duration::from_millis(500));
        assert!(world.is_silent());
        assert_eq!(known(&world), RANKS, "its answers do not arrive");
        world.alive = true;
        world.pass(Duration::from_millis(450));
        assert_eq!(known(&world), digest, "they do again");
        // It is heard, though after several falls not used yet.
        assert_eq!(world.answers(), fall == 0, "fall {fall}");
        world.pass(Duration::from_secs(5));
        assert!(world.answers());
    }
}
