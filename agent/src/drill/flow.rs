//! One stream: numbers its packets, remembers when each left, and learns what became of it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use carrick_exchange::message::drill::DirectionState;
use carrick_exchange::probe::stream::{Answer, Arrivals, Follower, Gap, Question};

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
    answered: u32,
    /// What the other side says, and the numbers of its answers as they come.
    there: Arrivals,
    back: Follower,
    /// The longest gap among the answers in which one was lost, and the longest of those that ended as soon as questions
    /// arrived again: for how much of such a gap the way back was cut is not known.
    back_gap: Gap,
    masked_gap: Gap,
    /// Packets without an answer that were sent after the highest answered one.
    trailing: u32,
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
            answered: 0,
            there: Arrivals::default(),
            back: Follower::default(),
            back_gap: Gap::default(),
            masked_gap: Gap::default(),
            trailing: 0,
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
        Some(Question { stream: self.stream, number, sent: 0 })
    }

    /// When the next packet is due.
    pub fn due(&self) -> Instant {
        self.next
    }

    /// When the newest answer came; at the beginning, that.
    pub fn heard(&self) -> Instant {
        self.heard
    }

    fn first(&self) -> u32 {
        self.number.wrapping_sub(self.pending.len() as u32)
    }

    /// Takes an answer; what became of the packet, unless that was known.
    pub fn answered(&mut self, now: Instant, answer: &Answer) -> Option<Fate> {
        let number = answer.question.number;
        let place = number.checked_sub(self.first())? as usize;
        let (sent, answered) = self.pending.get_mut(place)?;
        if answer.question.stream != self.stream || std::mem::replace(answered, true) {
            return None;
        }
        let (sent, rtt) = (*sent, now.saturating_duration_since(*sent));
        self.answered += 1;
        self.heard = self.heard.max(now);
        if answer.arrivals.count > self.there.count {
            self.there = answer.arrivals;
        }
        let local = now.saturating_duration_since(self.begun).as_micros();
        let local = u64::try_from(local).unwrap_or(u64::MAX).max(1);
        if let Some(gap) = self.back.note(answer.arrivals.count, local) {
            let longest =
                if self.is_masked(&gap) { &mut self.masked_gap } else { &mut self.back_gap };
            *longest = longest.max(gap);
        }
        if self.highest.is_none_or(|highest| number > highest) {
            self.highest = Some(number);
            self.trailing = 0;
        }
        let fastest = self.fastest.map_or(rtt, |fastest| fastest.min(rtt));
        self.fastest = Some(fastest);
        Some(Fate { sent, rtt: Some(rtt), late: rtt > fastest + LATE })
    }

    /// Whether a gap among the answers ended with the first question after the longest gap there, and is no longer than
    /// that one but for what was under way.
    fn is_masked(&self, gap: &Gap) -> bool {
        let there = &self.there.longest;
        let under_way = micros(self.interval + self.fastest.unwrap_or_default() * 2);
        there.end == self.there.last && u64::from(gap.length) <= u64::from(there.length) + under_way
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
                return Some(Fate { sent, rtt: None, late: false });
            }
        }
    }

    /// Whether it has a gap on the way back that is known for what it is.
    pub fn knows_way_back(&self) -> bool {
        self.back_gap.end != 0
    }

    /// What is known of the way to the other side, and of the way back: with `known`, without gaps of which nobody knows
    /// for how long it was cut, as nothing came to be answered.
    pub fn directions(&self, now: Instant, known: bool) -> (DirectionState, DirectionState) {
        let seen = self.highest.map_or(0, |highest| highest.saturating_add(1));
        let open =
            if self.trailing == 0 { 0 } else { micros(now.saturating_duration_since(self.heard)) };
        let of = |lost: u32, arrivals: &Arrivals, longest: &Gap| {
            let span = arrivals.lossy.1.saturating_sub(arrivals.lossy.0);
            let since = if arrivals.lossy.0 == 0 {
                open
            } else {
                // From the first loss until now, while nothing comes.
                arrivals.last.saturating_sub(arrivals.lossy.0).saturating_add(open)
            };
            let longest_pause = u64::from(arrivals.pause).max(open);
            let lost = u64::from(lost) + u64::from(self.trailing);
            if lost == 0 {
                // What only came out of order is not missing.
                return DirectionState { longest_pause, ..DirectionState::default() };
            }
            DirectionState {
                lost,
                longest_pause,
                longest_gap: u64::from(longest.length).max(open),
                detection: (micros(self.interval) * u64::from(longest.skipped)).max(open),
                recovery: if open > 0 { since } else { span },
            }
        };
        let there = of(seen.saturating_sub(self.there.count), &self.there, &self.there.longest);
        let lost = self.there.count.saturating_sub(self.answered);
        let longest = if known { self.back_gap } else { self.back_gap.max(self.masked_gap) };
        (there, of(lost, &self.back.arrivals(), &longest))
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_millis(10);
    const WAY: Duration = Duration::from_millis(5);

    /// Sends for `ticks` over ways that lose what `loses(there, number)` says.
    fn run(ticks: u32, loses: impl Fn(bool, u32) -> bool) -> (Flow, Vec<Fate>) {
        let start = Instant::now();
        let mut flow = Flow::new(7, TICK, start);
        let (mut remote, mut fates) = (Follower::default(), Vec::new());
        for tick in 0..ticks {
            let now = start + tick * TICK;
            let question = flow.poll(now).expect("due");
            assert_eq!(flow.poll(now), None);
            if loses(true, question.number) {
                continue;
            }
            remote.note(question.number, micros(now + WAY - start) + 1_000_000);
            if loses(false, question.number) {
                continue;
            }
            let answer = Answer { question, arrivals: remote.arrivals() };
            fates.extend(flow.answered(now + 2 * WAY, &answer));
            assert_eq!(flow.answered(now + 2 * WAY, &answer), None, "a copy");
        }
        let end = start + ticks * TICK + LOST;
        fates.extend(std::iter::from_fn(|| flow.poll_lost(end)));
        (flow, fates)
    }

    #[test]
    fn each_direction_is_told_apart() {
        for hit in [true, false] {
            let (flow, fates) = run(100, |there, n| there == hit && (40..70).contains(&n));
            assert_eq!(fates.len(), 100);
            assert_eq!(fates.iter().filter(|fate| fate.rtt.is_none()).count(), 30);
            let (there, back) = flow.directions(Instant::now(), false);
            let lossy = DirectionState {
                lost: 30,
                longest_gap: 310_000,
                detection: 300_000,
                recovery: 310_000,
                longest_pause: 310_000,
            };
            let clean = |pause| DirectionState { longest_pause: pause, ..Default::default() };
            let expected = if hit { (lossy, clean(310_000)) } else { (clean(10_000), lossy) };
            assert_eq!((there, back), expected, "{hit}");
        }
    }

    #[test]
    fn a_gap_on_the_way_back_counts_for_what_is_known_of_it() {
        // Of the answers those to 38 and 39 were under way when both ways were cut, and later two more are lost.
        let masked = |there, n| if there { (40..70).contains(&n) } else { n == 38 || n == 39 };
        let (flow, _) = run(100, masked);
        assert!(!flow.knows_way_back());
        let (there, back) = flow.directions(Instant::now(), false);
        assert_eq!((there.lost, there.longest_gap, there.detection), (30, 310_000, 300_000));
        assert_eq!((back.lost, back.longest_gap, back.detection), (2, 330_000, 20_000));
        let back = flow.directions(Instant::now(), true).1;
        assert_eq!((back.lost, back.longest_gap), (2, 0), "others know better");
        let (flow, _) = run(100, |there, n| masked(there, n) || !there && (n == 80 || n == 81));
        assert!(flow.knows_way_back());
        let back = flow.directions(Instant::now(), true).1;
        assert_eq!((back.lost, back.longest_gap, back.detection), (4, 30_000, 20_000));
        // The way back was cut for longer, which is known.
        let (flow, _) = run(100, |there, n| masked(there, n) || !there && (40..80).contains(&n));
        let back = flow.directions(Instant::now(), true).1;
        assert_eq!((back.lost, back.longest_gap, back.detection), (12, 430_000, 120_000));
    }

    #[test]
    fn scattered_loss_lasts_from_the_first_to_the_last() {
        let (flow, _) = run(200, |there, n| there && (50..150).contains(&n) && n % 10 == 0);
        let (there, back) = flow.directions(Instant::now(), false);
        assert_eq!((there.lost, there.longest_gap, there.recovery), (10, 20_000, 920_000));
        assert_eq!(back.lost, 0);
    }

    #[test]
    fn what_never_comes_back_counts_until_now() {
        let (flow, _) = run(100, |_, n| n >= 50);
        let end = flow.heard() + Duration::from_secs(5);
        let (there, back) = flow.directions(end, false);
        assert_eq!(there, back);
        assert_eq!((there.lost, there.longest_gap, there.recovery), (50, 5_000_000, 5_000_000));
    }

    #[test]
    fn forged_and_strange_answers_count_nothing() {
        let (mut flow, _) = run(10, |_, _| false);
        let now = Instant::now();
        for (stream, number) in [(8, 3), (7, 10), (7, u32::MAX), (7, 3)] {
            let question = Question { stream, number, sent: 0 };
            let answer =
                Answer { question, arrivals: Arrivals { count: 999, ..Default::default() } };
            assert_eq!(flow.answered(now, &answer), None, "{stream} {number}");
        }
        assert_eq!(flow.directions(now, false).1.lost, 0);
    }
}
