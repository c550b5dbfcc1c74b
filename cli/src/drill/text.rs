//! Drills for a terminal.

use carrick_crds::FailoverDrill;
use carrick_crds::drill::{FailoverDrillStatus, InjectedStatus, Verdict};
use jiff::Timestamp;
use kube::ResourceExt as _;

use crate::table::{Table, ago};

/// All drills.
pub fn list(drills: &[FailoverDrill], now: Timestamp) -> String {
    let mut table =
        Table::new(&["NAME", "PEERING", "FAULT", "PHASE", "VERDICT", "LOSS", "RECOVERY", "AGE"]);
    for drill in drills {
        let status = drill.status.clone().unwrap_or_default();
        let created = drill.metadata.creation_timestamp.as_ref();
        table.row([
            drill.name_any(),
            drill.spec.peering.clone(),
            drill.spec.fault.kind.clone(),
            status.phase.as_str().to_owned(),
            status.verdict.map(Verdict::as_str).unwrap_or_default().to_owned(),
            status.loss_percent.map(|loss| format!("{loss:.2} %")).unwrap_or_default(),
            status.recovery_milliseconds.map(|ms| format!("{ms} ms")).unwrap_or_default(),
            created.map(|time| ago(time.0, now)).unwrap_or_default(),
        ]);
    }
    if table.is_empty() {
        return "no drills; `carrick drill run --help` says how to run one\n".to_owned();
    }
    table.render()
}

/// One drill.
pub fn show(drill: &FailoverDrill) -> String {
    let status = drill.status.clone().unwrap_or_default();
    let verdict = status.verdict.map_or(status.phase.as_str(), Verdict::as_str);
    let mut text = format!("{}: {verdict}\n", drill.name_any());
    for reason in &status.reasons {
        text.push_str(&format!("  {reason}\n"));
    }
    text.push_str(&format!("fault: {}\n", fault(drill)));
    if let Some(injected) = &status.injected {
        text.push_str(&format!(
            "injected: at {}, from {} to {}, {}\n",
            place(drill, injected),
            injected.from.as_deref().unwrap_or("-"),
            injected.to.as_deref().unwrap_or("-"),
            done(injected),
        ));
    }
    if let Some(connections) = status.connections {
        let (survived, opened) = (connections.survived, connections.opened);
        text.push_str(&format!("connections: {survived} of {opened} survived\n"));
    }
    if !status.streams.is_empty() {
        text.push('\n');
        text.push_str(&streams(&status));
    }
    text
}

/// Where a fault acts.
pub fn place(drill: &FailoverDrill, injected: &InjectedStatus) -> String {
    match (injected.gateway.as_str(), injected.node.as_str()) {
        ("", "") if drill.spec.fault.kind == "APIServerUnreachable" => "the controller".to_owned(),
        ("", "") => "all gateways".to_owned(),
        ("", node) => format!("the agent of node {node}"),
        (gateway, _) => gateway.to_owned(),
    }
}

/// What a fault did.
pub fn done(injected: &InjectedStatus) -> String {
    let (dropped, delayed) = (injected.packets_dropped, injected.packets_delayed);
    match injected.requests_refused {
        0 => format!("{dropped} packets dropped, {delayed} delayed"),
        refused => format!("{refused} requests to the API server refused"),
    }
}

/// The fault in words.
pub fn fault(drill: &FailoverDrill) -> String {
    let fault = &drill.spec.fault;
    let mut words = vec![fault.kind.clone()];
    words.extend(fault.gateway.as_ref().map(|gateway| format!("at {gateway}")));
    words.extend(fault.endpoint.as_ref().map(|endpoint| format!("on the path to {endpoint}")));
    words.extend(fault.node.as_ref().map(|node| format!("at the agent of node {node}")));
    words.extend(fault.direction.as_ref().map(|direction| direction.to_lowercase()));
    words.extend(fault.loss_percent.map(|loss| format!("{loss} % loss")));
    words.extend(fault.latency_milliseconds.map(|ms| format!("{ms} ms later")));
    words.extend(fault.jitter_milliseconds.map(|ms| format!("± {ms} ms")));
    words.push(format!("for {} s", drill.spec.duration_seconds));
    words.join(", ")
}

fn streams(status: &FailoverDrillStatus) -> String {
    let mut table = Table::new(&[
        "STREAM",
        "DIRECTION",
        "SENT",
        "LOST",
        "LOSS",
        "LATE",
        "LONGEST GAP",
        "DETECTION",
        "RECOVERY",
        "RTT P50",
        "RTT P99",
    ]);
    let ms = |ms: i64| format!("{ms} ms");
    let micros = |micros: i64| format!("{:.1} ms", micros as f64 / 1000.0);
    for row in &status.streams {
        table.row([
            row.name.clone(),
            row.direction.clone(),
            row.sent.to_string(),
            row.lost.to_string(),
            format!("{:.2} %", row.loss_percent),
            row.late.to_string(),
            ms(row.longest_gap_milliseconds),
            ms(row.detection_milliseconds),
            ms(row.recovery_milliseconds),
            micros(row.rtt_p50_microseconds),
            micros(row.rtt_p99_microseconds),
        ]);
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drill::sample;

    #[test]
    fn a_drill_is_told_with_its_figures() {
        let text = show(&sample::drill());
        for part in [
            "d: Passed",
            "every bound was kept",
            "GatewayCrash",
            "31 packets dropped",
            "4 of 4 survived",
            "310 ms",
            "20.0 ms",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let listed = list(&[sample::drill()], Timestamp::UNIX_EPOCH);
        assert!(listed.contains("Passed") && listed.contains("osaka"), "{listed}");
        assert!(list(&[], Timestamp::UNIX_EPOCH).contains("no drills"));
    }
}
