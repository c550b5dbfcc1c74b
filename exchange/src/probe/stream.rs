//! Numbered streams of failover drills: who sends numbers them, and whoever answers says what arrived, so
//! that loss, gaps and recovery are known for each direction.
//!
//! What does not arrive cannot be answered, and says nothing of the way back. So whoever answers goes on at the pace of
//! the stream when questions stay away, where these say how often others follow: for ten seconds at most, and with eight
//! packets at most for each that arrived, lest little make much of somebody else. All that goes back is numbered too.
//! One socket asks one stream at a time.
//!
//! A packet is at least [`HEADER`] bytes long, padded with zeros; an answer is as long as what it answers.
//!
//! | bytes | content |
//! |---|---|
//! | 0–3 | `CKPB` |
//! | 4 | version, 1 |
//! | 5 | 3 question, 4 answer, 5 what goes back as no question came: it repeats the newest one |
//! | 6–7 | in how long the next question follows, in units of 100 µs, rounded up; 0 for nobody knows (questions) |
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
//! | 76–79 | how many packets of the stream went back so far, this one included; 0 from older releases |
//!
//! Numbers are most significant byte first. Clocks of both sides are never compared.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::tokens::Tokens;

/// Length of the fields, and the smallest packet.
pub const HEADER: usize = 80;
/// The longest that is read or written.
pub const MAX: usize = 1_400;

const MAGIC: [u8; 4] = *b"CKPB";
const VERSION: u8 = 1;
const QUESTION: u8 = 3;
const ANSWER: u8 = 4;
const UNASKED: u8 = 5;

/// The unit of a question's interval.
const UNIT: Duration = Duration::from_micros(100);
/// A stream with fewer questions is not gone on with, and so many packets are sent unasked for each at most.
const ESTABLISHED: u32 = 5;
const FOR_EACH: u32 = 8;
/// The shortest interval at which that is done: a drill has 1,000 packets a second and stream at most.
const LEAST_INTERVAL: Duration = Duration::from_millis(1);
/// After so many intervals without a question it is, and not sooner than that: packets wait for a processor.
const OVERDUE: u32 = 2;
const LEAST_OVERDUE: Duration = Duration::from_millis(20);
/// How far that may be behind its time before it skips, as with questions.
const BEHIND: Duration = Duration::from_millis(100);

/// How many streams are known at a time.
const STREAMS: usize = 256;
/// A stream that said nothing for so long is not gone on with, and gives its place to a new one.
pub const IDLE: Duration = Duration::from_secs(10);
/// Answers a second, and at once: a drill has at most some 8,000 questions a second to one node. As many may go back unasked,
/// which takes nothing from the answers.
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
    /// In how long the next one follows, rounded up to 100 µs and 6.5 s at most; 0 for nobody knows.
    pub interval: Duration,
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

/// What comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// What is answered, without its interval; if nothing is, the newest question.
    pub question: Question,
    /// It answers a question. Else none came in time.
    pub asked: bool,
    /// What arrived so far.
    pub arrivals: Arrivals,
    /// How many packets went back so far, this one included; `None` from older releases.
    pub number: Option<u32>,
}

/// A question of `size` bytes, within [`HEADER`] and [`MAX`].
pub fn question(question: Question, size: usize) -> Vec<u8> {
    let mut packet = vec![0; size.clamp(HEADER, MAX)];
    packet[0..4].copy_from_slice(&MAGIC);
    packet[4] = VERSION;
    packet[5] = QUESTION;
    let units = question.interval.as_nanos().div_ceil(UNIT.as_nanos());
    let units = u16::try_from(units).unwrap_or(u16::MAX);
    packet[6..8].copy_from_slice(&units.to_be_bytes());
    packet[8..16].copy_from_slice(&question.stream.to_be_bytes());
    packet[16..20].copy_from_slice(&question.number.to_be_bytes());
    packet[20..28].copy_from_slice(&question.sent.to_be_bytes());
    packet
}

/// Reads a question.
pub fn parse_question(packet: &[u8]) -> Option<Question> {
    let question = is(packet, QUESTION).then(|| fields(packet))??;
    let units = u16::from_be_bytes(packet.get(6..8)?.try_into().ok()?);
    Some(Question { interval: UNIT * u32::from(units), ..question })
}

