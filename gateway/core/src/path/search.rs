//! Finds the largest packet that a path carries, and keeps watch over it (after RFC 8899).
//!
//! Probes leave in rounds. What is answered passes; what is lost while other probes of its round arrive is
//! *perhaps* too large, and only several losses count. A search narrows the gap between the largest that
//! passed and the smallest that did not, common sizes first, and ends when the size above the last one
//! was lost in two rounds, three times in each. From then on the size is confirmed every few seconds, and the next larger one is tried
//! now and then. When confirmations are lost but smaller packets arrive, three rounds in a row, the path
//! has become a black hole for this size: the largest that still passed counts at once, and a search
//! begins there. Such holes are often brief, so what passed before is tried again soon, and then ever more rarely.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::message::Echo;
use super::random::Random;
use super::round::Round;
use super::{PATH_RANGE, PathReport, PathState};

/// Sizes that paths have, tried first.
const COMMON: [u16; 15] =
    [1280, 1400, 1420, 1440, 1450, 1460, 1480, 1492, 1500, 4000, 8500, 8896, 8950, 9000, 9001];
/// A small packet, which passes wherever a handshake does: it tells loss from silence.
const SMALL: u16 = 160;
const LEAST: u16 = *PATH_RANGE.start();
/// How many sizes are tried in a round once the common ones are done.
const SPREAD: u16 = 8;
/// How many losses of sizes up to one make that one too large, for narrowing.
const LOSSES: usize = 2;
/// How many copies are sent of the size on which most depends.
const COPIES: usize = 3;
/// Losses that are remembered.
const MOST_LOSSES: usize = 32;
/// Rounds after which a search ends with what it has.
const MOST_ROUNDS: u32 = 32;
/// Rounds whose late answers still count.
const PAST: usize = 3;
/// Rounds in a row that must lose the size, before it is a black hole.
const BLACK_HOLE: u32 = 3;
/// Rounds in a row without any answer after which the peer counts as silent.
const SILENT: u32 = 3;
/// The least pause between confirmations, and the rate in bits a second that they stay below. Where
/// heartbeats tell of losses they may come less often, and leave those what there is to spend.
const CONFIRM: Duration = Duration::from_secs(3);
const RATE: u32 = 6000;
const SPARING_RATE: u32 = 1200;
/// For so long a path that became narrower counts as such.
const NARROW: Duration = Duration::from_secs(600);
/// The pause between attempts with the next larger size.
const PEEK: Duration = Duration::from_secs(60);
/// The least such pause after a path became narrower, which may not last. It doubles.
const HOPE: Duration = Duration::from_secs(1);
/// The least pause between checks that somebody asks for.
const RECHECK: Duration = Duration::from_secs(1);

/// A probe to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// The IP packet's size on the underlay, in bytes.
    pub size: u16,
    /// What it says.
    pub echo: Echo,
}

/// An answer that nobody waits for: replayed, made up, or far too late.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an answer that nobody waits for")]
pub struct Unexpected;

/// The machine, one a path. Time must not go backwards.
#[derive(Debug)]
pub struct PathMtu {
    random: Random,
    /// The path's number.
    number: u16,
    sequence: u32,
    ceiling: u16,
    running: bool,
    phase: Phase,
    found: Option<u16>,
    verified: bool,
    /// The least size that the local link refused since the search began.
    refused: Option<u16>,
    round: Option<Round>,
    past: VecDeque<Round>,
    /// Sizes that are still to leave in this round, the next one last.
    pending: Vec<u16>,
    /// When the next round begins.
    next: Option<Instant>,
    rtt: Option<Duration>,
    /// Rounds in a row that nobody answered.
    silent: u32,
    rechecked: Option<Instant>,
    /// Something happened while there was something else to do.
    again: bool,
    /// When the size above the one that was found is tried, at rest.
    peek: Option<Instant>,
    /// Heartbeats tell of losses.
    sparing: bool,
    /// What passed before it fell into a black hole, and when that was.
    fell: Option<(u16, Instant)>,
}

