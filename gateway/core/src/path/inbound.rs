//! A path of the peer's as it is heard here.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::beat::{Beat, Echo};
use super::health::SELDOM;
use super::measure::Losses;

/// Intervals of silence after which a path is lost.
pub(super) const PATIENCE: u32 = 3;
/// How often the peer is asked for a heartbeat that is overdue, before the path is given up without further patience.
const ASKS: u8 = 3;
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
    /// The last ones came as often as they should.
    brisk: bool,
    /// When the peer was asked first for the heartbeat that is overdue, when last, and how often.
    asked: Option<(Instant, Instant, u8)>,
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
            brisk: false,
            asked: None,
            data: None,
            arrived: 1,
            due: 0,
            beats: 0,
            losses,
        }
    }

    /// Notes an authentic datagram from its source.
    pub fn note_data(&mut self, now: Instant) {
        (self.data, self.asked) = (Some(now), None);
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
        (self.beat, self.sequence, self.asked) = (now, beat.sequence, None);
        self.brisk = silence < pace * 2;
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

    /// When it is lost, unless more comes: with a peer that answers within a third of the interval, an interval after
    /// it was asked in vain.
    pub fn lost_at(&self, pace: Duration, prompt: bool) -> Instant {
        let silent = self.beat + pace * PATIENCE;
        let silent = self.data.map_or(silent, |data| silent.max(data + pace + pace / 2));
        match self.asked {
            Some((first, _, ASKS..)) if prompt => silent.min(first + pace),
            _ => silent,
        }
    }

    /// When the peer is to be asked for a heartbeat, as half an interval ago one should have come, and since then
    /// nothing has.
    pub fn ask_at(&self, pace: Duration) -> Option<Instant> {
        match self.asked {
            None if !self.brisk => None,
            None => {
                let overdue = self.beat + pace + pace / 2;
                Some(self.data.map_or(overdue, |data| overdue.max(data + pace / 2)))
            }
            Some((_, last, asks)) => (asks < ASKS).then(|| last + pace * 2 / 5),
        }
    }

    /// The peer is asked.
    pub fn note_asked(&mut self, now: Instant) {
        let (first, asks) = self.asked.map_or((now, 0), |(first, _, asks)| (first, asks));
        self.asked = Some((first, now, asks + 1));
    }

    /// Whether a heartbeat is overdue.
    pub fn is_overdue(&self) -> bool {
        self.asked.is_some()
    }

    /// It is lost: what is until it comes back is no loss of a path that works.
    pub fn lose(&mut self, now: Instant) {
        self.heard = false;
        (self.row, self.asked) = (0, None);
        self.losses.note_silence(now);
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
