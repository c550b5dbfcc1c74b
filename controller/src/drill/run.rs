//! The machine of one drill that runs. It sees what members report and the time that passed, and moves from
//! phase to phase; whatever goes wrong ends it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use carrick_crds::drill::{Drill, FailoverDrillStatus, Phase, SERIES_LIMIT, Verdict};
use carrick_exchange::message::drill::{FaultState, StreamState};
use jiff::Timestamp;

use super::guard::{Choice, Injector};
use super::orders::point;
use super::paths::{PathHistory, PathSample};
use super::verdict;
use crate::world::Now;

/// How long streams run before a fault: the fate of most of its packets is known by then.
pub const BASELINE: Duration = Duration::from_secs(4);
/// How long they run after it: until the fate of all packets is known.
pub const RECOVERING: Duration = Duration::from_secs(5);
/// How long members may take to do what they are told.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long nothing may arrive at some node while a path should be left.
const SILENCE: Duration = Duration::from_secs(5);
/// How long a gateway that the drill does not hit may be unwell: a busy machine makes one miss an answer.
const UNWELL: Duration = Duration::from_secs(2);
/// How long streams count at least before a fault: what is under way when it begins has arrivals before it.
const ARMING: Duration = Duration::from_secs(1);
/// More loss than that without a fault makes a drill worthless.
const QUIET_LOSS_PERCENT: f64 = 2.0;

/// A drill that runs.
#[derive(Debug, Clone)]
pub struct Run {
    /// The object's name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// What was asked for.
    pub drill: Drill,
    /// Whom it hits.
    pub choice: Choice,
    /// Where it is.
    pub phase: Phase,
    /// When each phase began.
    pub phases: Vec<(Phase, Timestamp)>,
    /// The newest reports of streams, by node; those of the phase's own count only.
    pub streams: BTreeMap<String, StreamState>,
    /// The newest reports of those who inject, by [`super::guard::Injector::key`].
    pub faults: BTreeMap<String, FaultState>,
    /// Another controller had the fault begin.
    pub inherited: bool,
    /// How it ended, and why.
    pub end: Option<(Verdict, Vec<String>)>,
    /// How paths of gateways were over time.
    pub paths: PathHistory,
    entered: Instant,
    /// Nodes whose agent began anew while it counted.
    restarted: Vec<String>,
    /// Since when a gateway that the drill does not hit is not well.
    unwell: Option<Instant>,
}

/// What is seen of a drill.
#[derive(Debug, Default)]
pub struct Seen {
    /// What nodes report of it.
    pub streams: BTreeMap<String, StreamState>,
    /// What those who inject report of it, by [`super::guard::Injector::key`].
    pub faults: BTreeMap<String, FaultState>,
    /// How paths to the peer are.
    pub paths: Vec<PathSample>,
    /// Why it must not go on.
    pub hindrance: Option<String>,
    /// A gateway that it does not hit and that was well when it began, and is not now.
    pub failed: Option<String>,
}

impl Run {
    /// A drill that begins now.
    pub fn begin(name: &str, uid: &str, drill: Drill, choice: Choice, now: Now) -> Self {
        Self {
            name: name.to_owned(),
            uid: uid.to_owned(),
            drill,
            choice,
            phase: Phase::Baseline,
            phases: vec![(Phase::Pending, now.wall), (Phase::Baseline, now.wall)],
            streams: BTreeMap::new(),
            faults: BTreeMap::new(),
            inherited: false,
            end: None,
            paths: PathHistory::default(),
            entered: now.instant,
            restarted: Vec::new(),
            unwell: None,
        }
    }

    /// Goes on with a drill that another controller began.
    pub fn resume(
        name: &str,
        uid: &str,
        drill: Drill,
        choice: Choice,
        status: &FailoverDrillStatus,
        now: Now,
    ) -> Option<Self> {
        let read = |one: &carrick_crds::drill::PhaseStatus| Some((one.phase, one.at.parse().ok()?));
        let phases: Vec<(Phase, Timestamp)> =
            status.phases.iter().map(read).collect::<Option<_>>()?;
        let (phase, at) = *phases.last().filter(|(phase, _)| *phase == status.phase)?;
        // A clock that was set back or forth since makes a phase at most whole.
        let passed = Duration::try_from(now.wall.duration_since(at)).unwrap_or_default();
        let passed = passed.min(drill.duration + RECOVERING);
        let entered = now.instant.checked_sub(passed).unwrap_or(now.instant);
        let begun = Self::begin(name, uid, drill, choice, now);
        let inherited = phase >= Phase::Injecting;
        let paths = PathHistory::known(status.series.as_ref());
        Some(Self { phase, phases, entered, inherited, paths, ..begun })
    }

