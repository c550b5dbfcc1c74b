//! The state machine of one connection: `handle_*` in, `poll_message` out.
//!
//! Calls come in the order of the events, with times that never run backwards.

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime};

use carrick_model::ClusterId;

use super::tunnels::{self, Agreed, Held, Lane, Psk};
use crate::message::peer::{Hello, PeerMessage, Refusal, Report, peer_message::Kind};
use crate::message::snapshot::SignedSnapshot;
use crate::message::{OLDEST_VERSION, VERSION};
use crate::snapshot::{SnapshotError, VerifiedSnapshot, Version, verify};
use crate::transport::CloseReason;
use crate::trust::Pin;
use crate::wire::{self, WireError};

/// How many frames a peer may send in [`RATE_WINDOW`].
const RATE: u32 = 200;
const RATE_WINDOW: Duration = Duration::from_secs(10);

/// The most refusals in a report that we keep.
const MAX_REFUSALS: usize = crate::snapshot::MAX_PREFIXES + 1;

/// How much of a report's text we keep, in characters.
const MAX_TEXT: usize = 512;

/// The longest reason of a refusal that we keep, in letters.
const MAX_REASON: usize = 40;

/// What was refused because of a clock is looked at again after this time: clocks are set.
const RECHECK: Duration = Duration::from_secs(2);

/// One connection with a remote gateway.
#[derive(Debug)]
pub struct Session {
    pin: Pin,
    own: ClusterId,
    lanes: Vec<Lane>,
    held: Vec<Held>,
    established: bool,
    newest: Option<Version>,
    refused: Option<SignedSnapshot>,
    /// When that is to be looked at again, having been refused because of a clock.
    recheck: Option<Instant>,
    sent: Option<SignedSnapshot>,
    /// What our cluster says of theirs.
    report: Option<Report>,
    /// What their newest snapshot on this connection is to be told, being older than the one held.
    older: Option<(Version, String)>,
    reported: Option<Report>,
    out: VecDeque<PeerMessage>,
    window: (Instant, u32),
}

/// What a frame of theirs brought.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Their Hello: version and tunnels are agreed on.
    Established(Established),
    /// A snapshot that verified, at least as new as any before; also as it came.
    Snapshot(Box<VerifiedSnapshot>, SignedSnapshot),
    /// A snapshot that was refused as a whole; a report of it is on its way.
    SnapshotRefused(SnapshotError),
    /// What they say of our snapshot.
    Report(Report),
}

/// What two Hellos come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Established {
    /// The protocol version that both speak from now on.
    pub version: u32,
    /// Their release.
    pub release: String,
    /// One a lane that both have.
    pub tunnels: Vec<Agreed>,
}

/// Why the connection must be closed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// No protocol version in common.
    #[error(
        "it speaks protocol versions {oldest} to {newest} (release {release}), this build speaks \
         {OLDEST_VERSION} to {VERSION}; upgrade the older side"
    )]
    VersionMismatch {
        /// Their oldest.
        oldest: u32,
        /// Their newest.
        newest: u32,
        /// Their release.
        release: String,
    },
    /// A frame before Hello, or a second Hello.
    #[error("Hello must be the first frame, once")]
    Order,
    /// A Hello that does not parse.
    #[error("malformed Hello: {0}")]
    Hello(#[from] WireError),
    /// Too many frames.
    #[error("more than {RATE} frames in {} s", RATE_WINDOW.as_secs())]
    TooFast,
}

impl SessionError {
    /// The CamelCase word for status and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::VersionMismatch { .. } => "VersionMismatch",
            Self::Order | Self::Hello(_) | Self::TooFast => "Violation",
        }
    }

    /// What to close the link with, so that the other side knows why.
    pub fn close_reason(&self) -> CloseReason {
        match self {
            Self::VersionMismatch { .. } => {
                CloseReason::Refused { reason: self.reason().to_owned(), message: self.to_string() }
            }
            Self::Order | Self::Hello(_) | Self::TooFast => {
                CloseReason::Violation(self.to_string())
            }
        }
    }
}

