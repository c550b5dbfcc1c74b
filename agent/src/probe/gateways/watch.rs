//! The machine that watches gateways: sans-IO.
//!
//! Each gateway is asked every 100 ms. One that misses an answer for half as long is in doubt and asked
//! more often; after two intervals without an answer to any of at least three questions it is silent: at
//! most three intervals after it forwarded last. It is back with the third answer in a row, later if it
//! falls silent again and again; until then it returns, and is used where no other is left. Only answers to own questions
//! count, each once; an answer that nobody asked for brings news of what is reached, but is no sign of life.
//! One that says what it reaches without saying how well is asked for all of it, until it turns out to be of
//! an older release. So is one that is silent, by which it learns that its answers do not arrive.

use std::collections::{BTreeMap, VecDeque};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use carrick_model::gateway_probe::{Answer, QUESTION, Question, RANKS, Reach};

use super::{Reached, Seen, Verdict};
use crate::mix::mix;

/// Between two questions, unless the controller wants another pause.
pub const INTERVAL: Duration = Duration::from_millis(100);
/// The longest that the controller may want.
pub const LONGEST_INTERVAL: Duration = Duration::from_secs(2);
/// With more gateways than this the pause grows.
const UNHURRIED: u32 = 50;
/// Questions without an answer that make a gateway silent.
const MISSED: usize = 3;
/// Answers in a row that bring it back.
const IN_A_ROW: u32 = 3;
/// One that says that it answers has so much time for the first answer.
const FIRST: Duration = Duration::from_secs(1);
/// Silent for so many intervals, it is gone.
const GONE: u32 = 10;
/// One that never answered is asked so much less often after [`FIRST`].
const SELDOM: u32 = 10;
/// Falls within this time count for how long it has to answer before it is back.
const MEMORY: Duration = Duration::from_secs(60);
/// The longest that it has to answer.
const LONGEST_HOLD: Duration = Duration::from_secs(10);
/// Falls that are kept in mind.
const FALLS: usize = 8;
/// Questions that are kept in mind.
const QUESTIONS: usize = 64;

/// A gateway to be watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its name.
    pub name: String,
    /// Its mesh address.
    pub address: Ipv4Addr,
    /// The controller has heard from it that it answers.
    pub answers: bool,
}

/// A question to be sent to port [`carrick_model::gateway_probe::PORT`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transmit {
    /// To this mesh address.
    pub target: Ipv4Addr,
    /// The UDP payload.
    pub payload: [u8; QUESTION],
}

/// The machine. Time must not run backwards between calls. What has arrived is to be handed over before
/// [`Watch::handle_timeout`], so that no gateway is blamed for our own sleep.
///
/// After every other call: send what [`Watch::poll_transmit`] gives until it gives nothing, and call
/// [`Watch::handle_timeout`] at [`Watch::poll_timeout`].
#[derive(Debug)]
pub struct Watch {
    nonce: u64,
    sequence: u32,
    interval: Duration,
    /// By mesh address.
    gateways: BTreeMap<Ipv4Addr, Gateway>,
    version: u64,
}

#[derive(Debug)]
struct Gateway {
    target: Target,
    since: Instant,
    next: Instant,
    /// Questions since the last that was answered, that one included.
    asked: VecDeque<Asked>,
    verdict: Verdict,
    /// The process that answered last.
    epoch: Option<u64>,
    /// Number of the newest question whose answer said what is reached, and that list's digest.
    told: u32,
    digest: u32,
    reach: Option<Arc<Reached>>,
    /// The list came without ranks, and the process that has none to tell.
    unranked: bool,
    older: Option<u64>,
    /// Answers in a row since it fell silent, and when the first of them came.
    row: u32,
    row_since: Instant,
    /// It owes an answer for longer than it should.
    doubted: bool,
    falls: VecDeque<Instant>,
    fallen: u64,
    rtt: Option<Duration>,
}

#[derive(Debug, Clone, Copy)]
struct Asked {
    sequence: u32,
    at: Instant,
    answered: bool,
    /// It asked for ranks.
    ranks: bool,
}

