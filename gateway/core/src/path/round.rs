//! A round: probes that leave together, and which of them are answered.

use std::time::{Duration, Instant};

use super::message::Echo;

/// How long a round waits after the answer to its last probe for those to probes before it: half a round
/// trip, within these bounds.
const LEAST_GRACE: Duration = Duration::from_millis(25);
const MOST_GRACE: Duration = Duration::from_millis(250);
/// How long it waits for any answer: three round trips and a bit, within these bounds.
const LEAST_PATIENCE: Duration = Duration::from_millis(200);
const MOST_PATIENCE: Duration = Duration::from_secs(2);

/// A probe that left.
#[derive(Debug, Clone, Copy)]
struct Sent {
    size: u16,
    echo: Echo,
    answered: bool,
}

/// Probes that left together, the one that is most likely to arrive last.
#[derive(Debug)]
pub(super) struct Round {
    begun: Instant,
    /// When the newest answer came.
    heard: Option<Instant>,
    patience: Duration,
    sent: Vec<Sent>,
}

impl Round {
    /// Begins one on a path of this round-trip time.
    pub fn new(now: Instant, rtt: Option<Duration>) -> Self {
        let patience = rtt.map_or(MOST_PATIENCE, |rtt| {
            (rtt * 3 + MOST_GRACE / 2).clamp(LEAST_PATIENCE, MOST_PATIENCE)
        });
        Self { begun: now, heard: None, patience, sent: Vec::new() }
    }

    pub fn push(&mut self, size: u16, echo: Echo) {
        self.sent.push(Sent { size, echo, answered: false });
    }

    /// The newest probe never left.
    pub fn take_back(&mut self, size: u16) {
        self.sent.pop_if(|sent| sent.size == size);
    }

    /// Notes an answer: the size of its probe, if it is one of these and was not answered before.
    pub fn answer(&mut self, now: Instant, echo: Echo, size: u16) -> Option<u16> {
        let sent = self.sent.iter_mut().find(|sent| sent.echo == echo && !sent.answered)?;
        if sent.size != size {
            return None;
        }
        sent.answered = true;
        self.heard = Some(now);
        Some(sent.size)
    }

    /// When it is over, unless more answers come.
    pub fn closes(&self) -> Instant {
        let Some(heard) = self.heard else { return self.begun + self.patience };
        if self.sent.iter().all(|sent| sent.answered) {
            return heard;
        }
        let elapsed = heard.saturating_duration_since(self.begun);
        let graced = heard + (elapsed / 2).clamp(LEAST_GRACE, MOST_GRACE);
        // On the way packets keep their order, as a rule: what left before the last is there by now.
        match self.sent.last() {
            Some(last) if last.answered => graced,
            _ => graced.max(self.begun + self.patience),
        }
    }

    /// The time to the first answer, seen when that comes.
    pub fn round_trip(&self, now: Instant) -> Option<Duration> {
        self.heard.is_none().then(|| now.saturating_duration_since(self.begun))
    }

    /// Whether nothing was answered.
    pub fn is_silent(&self) -> bool {
        self.heard.is_none()
    }

    /// The largest size that was answered.
    pub fn largest(&self) -> Option<u16> {
        self.sent.iter().filter(|sent| sent.answered).map(|sent| sent.size).max()
    }

    /// The sizes that were not answered.
    pub fn lost(&self) -> impl Iterator<Item = u16> + '_ {
        self.sent.iter().filter(|sent| !sent.answered).map(|sent| sent.size)
    }
}
