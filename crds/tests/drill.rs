//! What `FailoverDrill.spec` may say, and how each mistake is named.

use std::time::Duration;

use carrick_crds::FailoverDrillSpec;
use carrick_crds::drill::{Direction, Drill, Fault};

fn spec(change: &str) -> FailoverDrillSpec {
    let mut merged = serde_json::json!({
        "peering": "osaka",
        "fault": { "type": "GatewayCrash" },
        "durationSeconds": 10,
        "bounds": { "maxRecoveryMilliseconds": 600 },
    });
    let change: serde_json::Value = serde_yaml::from_str(change).expect("yaml");
    for (field, value) in change.as_object().into_iter().flatten() {
        merged[field] = value.clone();
    }
    serde_json::from_value(merged).expect("spec deserializes")
}

#[test]
fn the_smallest_spec_gets_the_defaults() {
    let drill = Drill::parse(&spec("{}")).expect("good");
    assert_eq!((drill.fault, drill.rate, drill.size), (Fault::GatewayCrash, 100, 128));
    assert_eq!(drill.duration, Duration::from_secs(10));
    assert_eq!(drill.bounds.recovery, Some(Duration::from_millis(600)));
    assert!(!drill.allow_outage && drill.gateway.is_none());
    assert!(drill.fault.cuts() && drill.fault.hits_all_peers());
}

#[test]
fn bad_paths_are_read() {
    let drill = Drill::parse(&spec(
        "{fault: {type: PathDegraded, direction: Inbound, lossPercent: 2.5, latencyMilliseconds: 200, \
         jitterMilliseconds: 20}}",
    ));
    let (direction, loss) = (Direction::Inbound, 25);
    let expected = Fault::Path { direction, loss, latency: 200, jitter: 20 };
    assert_eq!(drill.expect("good").fault, expected);
    let drain = Drill::parse(&spec("{fault: {type: GatewayDrain}}")).expect("good");
    assert!(!drain.fault.cuts() && !drain.fault.hits_packets());
    let cut = Drill::parse(&spec("{fault: {type: PathLoss, lossPercent: 100}}")).expect("good");
    assert!(cut.fault.cuts() && !cut.fault.hits_all_peers());
}

#[test]
fn faults_besides_the_gateways_and_single_paths_are_read() {
    let drill = Drill::parse(&spec("{fault: {type: AgentLinkLost, node: n1}}")).expect("good");
    assert_eq!((drill.fault, drill.node.as_deref()), (Fault::AgentLinkLost, Some("n1")));
    let drill = Drill::parse(&spec("{fault: {type: APIServerUnreachable}}")).expect("good");
    let fault = drill.fault;
    assert_eq!(fault, Fault::ApiServerUnreachable);
    assert!(!fault.cuts() && !fault.hits_packets() && !fault.hits_one_gateway());
    let path = "{fault: {type: PathLoss, lossPercent: 5, endpoint: '192.0.2.7:31821'}}";
    let drill = Drill::parse(&spec(path)).expect("good");
    assert_eq!(drill.endpoint, "192.0.2.7:31821".parse().ok());
}

#[test]
fn each_mistake_is_named() {
    for (change, field) in [
        ("{durationSeconds: 0}", "durationSeconds"),
        ("{durationSeconds: 3601}", "durationSeconds"),
        ("{fault: {type: Earthquake}}", "fault.type"),
        ("{fault: {type: GatewayCrash, lossPercent: 3}}", "fault"),
        ("{fault: {type: PathLoss}}", "fault.lossPercent"),
        ("{fault: {type: PathLoss, lossPercent: 101}}", "fault.lossPercent"),
        ("{fault: {type: PathLoss, lossPercent: 0}}", "fault.lossPercent"),
        ("{fault: {type: PathLoss, lossPercent: 1, latencyMilliseconds: 5}}", "fault"),
        ("{fault: {type: PathDegraded}}", "fault"),
        ("{fault: {type: PathDegraded, jitterMilliseconds: 5}}", "fault.jitterMilliseconds"),
        ("{fault: {type: Partition}}", "allowOutage"),
        ("{fault: {type: Partition}, allowOutage: true}", "bounds.maxRecoveryMilliseconds"),
        ("{fault: {type: Partition, gateway: g}, allowOutage: true}", "fault.gateway"),
        ("{fault: {type: GatewayCrash, endpoint: '192.0.2.7:1'}}", "fault"),
        ("{fault: {type: PathLoss, lossPercent: 5, endpoint: there}}", "fault.endpoint"),
        ("{fault: {type: GatewayCrash, node: n}}", "fault.node"),
        ("{fault: {type: AgentLinkLost, gateway: g}}", "fault.gateway"),
        ("{fault: {type: APIServerUnreachable, gateway: g}}", "fault.gateway"),
        ("{fault: {type: APIServerUnreachable, lossPercent: 5}}", "fault"),
        ("{bounds: {}}", "bounds"),
        ("{bounds: {connectionsSurvive: false}}", "bounds"),
        ("{bounds: {maxLossPercent: -1}}", "bounds.maxLossPercent"),
        ("{bounds: {maxRecoveryMilliseconds: 10000}}", "bounds.maxRecoveryMilliseconds"),
        ("{load: {packetsPerSecond: 5000}}", "load.packetsPerSecond"),
        ("{load: {sizeBytes: 20}}", "load.sizeBytes"),
    ] {
        let error = Drill::parse(&spec(change)).expect_err(change);
        assert_eq!(error.field, field, "{change}: {error}");
    }
}