impl Watch {
    /// With a nonce that nobody can guess.
    pub fn new(nonce: u64) -> Self {
        let gateways = BTreeMap::new();
        Self { nonce, sequence: 0, interval: INTERVAL, gateways, version: 0 }
    }

    /// Whom to watch from now on, and the pause between questions. What is known of those that stay is
    /// kept.
    pub fn configure(&mut self, now: Instant, targets: &[Target], interval: Duration) {
        let many = u32::try_from(targets.len()).unwrap_or(u32::MAX).div_ceil(UNHURRIED);
        self.interval = (interval * many.max(1)).clamp(INTERVAL, LONGEST_INTERVAL);
        let mut old = std::mem::take(&mut self.gateways);
        for target in targets {
            let kept = old.remove(&target.address).filter(|held| held.target.name == target.name);
            let mut gateway = kept.unwrap_or_else(|| Gateway::new(now, target.clone()));
            if target.answers && !gateway.target.answers {
                // Its first answer is due from now on.
                gateway.since = now;
            }
            gateway.target = target.clone();
            self.gateways.insert(target.address, gateway);
        }
        self.version += 1;
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Instant) {
        for gateway in self.gateways.values_mut() {
            self.version += u64::from(gateway.judge(now, self.interval));
        }
    }

    /// An answer came from `source`. What we did not ask for changes nothing.
    pub fn handle_answer(&mut self, now: Instant, source: Ipv4Addr, payload: &[u8]) {
        let Some(answer) = Answer::parse(payload).filter(|a| a.nonce == self.nonce) else { return };
        let Some(gateway) = self.gateways.get_mut(&source) else { return };
        self.version += u64::from(gateway.take(now, &answer, self.interval));
    }

    /// A question to be sent now.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Transmit> {
        let (target, gateway) = self.gateways.iter_mut().find(|(_, one)| one.next <= now)?;
        self.sequence = self.sequence.wrapping_add(1);
        let pause = gateway.pause(now, self.interval);
        // Up to a tenth sooner, so that questions of many nodes spread.
        let sooner = mix(self.nonce ^ u64::from(self.sequence)) % 100;
        gateway.next = now + pause - pause / 1000 * u32::try_from(sooner).unwrap_or(0);
        let (nonce, sequence, known) = (self.nonce, self.sequence, gateway.known());
        gateway.ask(now, sequence, known == RANKS);
        let payload = Question { nonce, sequence, known }.write();
        Some(Transmit { target: *target, payload })
    }

    /// When to call [`Watch::handle_timeout`] next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let due = |gateway: &Gateway| {
            gateway.deadline(self.interval).into_iter().fold(gateway.next, Instant::min)
        };
        self.gateways.values().map(due).min()
    }

    /// Whether some gateway does not answer.
    pub fn is_waiting(&self) -> bool {
        self.gateways.values().any(|one| !matches!(one.verdict, Verdict::Answers { .. }))
    }

    /// Grows whenever [`Watch::seen`] changes in more than round-trip times.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// What is known, by mesh address.
    pub fn seen(&self) -> Vec<Seen> {
        let seen = |gateway: &Gateway| Seen {
            name: gateway.target.name.clone(),
            address: gateway.target.address,
            verdict: gateway.verdict.clone(),
            rtt: gateway.rtt,
            falls: gateway.fallen,
        };
        self.gateways.values().map(seen).collect()
    }
}

impl Gateway {
    fn new(now: Instant, target: Target) -> Self {
        Self {
            target,
            since: now,
            next: now,
            asked: VecDeque::new(),
            verdict: Verdict::Unknown,
            epoch: None,
            told: 0,
            digest: 0,
            reach: None,
            unranked: false,
            older: None,
            row: 0,
            row_since: now,
            doubted: false,
            falls: VecDeque::new(),
            fallen: 0,
            rtt: None,
        }
    }

