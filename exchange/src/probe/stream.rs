//! Numbered streams of failover drills: who sends numbers them, and whoever answers says what arrived, so
//! that loss, gaps and recovery are known for each direction.
//!
//! A packet is at least [`HEADER`] bytes long, padded with zeros; an answer is as long as what it answers.
//!
//! | bytes | content |
//! |---|---|
//! | 0–3 | `CKPB` |
//! | 4 | version, 1 |
//! | 5 | 3 question, 4 answer |
//! | 6–7 | 0 |
//! | 8–15 | the stream's ID, which nobody can guess |
//! | 16–19 | the question's number in the stream, from 0 |
//! | 20–27 | when it left, in microseconds of the sender's clock |
//! | 28–31 | how many questions of the stream arrived so far (answers) |
//! | 32–39 | when this one arrived, in microseconds of the answering clock (answers) |
//! | 40–47 | arrival after the longest gap in which a question was lost, same clock; 0 while none was |
//! | 48–51 | length of that gap in microseconds |
//! | 52–55 | how many numbers it skips |
//! | 56–63 | arrival before the first question that was lost |
//! | 64–71 | arrival after the last question that was lost |
//! | 72–75 | the longest time between two arrivals, with a loss or without, in microseconds |
//!
//! Numbers are most significant byte first. Clocks of both sides are never compared.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::tokens::Tokens;

/// Length of the fields, and the smallest packet.
pub const HEADER: usize = 76;
/// The longest that is read or written.
pub const MAX: usize = 1_400;

const MAGIC: [u8; 4] = *b"CKPB";
const VERSION: u8 = 1;
const QUESTION: u8 = 3;
const ANSWER: u8 = 4;

/// How many streams are known at a time.
const STREAMS: usize = 256;
/// A stream that said nothing for so long gives its place to a new one.
const IDLE: Duration = Duration::from_secs(10);
/// Answers a second, and at once: a drill has at most some 8,000 questions a second to one node.
const RATE: u32 = 10_000;
const BURST: u32 = 2_000;

/// What a question says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question {
    /// The stream.
    pub stream: u64,
    /// Its number, from 0.
    pub number: u32,
    /// When it left, in microseconds of the sender's clock.
    pub sent: u64,
}

/// What is known of a stream where it arrives, in microseconds of that side's clock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Arrivals {
    /// How many questions arrived.
    pub count: u32,
    /// When the newest did.
    pub last: u64,
    /// The longest gap in which a question was lost.
    pub longest: Gap,
    /// The arrival before the first that was lost, and the one after the last; both 0 while none was.
    pub lossy: (u64, u64),
    /// The longest time between two arrivals, with a loss or without, at most 71 minutes.
    pub pause: u32,
}

/// A time without arrivals in which something was lost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Gap {
    /// When it ended; 0 for none.
    pub end: u64,
    /// How long it was, at most 71 minutes.
    pub length: u32,
    /// How many numbers it skips.
    pub skipped: u32,
}

/// An answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// What is answered.
    pub question: Question,
    /// What arrived so far, this one included.
    pub arrivals: Arrivals,
}

/// A question of `size` bytes, within [`HEADER`] and [`MAX`].
pub fn question(question: Question, size: usize) -> Vec<u8> {
    let mut packet = vec![0; size.clamp(HEADER, MAX)];
    packet[0..4].copy_from_slice(&MAGIC);
    packet[4] = VERSION;
    packet[5] = QUESTION;
    packet[8..16].copy_from_slice(&question.stream.to_be_bytes());
    packet[16..20].copy_from_slice(&question.number.to_be_bytes());
    packet[20..28].copy_from_slice(&question.sent.to_be_bytes());
    packet
}

/// Reads a question.
pub fn parse_question(packet: &[u8]) -> Option<Question> {
    is(packet, QUESTION).then(|| fields(packet))?
}

