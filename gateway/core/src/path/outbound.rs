//! A path of ours: its heartbeats, and what the peer says of it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::beat::Echo;
use super::choice::Candidate;
use super::grade::{Grading, Measured};
use super::hold::Hold;
use super::measure::RoundTrip;
use super::{HealthState, Unexpected};

/// Heartbeats whose echo is awaited, at most.
const FLIGHTS: usize = 64;
/// How long a path that flaps has to work before it is used again, at least and at most.
const LEAST_HOLD: Duration = Duration::from_secs(1);
const MOST_HOLD: Duration = Duration::from_secs(60);

/// A path of ours.
#[derive(Debug)]
pub(super) struct Outbound {
    /// Where it leads.
    pub end: SocketAddr,
    /// The operator's cost.
    pub cost: u16,
    /// Datagrams that left by it, modulo 2³².
    pub sent: u32,
    /// Large packets that it carried no longer pass.
    pub narrow: bool,
    /// Heartbeats that were sent before it worked first, from 1 on and again since [`Self::begin`]; 0 once it has worked.
    pub unanswered: u32,
    /// When its next heartbeat is due; `None` is at once.
    pub next: Option<Instant>,
    /// Something was lost on it of late, as the peer says.
    pub missing: bool,
    pub state: HealthState,
    pub grading: Grading,
    pub trip: RoundTrip,
    /// The share that is lost, as the peer says.
    pub loss: f64,
    hold: Hold,
    /// Since when it works.
    works: Option<Instant>,
    /// Heartbeats under way: number, time, and whether they were echoed.
    flights: Box<[Option<(u16, Instant, bool)>; FLIGHTS]>,
    flight: usize,
}

impl Outbound {
    pub fn new(end: SocketAddr) -> Self {
        Self {
            end,
            cost: 0,
            sent: 0,
            narrow: false,
            unanswered: 1,
            next: None,
            missing: false,
            state: HealthState::Down,
            grading: Grading::default(),
            trip: RoundTrip::default(),
            loss: 0.0,
            hold: Hold::new(LEAST_HOLD, MOST_HOLD),
            works: None,
            flights: Box::new([None; FLIGHTS]),
            flight: 0,
        }
    }

    /// Whether a heartbeat is due.
    pub fn is_due(&self, now: Instant) -> bool {
        self.next.is_none_or(|at| at <= now)
    }

    /// A heartbeat more is wanted now, unless one has just left; none by a path that never worked.
    pub fn hurry(&mut self, now: Instant, pause: Duration) {
        let recent = self.flights[(self.flight + FLIGHTS - 1) % FLIGHTS];
        let just_left = recent.is_some_and(|(_, at, _)| now.saturating_duration_since(at) < pause);
        if self.unanswered == 0 && !just_left {
            self.next = None;
        }
    }

    /// The peer is heard again: if this path never worked, perhaps it does now. With one heartbeat a second from both
    /// sides, neither would hear the other for long enough to be told so.
    pub fn begin(&mut self) {
        self.unanswered = self.unanswered.min(1);
    }

    /// Notes that this heartbeat leaves, and when the next one does.
    pub fn note_beat(&mut self, now: Instant, sequence: u16, next: Instant) {
        self.flights[self.flight] = Some((sequence, now, false));
        self.flight = (self.flight + 1) % FLIGHTS;
        self.next = Some(next);
        self.unanswered = self.unanswered.saturating_add(self.unanswered.min(1));
    }

    /// Takes what the peer says of it.
    pub fn take_echo(&mut self, now: Instant, echo: &Echo) -> Result<(), Unexpected> {
        let sent = self.flights.iter_mut().flatten().find(|(number, ..)| *number == echo.sequence);
        let (_, at, echoed) = sent.ok_or(Unexpected)?;
        let passed = now.saturating_duration_since(*at);
        let trip = passed.checked_sub(echo.held).ok_or(Unexpected)?;
        // Without a newer heartbeat it is echoed again, and tells nothing new.
        if !std::mem::replace(echoed, true) {
            self.trip.note(now, trip);
        }
        (self.loss, self.missing) = (echo.loss, echo.missing);
        Ok(())
    }

    /// Draws conclusions from whether the peer hears it.
    pub fn judge(&mut self, now: Instant, works: bool) {
        if !works {
            if self.works.take().is_some() {
                self.hold.fail(now);
                self.grading.note_silence(now);
            }
            self.state = HealthState::Down;
            return;
        }
        let since = *self.works.get_or_insert(now);
        self.unanswered = 0;
        if now.saturating_duration_since(since) >= self.hold.time() {
            self.state = HealthState::Up;
        } else if self.state != HealthState::Up {
            self.state = HealthState::Held;
        }
        let (loss, gained) = (self.loss, self.trip.gained());
        self.grading.note(now, Measured { loss, gained, narrow: self.narrow });
    }

    /// How it stands in the choice, if it may be chosen.
    pub fn candidate(&self, number: u8) -> Option<Candidate> {
        (self.state != HealthState::Down).then(|| Candidate {
            number,
            held: self.state == HealthState::Held,
            grade: self.grading.grade(),
            cost: self.cost,
            loss: self.loss,
            rtt: self.trip.mean(),
        })
    }
}