    /// What a question says of what is known: nothing, as long as ranks may be told with it, or while the gateway is
    /// not heard. It hears us perhaps, and is to know that its packets do not arrive.
    fn known(&self) -> u32 {
        let older = self.older.is_some() && self.older == self.epoch;
        let nothing = self.digest == 0 || self.unranked && !older || !self.is_heard();
        if nothing { RANKS } else { self.digest }
    }

    /// Whether its answers arrive, though it may have failed too often of late to be used.
    fn is_heard(&self) -> bool {
        matches!(self.verdict, Verdict::Answers { .. }) || self.row >= IN_A_ROW
    }

    fn ask(&mut self, now: Instant, sequence: u32, ranks: bool) {
        if self.asked.len() == QUESTIONS {
            // The first that waits stays: it says for how long there was no answer.
            self.asked.remove(2);
        }
        self.asked.push_back(Asked { sequence, at: now, answered: false, ranks });
    }

    /// Since when it owes an answer, and to how many questions.
    fn owes(&self) -> Option<(Instant, usize)> {
        let mut waiting = self.asked.iter().filter(|asked| !asked.answered);
        Some((waiting.next()?.at, 1 + waiting.count()))
    }

    /// How long to wait before the next question.
    fn pause(&self, now: Instant, interval: Duration) -> Duration {
        match self.verdict {
            Verdict::Unknown if !self.target.answers && now >= self.since + FIRST => {
                interval * SELDOM
            }
            Verdict::Answers { .. } if self.doubted => interval * 2 / 5,
            _ => interval,
        }
    }

    /// When time alone may change something, the next question aside.
    fn deadline(&self, interval: Duration) -> Option<Instant> {
        let (at, waiting) = self.owes()?;
        match self.verdict {
            Verdict::Answers { .. } if !self.doubted => Some(at + interval / 2),
            // Too few questions to judge by: the next one comes first.
            _ if waiting < MISSED => None,
            Verdict::Unknown if self.target.answers => {
                Some((at + 2 * interval).max(self.since + FIRST))
            }
            Verdict::Answers { .. } | Verdict::Returns { .. } => Some(at + 2 * interval),
            Verdict::Silent { gone: false } => Some(at + GONE * interval),
            Verdict::Unknown | Verdict::Silent { gone: true } => None,
        }
    }

    /// Looks what time has brought; whether the verdict is another.
    fn judge(&mut self, now: Instant, interval: Duration) -> bool {
        let Some((at, waiting)) = self.owes() else { return false };
        if matches!(self.verdict, Verdict::Answers { .. })
            && now >= at + interval / 2
            && !std::mem::replace(&mut self.doubted, true)
        {
            self.next = self.next.min(self.last_asked() + interval * 2 / 5);
        }
        let silent = now >= at + 2 * interval && waiting >= MISSED;
        if !silent {
            return false;
        }
        self.row = 0;
        match self.verdict {
            Verdict::Answers { .. } => {
                self.fell(now);
                self.verdict = Verdict::Silent { gone: false };
                true
            }
            Verdict::Returns { .. } => {
                self.verdict = Verdict::Silent { gone: false };
                true
            }
            Verdict::Unknown if self.target.answers && now >= self.since + FIRST => {
                self.verdict = Verdict::Silent { gone: true };
                true
            }
            Verdict::Silent { gone: false } if now >= at + GONE * interval => {
                self.verdict = Verdict::Silent { gone: true };
                true
            }
            Verdict::Unknown | Verdict::Silent { .. } => false,
        }
    }

    fn last_asked(&self) -> Instant {
        self.asked.back().map_or(self.since, |asked| asked.at)
    }

    fn fell(&mut self, now: Instant) {
        self.falls.push_back(now);
        if self.falls.len() > FALLS {
            self.falls.pop_front();
        }
        self.fallen += 1;
    }

    /// How long it has to answer before it is back: twice as long with each fall, from the second on.
    fn hold(&self, now: Instant) -> Duration {
        let recent = self.falls.iter().filter(|at| now < **at + MEMORY).count();
        match recent {
            0 | 1 => Duration::ZERO,
            many => (Duration::from_millis(500) * (1 << (many - 1).min(8))).min(LONGEST_HOLD),
        }
    }