#[derive(Debug)]
enum Phase {
    /// Looking for the size.
    Search(Bounds),
    /// It is found, and confirmed now and then.
    Rest,
    /// A confirmation was lost.
    Check {
        /// Rounds in a row that lost the size while smaller ones arrived.
        times: u32,
        /// The largest that arrived meanwhile.
        best: u16,
    },
}

/// What a search knows.
#[derive(Debug)]
struct Bounds {
    /// The largest size that arrived.
    low: u16,
    /// Larger ones that were lost, in order.
    lost: Vec<u16>,
    /// The size above was lost once too often, and has its last chance.
    sealed: bool,
    rounds: u32,
}

impl Bounds {
    fn from(low: u16) -> Self {
        Self { low, lost: Vec::new(), sealed: false, rounds: 0 }
    }

    fn raise(&mut self, to: u16) {
        self.low = self.low.max(to);
        self.lost.retain(|lost| *lost > self.low);
    }

    fn lose(&mut self, sizes: impl Iterator<Item = u16>) {
        self.lost.extend(sizes.filter(|size| *size > self.low));
        self.lost.sort_unstable();
        self.lost.truncate(MOST_LOSSES);
    }

    /// The least size that counts as too large.
    fn high(&self) -> Option<u16> {
        self.lost.get(LOSSES - 1).copied()
    }
}