impl Session {
    /// A session with a gateway of the cluster in `pin`. `lanes` are ours, `held` the tunnels that we
    /// hold with this very gateway, `newest` the version of the peer's snapshot that we hold.
    pub fn new(
        pin: Pin,
        own: ClusterId,
        lanes: Vec<Lane>,
        held: Vec<Held>,
        newest: Option<Version>,
        now: Instant,
    ) -> Self {
        let hello = Hello {
            version: VERSION,
            oldest_version: OLDEST_VERSION,
            release: env!("CARGO_PKG_VERSION").to_owned(),
            lanes: tunnels::lane_entries(&lanes),
            tunnels: tunnels::tunnel_entries(&held),
        };
        let out = VecDeque::from([PeerMessage { kind: Some(Kind::Hello(hello)) }]);
        Self {
            pin,
            own,
            lanes,
            held,
            established: false,
            newest,
            refused: None,
            recheck: None,
            sent: None,
            report: None,
            older: None,
            reported: None,
            out,
            window: (now, 0),
        }
    }

    /// The next frame to send.
    pub fn poll_message(&mut self) -> Option<PeerMessage> {
        self.out.pop_front()
    }

    /// What our cluster says to theirs; sent when it differs from what was sent last.
    pub fn handle_own_snapshot(&mut self, snapshot: &SignedSnapshot) {
        if self.sent.as_ref() != Some(snapshot) {
            self.sent = Some(snapshot.clone());
            self.replace(Kind::Snapshot(snapshot.clone()));
        }
    }

    /// What our cluster does not take of theirs; sent when it differs from what was sent last.
    pub fn handle_own_report(&mut self, report: &Report) {
        if self.report.as_ref() != Some(report) {
            self.report = Some(report.clone());
            self.report();
        }
    }

    /// Sends what there is to be said of their snapshots, when it differs from what was said last.
    fn report(&mut self) {
        let report = match (&self.older, &self.report) {
            (None, None) => return,
            (None, Some(report)) => report.clone(),
            (Some((version, error)), report) => Report {
                error: error.clone(),
                error_epoch: version.epoch,
                error_generation: version.generation,
                ..report.clone().unwrap_or_default()
            },
        };
        if self.reported.as_ref() != Some(&report) {
            self.reported = Some(report.clone());
            self.replace(Kind::Report(report));
        }
    }

    /// A newer snapshot of theirs came by another connection.
    pub fn handle_newest(&mut self, version: Version) {
        self.newest = self.newest.max(Some(version));
    }

    /// Who they must be may change while the link stands: their identity is rotated. Returns what
    /// comes of the snapshot that was refused last, if one was.
    pub fn handle_pin(&mut self, pin: &Pin, now: Instant, wall: SystemTime) -> Option<Event> {
        if self.pin == *pin {
            return None;
        }
        self.pin = pin.clone();
        let refused = self.refused.take()?;
        Some(self.snapshot(refused, now, wall))
    }

