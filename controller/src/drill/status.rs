//! `FailoverDrill.status` of a drill that runs or ran.

use std::collections::BTreeMap;

use carrick_crds::condition::MESSAGE_LIMIT;
use carrick_crds::drill::{
    FailoverDrillStatus, Fault, InjectedStatus, Phase, PhaseStatus, SERIES_LIMIT, SeriesStatus,
    Verdict,
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::guard::Injector;
use super::orders::point;
use super::run::Run;
use super::verdict::{connections, injected, percent, rows};

/// The status of a run.
pub fn of(run: &Run, before: &FailoverDrillStatus) -> FailoverDrillStatus {
    let counts = run.counting() > 0;
    let rows = if counts { rows(run) } else { Vec::new() };
    let worst = rows.iter().map(|row| row.loss_percent).max_by(f64::total_cmp);
    let (verdict, reasons) = match &run.end {
        Some((verdict, reasons)) => (Some(*verdict), reasons.clone()),
        None => (None, Vec::new()),
    };
    let mut status = FailoverDrillStatus {
        phase: run.phase,
        conditions: before.conditions.clone(),
        phases: phases(&run.phases),
        injected: Some(injection(run)),
        loss_percent: worst,
        recovery_milliseconds: rows.iter().map(|row| row.recovery_milliseconds).max(),
        streams: rows,
        connections: counts.then(|| connections(run)),
        series: series(run),
        verdict,
        reasons,
    };
    let at = run.phases.last().map(|(_, at)| *at).unwrap_or_default();
    complete(&mut status, at);
    status
}

/// The status of a drill that waits.
pub fn waiting(before: &FailoverDrillStatus, why: String, now: Timestamp) -> FailoverDrillStatus {
    let mut status = FailoverDrillStatus { reasons: vec![why], ..before.clone() };
    if status.phases.is_empty() {
        status.phases = phases(&[(Phase::Pending, now)]);
    }
    complete(&mut status, now);
    status
}

/// The status of a drill that ended without having been run here.
pub fn ended(
    before: &FailoverDrillStatus,
    verdict: Verdict,
    why: String,
    now: Timestamp,
) -> FailoverDrillStatus {
    let mut status = before.clone();
    status.phase = Phase::Done;
    status.phases.extend(phases(&[(Phase::Done, now)]));
    (status.verdict, status.reasons) = (Some(verdict), vec![why]);
    complete(&mut status, now);
    status
}

fn phases(phases: &[(Phase, Timestamp)]) -> Vec<PhaseStatus> {
    phases.iter().map(|(phase, at)| PhaseStatus { phase: *phase, at: text(*at) }).collect()
}

/// RFC 3339 with milliseconds.
fn text(at: Timestamp) -> String {
    format!("{at:.3}")
}

fn of_milliseconds(milliseconds: u64) -> Option<String> {
    let milliseconds = i64::try_from(milliseconds).ok().filter(|at| *at > 0)?;
    Timestamp::from_millisecond(milliseconds).ok().map(text)
}

fn injection(run: &Run) -> InjectedStatus {
    let (dropped, delayed) = injected(run);
    let from = run.faults.values().map(|state| state.from).filter(|at| *at > 0).min();
    let over = !run.faults.is_empty() && run.faults.values().all(|state| state.to > 0);
    let to = run.faults.values().map(|state| state.to).max().filter(|_| over);
    let gateway = run.choice.gateway.clone();
    let (pod, uid) = gateway.map(|gateway| (gateway.pod, gateway.uid)).unwrap_or_default();
    let node = run.choice.injecting.iter().find_map(|injector| match injector {
        Injector::Agent(node) => Some(node.clone()),
        Injector::Gateway(_) | Injector::Controller => None,
    });
    // Where the controller is hit, these are requests.
    let requests = run.drill.fault == Fault::ApiServerUnreachable;
    let (dropped, refused) = if requests { (0, dropped) } else { (dropped, 0) };
    InjectedStatus {
        gateway: pod,
        gateway_uid: uid,
        node: node.unwrap_or_default(),
        from: from.and_then(of_milliseconds),
        to: to.and_then(of_milliseconds),
        packets_dropped: i64::try_from(dropped).unwrap_or(i64::MAX),
        packets_delayed: i64::try_from(delayed).unwrap_or(i64::MAX),
        requests_refused: i64::try_from(refused).unwrap_or(i64::MAX),
    }
}

/// The series of all nodes together.
fn series(run: &Run) -> Option<SeriesStatus> {
    let from = run.begun()?;
    let mut sums: BTreeMap<usize, (u64, u64, u64)> = BTreeMap::new();
    let points = run.streams.values().flat_map(|state| &state.points);
    for point in points.filter(|point| (point.index as usize) < SERIES_LIMIT) {
        let sum = sums.entry(point.index as usize).or_default();
        let answered = u64::from(point.sent.saturating_sub(point.lost));
        sum.0 += u64::from(point.sent);
        sum.1 += u64::from(point.lost);
        sum.2 = sum.2.saturating_add(answered * u64::from(point.rtt));
    }
    let length = sums.last_key_value().map_or(0, |(last, _)| last + 1);
    let at = |index: usize| sums.get(&index).copied().unwrap_or_default();
    let loss = |index| match at(index) {
        (0, ..) => -1.0,
        (sent, lost, _) => percent(lost, sent),
    };
    let rtt = |index| {
        let (sent, lost, rtt) = at(index);
        i64::try_from(rtt.checked_div(sent.saturating_sub(lost)).unwrap_or(0)).unwrap_or(0)
    };
    Some(SeriesStatus {
        from: of_milliseconds(from)?,
        point_milliseconds: i64::try_from(point(run).as_millis()).unwrap_or(i64::MAX),
        loss_percent: (0..length).map(loss).collect(),
        rtt_microseconds: (0..length).map(rtt).collect(),
        paths: run.paths.series(length),
    })
}

/// Sets the condition Complete.
fn complete(status: &mut FailoverDrillStatus, at: Timestamp) {
    let done = status.verdict.is_some();
    let reason = status.verdict.map_or(status.phase.as_str(), Verdict::as_str);
    let message: String = status.reasons.join("; ").chars().take(MESSAGE_LIMIT).collect();
    let held = status.conditions.iter().find(|condition| condition.type_ == "Complete");
    let word = if done { "True" } else { "False" };
    let since = held.filter(|held| held.status == word);
    let condition = Condition {
        type_: "Complete".to_owned(),
        status: word.to_owned(),
        reason: reason.to_owned(),
        message,
        observed_generation: None,
        last_transition_time: since.map_or(Time(at), |held| held.last_transition_time.clone()),
    };
    status.conditions.retain(|condition| condition.type_ != "Complete");
    status.conditions.push(condition);
}