    /// When a phase began.
    pub fn began(&self, phase: Phase) -> Option<Timestamp> {
        self.phases.iter().find(|(known, _)| *known == phase).map(|(_, at)| *at)
    }

    /// The number by which streams know what to count.
    pub fn counting(&self) -> u32 {
        u32::from(self.phase > Phase::Baseline)
    }

    /// Looks at what is seen, and moves on if it is time.
    pub fn step(&mut self, seen: Seen, now: Now) {
        self.take(seen.streams, seen.faults);
        if let Some(index) = self.index(now) {
            self.paths.note(index, seen.paths);
        }
        if self.end.is_some() {
            return;
        }
        let failed = self.has_failed(seen.failed, now);
        if let Some(why) = seen.hindrance.or(failed) {
            return self.finish(Verdict::Aborted, vec![why], now);
        }
        let since = now.instant.saturating_duration_since(self.entered);
        let moved = match self.phase {
            Phase::Pending | Phase::Baseline => self.baseline(since),
            Phase::Arming => self.arming(since),
            Phase::Injecting => self.injecting(since),
            Phase::Recovering if since < RECOVERING => Ok(None),
            Phase::Recovering | Phase::Done => {
                let (verdict, reasons) = verdict::judge(self);
                return self.finish(verdict, reasons, now);
            }
        };
        match moved {
            Ok(None) => {}
            Ok(Some(phase)) => self.enter(phase, now),
            Err((verdict, why)) => self.finish(verdict, vec![why], now),
        }
    }

    /// When the streams' series begins, in milliseconds since 1970.
    pub fn begun(&self) -> Option<u64> {
        self.streams.values().map(|state| state.begun).filter(|at| *at > 0).min()
    }

    /// The point of the series that is now.
    fn index(&self, now: Now) -> Option<usize> {
        let since = u64::try_from(now.wall.as_millisecond()).ok()?.checked_sub(self.begun()?)?;
        let point = u64::try_from(point(self).as_millis()).ok()?;
        usize::try_from(since.checked_div(point)?).ok().filter(|index| *index < SERIES_LIMIT)
    }

    /// Why the drill must end because a gateway that it does not hit is not well, for longer than a moment.
    fn has_failed(&mut self, failed: Option<String>, now: Now) -> Option<String> {
        let Some(pod) = failed else {
            self.unwell = None;
            return None;
        };
        let since = *self.unwell.get_or_insert(now.instant);
        let lasts = now.instant.saturating_duration_since(since) >= UNWELL;
        (lasts && !self.drill.allow_outage).then(|| {
            format!(
                "gateway {pod}, which the drill does not hit, carries no more, or is not well: traffic \
                 has lost more than the fault takes"
            )
        })
    }

    /// When to look again although nothing is reported.
    pub fn deadline(&self) -> Instant {
        self.entered
            + match self.phase {
                Phase::Pending | Phase::Baseline => BASELINE,
                Phase::Arming => ARMING,
                Phase::Injecting => self.drill.duration,
                Phase::Recovering | Phase::Done => RECOVERING,
            }
    }

    /// Nodes whose agent began anew while it counted.
    pub fn restarted(&self) -> &[String] {
        &self.restarted
    }

    fn take(
        &mut self,
        streams: BTreeMap<String, StreamState>,
        faults: BTreeMap<String, FaultState>,
    ) {
        for (node, state) in streams {
            if let Some(held) = self.streams.get(&node)
                && held.phase == state.phase
                && held.from != 0
                && held.from != state.from
                && !self.restarted.contains(&node)
            {
                self.restarted.push(node.clone());
            }
            self.streams.insert(node, state);
        }
        self.faults.extend(faults);
    }

    fn enter(&mut self, phase: Phase, now: Now) {
        self.phase = phase;
        self.phases.push((phase, now.wall));
        self.entered = now.instant;
    }