    /// When [`Session::handle_timeout`] has something to do: a snapshot was refused because of a clock, which nobody
    /// sends again when that is set.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.recheck
    }

    /// Looks again at what was refused because of a clock. Returns what comes of it, unless the clocks still disagree.
    pub fn handle_timeout(&mut self, now: Instant, wall: SystemTime) -> Option<Event> {
        self.recheck.filter(|at| now >= *at)?;
        self.recheck = Some(now + RECHECK);
        let refused = self.refused.as_ref()?;
        match verify(refused, &self.pin, &self.own, wall, self.newest) {
            Err(error) if error.is_of_clocks() => None,
            _ => self.refused.take().map(|refused| self.snapshot(refused, now, wall)),
        }
    }

    /// Queues a frame in place of an unsent one of its kind, so that the queue never holds more than
    /// one of each.
    fn replace(&mut self, kind: Kind) {
        let same = |queued: &PeerMessage| {
            queued.kind.as_ref().map(std::mem::discriminant) == Some(std::mem::discriminant(&kind))
        };
        self.out.retain(|queued| !same(queued));
        self.out.push_back(PeerMessage { kind: Some(kind) });
    }

    /// A frame of theirs. `export` is the connection's exporter: label, context → secret.
    pub fn handle_message(
        &mut self,
        message: PeerMessage,
        now: Instant,
        wall: SystemTime,
        export: impl Fn(&str, &[u8]) -> Psk,
    ) -> Result<Option<Event>, SessionError> {
        self.count(now)?;
        match message.kind {
            None => Ok(None),
            Some(Kind::Hello(hello)) => {
                if std::mem::replace(&mut self.established, true) {
                    return Err(SessionError::Order);
                }
                self.hello(&hello, export).map(|e| Some(Event::Established(e)))
            }
            Some(_) if !self.established => Err(SessionError::Order),
            Some(Kind::Snapshot(signed)) => Ok(Some(self.snapshot(signed, now, wall))),
            Some(Kind::Report(report)) => Ok(Some(Event::Report(bounded(report)))),
        }
    }

    fn count(&mut self, now: Instant) -> Result<(), SessionError> {
        if now.saturating_duration_since(self.window.0) >= RATE_WINDOW {
            self.window = (now, 0);
        }
        self.window.1 += 1;
        if self.window.1 > RATE { Err(SessionError::TooFast) } else { Ok(()) }
    }

    fn hello(
        &self,
        hello: &Hello,
        export: impl Fn(&str, &[u8]) -> Psk,
    ) -> Result<Established, SessionError> {
        let release: String = hello.release.chars().filter(|c| !c.is_control()).take(64).collect();
        let version = VERSION.min(hello.version);
        if version < OLDEST_VERSION.max(hello.oldest_version) {
            let (oldest, newest) = (hello.oldest_version, hello.version);
            return Err(SessionError::VersionMismatch { oldest, newest, release });
        }
        let theirs = tunnels::remote_lanes(hello)?;
        let tunnels = tunnels::agree(&self.lanes, &self.held, &theirs, &hello.tunnels, export);
        Ok(Established { version, release, tunnels })
    }

    fn snapshot(&mut self, signed: SignedSnapshot, now: Instant, wall: SystemTime) -> Event {
        self.recheck = None;
        match verify(&signed, &self.pin, &self.own, wall, self.newest) {
            Ok(snapshot) => {
                self.newest = Some(snapshot.version);
                self.refused = None;
                self.older = None;
                self.report();
                Event::Snapshot(Box::new(snapshot), signed)
            }
            Err(error) => {
                // Two gateways of one cluster hear of a change one after the other. So what is said of
                // an older snapshot names it: their controller knows whether it still stands by it.
                if let SnapshotError::Older { offered, .. } = &error {
                    self.older = Some((*offered, error.to_string()));
                    self.report();
                } else {
                    self.refused = Some(signed);
                    self.recheck = error.is_of_clocks().then(|| now + RECHECK);
                    self.older = None;
                    let error = error.to_string();
                    self.handle_own_report(&Report { error, ..Report::default() });
                }
                Event::SnapshotRefused(error)
            }
        }
    }
}

/// What of a report is fit to be kept and passed on to our controller.
fn bounded(report: Report) -> Report {
    let sound = |refusal: &Refusal| {
        let prefix = refusal.prefix.as_ref();
        prefix.is_some_and(|prefix| wire::prefix(prefix, "report.refused").is_ok())
            && refusal.reason.len() <= MAX_REASON
            && refusal.reason.bytes().all(|byte| byte.is_ascii_alphabetic())
    };
    let refused = report.refused.into_iter().filter(sound).take(MAX_REFUSALS).collect();
    let error = report.error.chars().filter(|c| !c.is_control()).take(MAX_TEXT).collect();
    Report { refused, error, ..report }
}
