//! One flow: probes from one source address to one target.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use super::TargetHealth;
use crate::probe::packet::HEADER;

/// Between probes while all is well.
const PERIOD: Duration = Duration::from_secs(1);
/// Between probes while in doubt.
const DOUBT_PERIOD: Duration = Duration::from_millis(80);
/// For how long a flow is in doubt before it has failed.
const DOUBT: Duration = Duration::from_millis(350);
/// Between probes after failing, at first and later.
const FAILED_PERIOD: Duration = Duration::from_millis(200);
const FAILED_PERIOD_LATER: Duration = Duration::from_millis(500);
/// When "later" begins.
const LATER: Duration = Duration::from_secs(5);
/// How long an answer may take: twice the round-trip time and some, within these bounds.
const MIN_WAIT: Duration = Duration::from_millis(150);
const MAX_WAIT: Duration = Duration::from_millis(900);
/// Before any round trip was measured.
const FIRST_WAIT: Duration = Duration::from_millis(400);
/// For how long the answer to a small probe tells what sort of fault it is.
const RECENT: Duration = Duration::from_millis(1500);
/// Probes remembered: those of 2 s in doubt.
const REMEMBERED: usize = 64;

/// What is wrong with a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// Nothing is known yet.
    Pending,
    /// The source address is another one on arrival.
    SourceRewritten,
    /// Small packets come back, full-size ones do not.
    LargePacketsLost,
    /// Nothing comes back.
    NoAnswer,
    /// The kernel would not send.
    NoRoute,
}

impl Reason {
    /// The CamelCase word for reports and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "ProbesPending",
            Self::SourceRewritten => "SourceRewritten",
            Self::LargePacketsLost => "LargePacketsLost",
            Self::NoAnswer => "NoAnswer",
            Self::NoRoute => "NoRoute",
        }
    }
}

/// How a flow is; the greater the worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Health {
    /// Full-size packets come back, with the source that they left with.
    Well,
    /// They do not.
    Ill(Reason),
}

#[derive(Debug)]
struct Sent {
    sequence: u32,
    at: Instant,
    size: usize,
}

#[derive(Debug)]
pub(super) struct Flow {
    size: usize,
    health: Health,
    detail: String,
    rtt: Option<Duration>,
    /// Probes without an answer yet, oldest first.
    unanswered: VecDeque<Sent>,
    next_send: Instant,
    /// Sizes to be sent now.
    due: VecDeque<usize>,
    /// Since when answers are missing: when the oldest probe was sent that should have come back.
    doubt: Option<Instant>,
    /// When a small probe was last answered.
    small_answered: Option<Instant>,
    stagger: Option<Duration>,
    quiet: bool,
    send_error: Option<(Reason, String)>,
    ill_since: Instant,
}

impl Flow {
    /// `stagger` replaces the first period, so that flows which began together part. A `quiet` one
    /// does not count before something is known.
    pub(super) fn new(now: Instant, size: usize, stagger: Duration, quiet: bool) -> Self {
        Self {
            size,
            health: Health::Ill(Reason::Pending),
            detail: String::new(),
            rtt: None,
            unanswered: VecDeque::new(),
            next_send: now,
            due: VecDeque::new(),
            doubt: None,
            small_answered: None,
            stagger: Some(stagger),
            quiet,
            send_error: None,
            ill_since: now,
        }
    }

    pub(super) fn size(&self) -> usize {
        self.size
    }

    pub(super) fn is_judged(&self) -> bool {
        self.health != Health::Ill(Reason::Pending)
    }

    pub(super) fn counts(&self) -> bool {
        !self.quiet || self.is_judged()
    }