    /// Takes an answer; whether the verdict is another.
    fn take(&mut self, now: Instant, answer: &Answer<'_>, interval: Duration) -> bool {
        let Some(place) = self.asked.iter().position(|a| a.sequence == answer.sequence) else {
            return false;
        };
        let before = self.verdict.clone();
        if !answer.unasked {
            let asked = &mut self.asked[place];
            if std::mem::replace(&mut asked.answered, true) {
                return false;
            }
            if asked.ranks && matches!(answer.reach, Reach::Clusters(_)) {
                self.older = Some(answer.epoch);
            }
            let sample = now.saturating_duration_since(asked.at);
            self.rtt = Some(self.rtt.map_or(sample, |rtt| (rtt * 7 + sample) / 8));
            // It lived when it was asked this; what came before is settled. In doubt no longer, it is
            // asked in good time again.
            self.asked.drain(..place);
            self.doubted = false;
            self.next = self.next.min(now + interval);
            // A gateway that stood still answers what piled up meanwhile: as one question, not as many.
            if sample < 2 * interval || self.row == 0 {
                self.count(now, answer.epoch);
            }
        }
        if matches!(self.verdict, Verdict::Unknown) {
            return false;
        }
        self.note_reach(answer);
        let (reach, draining) = (self.reach.clone(), self.draining(answer));
        match self.verdict {
            Verdict::Answers { .. } => self.verdict = Verdict::Answers { reach, draining },
            Verdict::Returns { .. } => self.verdict = Verdict::Returns { reach },
            Verdict::Unknown | Verdict::Silent { .. } => {}
        }
        self.verdict != before
    }

    /// Counts a sign of life.
    fn count(&mut self, now: Instant, epoch: u64) {
        let other = self.epoch.replace(epoch).is_some_and(|before| before != epoch);
        if other && matches!(self.verdict, Verdict::Unknown | Verdict::Answers { .. }) {
            // It has begun anew, so fast that nobody noticed.
            self.fell(now);
        }
        if self.row == 0 {
            self.row_since = now;
        }
        self.row = self.row.saturating_add(1);
        let held = now >= self.row_since + self.hold(now);
        let back = self.row >= IN_A_ROW && held;
        if self.row >= IN_A_ROW && matches!(self.verdict, Verdict::Silent { .. }) && !held {
            // Better than none, though it may fall again.
            self.verdict = Verdict::Returns { reach: self.reach.clone() };
        }
        if matches!(self.verdict, Verdict::Unknown) || back {
            self.verdict = match &self.verdict {
                Verdict::Answers { .. } => return,
                _ => Verdict::Answers { reach: self.reach.clone(), draining: false },
            };
        }
    }

    /// Takes over what is reached, unless something newer is known.
    fn note_reach(&mut self, answer: &Answer<'_>) {
        // Sequence numbers wrap around.
        if answer.sequence.wrapping_sub(self.told) > u32::MAX / 2 {
            return;
        }
        self.told = answer.sequence;
        match answer.reach {
            // It has said something else meanwhile, which was lost: it is to say all.
            Reach::Same if answer.digest != self.digest => self.digest = 0,
            Reach::Same => {}
            Reach::Clusters(list) => {
                let reached = list.iter().map(|router| (*router, 0)).collect();
                (self.reach, self.digest) = (Some(Arc::new(reached)), answer.digest);
                self.unranked = true;
            }
            Reach::Ranked(list) => {
                let reached = list.iter().map(|[a, b, c, d, rank]| ([*a, *b, *c, *d], *rank));
                (self.reach, self.digest) = (Some(Arc::new(reached.collect())), answer.digest);
                self.unranked = false;
            }
            Reach::TooMany => (self.reach, self.digest) = (None, 0),
        }
    }

    fn draining(&self, answer: &Answer<'_>) -> bool {
        if answer.sequence == self.told { answer.draining } else { self.is_draining() }
    }

    fn is_draining(&self) -> bool {
        matches!(self.verdict, Verdict::Answers { draining: true, .. })
    }
}

#[cfg(test)]
mod tests;
