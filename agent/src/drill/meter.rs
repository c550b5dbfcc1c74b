//! All streams and connections of one drill, and what they found together: sans-IO.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use carrick_exchange::message::drill::{DirectionState, Point, StreamState};
use carrick_exchange::probe::stream::{Answer, Question};

use super::connection::Connection;
use super::flow::{Fate, Flow};
use super::histogram::Histogram;
use super::order::Order;
use crate::mix::mix;

/// The most points of a series.
const POINTS: u32 = 240;

/// Which socket a packet leaves by: one a stream, then one a connection.
pub type Place = usize;

/// The machine.
#[derive(Debug)]
pub struct Meter {
    order: Order,
    random: u64,
    begun: Instant,
    flows: Vec<Flow>,
    connections: Vec<Connection>,
    rtts: Histogram,
    sent: u64,
    late: u64,
    points: BTreeMap<u32, Sum>,
}

/// A point in the making.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    sent: u32,
    lost: u32,
    rtt: Duration,
}

impl Meter {
    /// Begins at `now`; `random` is a number that nobody can guess.
    pub fn new(order: Order, random: u64, now: Instant) -> Self {
        let mut meter = Self {
            random,
            begun: now,
            flows: Vec::new(),
            connections: Vec::new(),
            rtts: Histogram::default(),
            sent: 0,
            late: 0,
            points: BTreeMap::new(),
            order,
        };
        meter.connections =
            (0..meter.order.connections).map(|_| Connection::new(meter.number(), now)).collect();
        meter.count_anew(now);
        meter
    }

    /// Numbers that streams are known by.
    fn number(&mut self) -> u64 {
        // From one random number as many as are needed.
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.random)
    }

    fn count_anew(&mut self, now: Instant) {
        let interval = self.order.interval;
        self.flows =
            (0..self.order.streams).map(|_| Flow::new(self.number(), interval, now)).collect();
        self.rtts = Histogram::default();
        (self.sent, self.late) = (0, 0);
    }

    /// Follows another order of the same drill. True when counting began anew.
    pub fn follow(&mut self, order: Order, now: Instant) -> bool {
        let anew = order.phase != self.order.phase;
        let (streams, connections) = (self.order.streams, self.order.connections);
        self.order = Order { streams, connections, ..order };
        if anew {
            self.count_anew(now);
        }
        anew
    }

    /// What is ordered.
    pub fn order(&self) -> &Order {
        &self.order
    }

    /// How many sockets are needed.
    pub fn places(&self) -> usize {
        self.order.streams + self.order.connections
    }

    /// A packet to be sent now.
    pub fn poll(&mut self, now: Instant) -> Option<(Place, Question)> {
        let flows = self.flows.iter_mut().enumerate();
        let question = flows.filter_map(|(at, flow)| Some((at, flow.poll(now)?))).next();
        question.or_else(|| {
            let streams = self.order.streams;
            let mut connections = self.connections.iter_mut().enumerate();
            connections.find_map(|(at, one)| Some((streams + at, one.poll(now)?)))
        })
    }

    /// The last packet of each stream.
    pub fn last(&self) -> impl Iterator<Item = (Place, Question)> + '_ {
        self.flows.iter().map(Flow::last).enumerate()
    }

    /// When to poll next.
    pub fn due(&self) -> Option<Instant> {
        let connections = self.connections.iter().filter_map(Connection::due);
        self.flows.iter().map(Flow::due).chain(connections).min()
    }

    /// An answer came by a socket.
    pub fn answered(&mut self, now: Instant, place: Place, answer: &Answer) {
        if let Some(flow) = self.flows.get_mut(place) {
            if let Some(fate) = flow.answered(now, answer) {
                self.settle(fate);
            }
        } else if let Some(one) = self.connections.get_mut(place - self.order.streams) {
            one.answered(now, answer);
        }
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Instant) {
        for at in 0..self.flows.len() {
            while let Some(fate) = self.flows[at].poll_lost(now) {
                self.settle(fate);
            }
        }
    }

    fn settle(&mut self, fate: Fate) {
        self.sent += 1;
        self.late += u64::from(fate.late);
        if let Some(rtt) = fate.rtt {
            self.rtts.note(rtt);
        }
        let since = fate.sent.saturating_duration_since(self.begun).as_millis();
        let index = since / self.order.point.as_millis().max(1);
        let Some(index) = u32::try_from(index).ok().filter(|index| *index < POINTS) else { return };
        let sum = self.points.entry(index).or_default();
        sum.sent += 1;
        match fate.rtt {
            Some(rtt) => sum.rtt += rtt,
            None => sum.lost += 1,
        }
    }

    /// What was found so far, without times of day.
    pub fn state(&self, now: Instant) -> StreamState {
        let (mut there, mut back) = (DirectionState::default(), DirectionState::default());
        for flow in &self.flows {
            let (one_there, one_back) = flow.directions(now);
            add(&mut there, one_there);
            add(&mut back, one_back);
        }
        let heard = self.flows.iter().map(Flow::newest).max();
        let silent = heard.map_or(Duration::ZERO, |heard| now.saturating_duration_since(heard));
        let count = |of: fn(&Connection) -> bool| {
            u32::try_from(self.connections.iter().filter(|one| of(one)).count()).unwrap_or(u32::MAX)
        };
        StreamState {
            id: self.order.id.clone(),
            phase: self.order.phase,
            sent: self.sent,
            late: self.late,
            there: Some(there),
            back: Some(back),
            rtt_p50: self.rtts.quantile(500),
            rtt_p99: self.rtts.quantile(990),
            silent: u64::try_from(silent.as_millis()).unwrap_or(u64::MAX),
            opened: count(Connection::is_opened),
            survived: count(Connection::has_survived),
            points: self.points.iter().map(|(index, sum)| sum.point(*index)).collect(),
            ..StreamState::default()
        }
    }
}

