//! Failover drills through the API.

use carrick_controller::drill::DrillObject;
use carrick_controller::event::{Change, Event};
use carrick_exchange::message::member::{GatewayState, from_member};
use kube::api::DynamicObject;
use serde_json::json;

use crate::link::Member;
use crate::rig::{Rig, until};

#[tokio::test]
async fn a_drill_that_must_not_run_is_told_so_with_an_event() {
    let rig = Rig::start().await;
    let mut gateway = Member::start(&rig, "token-of-gw-0").await;
    gateway.say(from_member::Kind::Gateway(GatewayState::default())).await;
    let object: DynamicObject = serde_json::from_value(json!({
        "apiVersion": "carrick.dev/v1alpha1",
        "kind": "FailoverDrill",
        "metadata": {"name": "d", "uid": "u-d", "creationTimestamp": "2027-01-15T08:00:00Z"},
        "spec": {
            "peering": "osaka",
            "fault": {"type": "GatewayCrash"},
            "durationSeconds": 5,
            "bounds": {"maxLossPercent": 1},
        },
    }))
    .expect("object");
    let drill = Change::Set("d".to_owned(), DrillObject::from(object));
    rig.send(Event::Drills(Box::new(drill))).await;
    let status = until("a verdict", || {
        let writes = rig.api.writes("/failoverdrills/d/status");
        writes.last().map(|body| body["status"].clone())
    })
    .await;
    assert_eq!((&status["verdict"], &status["phase"]), (&json!("Refused"), &json!("Done")));
    let reason = status["reasons"][0].as_str().unwrap_or_default();
    assert!(reason.contains("drills.enabled"), "{status}");
    until("an Event", || {
        let events = rig.api.writes("/events");
        events.into_iter().find(|event| event["reason"] == "Refused")
    })
    .await;
}
