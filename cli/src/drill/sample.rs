//! A drill for tests.

use carrick_crds::FailoverDrill;

/// One that passed.
pub fn drill() -> FailoverDrill {
    serde_json::from_value(serde_json::json!({
        "apiVersion": "carrick.dev/v1alpha1",
        "kind": "FailoverDrill",
        "metadata": { "name": "d", "uid": "u" },
        "spec": {
            "peering": "osaka",
            "fault": { "type": "GatewayCrash" },
            "durationSeconds": 10,
            "bounds": { "maxRecoveryMilliseconds": 600, "maxLossPercent": 5, "connectionsSurvive": true },
        },
        "status": {
            "phase": "Done",
            "phases": [
                { "phase": "Pending", "at": "2027-01-15T08:00:00.000Z" },
                { "phase": "Baseline", "at": "2027-01-15T08:00:00.000Z" },
                { "phase": "Injecting", "at": "2027-01-15T08:00:05.000Z" },
                { "phase": "Recovering", "at": "2027-01-15T08:00:15.000Z" },
                { "phase": "Done", "at": "2027-01-15T08:00:20.000Z" },
            ],
            "injected": {
                "gateway": "carrick-gateway-1", "gatewayUid": "g1", "packetsDropped": 31,
                "packetsDelayed": 0, "from": "2027-01-15T08:00:05.020Z",
                "to": "2027-01-15T08:00:15.020Z",
            },
            "streams": [
                { "name": "n0 – far <node>", "direction": "Outbound", "sent": 800, "lost": 31,
                  "lossPercent": 3.88, "late": 0, "longestGapMilliseconds": 310,
                  "detectionMilliseconds": 300, "recoveryMilliseconds": 310,
                  "rttP50Microseconds": 20000, "rttP99Microseconds": 21000 },
                { "name": "n0 – far <node>", "direction": "Inbound", "sent": 800, "lost": 0,
                  "lossPercent": 0, "late": 0, "longestGapMilliseconds": 0,
                  "detectionMilliseconds": 0, "recoveryMilliseconds": 0,
                  "rttP50Microseconds": 20000, "rttP99Microseconds": 21000 },
            ],
            "connections": { "opened": 4, "survived": 4 },
            "lossPercent": 3.88,
            "recoveryMilliseconds": 310,
            "series": {
                "from": "2027-01-15T08:00:00.100Z", "pointMilliseconds": 100,
                "lossPercent": series(|i| if (50..53).contains(&i) { 25.0 } else { 0.0 }),
                "rttMicroseconds": series(|i| 20_000.0 + f64::from(i % 7) * 100.0)
                    .iter().map(|rtt| *rtt as i64).collect::<Vec<_>>(),
                "paths": [
                    path("carrick-gateway-0", &|_| (0.0, 20_000.0)),
                    // The one that is hit.
                    path("carrick-gateway-1", &|i| match i {
                        0..50 => (0.0, 21_000.0),
                        50..150 => (100.0, 0.0),
                        _ => (f64::from(200 - i), 21_500.0),
                    }),
                ],
            },
            "verdict": "Passed",
            "reasons": ["every bound was kept"],
        },
    }))
    .expect("a drill")
}

fn path(gateway: &str, value: &dyn Fn(u32) -> (f64, f64)) -> serde_json::Value {
    serde_json::json!({
        "gateway": gateway,
        "endpoint": "192.0.2.7:31821",
        "lossPercent": series(|i| value(i).0),
        "rttMicroseconds": series(|i| value(i).1).iter().map(|rtt| *rtt as i64).collect::<Vec<_>>(),
    })
}

fn series(value: impl Fn(u32) -> f64) -> Vec<f64> {
    (0..200).map(value).collect()
}
