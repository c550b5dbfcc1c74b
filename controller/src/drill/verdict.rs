//! From what members found to a verdict: pure.

use carrick_crds::drill::{Bounds, ConnectionsStatus, StreamStatus, Verdict};
use carrick_exchange::message::drill::{DirectionState, StreamState};

use super::guard::Pair;
use super::orders::CONNECTIONS;
use super::run::Run;

/// What each stream found, one row a direction.
pub fn rows(run: &Run) -> Vec<StreamStatus> {
    let counted = run.choice.pairs.iter().filter_map(|pair| {
        let state = run.streams.get(&pair.node)?;
        (state.phase == run.counting()).then_some((pair, state))
    });
    counted
        .flat_map(|(pair, state)| {
            let (there, back) = (state.there.unwrap_or_default(), state.back.unwrap_or_default());
            // What an agent of an older release does not say: what did not arrive there was not answered.
            let answers = state.sent.saturating_sub(there.lost);
            let inbound = if back.sent > 0 { back.sent } else { answers };
            [
                row(run, pair, state, ("Outbound", state.sent), there),
                row(run, pair, state, ("Inbound", inbound), back),
            ]
        })
        .collect()
}

fn row(
    run: &Run,
    pair: &Pair,
    state: &StreamState,
    (direction, sent): (&str, u64),
    found: DirectionState,
) -> StreamStatus {
    // Until a fault that only thins traffic out is avoided, packets are lost now and then; one that cuts
    // a path leaves one gap, and what may happen when it ends is another.
    let recovery = if run.drill.fault.cuts() { found.longest_gap } else { found.recovery };
    StreamStatus {
        name: format!("{} – {}", pair.node, pair.remote),
        direction: direction.to_owned(),
        sent: number(sent),
        lost: number(found.lost.min(sent)),
        loss_percent: percent(found.lost.min(sent), sent),
        late: number(state.late),
        longest_gap_milliseconds: milliseconds(found.longest_pause),
        detection_milliseconds: milliseconds(found.detection),
        recovery_milliseconds: milliseconds(recovery),
        rtt_p50_microseconds: number(state.rtt_p50),
        rtt_p99_microseconds: number(state.rtt_p99),
    }
}

/// Connections of all nodes together.
pub fn connections(run: &Run) -> ConnectionsStatus {
    let sum = |of: fn(&StreamState) -> u32| {
        let sum = run.streams.values().map(of).fold(0, u32::saturating_add);
        i32::try_from(sum).unwrap_or(i32::MAX)
    };
    let nodes = i32::try_from(run.choice.pairs.len()).unwrap_or(i32::MAX);
    ConnectionsStatus {
        wanted: nodes.saturating_mul(CONNECTIONS as i32),
        opened: sum(|s| s.opened),
        survived: sum(|s| s.survived),
    }
}

/// Packets that gateways dropped and delayed.
pub fn injected(run: &Run) -> (u64, u64) {
    run.faults.values().fold((0, 0), |(dropped, delayed): (u64, u64), state| {
        (dropped.saturating_add(state.dropped), delayed.saturating_add(state.delayed))
    })
}

/// The verdict on a drill that ran to its end, and what it rests on.
pub fn judge(run: &Run) -> (Verdict, Vec<String>) {
    if let [node, ..] = run.restarted() {
        let why = format!("the agent of node {node} began anew, and what it measured is lost");
        return (Verdict::Aborted, vec![why]);
    }
    let rows = rows(run);
    let silent = run.streams.values().any(|state| state.sent == 0);
    if rows.len() < 2 * run.choice.pairs.len() || silent {
        return (Verdict::Aborted, vec!["not all streams were measured".to_owned()]);
    }
    if run.drill.fault.hits_packets() && injected(run) == (0, 0) {
        let why = "the fault met no packet, so that nothing is proved; is the gateway in use?";
        return (Verdict::Failed, vec![why.to_owned()]);
    }
    let broken = broken(&run.drill.bounds, &rows, connections(run));
    if broken.is_empty() {
        (Verdict::Passed, vec!["every bound was kept".to_owned()])
    } else {
        (Verdict::Failed, broken)
    }
}

/// The bounds that were broken.
fn broken(bounds: &Bounds, rows: &[StreamStatus], connections: ConnectionsStatus) -> Vec<String> {
    let mut broken = Vec::new();
    if let Some(most) = bounds.loss_percent
        && let Some(row) = rows.iter().max_by(|a, b| a.loss_percent.total_cmp(&b.loss_percent))
        && row.loss_percent > most
    {
        broken.push(format!(
            "{} % of packets of {} ({}) were lost, and at most {most} % may be",
            row.loss_percent, row.name, row.direction
        ));
    }
    if let Some(most) = bounds.recovery
        && let Some(row) = rows.iter().max_by_key(|row| row.recovery_milliseconds)
        && number(row.recovery_milliseconds.unsigned_abs()) > milliseconds_of(most)
    {
        broken.push(format!(
            "{} ({}) recovered after {} ms, and at most {} ms are allowed",
            row.name,
            row.direction,
            row.recovery_milliseconds,
            most.as_millis()
        ));
    }
    if bounds.connections_survive && connections.survived < connections.opened {
        broken.push(format!(
            "{} of {} connections broke",
            connections.opened - connections.survived,
            connections.opened
        ));
    }
    if bounds.connections_survive && connections.opened < connections.wanted {
        broken.push(format!(
            "only {} of {} connections could be opened",
            connections.opened, connections.wanted
        ));
    }
    broken
}

/// A share in percent, to two decimals.
pub fn percent(part: u64, all: u64) -> f64 {
    if all == 0 {
        return 0.0;
    }
    (10_000.0 * part as f64 / all as f64).round() / 100.0
}

fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Microseconds as milliseconds, rounded up: no bound is kept by rounding.
fn milliseconds(micros: u64) -> i64 {
    number(micros.div_ceil(1000))
}

fn milliseconds_of(time: std::time::Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}
