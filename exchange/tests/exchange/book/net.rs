//! Publisher and subscriber in virtual time, with gateways between them that may fail or lie.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant, SystemTime};

use carrick_exchange::book::publisher::Exports;
use carrick_exchange::book::subscriber::{Request, WAIT};
use carrick_exchange::book::{Hash, MAX_ANSWER, MAX_ASK, Publisher, Subscriber};
use carrick_exchange::message::service::{Answer, Ask, ask};
use carrick_model::{MemberName, Role};
use proptest::prelude::*;
use prost::Message as _;

use super::{exports, of, service, some};
use crate::support::Cluster;

/// There and back, without processing.
const DELAY: Duration = Duration::from_millis(20);

/// What becomes of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Good,
    Late,
    Lost,
    Flipped(usize),
    Empty,
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        3 => Just(Fate::Good),
        1 => Just(Fate::Late),
        1 => Just(Fate::Lost),
        2 => any::<usize>().prop_map(Fate::Flipped),
        1 => Just(Fate::Empty),
    ]
}

/// Osaka exports, Paris imports.
pub struct Net {
    osaka: Cluster,
    paris: Cluster,
    publisher: Publisher,
    pub subscriber: Subscriber,
    pub now: Instant,
    began: Instant,
    wall: SystemTime,
    /// The fates of the questions to come; later ones are good.
    pub fates: Vec<Fate>,
    pub dead: BTreeSet<MemberName>,
    waiting: Vec<(Instant, Request, Fate)>,
    flying: BTreeMap<(Instant, u64), Result<Answer, String>>,
    roots: BTreeSet<Hash>,
    restarts: u32,
    /// What went over the wire.
    pub asked: usize,
    pub answered: usize,
    pub questions: usize,
    pub by: Vec<MemberName>,
}

pub fn gateway(n: u8) -> MemberName {
    format!("gw-{n}").parse().expect("name")
}

impl Net {
    pub fn new(exports: &Exports) -> Self {
        let (osaka, paris) = (Cluster::new("osaka"), Cluster::new("paris"));
        let (now, wall) = (Instant::now(), SystemTime::now());
        let mut subscriber = Subscriber::new(osaka.pin(Role::Gateway), paris.id.clone());
        subscriber.handle_ways(vec![gateway(0), gateway(1)]);
        let mut net = Self {
            publisher: Publisher::new(osaka.id.clone(), wall),
            osaka,
            paris,
            subscriber,
            now,
            began: now,
            wall,
            fates: Vec::new(),
            dead: BTreeSet::new(),
            waiting: Vec::new(),
            flying: BTreeMap::new(),
            roots: BTreeSet::new(),
            restarts: 0,
            asked: 0,
            answered: 0,
            questions: 0,
            by: Vec::new(),
        };
        net.export(exports);
        net
    }

    pub fn root(&self) -> Hash {
        self.publisher.book(&self.paris.id).expect("a book").root()
    }

    pub fn export(&mut self, exports: &Exports) {
        let news = self.publisher.set(&self.paris.id, exports);
        self.roots.insert(self.root());
        if news {
            let waiting = std::mem::take(&mut self.waiting);
            waiting.into_iter().for_each(|(until, request, fate)| self.ask(until, request, fate));
        }
    }

    /// The exporting controller begins anew, an hour later.
    pub fn restart_publisher(&mut self, exports: &Exports) {
        self.restarts += 1;
        let later = self.wall() + Duration::from_secs(3600) * self.restarts;
        self.publisher = Publisher::new(self.osaka.id.clone(), later);
        self.export(exports);
    }

    fn wall(&self) -> SystemTime {
        self.wall + (self.now - self.began)
    }

    fn ask(&mut self, until: Instant, request: Request, fate: Fate) {
        let asked = request.ask.kind.clone().expect("a question");
        let wall = self.wall();
        let answer = self.publisher.answer(&self.paris.id, &asked, &self.osaka.identity, wall);
        match answer.expect("signed") {
            Some(answer) => self.answer(&request, fate, answer),
            None if until <= self.now => self.answer(&request, fate, Publisher::unchanged()),
            None => self.waiting.push((until, request, fate)),
        }
    }