/// Turns a question into its answer, in place.
pub fn answer(packet: &mut [u8], arrivals: Arrivals) {
    packet[5] = ANSWER;
    packet[6..8].fill(0);
    packet[28..32].copy_from_slice(&arrivals.count.to_be_bytes());
    packet[32..40].copy_from_slice(&arrivals.last.to_be_bytes());
    packet[40..48].copy_from_slice(&arrivals.longest.end.to_be_bytes());
    packet[48..52].copy_from_slice(&arrivals.longest.length.to_be_bytes());
    packet[52..56].copy_from_slice(&arrivals.longest.skipped.to_be_bytes());
    packet[56..64].copy_from_slice(&arrivals.lossy.0.to_be_bytes());
    packet[64..72].copy_from_slice(&arrivals.lossy.1.to_be_bytes());
    packet[72..76].copy_from_slice(&arrivals.pause.to_be_bytes());
    // Nobody gets bytes reflected that we did not look at.
    packet[HEADER..].fill(0);
}

/// Reads an answer.
pub fn parse_answer(packet: &[u8]) -> Option<Answer> {
    if !is(packet, ANSWER) {
        return None;
    }
    let (long, short) = (|at| u64_at(packet, at), |at| u32_at(packet, at));
    Some(Answer {
        question: fields(packet)?,
        arrivals: Arrivals {
            count: short(28)?,
            last: long(32)?,
            longest: Gap { end: long(40)?, length: short(48)?, skipped: short(52)? },
            lossy: (long(56)?, long(64)?),
            pause: short(72)?,
        },
    })
}

fn is(packet: &[u8], kind: u8) -> bool {
    (HEADER..=MAX).contains(&packet.len())
        && packet[0..4] == MAGIC
        && packet[4] == VERSION
        && packet[5] == kind
}

fn fields(packet: &[u8]) -> Option<Question> {
    let (stream, number) = (u64_at(packet, 8)?, u32_at(packet, 16)?);
    Some(Question { stream, number, sent: u64_at(packet, 20)? })
}

fn u64_at(packet: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_be_bytes(packet.get(at..at + 8)?.try_into().ok()?))
}

fn u32_at(packet: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(packet.get(at..at + 4)?.try_into().ok()?))
}

/// Follows arrivals by their numbers. One that comes after its followers is counted, and the gap that it
/// left stays one: it was late enough to be missed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Follower {
    arrivals: Arrivals,
    /// The highest number that arrived.
    highest: Option<u32>,
}

impl Gap {
    /// The longer one; of two that are as long, this.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        if self.end == 0 || other.end != 0 && other.length > self.length { other } else { self }
    }
}

impl Follower {
    /// Notes that `number` arrived at `now`, in microseconds of a clock that is never 0; the gap that this ended, if
    /// something was lost in it.
    pub fn note(&mut self, number: u32, now: u64) -> Option<Gap> {
        let known = &mut self.arrivals;
        known.count = known.count.saturating_add(1);
        let before = std::mem::replace(&mut known.last, now);
        let Some(highest) = self.highest else {
            self.highest = Some(number);
            return None;
        };
        let length = u32::try_from(now.saturating_sub(before)).unwrap_or(u32::MAX);
        known.pause = known.pause.max(length);
        if number <= highest {
            return None;
        }
        self.highest = Some(number);
        let skipped = number - highest - 1;
        if skipped == 0 {
            return None;
        }
        let gap = Gap { end: now, length, skipped };
        known.longest = known.longest.max(gap);
        if known.lossy.0 == 0 {
            known.lossy.0 = before;
        }
        known.lossy.1 = now;
        Some(gap)
    }

    /// What is known.
    pub fn arrivals(&self) -> Arrivals {
        self.arrivals
    }
}

/// The streams that arrive here: bounded in number and rate.
#[derive(Debug)]
pub struct Streams {
    known: BTreeMap<(SocketAddr, u64), (Follower, Instant)>,
    begun: Instant,
    tokens: Tokens,
}

impl Streams {
    /// None yet.
    pub fn new(now: Instant) -> Self {
        Self { known: BTreeMap::new(), begun: now, tokens: Tokens::new(now, RATE, BURST) }
    }