    fn finish(&mut self, verdict: Verdict, reasons: Vec<String>, now: Now) {
        self.end = Some((verdict, reasons));
        self.enter(Phase::Done, now);
    }

    /// Nodes that do not count yet as they should.
    fn missing(&self) -> Vec<&str> {
        let counts = |node: &str| {
            let state = self.streams.get(node);
            state.is_some_and(|state| state.phase == self.counting() && state.from != 0)
        };
        let nodes = self.choice.pairs.iter().map(|pair| pair.node.as_str());
        nodes.filter(|node| !counts(node)).collect()
    }

    fn refused_streams(&self) -> Option<String> {
        let refused = self.streams.iter().find(|(_, state)| !state.error.is_empty());
        refused.map(|(node, state)| format!("node {node} cannot send streams: {}", state.error))
    }

    fn baseline(&self, since: Duration) -> Moved {
        if let Some(why) = self.refused_streams() {
            return Err((Verdict::Aborted, why));
        }
        let missing = self.missing();
        if !missing.is_empty() {
            let why = format!(
                "the agents of these nodes send no streams: {}; are they of an older release?",
                missing.join(", ")
            );
            return wait(since, BASELINE + PATIENCE, why);
        }
        if since < BASELINE {
            return Ok(None);
        }
        for row in verdict::rows(self) {
            if row.sent == 0 {
                let why = format!("no packet of {} ({}) arrived", row.name, row.direction);
                return wait(since, BASELINE + PATIENCE, why);
            }
            if row.loss_percent > QUIET_LOSS_PERCENT {
                let why = format!(
                    "{:.1} % of packets of {} ({}) are lost without a fault, so that a drill would \
                     prove nothing",
                    row.loss_percent, row.name, row.direction
                );
                return Err((Verdict::Refused, why));
            }
        }
        Ok(Some(Phase::Arming))
    }

    fn arming(&self, since: Duration) -> Moved {
        let missing = self.missing();
        if !missing.is_empty() {
            let why = format!("these nodes stopped reporting: {}", missing.join(", "));
            return wait(since, ARMING + PATIENCE, why);
        }
        // A gap needs an arrival before it.
        if let Some(row) = verdict::rows(self).iter().find(|row| row.sent == 0) {
            let why = format!("no packet of {} ({}) arrived", row.name, row.direction);
            return wait(since, ARMING + PATIENCE, why);
        }
        Ok((since >= ARMING).then_some(Phase::Injecting))
    }

    fn injecting(&self, since: Duration) -> Moved {
        let mut all_over = true;
        for injector in &self.choice.injecting {
            let state = self.faults.get(injector.key());
            if let Some(state) = state.filter(|state| !state.error.is_empty()) {
                let why = format!("{injector} refused the fault: {}", state.error);
                return Err((Verdict::Aborted, why));
            }
            let over = state.is_some_and(|state| state.to != 0);
            all_over &= over;
            if over {
                continue;
            }
            // An agent without a link cannot say that it has begun.
            let tells = !matches!(injector, Injector::Agent(_));
            if tells && state.is_none_or(|state| state.from == 0) && since > PATIENCE {
                let why = format!("{injector} did not begin to inject the fault");
                return Err((Verdict::Aborted, why));
            }
            if since > self.drill.duration + PATIENCE {
                let why = format!("{injector} did not report the end of the fault");
                return Err((Verdict::Aborted, why));
            }
        }
        if all_over {
            return Ok(Some(Phase::Recovering));
        }
        let silence = u64::try_from(SILENCE.as_millis()).unwrap_or(u64::MAX);
        let silent = |node: &str| self.streams.get(node).is_some_and(|s| s.silent > silence);
        let lost = self.choice.pairs.iter().find(|pair| silent(&pair.node));
        if let Some(pair) = lost.filter(|_| !self.drill.allow_outage) {
            let why = format!(
                "nothing has arrived at node {} for {} s although a path should be left: traffic is \
                 worse off than the fault explains",
                pair.node,
                SILENCE.as_secs()
            );
            return Err((Verdict::Aborted, why));
        }
        Ok(None)
    }
}

/// The next phase, none yet, or the end.
type Moved = Result<Option<Phase>, (Verdict, String)>;

fn wait(since: Duration, most: Duration, why: String) -> Moved {
    if since < most { Ok(None) } else { Err((Verdict::Aborted, why)) }
}