impl PathMtu {
    /// A path that nothing is known of. `seed` is a random number that no one else has.
    pub fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed),
            number: 0,
            sequence: 0,
            ceiling: *PATH_RANGE.end(),
            running: false,
            phase: Phase::Search(Bounds::from(LEAST)),
            found: None,
            verified: false,
            refused: None,
            round: None,
            past: VecDeque::new(),
            pending: Vec::new(),
            next: None,
            rtt: None,
            silent: 0,
            rechecked: None,
            again: false,
            peek: None,
            sparing: false,
            fell: None,
        }
    }

    /// The same for a path of this number.
    pub fn with_number(self, number: u8) -> Self {
        Self { number: number.into(), ..self }
    }

    /// Begins, or goes on where it stopped. Nothing larger than `ceiling` bytes is tried.
    pub fn run(&mut self, now: Instant, ceiling: u16) {
        let ceiling = ceiling.clamp(LEAST, *PATH_RANGE.end());
        let raised = ceiling > self.ceiling;
        self.ceiling = ceiling;
        self.found = self.found.map(|found| found.min(ceiling));
        if !self.running {
            self.running = true;
            self.silent = 0;
            self.next = Some(now);
        }
        if let (Phase::Rest, Some(found), true) = (&self.phase, self.found, raised) {
            self.search(now, found);
        }
    }

    /// Says whether heartbeats tell of losses: then the size is confirmed less often.
    pub fn set_sparing(&mut self, sparing: bool) {
        self.sparing = sparing;
    }

    /// Something was lost that may have been too large: the size is confirmed now, at most once a second.
    pub fn confirm(&mut self, now: Instant) {
        let lately = self.rechecked.is_some_and(|last| now < last + RECHECK);
        if matches!(self.phase, Phase::Rest) && self.round.is_none() && !lately {
            self.rechecked = Some(now);
            self.next = Some(now);
        }
    }

    /// Whether packets that passed not long ago no longer do, or seem not to.
    pub fn is_narrow(&self, now: Instant) -> bool {
        let fell = self.fell.is_some_and(|(_, at)| now.saturating_duration_since(at) < NARROW);
        fell || matches!(self.phase, Phase::Check { times: 1.., .. })
    }

    /// Ends for now: there is no session. What was found stays.
    pub fn stop(&mut self) {
        self.running = false;
        self.forget_probes();
        self.next = None;
    }

    /// The path is another one: what was found counts until something better is known.
    pub fn restart(&mut self, now: Instant) {
        self.past.clear();
        self.fell = None;
        self.verified = false;
        self.rtt = None;
        self.silent = 0;
        self.refused = None;
        self.search(now, LEAST);
    }

    /// Something happened that may have changed the path: what was found is looked at again, at most
    /// once a second, and once more after a search that is under way.
    pub fn recheck(&mut self, now: Instant) {
        if !matches!(self.phase, Phase::Rest) {
            self.again = true;
            return;
        }
        let at = self.rechecked.map_or(now, |last| now.max(last + RECHECK));
        if self.rechecked.is_some_and(|last| last > now) {
            return;
        }
        self.rechecked = Some(at);
        self.peek = Some(at);
        self.next = Some(self.next.map_or(at, |next| next.min(at)));
        if at == now {
            self.forget_probes();
        }
    }

    /// The largest packet that the path carries, as far as is known: what was found, but never what the
    /// local link refuses.
    pub fn limit(&self) -> Option<u16> {
        self.found.map(|found| self.link().map_or(found, |link| found.min(link)))
    }

    /// What the local link takes at most, if it refused anything: this may pass, more surely does not.
    pub fn link(&self) -> Option<u16> {
        self.refused.map(|refused| refused - 1)
    }

    /// What is known.
    pub fn report(&self) -> PathReport {
        let state = match (self.running && self.silent < SILENT, self.verified) {
            (false, _) => PathState::Unanswered,
            (true, true) => PathState::Verified,
            (true, false) => PathState::Searching,
        };
        PathReport { mtu: self.limit(), state }
    }

    /// When [`Self::poll`] wants to be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let closes = self.round.as_ref().map(Round::closes);
        closes.or(self.next).filter(|_| self.running)
    }

    /// The next probe to send now; call it until there is none. In a `quiet` tunnel, which nobody uses,
    /// nothing is confirmed.
    pub fn poll(&mut self, now: Instant, quiet: bool) -> Option<Probe> {
        while self.running {
            if let Some(size) = self.pending.pop() {
                if self.refused.is_some_and(|refused| size >= refused) {
                    continue;
                }
                return Some(self.probe(size));
            }
            if let Some(round) = self.round.take_if(|round| round.closes() <= now) {
                self.close(now, round);
            }
            if self.round.is_some() || self.next.is_none_or(|at| at > now) {
                return None;
            }
            if quiet && matches!(self.phase, Phase::Rest) {
                self.next = Some(now + self.pause());
                return None;
            }
            self.begin_round(now);
        }
        None
    }

    fn probe(&mut self, size: u16) -> Probe {
        self.sequence = self.sequence.wrapping_add(1);
        let echo = Echo { path: self.number, sequence: self.sequence, nonce: self.random.number() };
        if let Some(round) = &mut self.round {
            round.push(size, echo);
        }
        Probe { size, echo }
    }

    /// The newest probe, of this size, is larger than the local link takes.
    pub fn handle_refused(&mut self, now: Instant, size: u16) {
        if let Some(round) = &mut self.round {
            round.take_back(size);
        }
        self.refused = Some(self.refused.map_or(size, |refused| refused.min(size)));
        if self.found.is_some_and(|found| found >= size) && !self.is_searching() {
            self.verified = false;
            self.search(now, LEAST);
        }
    }

    /// Takes an answer that says that `size` bytes arrived.
    pub fn handle_answer(&mut self, now: Instant, echo: Echo, size: u16) -> Result<(), Unexpected> {
        if let Some(round) = &mut self.round {
            let trip = round.round_trip(now);
            if round.answer(now, echo, size).is_some() {
                self.rtt = trip.or(self.rtt);
                self.silent = 0;
                return Ok(());
            }
        }
        let mut past = self.past.iter_mut();
        let late = past.find_map(|round| round.answer(now, echo, size)).ok_or(Unexpected)?;
        self.silent = 0;
        self.take_late(now, late);
        Ok(())
    }

    /// What was taken for lost arrived after all.
    fn take_late(&mut self, now: Instant, size: u16) {
        match &mut self.phase {
            Phase::Search(bounds) => bounds.raise(size),
            Phase::Rest if self.found.is_some_and(|found| size > found) => {
                self.search(now, size);
            }
            Phase::Check { .. } if self.found == Some(size) => self.rest(now),
            Phase::Rest | Phase::Check { .. } => {}
        }
    }

    fn is_searching(&self) -> bool {
        matches!(self.phase, Phase::Search(_))
    }

    fn forget_probes(&mut self) {
        self.round = None;
        self.pending.clear();
    }

    fn search(&mut self, now: Instant, low: u16) {
        self.forget_probes();
        if low >= self.ceiling {
            self.conclude(now, self.ceiling);
            return;
        }
        self.phase = Phase::Search(Bounds::from(low));
        self.next = Some(now);
    }

    /// The pause between confirmations.
    fn pause(&self) -> Duration {
        let bits = u32::from(self.found.unwrap_or(LEAST)) * 8;
        let rate = if self.sparing { SPARING_RATE } else { RATE };
        CONFIRM.max(Duration::from_secs(1) * bits / rate)
    }

    fn rest(&mut self, now: Instant) {
        self.verified = true;
        self.phase = Phase::Rest;
        let next = now + self.pause();
        self.next = Some(self.peek.map_or(next, |peek| peek.clamp(now, next)));
        if std::mem::take(&mut self.again) {
            self.recheck(now);
        }
    }

    fn conclude(&mut self, now: Instant, found: u16) {
        self.found = Some(found);
        self.fell = self.fell.filter(|(size, _)| found < *size);
        self.peek = Some(now + self.peek_pause(now));
        self.rest(now);
    }

    /// The pause before the next larger size: as long as the path has been narrow, within bounds.
    fn peek_pause(&self, now: Instant) -> Duration {
        let narrow = self.fell.map_or(PEEK, |(_, at)| now.saturating_duration_since(at));
        narrow.clamp(HOPE, PEEK)
    }

    /// Whether the size above the one that was found is due.
    fn peeks(&self, now: Instant) -> bool {
        let larger = self.found.is_some_and(|found| found < self.ceiling);
        larger && self.peek.is_none_or(|at| at <= now)
    }

    /// The least size that need not be tried.
    fn high(&self) -> u16 {
        let lost = match &self.phase {
            Phase::Search(bounds) => bounds.high(),
            _ => None,
        };
        [lost, self.refused].into_iter().flatten().fold(self.ceiling + 1, u16::min)
    }

    fn begin_round(&mut self, now: Instant) {
        let mut sizes = self.sizes(now);
        if matches!(self.phase, Phase::Rest) && self.peek.is_none_or(|at| at <= now) {
            self.peek = Some(now + self.peek_pause(now));
            // The link may have grown meanwhile.
            self.refused = None;
        }
        sizes.reverse();
        self.pending = sizes;
        self.round = Some(Round::new(now, self.rtt));
        self.next = None;
    }

    /// What the next round consists of. What is most likely to arrive comes last.
    fn sizes(&self, now: Instant) -> Vec<u16> {
        let found = self.found.unwrap_or(LEAST);
        match &self.phase {
            Phase::Search(_) | Phase::Check { .. } if self.silent > 0 => vec![SMALL],
            Phase::Search(bounds) => self.ladder(bounds),
            Phase::Rest if self.peeks(now) => {
                let before = self.fell.map(|(size, _)| size.min(self.ceiling));
                let mut sizes: Vec<u16> = before.into_iter().collect();
                sizes.extend([found + 1, found + 1, found]);
                sizes
            }
            Phase::Rest => vec![found],
            Phase::Check { .. } => {
                let smaller = COMMON.into_iter().filter(|size| *size < found).rev().take(8);
                let mut sizes: Vec<u16> = smaller.collect();
                sizes.reverse();
                sizes.extend([found; COPIES]);
                sizes.push(SMALL);
                sizes
            }
        }
    }

    fn ladder(&self, bounds: &Bounds) -> Vec<u16> {
        let (low, high) = (bounds.low, self.high());
        let mut sizes = Vec::new();
        if bounds.rounds == 0 {
            let all = COMMON.into_iter().filter(|size| *size < self.ceiling).chain([self.ceiling]);
            sizes.extend(all.filter(|size| (low + 1..high).contains(size)));
        }
        if sizes.is_empty() {
            sizes.extend([low + 1; COPIES]);
            let (first, gap) = (u32::from(low) + 1, u32::from(high.saturating_sub(low + 1)));
            let steps = (1..=u32::from(SPREAD)).map(|i| first + gap * i / u32::from(SPREAD + 1));
            sizes.extend(steps.map(|size| size as u16).filter(|size| *size > low + 1));
        }
        sizes.dedup_by(|a, b| a == b && *a != low + 1);
        sizes.push(SMALL);
        sizes
    }

    /// Draws conclusions from a round that is over.
    fn close(&mut self, now: Instant, round: Round) {
        if round.is_silent() {
            self.silent = self.silent.saturating_add(1);
            if matches!(self.phase, Phase::Rest) {
                // A confirmation has no other probe beside it: now smaller ones go with it.
                self.phase = Phase::Check { times: 0, best: LEAST };
                self.silent = 0;
                self.next = Some(now);
            } else {
                self.next = Some(now + backoff(self.silent));
            }
        } else {
            self.next = Some(now);
            match self.phase {
                Phase::Search(_) => self.close_search(now, &round),
                Phase::Rest => self.close_rest(now, &round),
                Phase::Check { times, best } => self.close_check(now, &round, times, best),
            }
        }
        self.past.push_front(round);
        self.past.truncate(PAST);
    }

    fn close_search(&mut self, now: Instant, round: &Round) {
        let (ceiling, refused) = (self.ceiling, self.refused);
        let Phase::Search(bounds) = &mut self.phase else { return };
        // A round that only asked whether anybody is there proves nothing.
        if round.largest() == Some(SMALL) && round.lost().next().is_none() && refused.is_none() {
            return;
        }
        bounds.raise(round.largest().unwrap_or(LEAST).min(ceiling));
        bounds.lose(round.lost());
        bounds.rounds += 1;
        let low = bounds.low;
        let certain = low >= ceiling || refused == Some(low + 1);
        let ended = certain || bounds.high() == Some(low + 1);
        let (sealed, exhausted) = (bounds.sealed, bounds.rounds >= MOST_ROUNDS);
        bounds.sealed = ended;
        if certain || exhausted || ended && sealed {
            self.conclude(now, low.min(ceiling));
        }
    }

    fn close_rest(&mut self, now: Instant, round: &Round) {
        let found = self.found.unwrap_or(LEAST);
        match round.largest() {
            Some(larger) if larger > found => self.search(now, larger),
            _ if round.lost().any(|size| size == found) => {
                self.phase = Phase::Check { times: 0, best: LEAST };
            }
            _ => self.rest(now),
        }
    }

    fn close_check(&mut self, now: Instant, round: &Round, times: u32, best: u16) {
        let found = self.found.unwrap_or(LEAST);
        let largest = round.largest().unwrap_or(LEAST);
        if largest >= found {
            self.rest(now);
            return;
        }
        let best = best.max(largest);
        let lost = round.lost().any(|size| size == found);
        let times = times + u32::from(lost);
        self.phase = Phase::Check { times, best };
        if times >= BLACK_HOLE {
            self.fall(now, found, best);
        }
    }

    /// Packets of the size that was found end in a black hole.
    fn fall(&mut self, now: Instant, from: u16, to: u16) {
        self.found = Some(to);
        let most = self.fell.map_or(from, |(size, _)| size.max(from));
        self.fell = Some((most, now));
        self.verified = false;
        self.search(now, to);
        if let Phase::Search(bounds) = &mut self.phase {
            bounds.lost = vec![from; LOSSES];
        }
    }
}

/// The pause after so many rounds in a row without an answer.
fn backoff(silent: u32) -> Duration {
    Duration::from_secs(match silent {
        0 | 1 => 0,
        2 => 1,
        3 => 2,
        4..=9 => 5,
        _ => 30,
    })
}
