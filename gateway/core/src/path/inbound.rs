//! A path of the peer's as it is heard here.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::beat::{Beat, Echo};
use super::health::SELDOM;
use super::measure::Losses;

/// Intervals of silence after which a path is lost.
pub(super) const PATIENCE: u32 = 3;
/// Heartbeats in a row that a lost path has to bring before it is heard again.
const ROW: u8 = 3;

/// One of the peer's paths, from its first heartbeat on.
#[derive(Debug)]
pub(super) struct Inbound {
    /// Where it comes from.
    pub source: SocketAddr,
    /// Another path comes from there too: then data tells nothing of either.
    pub shared: bool,
    /// It is heard.
    pub heard: bool,
    /// The newest heartbeat.
    beat: Instant,
    sequence: u16,
    /// Heartbeats in a row.
    row: u8,
    /// The newest datagram, and how many came, modulo 2³².
    data: Option<Instant>,
    arrived: u32,
    /// Heartbeats that should have come, where only these tell of losses.
    due: u32,
    beats: u32,
    losses: Losses,
}

impl Inbound {
    /// A path whose first heartbeat came now.
    pub fn new(now: Instant, from: SocketAddr, beat: &Beat) -> Self {
        let mut losses = Losses::default();
        losses.compare(now, beat.sent, 0);
        Self {
            source: from,
            shared: false,
            heard: true,
            beat: now,
            sequence: beat.sequence,
            row: 1,
            data: None,
            arrived: 1,
            due: 0,
            beats: 0,
            losses,
        }
    }

    /// Notes an authentic datagram from its source.
    pub fn note_data(&mut self, now: Instant) {
        self.data = Some(now);
        self.arrived = self.arrived.wrapping_add(1);
    }

    /// Takes the next heartbeat, which has been counted as a datagram if it came from the source; one that
    /// was overtaken says nothing new. `pace` is the interval that both keep.
    pub fn take(&mut self, now: Instant, from: SocketAddr, beat: &Beat, pace: Duration) {
        let ahead = beat.sequence.wrapping_sub(self.sequence);
        if ahead == 0 || ahead > u16::MAX - super::health::REORDERED {
            return;
        }
        if self.source != from {
            self.source = from;
            self.losses.rebase();
            self.arrived = self.arrived.wrapping_add(1);
        }
        let silence = now.saturating_duration_since(self.beat);
        (self.beat, self.sequence) = (now, beat.sequence);
        // By a path that never worked they come seldom.
        let in_row = silence < (pace * 2).max(SELDOM + SELDOM / 5);
        self.row = if in_row { self.row.saturating_add(1) } else { 1 };
        self.heard |= self.row >= ROW;
        if self.shared {
            let due = silence.div_duration_f64(pace).round().clamp(1.0, 1000.0) as u32;
            (self.due, self.beats) = (self.due.wrapping_add(due), self.beats.wrapping_add(1));
            self.losses.compare(now, self.due, self.beats);
        } else {
            self.losses.compare(now, beat.sent, self.arrived.wrapping_sub(1));
        }
    }

    /// Says whether others come from the same source.
    pub fn share(&mut self, shared: bool) {
        if std::mem::replace(&mut self.shared, shared) != shared {
            self.losses.rebase();
            self.data = None;
        }
    }

    /// When it is lost, unless more comes.
    pub fn lost_at(&self, pace: Duration) -> Instant {
        let silent = self.beat + pace * PATIENCE;
        self.data.map_or(silent, |data| silent.max(data + pace + pace / 2))
    }

    /// It is lost: what is until it comes back is no loss of a path that works.
    pub fn lose(&mut self) {
        self.heard = false;
        self.row = 0;
        self.losses.rebase();
    }

    /// What the peer is to know of it, which calls it `path`.
    pub fn echo(&self, now: Instant, path: u8) -> Echo {
        Echo {
            path,
            sequence: self.sequence,
            held: now.saturating_duration_since(self.beat),
            loss: self.loss(),
            missing: self.losses.is_missing(),
        }
    }

    /// The share of what the peer sends that is lost, from 0 to 1.
    pub fn loss(&self) -> f64 {
        self.losses.share()
    }
}