    fn answer(&mut self, request: &Request, fate: Fate, answer: Answer) {
        let mut bytes = answer.encode_to_vec();
        assert!(bytes.len() <= MAX_ANSWER, "{} bytes", bytes.len());
        self.answered += bytes.len();
        let delay = if fate == Fate::Late { DELAY * 7 } else { DELAY };
        match fate {
            Fate::Flipped(at) => {
                let bit = at % (bytes.len() * 8);
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
            Fate::Empty => bytes.clear(),
            _ => {}
        }
        let answer = Answer::decode(bytes.as_slice()).map_err(|error| error.to_string());
        self.flying.insert((self.now + delay, request.id), answer);
    }

    fn send(&mut self, request: Request) {
        let bytes = request.ask.encode_to_vec();
        assert!(bytes.len() <= MAX_ASK, "{} bytes", bytes.len());
        assert_eq!(Ask::decode(bytes.as_slice()).as_ref(), Ok(&request.ask));
        self.asked += bytes.len();
        self.questions += 1;
        self.by.push(request.gateway.clone());
        let fate = if self.fates.is_empty() { Fate::Good } else { self.fates.remove(0) };
        if fate == Fate::Lost || self.dead.contains(&request.gateway) {
            let key = (self.now + request.patience, request.id);
            self.flying.insert(key, Err("timed out".to_owned()));
            return;
        }
        let wait = match &request.ask.kind {
            Some(ask::Kind::Head(head)) => Duration::from_millis(head.wait_milliseconds.into()),
            _ => Duration::ZERO,
        };
        self.ask(self.now + wait, request, fate);
    }

    /// Goes on until the next thing happens; returns whether the book changed.
    pub fn step(&mut self) -> bool {
        while let Some(request) = self.subscriber.poll_ask(self.now) {
            self.send(request);
        }
        let flies = self.flying.first_key_value().map(|((at, _), _)| *at);
        let waits = self.waiting.iter().map(|(until, ..)| *until).min();
        let wakes = self.subscriber.poll_timeout();
        let next = [flies, waits, wakes].into_iter().flatten().min().expect("nothing will happen");
        assert!(next > self.now || wakes != Some(next), "it wakes for nothing");
        self.now = self.now.max(next);
        let (due, waiting): (Vec<_>, Vec<_>) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|(until, ..)| *until <= self.now);
        self.waiting = waiting;
        due.into_iter().for_each(|(until, request, fate)| self.ask(until, request, fate));
        let mut changed = false;
        while let Some(((at, id), _)) = self.flying.first_key_value()
            && *at <= self.now
        {
            let key = (*at, *id);
            let answer = self.flying.remove(&key).expect("seen");
            let wall = self.wall();
            changed |= self.subscriber.handle_answer(id_of(key), answer, self.now, wall);
            if let Some(book) = self.subscriber.book() {
                assert!(self.roots.contains(&book.root()), "a book that nobody exported");
            }
        }
        changed
    }

    pub fn is_even(&self) -> bool {
        self.subscriber.book().is_some_and(|book| book.root() == self.root())
    }

    /// Runs until both sides have the same book; returns how long it took.
    pub fn settle(&mut self) -> Duration {
        let began = self.now;
        while !self.is_even() {
            self.step();
            assert!(self.now - began < Duration::from_secs(600), "{:?}", self.subscriber.error());
        }
        self.now - began
    }

    /// Runs for this long.
    pub fn run(&mut self, length: Duration) {
        let end = self.now + length;
        while self.now < end {
            self.step();
        }
    }
}

