//! Whether a tunnel's paths work, each direction by itself: by heartbeats that both sides send unasked, as in
//! BFD's asynchronous mode (RFC 5880).
//!
//! Each heartbeat says which paths of the other side are heard. A path of ours works while the peer hears it
//! and we hear the peer, on whichever path: so that a path that is cut in one direction is known on both
//! sides, and what one side says arrives as long as any of its paths works. A path of the peer's is heard
//! until three intervals pass without a heartbeat, unless data came within the last one and a half. When one is
//! overdue by half an interval the peer is asked for some, three times within an interval; where it could have
//! answered, being close enough, and has not, the path is lost without further patience.
//! One that was lost is heard again after three heartbeats in a row, and used again after a pause that
//! doubles each time (see `hold`).

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::beat::{Beat, MOST_PATHS};
use super::choice::Choice;
use super::grade::Grade;
use super::inbound::{Inbound, PATIENCE};
use super::outbound::Outbound;
use super::random::Random;
use super::word::{Teller, Word};
use super::{Unexpected, measure};

/// How long a path may be silent before it is lost, unless configured otherwise, and the bounds of that.
pub const DETECTION: Duration = Duration::from_millis(300);
/// The bounds of [`DETECTION`].
pub const DETECTION_RANGE: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(150)..=Duration::from_secs(60);
/// A heartbeat that is this far behind was overtaken; further behind it is of another life.
pub(super) const REORDERED: u16 = 256;
/// By a path that never worked this many heartbeats are sent, and again whenever the peer is heard after none of its paths
/// was; from then on one a second.
const UNANSWERED: u32 = 20;
pub(super) const SELDOM: Duration = Duration::from_secs(1);
/// Heartbeats that still come at the old interval after a longer one was asked for.
const LINGERING: u32 = 4;

/// Whether a path works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HealthState {
    /// The peer sends no heartbeats: nobody knows.
    #[default]
    Unknown,
    /// It does not, in one direction or both.
    Down,
    /// It does, but has failed too often of late to be trusted.
    Held,
    /// It does, both ways.
    Up,
}

impl HealthState {
    /// The label in metrics, logs and status.
    pub fn label(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Down => "down",
            Self::Held => "held",
            Self::Up => "up",
        }
    }
}

/// A path of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathEnd {
    /// Its number, below [`MOST_PATHS`].
    pub number: u8,
    /// The operator's cost.
    pub cost: u16,
    /// Where it leads.
    pub end: SocketAddr,
}

/// What is known of one path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HealthReport {
    /// Its number.
    pub number: u8,
    /// Where it leads.
    pub end: SocketAddr,
    /// Whether it works.
    pub state: HealthState,
    /// How well it does.
    pub grade: Grade,
    /// Packets leave by it.
    pub active: bool,
    /// The operator's cost.
    pub cost: u16,
    /// Round-trip time, smoothed; `None` while it is not known.
    pub rtt: Option<Duration>,
    /// How much that varies, smoothed.
    pub jitter: Option<Duration>,
    /// What is lost of what leaves by it, in parts of 10,000.
    pub loss_out: u16,
    /// What is lost of what the peer sends from its far end, in parts of 10,000.
    pub loss_in: u16,
}

/// How fit a tunnel is to carry traffic, the fittest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fitness {
    /// Its path works well.
    Fit,
    /// It works, but loses some packets or has become slow.
    Ailing,
    /// It works, but loses many packets, or no longer carries those of the size that it did.
    Failing,
    /// It works, but has flapped, or the other gateway leaves, or is reached by another address than those that it announces.
    Wanted,
    /// It does not work, in one direction or both.
    Lost,
}

/// What the newest heartbeat of the peer said.
#[derive(Debug, Clone, Copy)]
struct Peer {
    sequence: u16,
    hears: u8,
    draining: bool,
    interval: Duration,
    reads_short: bool,
    answers: bool,
}

/// The machine, one a tunnel. Time must not go backwards.
#[derive(Debug)]
pub struct Health {
    random: Random,
    interval: Duration,
    /// The shorter interval of before, and how many heartbeats keep it.
    lingers: (Duration, u32),
    running: bool,
    draining: bool,
    sequence: u16,
    outbound: [Option<Outbound>; MOST_PATHS],
    inbound: [Option<Inbound>; MOST_PATHS],
    /// Which of the peer's paths data came by last.
    newest: usize,
    /// Which of the peer's paths is echoed next.
    echoes: usize,
    peer: Option<Peer>,
    choice: Choice,
    teller: Teller,
    /// When it was looked after last, and until when nothing is lost because that was too long ago.
    tended: Option<Instant>,
    grace: Option<Instant>,
    changes: u64,
}

