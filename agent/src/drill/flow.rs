//! One stream: numbers its packets, remembers when each left, and learns what became of it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use carrick_exchange::message::drill::DirectionState;
use carrick_exchange::probe::stream::{Answer, Arrivals, Follower, IDLE, Question};

/// Without an answer for so long, a packet is lost.
pub const LOST: Duration = Duration::from_secs(2);
/// What comes later than the fastest by so much is late.
const LATE: Duration = Duration::from_millis(200);
/// How far sending may be behind its time before it skips.
const BEHIND: Duration = Duration::from_millis(100);

/// What became of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fate {
    /// When it left.
    pub sent: Instant,
    /// Its round-trip time; `None` when it was lost.
    pub rtt: Option<Duration>,
    /// It came much later than the fastest.
    pub late: bool,
}

/// The machine of one stream.
#[derive(Debug)]
pub struct Flow {
    stream: u64,
    interval: Duration,
    begun: Instant,
    next: Instant,
    number: u32,
    /// Packets whose fate is not known, by number; an answered one keeps its place until it is the first.
    pending: VecDeque<(Instant, bool)>,
    fastest: Option<Duration>,
    /// The highest number that was answered.
    highest: Option<u32>,
    /// What the other side says, and the numbers of what comes back.
    there: Arrivals,
    back: Follower,
    /// The highest of these, and which of it and those just below came, from the lowest bit on.
    sent_back: u32,
    came_back: u128,
    /// When the newest question left that is known to have arrived.
    reached: Instant,
    /// Packets without an answer that were sent after the highest answered one, and those of them after which nothing at
    /// all came back although the other side would go on.
    trailing: u32,
    unheard: u32,
    /// When the newest answer came, and when the newest of all that comes back.
    answer: Instant,
    heard: Instant,
}

impl Flow {
    /// A stream that begins at `now`.
    pub fn new(stream: u64, interval: Duration, now: Instant) -> Self {
        Self {
            stream,
            interval,
            begun: now,
            next: now,
            number: 0,
            pending: VecDeque::new(),
            fastest: None,
            highest: None,
            there: Arrivals::default(),
            back: Follower::default(),
            sent_back: 0,
            came_back: 0,
            reached: now,
            trailing: 0,
            unheard: 0,
            answer: now,
            heard: now,
        }
    }

    /// The next packet, if one is due.
    pub fn poll(&mut self, now: Instant) -> Option<Question> {
        if now < self.next {
            return None;
        }
        self.next = (self.next + self.interval).max(now.checked_sub(BEHIND).unwrap_or(now));
        let number = self.number;
        self.number = self.number.wrapping_add(1);
        self.pending.push_back((now, false));
        Some(Question { stream: self.stream, number, sent: 0, interval: self.interval })
    }

    /// When the next packet is due.
    pub fn due(&self) -> Instant {
        self.next
    }

    /// When the newest answer came; at the beginning, that.
    pub fn newest(&self) -> Instant {
        self.answer
    }

    fn first(&self) -> u32 {
        self.number.wrapping_sub(self.pending.len() as u32)
    }

    /// The packet after which the other side is not to go on by itself.
    pub fn last(&self) -> Question {
        let (stream, number) = (self.stream, self.number);
        Question { stream, number, sent: 0, interval: Duration::ZERO }
    }

    /// Takes what comes back; what became of the packet that is answered, unless that was known.
    pub fn answered(&mut self, now: Instant, answer: &Answer) -> Option<Fate> {
        let number = answer.question.number;
        if answer.question.stream != self.stream || number >= self.number {
            return None;
        }
        if let Some(back) = answer.number
            && !self.note_back(now, back)
        {
            return None;
        }
        let place = number.checked_sub(self.first())? as usize;
        let (sent, answered) = self.pending.get_mut(place)?;
        let sent = *sent;
        self.reached = self.reached.max(sent);
        if !answer.asked || std::mem::replace(answered, true) {
            return None;
        }
        if answer.number.is_none() {
            self.note_back(now, answer.arrivals.count);
        }
        let rtt = now.saturating_duration_since(sent);
        self.answer = self.answer.max(now);
        if answer.arrivals.count > self.there.count {
            self.there = answer.arrivals;
        }
        if self.highest.is_none_or(|highest| number > highest) {
            self.highest = Some(number);
            self.trailing = 0;
        }
        let fastest = self.fastest.map_or(rtt, |fastest| fastest.min(rtt));
        self.fastest = Some(fastest);
        Some(Fate { sent, rtt: Some(rtt), late: rtt > fastest + LATE })
    }

    /// Notes that the packet with this number came back; false for a copy, and for one so late that it might be.
    fn note_back(&mut self, now: Instant, number: u32) -> bool {
        let ahead = number.saturating_sub(self.sent_back);
        let behind = self.sent_back.saturating_sub(number);
        let bit = 1_u128.checked_shl(behind).unwrap_or(0);
        if ahead == 0 && (bit == 0 || self.came_back & bit != 0) {
            return false;
        }
        self.came_back = self.came_back.checked_shl(ahead).unwrap_or(0) | bit;
        self.sent_back = self.sent_back.max(number);
        self.heard = self.heard.max(now);
        self.unheard = 0;
        let local = now.saturating_duration_since(self.begun).as_micros();
        let local = u64::try_from(local).unwrap_or(u64::MAX).max(1);
        self.back.note(number, local);
        true
    }