fn id_of((_, id): (Instant, u64)) -> u64 {
    id
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Whatever is lost, late or forged on the way: only what was exported is ever believed, and in the end all of it.
    #[test]
    fn both_ends_come_to_the_same_book(
        states in prop::collection::vec((some(), 0_u64..700), 1..8),
        fates in prop::collection::vec(fate(), 0..24),
        restarts in any::<u8>(),
    ) {
        let mut net = Net::new(&exports([]));
        net.fates = fates;
        for (at, (state, pause)) in states.iter().enumerate() {
            net.run(Duration::from_millis(*pause));
            if restarts >> (at % 8) & 1 == 1 { net.restart_publisher(&of(state)) } else { net.export(&of(state)) }
        }
        net.settle();
    }
}

fn many(count: u32) -> Exports {
    exports((0..count).map(|n| service(n, 3, true)))
}

#[test]
fn a_change_is_told_at_once_and_flapping_ten_times_a_second() {
    let mut net = Net::new(&many(50));
    net.settle();
    net.run(Duration::from_secs(10));
    for pods in [4, 5] {
        let mut changed = many(50);
        changed.extend(exports([service(7, pods, true)]));
        net.export(&changed);
        // The question is there already, or an answer to the one before is on its way.
        assert!(net.settle() <= DELAY * 2);
        net.run(Duration::from_secs(1));
    }
    let before = net.questions;
    let began = net.now;
    let mut n: u8 = 0;
    while net.now < began + Duration::from_secs(3) {
        n = n.wrapping_add(1);
        let mut changed = many(50);
        changed.extend(exports([service(7, n % 5, true)]));
        net.export(&changed);
        net.step();
    }
    let questions = net.questions - before;
    assert!(questions <= 32, "{questions} in 3 s");
    net.settle();
}

#[test]
fn where_one_gateway_is_silent_the_other_carries() {
    let mut net = Net::new(&many(50));
    net.settle();
    net.dead.insert(gateway(0));
    net.run(Duration::from_secs(4));
    let mut changed = many(50);
    changed.extend(exports([service(7, 4, true)]));
    net.export(&changed);
    let took = net.settle();
    assert!(took <= DELAY * 3, "{took:?}");
    assert_eq!(net.by.last(), Some(&gateway(1)));

    net.dead.insert(gateway(1));
    net.run(Duration::from_secs(60));
    assert!(net.subscriber.error().expect("nobody answers").to_string().contains("osaka"));
    let questions = net.questions;
    net.run(Duration::from_secs(60));
    assert!(net.questions - questions < 12, "{} questions a minute", net.questions - questions);
    assert!(net.is_even(), "what is known stays");
    net.dead.clear();
    net.export(&many(60));
    net.settle();
    assert_eq!(net.subscriber.error(), None);
}

#[test]
fn an_older_head_a_strangers_and_one_for_another_audience_are_refused() {
    let mut net = Net::new(&many(5));
    net.settle();
    let root = net.subscriber.book().expect("a book").root();
    // Another cluster of that name, with another key.
    let osaka = std::mem::replace(&mut net.osaka, Cluster::new("osaka"));
    net.export(&many(6));
    net.run(Duration::from_secs(10));
    assert_eq!(net.subscriber.error().expect("refused").reason(), "WrongSignature");
    net.osaka = osaka;
    net.restart_publisher(&many(6));
    net.settle();
    // A controller whose clock was put back.
    let (publisher, wall) =
        (Publisher::new(net.osaka.id.clone(), net.wall - WAIT * 1000), net.wall);
    net.publisher = publisher;
    net.export(&many(7));
    net.run(Duration::from_secs(10));
    assert_eq!(net.subscriber.error().expect("refused").reason(), "OlderServices");
    net.publisher = Publisher::new(net.osaka.id.clone(), wall + WAIT * 4000);
    net.export(&many(7));
    net.settle();
    assert_ne!(net.subscriber.book().expect("a book").root(), root);
    // The identity is pinned no more.
    let lima = Cluster::new("lima");
    net.subscriber.handle_pin(lima.pin(Role::Gateway));
    assert!(net.subscriber.book().is_none());
    net.run(Duration::from_secs(3));
    assert_eq!(net.subscriber.error().expect("refused").reason(), "WrongSignature");
}