/// Streams together are as bad as the worst.
fn add(sum: &mut DirectionState, one: DirectionState) {
    (sum.sent, sum.lost) = (sum.sent + one.sent, sum.lost + one.lost);
    sum.longest_gap = sum.longest_gap.max(one.longest_gap);
    sum.detection = sum.detection.max(one.detection);
    sum.recovery = sum.recovery.max(one.recovery);
    sum.longest_pause = sum.longest_pause.max(one.longest_pause);
}

impl Sum {
    fn point(self, index: u32) -> Point {
        let mean = self.rtt.checked_div(self.sent - self.lost).unwrap_or_default();
        let rtt = u32::try_from(mean.as_micros()).unwrap_or(u32::MAX);
        Point { index, sent: self.sent, lost: self.lost, rtt }
    }
}

#[cfg(test)]
mod tests {
    use carrick_exchange::probe::stream::Follower;

    use super::super::order::sample;
    use super::*;

    #[test]
    fn phases_count_anew_and_the_series_goes_on() {
        let order = Order::parse(&sample()).expect("order");
        let start = Instant::now();
        let mut meter = Meter::new(order.clone(), 1, start);
        let mut remote: BTreeMap<u64, Follower> = BTreeMap::new();
        let way = Duration::from_millis(20);
        for tick in 0..3000_u64 {
            let now = start + Duration::from_millis(tick);
            if tick == 1000 {
                assert_eq!(meter.state(now).there.expect("there").lost, 0);
                assert!(meter.follow(Order { phase: 1, ..order.clone() }, now));
                assert_eq!(meter.state(now).sent, 0);
            }
            meter.handle_timeout(now);
            while let Some((place, question)) = meter.poll(now) {
                assert!(place < meter.places());
                // The first stream is cut for 300 ms.
                if place == 0 && (1500..1800).contains(&tick) {
                    continue;
                }
                let follower = remote.entry(question.stream).or_default();
                follower.note(question.number, tick * 1000 + 1);
                let (asked, arrivals, number) = (true, follower.arrivals(), None);
                let answer = Answer { question, asked, arrivals, number };
                meter.answered(now + way, place, &answer);
            }
        }
        let end = start + Duration::from_secs(6);
        meter.handle_timeout(end);
        let state = meter.state(end);
        assert_eq!((state.phase, state.sent, state.late), (1, 400, 0));
        let there = state.there.expect("there");
        assert_eq!((there.lost, there.longest_gap, there.detection), (30, 310_000, 300_000));
        assert_eq!(state.back.expect("back").lost, 0);
        assert!(state.rtt_p50.abs_diff(20_000) < 1300, "{}", state.rtt_p50);
        assert_eq!((state.opened, state.survived), (1, 1));
        assert_eq!(state.points.len(), 30);
        assert_eq!(state.points.iter().map(|point| point.lost).sum::<u32>(), 30);
        assert_eq!(state.points[16], Point { index: 16, sent: 20, lost: 10, rtt: 20_000 });
    }
}