    /// Whether the health changed.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> bool {
        let wait = self.wait();
        let overdue = |sent: &&Sent| sent.size == self.size && now >= sent.at + wait;
        if self.doubt.is_none()
            && let Some(first) = self.unanswered.iter().find(overdue)
        {
            self.doubt = Some(first.at);
            self.next_send = now;
        }
        let failed = self.doubt.is_some_and(|since| now >= since + wait + DOUBT);
        let changed = failed && self.fail(now);
        if now >= self.next_send && self.due.is_empty() {
            self.due.push_back(self.size);
            if self.doubt.is_some() {
                self.due.push_back(HEADER);
            }
            self.next_send = now + self.period(now);
        }
        changed
    }

    /// Whether the answer was expected and changed the health.
    pub(super) fn handle_answer(
        &mut self,
        now: Instant,
        sequence: u32,
        length: usize,
        rewritten: Option<String>,
    ) -> bool {
        let Some(at) = self.unanswered.iter().position(|sent| sent.sequence == sequence) else {
            return false;
        };
        let sent = &self.unanswered[at];
        if sent.size != length {
            return false;
        }
        let (rtt, full) = (now.saturating_duration_since(sent.at), sent.size == self.size);
        if !full {
            self.unanswered.remove(at);
            self.small_answered = Some(now);
            return false;
        }
        // What was sent before it and is still missing was lost: a single loss, not a fault.
        self.unanswered.drain(..=at);
        self.rtt = Some(self.rtt.map_or(rtt, |old| (old * 7 + rtt) / 8));
        self.doubt = None;
        self.send_error = None;
        self.next_send = now + self.stagger.take().unwrap_or(PERIOD);
        match rewritten {
            Some(detail) => self.set(now, Health::Ill(Reason::SourceRewritten), detail),
            None => self.set(now, Health::Well, String::new()),
        }
    }

    pub(super) fn handle_send_error(&mut self, error: &std::io::Error) {
        let reason = match error.raw_os_error() {
            Some(libc::EMSGSIZE) => Reason::LargePacketsLost,
            _ => Reason::NoRoute,
        };
        self.send_error = Some((reason, error.to_string()));
    }

    /// The size of a probe to be sent now.
    pub(super) fn poll_transmit(&mut self) -> Option<usize> {
        self.due.pop_front()
    }

    pub(super) fn sent(&mut self, now: Instant, sequence: u32, size: usize) {
        if self.unanswered.len() == REMEMBERED {
            self.unanswered.pop_front();
        }
        self.unanswered.push_back(Sent { sequence, at: now, size });
        if size == self.size {
            // Said again with the next attempt, if it is still so.
            self.send_error = None;
        }
    }

    pub(super) fn next_event(&self) -> Instant {
        let wait = self.wait();
        let deadline = match self.doubt {
            Some(_) if self.is_failed() => self.next_send,
            Some(since) => since + wait + DOUBT,
            None => match self.unanswered.iter().find(|sent| sent.size == self.size) {
                Some(oldest) => oldest.at + wait,
                None => self.next_send,
            },
        };
        deadline.min(self.next_send)
    }

    pub(super) fn target_health(&self, target: Ipv4Addr, source: Ipv4Addr) -> TargetHealth {
        let detail = match self.health {
            Health::Well => String::new(),
            Health::Ill(_) if self.detail.is_empty() => format!("from {source}"),
            Health::Ill(_) => format!("from {source}: {}", self.detail),
        };
        TargetHealth { target, health: self.health, detail, rtt: self.rtt }
    }

    fn wait(&self) -> Duration {
        let measured = |rtt: Duration| (rtt * 2 + MIN_WAIT / 2).clamp(MIN_WAIT, MAX_WAIT);
        self.rtt.map_or(FIRST_WAIT, measured)
    }

    fn period(&self, now: Instant) -> Duration {
        match (self.doubt, self.health) {
            (None, _) => PERIOD,
            (Some(_), Health::Well | Health::Ill(Reason::Pending | Reason::SourceRewritten)) => {
                DOUBT_PERIOD
            }
            (Some(_), _) if now < self.ill_since + LATER => FAILED_PERIOD,
            (Some(_), _) => FAILED_PERIOD_LATER,
        }
    }

    fn is_failed(&self) -> bool {
        let reasons = [Reason::NoAnswer, Reason::LargePacketsLost, Reason::NoRoute];
        matches!(self.health, Health::Ill(reason) if reasons.contains(&reason))
    }

    fn fail(&mut self, now: Instant) -> bool {
        let (reason, detail) = match &self.send_error {
            Some((reason, detail)) => (*reason, detail.clone()),
            None if self.small_answered.is_some_and(|at| now < at + RECENT) => {
                let size = self.size + super::HEADERS;
                (Reason::LargePacketsLost, format!("packets of {size} bytes do not come back"))
            }
            None => (Reason::NoAnswer, "nothing comes back".to_owned()),
        };
        self.set(now, Health::Ill(reason), detail)
    }

    fn set(&mut self, now: Instant, health: Health, detail: String) -> bool {
        let changed = self.health != health;
        if changed {
            self.ill_since = now;
        }
        self.health = health;
        self.detail = detail;
        changed
    }
}