    /// Turns a question into its answer in place; `false` when it gets none.
    pub fn respond(&mut self, now: Instant, from: SocketAddr, packet: &mut [u8]) -> bool {
        let Some(question) = parse_question(packet) else { return false };
        if !self.tokens.take(now) {
            return false;
        }
        let key = (from, question.stream);
        if !self.known.contains_key(&key) && !self.has_room(now) {
            return false;
        }
        let elapsed = now.saturating_duration_since(self.begun).as_micros();
        let at = u64::try_from(elapsed).unwrap_or(u64::MAX).max(1);
        let (follower, last) = self.known.entry(key).or_insert((Follower::default(), now));
        follower.note(question.number, at);
        *last = now;
        answer(packet, follower.arrivals());
        true
    }

    /// Forgets a stream that has been idle for long if there are too many.
    fn has_room(&mut self, now: Instant) -> bool {
        if self.known.len() < STREAMS {
            return true;
        }
        let idle = self.known.iter().min_by_key(|(_, (_, last))| *last);
        let idle = idle.filter(|(_, (_, last))| now.saturating_duration_since(*last) > IDLE);
        let Some(key) = idle.map(|(key, _)| *key) else { return false };
        self.known.remove(&key);
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn from(port: u16) -> SocketAddr {
        SocketAddr::from(([240, 2, 32, 2], port))
    }

    fn ask(stream: u64, number: u32) -> Vec<u8> {
        question(Question { stream, number, sent: 5 }, 200)
    }

    #[test]
    fn answers_tell_counts_and_the_longest_gap_with_a_loss() {
        let start = Instant::now();
        let mut streams = Streams::new(start);
        let mut last = Vec::new();
        // 10 ms apart; 5-9 are lost, 30 comes late, and 40-41 are lost.
        let numbers = (0..5).chain(10..30).chain(31..33).chain([30]).chain(33..40).chain(42..50);
        for number in numbers {
            let mut packet = ask(7, number);
            let at = start + Duration::from_millis(10 * u64::from(number) + 1000);
            assert!(streams.respond(at, from(1), &mut packet), "{number}");
            assert_eq!(packet.len(), 200);
            last = packet;
        }
        let answer = parse_answer(&last).expect("answer");
        assert_eq!(answer.question, Question { stream: 7, number: 49, sent: 5 });
        assert_eq!((answer.arrivals.count, answer.arrivals.last), (43, 1_490_000));
        let longest = Gap { end: 1_100_000, length: 60_000, skipped: 5 };
        assert_eq!(answer.arrivals.longest, longest);
        assert_eq!(answer.arrivals.lossy, (1_040_000, 1_420_000));
        assert_eq!(answer.arrivals.pause, 60_000);
    }

    #[test]
    fn streams_are_bounded_in_number_and_rate() {
        let start = Instant::now();
        let mut streams = Streams::new(start);
        for stream in 0..STREAMS as u64 {
            assert!(streams.respond(start, from(1), &mut ask(stream, 0)));
        }
        assert!(!streams.respond(start, from(1), &mut ask(999, 0)), "no room");
        let later = start + IDLE + Duration::from_secs(1);
        assert!(streams.respond(later, from(1), &mut ask(999, 0)), "an idle one made room");
        let mut answered =
            |at| (0..4 * BURST).filter(|n| streams.respond(at, from(1), &mut ask(999, *n))).count();
        assert_eq!(answered(later), BURST as usize - 1);
        assert_eq!(answered(later + Duration::from_millis(100)), RATE as usize / 10);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut streams = Streams::new(Instant::now());
            prop_assert!(!streams.respond(Instant::now(), from(1), &mut bytes));
            if bytes.len() >= HEADER {
                bytes[..6].copy_from_slice(b"CKPB\x01\x04");
                let answer = parse_answer(&bytes).expect("an answer");
                prop_assert_eq!(parse_question(&bytes), None, "an answer is not answered");
                bytes[5] = QUESTION;
                prop_assert_eq!(parse_question(&bytes), Some(answer.question));
            }
        }
    }
}