impl Health {
    /// A tunnel of which nothing is known. `seed` is a random number that no one else has.
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        Self {
            sequence: random.number() as u16,
            random,
            interval: DETECTION / PATIENCE,
            lingers: (Duration::ZERO, 0),
            running: false,
            draining: false,
            outbound: Default::default(),
            inbound: Default::default(),
            newest: 0,
            echoes: 0,
            peer: None,
            choice: Choice::default(),
            teller: Teller::default(),
            tended: None,
            grace: None,
            changes: 0,
        }
    }

    /// Sets after how long a silence a path is lost, within [`DETECTION_RANGE`]; the slower side's wish wins.
    pub fn set_detection(&mut self, now: Instant, detection: Duration) {
        let detection = detection.clamp(*DETECTION_RANGE.start(), *DETECTION_RANGE.end());
        let before = std::mem::replace(&mut self.interval, detection / PATIENCE);
        if self.interval > before {
            self.lingers = (before, LINGERING);
        }
        if self.interval != before {
            // The peer keeps the old interval until it hears of this.
            self.grace = Some(now + before.max(self.interval) * PATIENCE);
            self.hurry();
        }
    }

    /// Says which paths there are. Those that lead where they did go on; of others nothing is known.
    pub fn set_paths(&mut self, now: Instant, ends: impl Iterator<Item = PathEnd> + Clone) {
        let mut changed = false;
        for (number, slot) in (0..).zip(&mut self.outbound) {
            let Some(end) = ends.clone().find(|end| end.number == number) else {
                changed |= slot.take().is_some();
                continue;
            };
            // In place, as this is asked with each heartbeat.
            if slot.as_ref().is_none_or(|outbound| outbound.end != end.end) {
                *slot = Some(Outbound::new(end.end));
                changed = true;
            }
            if let Some(outbound) = slot {
                changed |= std::mem::replace(&mut outbound.cost, end.cost) != end.cost;
            }
        }
        if changed {
            self.judge(now);
        }
    }

    /// Says that this gateway leaves, or that it stays after all: the peer is told at once.
    pub fn set_draining(&mut self, draining: bool) {
        if std::mem::replace(&mut self.draining, draining) != draining {
            self.hurry();
        }
    }

    /// Says how many nodes hear this gateway, where that is known; the peer is told soon.
    pub fn set_nodes(&mut self, now: Instant, nodes: Option<u16>) {
        if self.teller.set(nodes) {
            let pause = self.pace() / 2;
            self.outbound.iter_mut().flatten().for_each(|outbound| outbound.hurry(now, pause));
        }
    }

    /// Says whether large packets that a path carried pass no longer.
    pub fn set_narrow(&mut self, number: u8, narrow: bool) {
        if let Some(Some(outbound)) = self.outbound.get_mut(usize::from(number)) {
            outbound.narrow = narrow;
        }
    }

    /// A session stands.
    pub fn run(&mut self, now: Instant) {
        if !std::mem::replace(&mut self.running, true) {
            self.tended = Some(now);
            self.teller.begin();
            self.hurry();
        }
    }

    /// There is no session.
    pub fn stop(&mut self, now: Instant) {
        if std::mem::take(&mut self.running) {
            self.tended = None;
            self.inbound.iter_mut().flatten().for_each(|inbound| inbound.lose(now));
            self.judge(now);
        }
    }

    /// Whether any path of the peer's is heard.
    pub fn is_heard(&self) -> bool {
        self.hears() != 0
    }

    /// Whether the peer reads heartbeats in the short form. One that is not heard any more may have begun anew, as
    /// an older release.
    pub fn reads_short(&self) -> bool {
        self.peer.is_some_and(|peer| peer.reads_short) && self.is_heard()
    }

    /// Whether the peer has ever sent a heartbeat; else nothing is known of its paths.
    pub fn is_known(&self) -> bool {
        self.peer.is_some()
    }

    /// The path that was chosen; `None` where none works or nothing is known.
    pub fn active(&self) -> Option<u8> {
        self.choice.used()
    }

    /// How fit the tunnel is; `None` where nothing is known.
    pub fn fitness(&self) -> Option<Fitness> {
        let peer = self.peer?;
        let active = self.active().and_then(|number| self.outbound[usize::from(number)].as_ref());
        Some(match active {
            None => Fitness::Lost,
            Some(_) if peer.draining => Fitness::Wanted,
            Some(path) if path.state != HealthState::Up => Fitness::Wanted,
            Some(path) => match path.grading.grade() {
                Grade::Good => Fitness::Fit,
                Grade::Poor => Fitness::Ailing,
                Grade::Bad => Fitness::Failing,
            },
        })
    }

    /// Grows with each change of a path's state or grade, of the choice, or of what the peer says of itself.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// The interval that both keep.
    fn pace(&self) -> Duration {
        self.peer.map_or(self.interval, |peer| peer.interval.max(self.interval))
    }

    /// All paths have something to say.
    fn hurry(&mut self) {
        self.outbound.iter_mut().flatten().for_each(|outbound| outbound.next = None);
    }

    /// Notes a datagram that left by a path.
    pub fn note_sent(&mut self, number: u8) {
        if let Some(Some(outbound)) = self.outbound.get_mut(usize::from(number)) {
            outbound.sent = outbound.sent.wrapping_add(1);
        }
    }

    /// Notes an authentic datagram.
    pub fn note_data(&mut self, now: Instant, from: SocketAddr) {
        let is_it = |inbound: &Option<Inbound>| {
            inbound.as_ref().is_some_and(|inbound| inbound.source == from && !inbound.shared)
        };
        if !is_it(&self.inbound[self.newest]) {
            let Some(found) = self.inbound.iter().position(is_it) else { return };
            self.newest = found;
        }
        if let Some(inbound) = &mut self.inbound[self.newest] {
            inbound.note_data(now);
        }
    }

    /// When [`Self::poll`] wants to be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let (tended, pace) = (self.tended.filter(|_| self.running)?, self.pace());
        let beats = self.outbound.iter().flatten().map(|outbound| outbound.next.unwrap_or(tended));
        let heard = self.inbound.iter().flatten().filter(|inbound| inbound.heard);
        let (answers, prompt) = (self.answers(), self.is_prompt());
        let asks = heard.clone().filter(|_| answers).filter_map(|inbound| inbound.ask_at(pace));
        let losses = heard.map(|inbound| inbound.lost_at(pace, prompt));
        beats.chain(asks.chain(losses).map(|at| self.graced(at))).min()
    }

    /// Whether the peer sends heartbeats when it is asked for them.
    fn answers(&self) -> bool {
        self.peer.is_some_and(|peer| peer.answers)
    }

    /// Whether the peer answers, and is so close that it has the time for it.
    fn is_prompt(&self) -> bool {
        let trips = self.outbound.iter().flatten().filter_map(|outbound| outbound.trip.mean());
        let close = trips.max().is_some_and(|trip| trip * 3 <= self.pace());
        close && self.answers()
    }

    fn graced(&self, at: Instant) -> Instant {
        self.grace.map_or(at, |grace| grace.max(at))
    }

    /// What is to leave before the heartbeat that [`Self::poll`] gives next, and by which path.
    pub fn poll_word(&mut self, now: Instant) -> Option<(u8, Word)> {
        let number = self.due(now).filter(|_| self.running)?;
        Some((number as u8, self.teller.poll()?))
    }

    /// The first path by which a heartbeat is due.
    fn due(&self, now: Instant) -> Option<usize> {
        self.outbound.iter().position(|slot| slot.as_ref().is_some_and(|one| one.is_due(now)))
    }

    /// The next heartbeat to send now, by its path; call it until there is none.
    pub fn poll(&mut self, now: Instant) -> Option<Beat> {
        if !self.running {
            return None;
        }
        self.tend(now);
        let number = self.due(now)?;
        self.beat(now, number)
    }

    fn tend(&mut self, now: Instant) {
        let pace = self.pace();
        let last = self.tended.replace(now).unwrap_or(now);
        if now.saturating_duration_since(last) > pace * 2 {
            // It was us who stood still: what the peer sent meanwhile is still to be read.
            self.grace = Some(now + pace);
        }
        if self.grace.is_none_or(|grace| grace <= now) {
            self.look_for_silence(now, pace);
        }
        self.judge(now);
    }

    /// Gives up paths that are silent for too long, and asks for what is overdue.
    fn look_for_silence(&mut self, now: Instant, pace: Duration) {
        let (answers, prompt) = (self.answers(), self.is_prompt());
        let (mut lost, mut asked) = (false, false);
        for inbound in self.inbound.iter_mut().flatten().filter(|inbound| inbound.heard) {
            if inbound.lost_at(pace, prompt) <= now {
                inbound.lose(now);
                lost = true;
            } else if answers && inbound.ask_at(pace).is_some_and(|at| at <= now) {
                inbound.note_asked(now);
                asked = true;
            }
        }
        if lost {
            self.find_shared();
            self.hurry();
        } else if asked {
            self.outbound.iter_mut().flatten().for_each(|o| o.hurry(now, Duration::ZERO));
        }
    }

    fn beat(&mut self, now: Instant, number: usize) -> Option<Beat> {
        let echo = self.next_echo(now, number);
        let (hears, pace) = (self.hears(), self.pace());
        let unanswered = self.outbound[number].as_ref().map_or(0, |outbound| outbound.unanswered);
        let mut pause = if unanswered < UNANSWERED { pace } else { pace.max(SELDOM) };
        if let Some(left) = self.lingers.1.checked_sub(1) {
            self.lingers.1 = left;
            pause = pause.min(self.lingers.0);
        }
        // Up to 10 % earlier, so that tunnels do not fall into step.
        let early = pause.mul_f64(self.random.number() as f64 / u64::MAX as f64 / 10.0);
        self.sequence = self.sequence.wrapping_add(1);
        let outbound = self.outbound[number].as_mut()?;
        outbound.note_beat(now, self.sequence, now + pause - early);
        self.teller.note_beat();
        Some(Beat {
            path: number as u8,
            sequence: self.sequence,
            draining: self.draining,
            hears,
            interval: self.interval,
            sent: outbound.sent,
            echo,
            reads_short: true,
            asks: self.inbound.iter().flatten().any(Inbound::is_overdue),
            answers: true,
        })
    }

    /// Which of the peer's paths are heard, a bit each.
    fn hears(&self) -> u8 {
        let heard = |inbound: &Option<Inbound>| inbound.as_ref().is_some_and(|i| i.heard);
        let bits = self.inbound.iter().enumerate().filter(|(_, inbound)| heard(inbound));
        bits.fold(0, |bits, (number, _)| bits | 1 << number)
    }

    /// What the peer is to know of one of its paths, in turn: of one that comes from where this one of
    /// ours leads, so that both halves of a round trip are of one path, or of one that comes from elsewhere.
    fn next_echo(&mut self, now: Instant, number: usize) -> Option<super::beat::Echo> {
        let ends: [_; MOST_PATHS] =
            std::array::from_fn(|n| self.outbound[n].as_ref().map(|outbound| outbound.end));
        let turn = (1..=MOST_PATHS).map(|step| (self.echoes + step) % MOST_PATHS);
        let heard = turn.filter_map(|n| Some((n, self.inbound[n].as_ref().filter(|i| i.heard)?)));
        let fits = |source| Some(source) == ends[number] || !ends.contains(&Some(source));
        let (echoed, inbound) = heard
            .clone()
            .find(|(_, inbound)| fits(inbound.source))
            .or_else(|| heard.clone().next())?;
        let echo = inbound.echo(now, echoed as u8);
        self.echoes = echoed;
        Some(echo)
    }

    /// Takes a heartbeat of the peer. An echo of what was never sent counts for nothing.
    pub fn handle_beat(
        &mut self,
        now: Instant,
        from: SocketAddr,
        beat: &Beat,
    ) -> Result<(), Unexpected> {
        let before = self.hears();
        let pace = self.pace();
        match self.inbound.get_mut(usize::from(beat.path)).ok_or(Unexpected)? {
            Some(inbound) => inbound.take(now, from, beat, pace),
            slot => *slot = Some(Inbound::new(now, from, beat)),
        }
        self.find_shared();
        self.hear_peer(beat);
        if self.pace() < pace {
            // The peer waits for more.
            self.hurry();
        } else if beat.asks {
            let pause = pace / 4;
            self.outbound.iter_mut().flatten().for_each(|outbound| outbound.hurry(now, pause));
        }
        let echoed = beat.echo.map_or(Ok(()), |echo| {
            let outbound = self.outbound.get_mut(usize::from(echo.path)).and_then(Option::as_mut);
            // A path that is no more may still be echoed.
            outbound.map_or(Ok(()), |outbound| outbound.take_echo(now, &echo))
        });
        if self.hears() != before {
            self.hurry();
            if before == 0 {
                // Who was silent has perhaps heard nothing either, as one that stood still.
                self.teller.begin();
                self.outbound.iter_mut().flatten().for_each(Outbound::begin);
            }
        }
        self.judge(now);
        echoed
    }

    /// A path that is heard has its source for itself unless another one that is heard comes from there too. One that
    /// is no more, as that to a learned address once others work, leaves the count of data to those that are.
    fn find_shared(&mut self) {
        let heard: [_; MOST_PATHS] = std::array::from_fn(|n| {
            self.inbound[n].as_ref().filter(|inbound| inbound.heard).map(|inbound| inbound.source)
        });
        for (number, inbound) in self.inbound.iter_mut().enumerate() {
            let Some(inbound) = inbound else { continue };
            let mut others = heard.iter().enumerate().filter(|(other, _)| *other != number);
            inbound.share(others.any(|(_, source)| *source == Some(inbound.source)));
        }
    }

    /// What the peer says of itself counts unless something newer is known, perhaps by a faster path.
    fn hear_peer(&mut self, beat: &Beat) {
        let heard = self.inbound.iter().flatten().any(|inbound| inbound.heard);
        if let Some(peer) = self.peer.filter(|_| heard) {
            let behind = peer.sequence.wrapping_sub(beat.sequence);
            if behind != 0 && behind < REORDERED {
                return;
            }
        }
        let least = *DETECTION_RANGE.start() / PATIENCE;
        let peer = Peer {
            sequence: beat.sequence,
            hears: beat.hears,
            draining: beat.draining,
            interval: beat.interval.clamp(least, *DETECTION_RANGE.end() / PATIENCE),
            reads_short: beat.reads_short,
            answers: beat.answers,
        };
        let before = self.peer.replace(peer);
        if peer.hears != 0 && before.is_some_and(|before| before.hears == 0) {
            // It did not hear us, and did not hear what we said.
            self.teller.begin();
        }
        if before.is_none_or(|before| before.draining != peer.draining) {
            self.changes += 1;
        }
    }

    /// Draws conclusions for all paths of ours.
    fn judge(&mut self, now: Instant) {
        let hears = self.peer.filter(|_| self.hears() != 0).map_or(0, |peer| peer.hears);
        let mut candidates = [None; MOST_PATHS];
        for (number, outbound) in (0..).zip(&mut self.outbound) {
            let Some(outbound) = outbound else { continue };
            let before = (outbound.state, outbound.grading.grade());
            outbound.judge(now, hears & 1 << number != 0);
            self.changes += u64::from(before != (outbound.state, outbound.grading.grade()));
            candidates[usize::from(number)] = outbound.candidate(number);
        }
        let mut all = [super::choice::Candidate::default(); MOST_PATHS];
        let mut count = 0;
        for candidate in candidates.into_iter().flatten() {
            all[count] = candidate;
            count += 1;
        }
        let before = self.choice.used();
        self.changes += u64::from(self.choice.choose(now, &all[..count]) != before);
    }

    /// Whether the peer missed something of late that left by this path.
    pub fn is_missing(&self, number: u8) -> bool {
        let outbound = self.outbound.get(usize::from(number)).and_then(Option::as_ref);
        outbound.is_some_and(|outbound| outbound.missing)
    }

    /// What is known of the paths, by number.
    pub fn reports(&self) -> impl Iterator<Item = HealthReport> + '_ {
        let paths = (0..).zip(&self.outbound);
        paths.filter_map(|(number, outbound)| Some(self.report(number, outbound.as_ref()?)))
    }

    fn report(&self, number: u8, outbound: &Outbound) -> HealthReport {
        let mut inbound = self.inbound.iter().flatten();
        let back = inbound.find(|inbound| inbound.source == outbound.end);
        let back = back.or(self.inbound[usize::from(number)].as_ref());
        HealthReport {
            number,
            end: outbound.end,
            state: if self.is_known() { outbound.state } else { HealthState::Unknown },
            grade: outbound.grading.grade(),
            active: self.active() == Some(number),
            cost: outbound.cost,
            rtt: outbound.trip.mean(),
            jitter: outbound.trip.variation(),
            loss_out: measure::parts(outbound.loss),
            loss_in: measure::parts(back.map_or(0.0, Inbound::loss)),
        }
    }
}

#[cfg(test)]
mod tests;