    /// A packet that is lost by now, or `None` when there is no further one.
    pub fn poll_lost(&mut self, now: Instant) -> Option<Fate> {
        loop {
            let (sent, answered) = *self.pending.front()?;
            if !answered && now < sent + LOST {
                return None;
            }
            let number = self.first();
            self.pending.pop_front();
            if !answered {
                let after = self.highest.is_none_or(|highest| number > highest);
                self.trailing += u32::from(after);
                let back = sent + self.fastest.unwrap_or_default();
                let goes_on = sent < self.reached + IDLE;
                self.unheard += u32::from(after && goes_on && back > self.heard);
                return Some(Fate { sent, rtt: None, late: false });
            }
        }
    }

    /// What is known of the way to the other side, and of the way back.
    pub fn directions(&self, now: Instant) -> (DirectionState, DirectionState) {
        let seen = self.highest.map_or(0, |highest| highest.saturating_add(1));
        let there = Way {
            lost: seen.saturating_sub(self.there.count),
            arrivals: self.there,
            trailing: self.trailing,
            last: self.answer,
        };
        let arrivals = self.back.arrivals();
        let back = Way {
            lost: self.sent_back.saturating_sub(arrivals.count),
            arrivals,
            trailing: self.unheard,
            last: self.heard,
        };
        let sent = u64::from(self.sent_back) + u64::from(self.unheard);
        let back = DirectionState { sent, ..back.state(now, self.interval) };
        (there.state(now, self.interval), back)
    }
}

/// One direction of a stream.
struct Way {
    /// Packets lost before others that arrived, and after them.
    lost: u32,
    trailing: u32,
    /// What is known where it ends, and when the newest packet that proves it came.
    arrivals: Arrivals,
    last: Instant,
}