/// Turns a question into what goes back, in place: its answer, or if it was not `asked` what is said unasked.
fn answer(packet: &mut [u8], asked: bool, arrivals: Arrivals, number: u32) {
    packet[5] = if asked { ANSWER } else { UNASKED };
    packet[6..8].fill(0);
    packet[28..32].copy_from_slice(&arrivals.count.to_be_bytes());
    packet[32..40].copy_from_slice(&arrivals.last.to_be_bytes());
    packet[40..48].copy_from_slice(&arrivals.longest.end.to_be_bytes());
    packet[48..52].copy_from_slice(&arrivals.longest.length.to_be_bytes());
    packet[52..56].copy_from_slice(&arrivals.longest.skipped.to_be_bytes());
    packet[56..64].copy_from_slice(&arrivals.lossy.0.to_be_bytes());
    packet[64..72].copy_from_slice(&arrivals.lossy.1.to_be_bytes());
    packet[72..76].copy_from_slice(&arrivals.pause.to_be_bytes());
    packet[76..80].copy_from_slice(&number.to_be_bytes());
    // Nobody gets bytes reflected that we did not look at.
    packet[HEADER..].fill(0);
}

/// Reads what comes back.
pub fn parse_answer(packet: &[u8]) -> Option<Answer> {
    let asked = is(packet, ANSWER);
    if !asked && !is(packet, UNASKED) {
        return None;
    }
    let (long, short) = (|at| u64_at(packet, at), |at| u32_at(packet, at));
    Some(Answer {
        question: fields(packet)?,
        asked,
        number: short(76).filter(|number| *number > 0),
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
    Some(Question { stream, number, sent: u64_at(packet, 20)?, interval: Duration::ZERO })
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

impl Follower {
    /// Notes that `number` arrived at `now`, in microseconds of a clock that is never 0.
    pub fn note(&mut self, number: u32, now: u64) {
        let known = &mut self.arrivals;
        known.count = known.count.saturating_add(1);
        let before = std::mem::replace(&mut known.last, now);
        let Some(highest) = self.highest else {
            self.highest = Some(number);
            return;
        };
        let length = u32::try_from(now.saturating_sub(before)).unwrap_or(u32::MAX);
        known.pause = known.pause.max(length);
        if number <= highest {
            return;
        }
        self.highest = Some(number);
        let skipped = number - highest - 1;
        if skipped == 0 {
            return;
        }
        if known.longest.end == 0 || length > known.longest.length {
            known.longest = Gap { end: now, length, skipped };
        }
        if known.lossy.0 == 0 {
            known.lossy.0 = before;
        }
        known.lossy.1 = now;
    }

    /// What is known.
    pub fn arrivals(&self) -> Arrivals {
        self.arrivals
    }
}

/// The streams that arrive here: bounded in number and rate.
#[derive(Debug)]
pub struct Streams {
    known: BTreeMap<(SocketAddr, u64), Known>,
    begun: Instant,
    answers: Tokens,
    unasked: Tokens,
}

/// A stream that arrives here.
#[derive(Debug)]
struct Known {
    follower: Follower,
    /// Packets that went back, and those of them that nobody asked for.
    sent: u32,
    unasked: u32,
    /// The newest question, when it came, and how long it was.
    question: Question,
    last: Instant,
    length: usize,
    /// When something goes back unasked.
    next: Option<Instant>,
}

impl Known {
    fn new(question: Question, now: Instant) -> Self {
        let (follower, last) = (Follower::default(), now);
        Self { follower, sent: 0, unasked: 0, question, last, length: HEADER, next: None }
    }

    /// At which pace something goes back unasked; `None` where nothing does.
    fn pace(&self) -> Option<Duration> {
        let count = self.follower.arrivals().count;
        let may = count >= ESTABLISHED && self.unasked < count.saturating_mul(FOR_EACH);
        let pace = self.question.interval;
        (may && !pace.is_zero()).then(|| pace.max(LEAST_INTERVAL))
    }

    /// Notes that something goes back.
    fn count(&mut self) {
        self.sent = self.sent.wrapping_add(1);
    }
}

impl Streams {
    /// None yet.
    pub fn new(now: Instant) -> Self {
        let [answers, unasked] = [(); 2].map(|()| Tokens::new(now, RATE, BURST));
        Self { known: BTreeMap::new(), begun: now, answers, unasked }
    }

    /// Forgets those from elsewhere.
    pub fn retain(&mut self, is_welcome: impl Fn(IpAddr) -> bool) {
        self.known.retain(|(from, _), _| is_welcome(from.ip()));
    }

    /// Turns a question into its answer in place; `false` when it gets none.
    pub fn respond(&mut self, now: Instant, from: SocketAddr, packet: &mut [u8]) -> bool {
        let Some(question) = parse_question(packet) else { return false };
        if !self.answers.take(now) {
            return false;
        }
        let key = (from, question.stream);
        if !self.known.contains_key(&key) {
            if !self.has_room(now) {
                return false;
            }
            // It takes the place of the one that this socket asked before.
            let others = self.known.range_mut((from, 0)..=(from, u64::MAX));
            others.for_each(|(_, known)| known.next = None);
        }
        let elapsed = now.saturating_duration_since(self.begun).as_micros();
        let at = u64::try_from(elapsed).unwrap_or(u64::MAX).max(1);
        let known = self.known.entry(key).or_insert_with(|| Known::new(question, now));
        known.follower.note(question.number, at);
        (known.question, known.last, known.length) = (question, now, packet.len());
        known.next = known.pace().map(|pace| now + (pace * OVERDUE).max(LEAST_OVERDUE));
        known.count();
        answer(packet, true, known.follower.arrivals(), known.sent);
        true
    }

    /// When [`Self::poll`] wants to be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.known.values().filter_map(|known| known.next).min()
    }

    /// What is due to go back although no question came, and to whom; call it until there is none.
    pub fn poll(&mut self, now: Instant) -> Option<(SocketAddr, Vec<u8>)> {
        for ((to, _), known) in &mut self.known {
            let Some(due) = known.next.filter(|due| *due <= now) else { continue };
            if !self.unasked.take(now) {
                // Where there is too much of it, that has time.
                known.next = Some(now + BEHIND);
                continue;
            }
            known.unasked += 1;
            let late = now.checked_sub(BEHIND).unwrap_or(now);
            let next = known.pace().map(|pace| (due + pace).max(late));
            known.next = next.filter(|next| *next < known.last + IDLE);
            known.count();
            let mut packet = question(known.question, known.length);
            answer(&mut packet, false, known.follower.arrivals(), known.sent);
            return Some((*to, packet));
        }
        None
    }

    /// Forgets a stream that has been idle for long if there are too many.
    fn has_room(&mut self, now: Instant) -> bool {
        if self.known.len() < STREAMS {
            return true;
        }
        let idle = self.known.iter().min_by_key(|(_, known)| known.last);
        let idle = idle.filter(|(_, known)| now.saturating_duration_since(known.last) > IDLE);
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

    const PACE: Duration = Duration::from_millis(10);

    fn ask(stream: u64, number: u32) -> Vec<u8> {
        question(Question { stream, number, sent: 5, interval: PACE }, 200)
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
        let question = Question { stream: 7, number: 49, sent: 5, interval: Duration::ZERO };
        assert_eq!((answer.question, answer.asked, answer.number), (question, true, Some(43)));
        assert_eq!((answer.arrivals.count, answer.arrivals.last), (43, 1_490_000));
        let longest = Gap { end: 1_100_000, length: 60_000, skipped: 5 };
        assert_eq!(answer.arrivals.longest, longest);
        assert_eq!(answer.arrivals.lossy, (1_040_000, 1_420_000));
        assert_eq!(answer.arrivals.pause, 60_000);
    }

    #[test]
    fn an_established_stream_is_gone_on_with_while_questions_stay_away() {
        let start = Instant::now();
        let mut streams = Streams::new(start);
        let at = |millis: u64| start + Duration::from_millis(millis);
        for number in 0..200 {
            let due = streams.poll_timeout();
            assert_eq!(due.is_some(), number >= u64::from(ESTABLISHED), "{number}");
            let mut packet = ask(7, number as u32);
            assert!(streams.respond(at(10 * number), from(1), &mut packet));
        }
        let mut came = Vec::new();
        while let Some(due) = streams.poll_timeout() {
            came.extend(std::iter::from_fn(|| streams.poll(due)).map(|packet| (due, packet)));
        }
        assert_eq!(came.len(), 998, "ten seconds");
        for ((due, (to, packet)), number) in came.iter().zip(1_u64..) {
            assert_eq!((*due, *to, packet.len()), (at(2000 + 10 * number), from(1), 200));
            let answer = parse_answer(packet).expect("it goes back");
            let question = Question { stream: 7, number: 199, sent: 5, interval: Duration::ZERO };
            let number = Some(200 + number as u32);
            assert_eq!((answer.question, answer.asked, answer.number), (question, false, number));
            assert_eq!(answer.arrivals.count, 200);
        }
        // Who gets no turn for long sends what it owes of the last 100 ms.
        for number in [1000, 1001] {
            assert!(streams.respond(at(12_000), from(1), &mut ask(7, number)));
        }
        let owed = std::iter::from_fn(|| streams.poll(at(13_000))).count();
        assert_eq!(owed, 12);
        let mut packet = ask(7, 1500);
        assert!(streams.respond(at(15_000), from(1), &mut packet));
        let all = 200 + 998 + 2 + 12 + 1;
        assert_eq!(parse_answer(&packet).expect("an answer").number, Some(all));
        assert_eq!(streams.poll_timeout(), Some(at(15_020)));
        // Another one of the same socket takes its place, and then neither is welcome.
        for number in 0..ESTABLISHED {
            assert!(streams.respond(at(15_010), from(1), &mut ask(8, number)));
        }
        assert_eq!(streams.poll_timeout(), Some(at(15_030)));
        streams.retain(|_| false);
        assert_eq!(streams.poll(at(15_030)), None);
    }

    #[test]
    fn little_that_arrives_makes_no_more_than_eight_times_as_much_of_it() {
        let start = Instant::now();
        let mut streams = Streams::new(start);
        let hasty = |number| Question { stream: 7, number, sent: 5, interval: UNIT };
        for number in 0..20 {
            assert!(streams.respond(start, from(1), &mut question(hasty(number), MAX)));
        }
        let mut times = Vec::new();
        while let Some(due) = streams.poll_timeout() {
            times.extend(std::iter::from_fn(|| streams.poll(due)).map(|_| due));
        }
        assert_eq!(times.len(), 160);
        assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= LEAST_INTERVAL));
    }

    #[test]
    fn too_much_that_nobody_asked_for_waits_and_answers_go_on() {
        let start = Instant::now();
        let mut streams = Streams::new(start);
        let at = |number: u32| start + Duration::from_millis(100) * number;
        for number in 0..2 * ESTABLISHED {
            for port in 0..STREAMS as u16 {
                assert!(streams.respond(at(number), from(port), &mut ask(7, number)));
            }
        }
        let later = at(2 * ESTABLISHED) + Duration::from_secs(1);
        let first = std::iter::from_fn(|| streams.poll(later)).count();
        assert_eq!(first, BURST as usize);
        assert!(streams.poll_timeout().is_some_and(|due| due > later), "it spins");
        assert!(streams.respond(later, from(1), &mut ask(7, 100)));
    }

    #[test]
    fn who_does_not_say_when_more_comes_gets_answers_only() {
        let start = Instant::now();
        let mut streams = Streams::new(start);
        for number in 0..2 * ESTABLISHED {
            let asked = Question { stream: 7, number, sent: 5, interval: Duration::ZERO };
            assert!(streams.respond(start, from(1), &mut question(asked, 200)));
        }
        assert_eq!(streams.poll_timeout(), None);
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
                bytes[5] = UNASKED;
                prop_assert_eq!(parse_answer(&bytes), Some(Answer { asked: false, ..answer }));
                bytes[5] = QUESTION;
                let question = parse_question(&bytes).expect("a question");
                let question = Question { interval: Duration::ZERO, ..question };
                prop_assert_eq!(question, answer.question);
            }
        }
    }
}