impl Way {
    fn state(&self, now: Instant, interval: Duration) -> DirectionState {
        let Self { lost, trailing, arrivals, last } = self;
        let open = if *trailing == 0 { 0 } else { micros(now.saturating_duration_since(*last)) };
        let longest_pause = u64::from(arrivals.pause).max(open);
        let lost = u64::from(*lost) + u64::from(*trailing);
        if lost == 0 {
            // What only came out of order is not missing.
            return DirectionState { longest_pause, ..DirectionState::default() };
        }
        let span = arrivals.lossy.1.saturating_sub(arrivals.lossy.0);
        let recovery = match (open, arrivals.lossy.0) {
            (0, _) => span,
            (_, 0) => open,
            // From the first loss until now, while nothing comes.
            (_, first) => arrivals.last.saturating_sub(first).saturating_add(open),
        };
        DirectionState {
            lost,
            longest_pause,
            longest_gap: u64::from(arrivals.longest.length).max(open),
            detection: (micros(interval) * u64::from(arrivals.longest.skipped)).max(open),
            recovery,
            sent: 0,
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use carrick_exchange::probe::stream::{Streams, parse_answer, question};

    use super::*;

    const TICK: Duration = Duration::from_millis(10);
    const WAY: Duration = Duration::from_millis(5);

    /// Sends for `ticks` over ways that lose what `loses(there, tick)` says, to a side that is perhaps of a release which
    /// only answers.
    fn run(ticks: u32, older: bool, loses: impl Fn(bool, u32) -> bool) -> (Flow, Vec<Fate>) {
        let start = Instant::now();
        let mut flow = Flow::new(7, TICK, start);
        let (mut remote, mut fates) = (Streams::new(start), Vec::new());
        let from = "240.2.32.2:5".parse().expect("an address");
        for tick in 0..ticks {
            let now = start + tick * TICK;
            let asked = flow.poll(now).expect("due");
            assert_eq!(flow.poll(now), None);
            let mut packet = question(asked, 100);
            let mut back = Vec::new();
            if !loses(true, tick) && remote.respond(now + WAY, from, &mut packet) {
                back.push(packet);
            }
            back.extend(std::iter::from_fn(|| remote.poll(now + WAY)).map(|(_, packet)| packet));
            for packet in back.iter().filter(|_| !loses(false, tick)) {
                let answer = parse_answer(packet).expect("it comes back");
                let answer = if older { Answer { number: None, ..answer } } else { answer };
                if answer.asked || !older {
                    fates.extend(flow.answered(now + 2 * WAY, &answer));
                    assert_eq!(flow.answered(now + 2 * WAY, &answer), None, "a copy");
                }
            }
        }
        let end = start + ticks * TICK + LOST;
        fates.extend(std::iter::from_fn(|| flow.poll_lost(end)));
        (flow, fates)
    }

    #[test]
    fn each_direction_is_told_apart() {
        for hit in [true, false] {
            let (flow, fates) = run(100, false, |there, n| there == hit && (40..70).contains(&n));
            assert_eq!(fates.len(), 100);
            assert_eq!(fates.iter().filter(|fate| fate.rtt.is_none()).count(), 30);
            let lossy = DirectionState {
                lost: 30,
                longest_gap: 310_000,
                detection: 300_000,
                recovery: 310_000,
                longest_pause: 310_000,
                sent: 0,
            };
            let clean = |longest_pause| DirectionState { longest_pause, ..Default::default() };
            let expected = if hit {
                // The other side goes on after two intervals.
                (lossy, DirectionState { sent: 99, ..clean(20_000) })
            } else {
                (clean(10_000), DirectionState { sent: 100, ..lossy })
            };
            assert_eq!(flow.directions(Instant::now()), expected, "{hit}");
        }
    }

    #[test]
    fn a_way_back_that_works_sooner_is_known_for_it() {
        let cut = |there, n| if there { (40..70).contains(&n) } else { (40..60).contains(&n) };
        let (flow, _) = run(100, false, cut);
        let (there, back) = flow.directions(Instant::now());
        assert_eq!((there.lost, there.longest_gap, there.detection), (30, 310_000, 300_000));
        assert_eq!((back.lost, back.longest_gap, back.detection), (19, 210_000, 190_000));
        assert_eq!(back.sent, 99);
    }

    #[test]
    fn with_who_only_answers_a_way_back_counts_as_cut_while_nothing_is_to_be_answered() {
        let cut = |there: bool, n| (40..70).contains(&n) || !there && n == 39;
        let (flow, _) = run(100, true, cut);
        let (there, back) = flow.directions(Instant::now());
        assert_eq!((there.lost, there.longest_gap, there.detection), (30, 310_000, 300_000));
        assert_eq!((back.lost, back.longest_gap, back.detection), (1, 320_000, 10_000));
        assert_eq!(back.sent, 70);
    }

    #[test]
    fn scattered_loss_lasts_from_the_first_to_the_last() {
        let cut = |there, n: u32| there && (50..150).contains(&n) && n.is_multiple_of(10);
        let (flow, _) = run(200, false, cut);
        let (there, back) = flow.directions(Instant::now());
        assert_eq!((there.lost, there.longest_gap, there.recovery), (10, 20_000, 920_000));
        assert_eq!((back.lost, back.sent), (0, 190));
    }

    #[test]
    fn what_never_comes_back_counts_until_now() {
        for older in [false, true] {
            let (flow, _) = run(100, older, |_, n| n >= 50);
            let end = flow.newest() + Duration::from_secs(5);
            let (there, back) = flow.directions(end);
            assert_eq!(DirectionState { sent: 0, ..back }, there);
            assert_eq!((there.lost, there.longest_gap), (50, 5_000_000));
            assert_eq!((there.recovery, back.sent), (5_000_000, 100));
        }
    }

    #[test]
    fn a_way_back_that_works_is_not_blamed_for_what_never_arrives() {
        for ticks in [300, 2500] {
            let (flow, _) = run(ticks, false, |there, n| there && n >= 200);
            let (there, back) = flow.directions(flow.newest() + Duration::from_secs(5));
            assert_eq!((there.lost, there.longest_gap), (u64::from(ticks) - 200, 5_000_000));
            // The other side stops after ten seconds.
            assert_eq!((back.lost, back.longest_gap), (0, 0), "{ticks}");
            assert_eq!(back.sent, 200 + 998.min(u64::from(ticks) - 201));
        }
    }

    #[test]
    fn copies_on_the_way_there_are_answered_and_lose_nothing_on_the_way_back() {
        let start = Instant::now();
        let mut flow = Flow::new(7, TICK, start);
        let mut remote = Streams::new(start);
        let from = "240.2.32.2:5".parse().expect("an address");
        for tick in 0..100 {
            let now = start + tick * TICK;
            let asked = flow.poll(now).expect("due");
            for _ in 0..2 {
                let mut packet = question(asked, 100);
                assert!(remote.respond(now, from, &mut packet));
                flow.answered(now, &parse_answer(&packet).expect("an answer"));
            }
        }
        let (there, back) = flow.directions(start + 100 * TICK);
        assert_eq!((there.lost, back.lost, back.longest_gap, back.sent), (0, 0, 0, 200));
    }

    #[test]
    fn forged_and_strange_answers_count_nothing() {
        let (mut flow, _) = run(10, false, |_, _| false);
        let now = Instant::now();
        for (stream, number) in [(8, 3), (7, 10), (7, u32::MAX), (7, 3)] {
            for asked in [true, false] {
                let question = Question { stream, number, sent: 0, interval: Duration::ZERO };
                let arrivals = Arrivals { count: 999, ..Default::default() };
                // Of the stream itself a copy.
                let number = Some(if (stream, number) == (7, 3) { 4 } else { 999 });
                let answer = Answer { question, asked, arrivals, number };
                assert_eq!(flow.answered(now, &answer), None, "{stream} {number:?}");
            }
        }
        let back = flow.directions(now).1;
        assert_eq!((back.lost, back.sent), (0, 10));
    }
}
