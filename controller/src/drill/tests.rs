//! Drills from begin to end, in a small world with one or two gateways.

use std::collections::BTreeMap;
use std::time::Duration;

use carrick_crds::FailoverDrillSpec;
use carrick_crds::drill::{FailoverDrillStatus, Phase, Verdict};
use carrick_exchange::message::drill::{DirectionState, FaultState, Point, StreamState};
use carrick_exchange::message::member::{
    AgentConfig, GatewayConfig, GatewayProbe, GatewayState, PathHealth, PeerState,
};
use carrick_exchange::message::snapshot::ClusterSnapshot;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::desk::{Drills, Leave};
use super::guard::Sight;
use super::{DrillObject, guard};
use crate::cluster::PodFacts;
use crate::gate::Gate;
use crate::peering::resolve;
use crate::plan::{Plan, base, plan};
use crate::scene::{GATEWAY_UID, Peer, Scene, name};
use crate::world::Member;
use crate::writer::News;

const SECOND: Duration = Duration::from_secs(1);

struct Rig {
    scene: Scene,
    osaka: Peer,
    drills: Drills,
    plan: Option<Plan>,
    news: Vec<News>,
    ready: bool,
    lost: u64,
    sent_back: u64,
    gap: u64,
    silent: u64,
    opened: u32,
    agents_answer: bool,
    gateways_answer: bool,
    dropped: u64,
    gate: Gate,
    /// When agents gave up their links, by drill.
    unlinked: BTreeMap<String, u64>,
}

impl Rig {
    fn new() -> Self {
        let mut osaka = Peer::new("osaka", &["10.2.0.0/24"]);
        osaka.drills = true;
        let mut scene = Scene::new();
        scene.peer("osaka", osaka.spec(&["10.2.0.0/16"]));
        scene.gateway_says(vec![osaka.connected()]);
        scene.agents_say(|_, _| {});
        let gate = Gate::default();
        let mut rig = Self {
            scene,
            osaka,
            drills: Drills::new(gate.clone()),
            gate,
            plan: None,
            news: Vec::new(),
            ready: true,
            lost: 0,
            sent_back: 0,
            gap: 0,
            silent: 0,
            opened: 4,
            agents_answer: true,
            gateways_answer: true,
            dropped: 500,
            unlinked: BTreeMap::new(),
        };
        rig.scene.step();
        rig
    }

    fn make(&mut self, called: &str, change: serde_json::Value) {
        let mut spec = json!({
            "peering": "osaka",
            "fault": { "type": "GatewayCrash" },
            "durationSeconds": 10,
            "bounds": { "maxRecoveryMilliseconds": 600, "connectionsSurvive": true },
            "allowOutage": true,
        });
        for (field, value) in change.as_object().into_iter().flatten() {
            spec[field] = value.clone();
        }
        let spec: Result<FailoverDrillSpec, _> = serde_json::from_value(spec);
        let created = Timestamp::from_second(self.scene.world.drills.len() as i64).expect("time");
        let object = DrillObject {
            name: called.to_owned(),
            uid: format!("uid-{called}"),
            created,
            deleting: false,
            spec: spec.map_err(|error| format!("spec: {error}")),
            status: FailoverDrillStatus::default(),
        };
        self.scene.world.drills.insert(called.to_owned(), object);
    }

    /// A second gateway, which says this of peers.
    fn add_gateway(&mut self, peers: Vec<PeerState>) {
        let first = self.scene.world.facts.pods[GATEWAY_UID].clone();
        let pod = PodFacts {
            uid: "gw-1".to_owned(),
            name: "carrick-gateway-1".to_owned(),
            node: "n1".to_owned(),
            ..first
        };
        self.scene.world.facts.pods.insert(pod.uid.clone(), pod);
        let state = GatewayState { release: "0.1.0".to_owned(), peers, ..GatewayState::default() };
        let member = Member { state: Some(state), lost: None };
        self.scene.world.gateways.insert(name("gw-1"), member);
        self.scene.step();
    }

    /// Both agents say how the second gateway answers them.
    fn second_gateway_is(&mut self, state: &str) {
        let probe = GatewayProbe {
            gateway: "gw-1".to_owned(),
            state: state.to_owned(),
            ..GatewayProbe::default()
        };
        self.scene.agents_say(|_, agent| agent.gateways = vec![probe.clone()]);
    }

    /// Another peer, whose traffic the first gateway carries.
    fn add_rome(&mut self, drills: bool) {
        let rome = Peer { drills, ..Peer::new("rome", &["10.3.0.0/24"]) };
        self.scene.peer("rome", rome.spec(&["10.3.0.0/16"]));
        self.scene.gateway_says(vec![self.osaka.connected(), rome.connected()]);
        self.scene.step();
    }

    /// Osaka says something else.
    fn osaka_says(&mut self, change: impl Fn(&mut Peer)) {
        change(&mut self.osaka);
        self.osaka.generation += 1;
        self.scene.gateway_says(vec![self.osaka.connected()]);
        self.scene.step();
    }

    fn refuses(&mut self, change: serde_json::Value, expected: &str) {
        self.make("d", change);
        let (verdict, reasons) = self.ends("d");
        assert!(verdict == Verdict::Refused && reasons.contains(expected), "{expected}: {reasons}");
        assert_eq!(self.gateway().drill, None);
    }

    /// Members do as they were told, and the controller looks.
    fn look(&mut self) {
        self.members_report();
        let base = base(&self.scene.world);
        let resolved = resolve(&base.own, &self.scene.world.peerings);
        let mut plan = plan(&self.scene.world, &base, &resolved, self.scene.now);
        let ready = |_: &str| self.ready;
        let world = &self.scene.world;
        let now = self.scene.now.instant;
        let sight = Sight { world, resolved: &resolved, plan: &plan, ready: &ready, now };
        let (left, _) = self.drills.step(sight, self.scene.now);
        self.drills.add_orders(&mut plan);
        drop(resolved);
        for Leave { name, status, news, .. } in left {
            self.news.extend(news);
            if let Some(object) = self.scene.world.drills.get_mut(&name) {
                object.status = *status;
            }
        }
        self.plan = Some(plan);
    }

    fn members_report(&mut self) {
        let Some(plan) = &self.plan else { return };
        let wall = u64::try_from(self.scene.now.wall.as_millisecond()).expect("after 1970");
        let order = plan.gateway.drill.clone();
        for member in self.scene.world.gateways.values_mut() {
            let Some(state) = &mut member.state else { continue };
            let held = state.drill.take();
            state.drill = order.as_ref().filter(|_| self.gateways_answer).map(|order| {
                let before = held.filter(|held| held.id == order.id);
                let from = before.as_ref().map_or(wall, |held| held.from);
                let over = wall >= from + u64::from(order.length_milliseconds);
                let to = before.map_or(0, |held| held.to);
                let to = if over && to == 0 { wall } else { to };
                Box::new(FaultState {
                    id: order.id.clone(),
                    from,
                    to,
                    dropped: self.dropped,
                    ..Default::default()
                })
            });
        }
        for (node, member) in &mut self.scene.world.agents {
            let Some(state) = &mut member.state else { continue };
            let order = plan.agents.get(node).and_then(|config| config.drill.clone());
            if let Some(fault) = order.as_ref().and_then(|order| order.fault.as_deref()) {
                let begun = *self.unlinked.entry(fault.id.clone()).or_insert(wall);
                let end = begun + u64::from(fault.length_milliseconds);
                if wall < end {
                    // Without a link it says nothing.
                    continue;
                }
                let id = fault.id.clone();
                let over = FaultState { id, from: begun, to: end, ..Default::default() };
                state.fault = Some(Box::new(over));
            }
            let held = state.drill.take();
            state.drill = order.filter(|_| self.agents_answer).map(|order| {
                let same = held.filter(|held| held.id == order.id && held.phase == order.phase);
                let from = same.as_ref().map_or(wall, |held| held.from);
                let hit = order.phase == 1;
                let direction = |lost| DirectionState {
                    lost,
                    longest_gap: if lost > 0 { self.gap } else { 0 },
                    detection: if lost > 0 { self.gap } else { 0 },
                    recovery: if lost > 0 { 2 * self.gap } else { 0 },
                    longest_pause: 10_000,
                    sent: 0,
                };
                Box::new(StreamState {
                    id: order.id,
                    phase: order.phase,
                    from,
                    begun: from,
                    sent: 8 + 8 * wall.saturating_sub(from) / 10,
                    there: Some(direction(if hit { self.lost } else { 0 })),
                    back: Some(DirectionState { sent: self.sent_back, ..direction(0) }),
                    rtt_p50: 20_000,
                    rtt_p99: 21_000,
                    // One node alone.
                    silent: if node.as_str() == "n1" { self.silent } else { 0 },
                    opened: self.opened,
                    survived: self.opened,
                    points: vec![Point { index: 3, sent: 10, lost: 1, rtt: 20_000 }],
                    ..Default::default()
                })
            });
        }
    }

    /// Lets time pass, with a look each half second, until a drill is in `phase`.
    fn until(&mut self, called: &str, phase: Phase) -> &FailoverDrillStatus {
        for _ in 0..200 {
            self.look();
            if self.scene.world.drills[called].status.phase == phase {
                break;
            }
            self.pass();
        }
        let status = &self.scene.world.drills[called].status;
        assert_eq!(status.phase, phase, "{status:#?}");
        status
    }

    fn pass(&mut self) {
        self.scene.pass(SECOND / 2);
        self.scene.now.wall += SECOND / 2;
    }

    fn status(&self, called: &str) -> &FailoverDrillStatus {
        &self.scene.world.drills[called].status
    }

    fn ends(&mut self, called: &str) -> (Verdict, String) {
        let status = self.until(called, Phase::Done);
        (status.verdict.expect("a verdict"), status.reasons.join("; "))
    }

    fn gateway(&self) -> &GatewayConfig {
        &self.plan.as_ref().expect("plan").gateway
    }

    fn agent(&self, node: &str) -> &AgentConfig {
        &self.plan.as_ref().expect("plan").agents[&name(node)]
    }

    fn snapshot(&self) -> &ClusterSnapshot {
        let snapshots: &BTreeMap<_, _> = &self.plan.as_ref().expect("plan").snapshots;
        &snapshots[&"osaka".parse().expect("ID")]
    }
}

#[test]
fn a_drill_goes_through_its_phases_to_a_verdict() {
    let mut rig = Rig::new();
    rig.make("d", json!({}));
    rig.until("d", Phase::Baseline);
    let order = rig.agent("n0").drill.clone().expect("streams");
    assert_eq!((order.streams, order.rate, order.phase), (16, 100, 0));
    assert_eq!((rig.gateway().drill.clone(), rig.snapshot().drill.as_str()), (None, ""));
    rig.until("d", Phase::Arming);
    assert_eq!(rig.agent("n1").drill.as_ref().expect("streams").phase, 1);
    rig.lost = 30;
    rig.gap = 310_000;
    rig.until("d", Phase::Injecting);
    let fault = rig.gateway().drill.clone().expect("fault");
    assert!(fault.silence && fault.length_milliseconds == 10_000, "{fault:?}");
    assert_eq!(fault.gateway, "gw-0");
    assert!(rig.snapshot().drill.contains("failover drill d"), "{}", rig.snapshot().drill);
    rig.until("d", Phase::Recovering);
    assert_eq!(rig.snapshot().drill, "");
    assert_eq!(rig.gateway().drill.as_ref(), Some(&fault), "asked what it did");
    let (verdict, reasons) = rig.ends("d");
    assert_eq!((verdict, reasons.as_str()), (Verdict::Passed, "every bound was kept"));
    let status = rig.status("d").clone();
    assert_eq!((status.streams.len(), status.recovery_milliseconds), (4, Some(310)));
    let (there, back) = (&status.streams[0], &status.streams[1]);
    assert_eq!((there.direction.as_str(), back.direction.as_str()), ("Outbound", "Inbound"));
    assert_eq!(back.sent, there.sent - 30, "agents of an older release do not say it");
    let injected = status.injected.expect("injected");
    assert_eq!((injected.packets_dropped, injected.gateway.as_str()), (500, "carrick-gateway-0"));
    assert!(injected.from.is_some() && injected.to.is_some());
    let series = status.series.expect("series");
    assert_eq!((series.loss_percent.len(), series.loss_percent[3]), (4, 10.0));
    assert_eq!((series.loss_percent[0], series.rtt_microseconds[3]), (-1.0, 20_000));
    assert!(rig.gateway().drill.is_none() && rig.agent("n0").drill.is_none());
    let told: Vec<&str> = rig.news.iter().map(|news| news.reason.as_str()).collect();
    assert_eq!(told, ["Baseline", "Arming", "Injecting", "Recovering", "Passed"]);
    assert_eq!(status.conditions[0].reason, "Passed");
}

#[test]
fn broken_bounds_are_named() {
    let mut rig = Rig::new();
    (rig.lost, rig.gap, rig.sent_back) = (200, 900_000, 12_345);
    rig.make("d", json!({"bounds": {"maxRecoveryMilliseconds": 600, "maxLossPercent": 0.5}}));
    let (verdict, reasons) = rig.ends("d");
    assert_eq!(verdict, Verdict::Failed);
    assert!(reasons.contains("900 ms") && reasons.contains("at most 0.5 %"), "{reasons}");
    assert_eq!(rig.status("d").streams[1].sent, 12_345, "as the other side numbers it");
    // What thins traffic out has recovered only when nothing is lost any more.
    rig.scene.pass(120 * SECOND);
    rig.scene.now.wall += 120 * SECOND;
    rig.gap = 400_000;
    rig.make("e", json!({"fault": {"type": "PathLoss", "lossPercent": 30}}));
    let (verdict, reasons) = rig.ends("e");
    assert_eq!(verdict, Verdict::Failed);
    assert!(reasons.contains("800 ms"), "{reasons}");
}

#[test]
fn a_fault_that_meets_nothing_proves_nothing() {
    let mut rig = Rig::new();
    rig.dropped = 0;
    rig.make("d", json!({}));
    let (verdict, reasons) = rig.ends("d");
    assert!(verdict == Verdict::Failed && reasons.contains("met no packet"), "{reasons}");
}

#[test]
fn a_drain_hits_no_packet_and_may_pass() {
    let mut rig = Rig::new();
    rig.dropped = 0;
    let bounds = json!({"maxLossPercent": 0});
    rig.make("d", json!({"fault": {"type": "GatewayDrain"}, "bounds": bounds}));
    rig.until("d", Phase::Injecting);
    let order = rig.gateway().drill.clone().expect("order");
    assert!(order.drain && !order.silence);
    assert_eq!(rig.ends("d").0, Verdict::Passed);
}

#[test]
fn what_must_not_begin_is_refused_with_the_reason() {
    let public = |change| (change, true, true);
    for ((change, allowed, ready), expected) in [
        (public(json!({"peering": "rome"})), "there is no ClusterPeering \"rome\""),
        (public(json!({"fault": {"type": "Earthquake"}})), "is no fault"),
        (public(json!({"durationSeconds": 600})), "drills.maxSeconds of 300"),
        (public(json!({"bounds": {}})), "at least one bound"),
        (public(json!({"peering": 7})), "spec: "),
        (
            public(json!({"fault": {"type": "GatewayCrash", "gateway": "g9"}})),
            "no gateway pod \"g9\"",
        ),
        (public(json!({"allowOutage": false})), "the last path"),
        (
            public(json!({"allowOutage": false, "fault": {"type": "PathLoss", "lossPercent": 20}})),
            "the last path",
        ),
        (
            public(json!({
                "allowOutage": false,
                "fault": {"type": "PathDegraded", "latencyMilliseconds": 900, "jitterMilliseconds": 100},
            })),
            "the last path",
        ),
        ((json!({}), false, true), "osaka does not allow drills"),
        ((json!({}), true, false), "is not Ready"),
    ] {
        let mut rig = Rig::new();
        rig.ready = ready;
        if !allowed {
            rig.osaka_says(|osaka| osaka.drills = false);
        }
        rig.make("d", change);
        rig.look();
        let status = rig.status("d").clone();
        assert_eq!(status.verdict, Some(Verdict::Refused), "{expected}: {status:?}");
        assert!(status.reasons[0].contains(expected), "{expected}: {:?}", status.reasons);
        assert_eq!(rig.gateway().drill, None);
    }
}

#[test]
fn a_path_that_only_gets_worse_is_not_the_last_path_cut() {
    for fault in [
        json!({"type": "PathLoss", "lossPercent": 19.9}),
        json!({"type": "PathDegraded", "latencyMilliseconds": 999}),
    ] {
        let mut rig = Rig::new();
        rig.make("d", json!({"fault": fault, "allowOutage": false}));
        rig.until("d", Phase::Injecting);
    }
}

#[test]
fn the_other_gateway_has_to_be_well_and_to_carry_all_whom_it_hits() {
    let calm = || json!({"allowOutage": false});
    let mut rig = Rig::new();
    rig.add_gateway(vec![rig.osaka.connected()]);
    rig.second_gateway_is("Silent");
    rig.refuses(calm(), "no gateway but carrick-gateway-0 that is well has a tunnel to osaka");
    rig.second_gateway_is("Answers");
    rig.make("e", calm());
    rig.until("e", Phase::Injecting);

    // Rome's traffic would be hit as well, and is carried by the first gateway alone.
    for fault in ["GatewayCrash", "PathLoss"] {
        let mut rig = Rig::new();
        rig.add_rome(true);
        rig.add_gateway(vec![rig.osaka.connected()]);
        let loss = (fault == "PathLoss").then_some(100);
        let drill = json!({"allowOutage": false, "fault": {"type": fault, "lossPercent": loss}});
        match fault {
            "GatewayCrash" => rig.refuses(drill, "has a tunnel to rome"),
            _ => {
                rig.make("d", drill);
                rig.until("d", Phase::Injecting);
            }
        }
    }
}

#[test]
fn a_gateway_that_leaves_does_so_for_all_peers_and_all_are_asked() {
    for (allows, expected) in [(false, Phase::Done), (true, Phase::Injecting)] {
        let mut rig = Rig::new();
        rig.add_rome(allows);
        rig.make("d", json!({"fault": {"type": "GatewayDrain"}}));
        let status = rig.until("d", expected).clone();
        if !allows {
            assert!(status.reasons[0].contains("rome does not allow drills"), "{status:?}");
        }
    }
}

#[test]
fn it_keeps_away_from_a_drill_of_the_peer() {
    let mut rig = Rig::new();
    rig.osaka_says(|osaka| osaka.drill = "failover drill theirs".to_owned());
    rig.refuses(json!({}), "osaka runs one that hits the same traffic");
    let mut rig = Rig::new();
    rig.make("d", json!({}));
    rig.until("d", Phase::Injecting);
    rig.osaka_says(|osaka| osaka.drill = "failover drill theirs".to_owned());
    let (verdict, reasons) = rig.ends("d");
    assert!(verdict == Verdict::Aborted && reasons.contains("drill theirs"), "{reasons}");
    assert_eq!(rig.gateway().drill, None);
}

#[test]
fn it_aborts_when_a_gateway_fails_that_it_does_not_hit() {
    for (outage, lasts, expected) in [
        (false, 3, Verdict::Aborted),
        // A busy machine makes one miss an answer.
        (false, 1, Verdict::Passed),
        (true, 3, Verdict::Passed),
    ] {
        let mut rig = Rig::new();
        rig.add_gateway(vec![rig.osaka.connected()]);
        rig.make("d", json!({"allowOutage": outage}));
        rig.until("d", Phase::Injecting);
        rig.second_gateway_is("Silent");
        for _ in 0..2 * lasts {
            rig.look();
            rig.pass();
        }
        rig.second_gateway_is("Answers");
        let (verdict, reasons) = rig.ends("d");
        assert_eq!(verdict, expected, "{outage} {lasts}: {reasons}");
        let named = reasons.contains("carrick-gateway-1");
        assert_eq!(named, expected == Verdict::Aborted, "{reasons}");
    }
}

#[test]
fn paths_are_in_the_series() {
    let mut rig = Rig::new();
    let path = |state: &str| PathHealth {
        endpoint: "192.0.2.7:31821".to_owned(),
        state: state.to_owned(),
        rtt_micros: 20_000,
        ..PathHealth::default()
    };
    let is = |rig: &mut Rig, state: &str| {
        let member = rig.scene.world.gateways.get_mut(&name(GATEWAY_UID)).expect("joined");
        let state = vec![path(state)];
        member.state.as_mut().expect("state").peers[0].connections[0].tunnels[0].paths = state;
    };
    is(&mut rig, "up");
    rig.make("d", json!({}));
    rig.until("d", Phase::Injecting);
    is(&mut rig, "down");
    rig.ends("d");
    let paths = rig.status("d").series.clone().expect("series").paths;
    assert_eq!((paths[0].gateway.as_str(), paths.len()), ("carrick-gateway-0", 1));
    let (loss, rtt) = (&paths[0].loss_percent, &paths[0].rtt_microseconds);
    assert_eq!((loss[3], rtt[3]), (0.0, 20_000), "the rig has four points");
}

#[test]
fn an_agent_without_its_link_is_silent_and_tells_afterwards() {
    let mut rig = Rig::new();
    rig.dropped = 0;
    let fault = json!({"type": "AgentLinkLost", "node": "n1"});
    let bounds = json!({"maxLossPercent": 0});
    rig.make("d", json!({"fault": fault, "bounds": bounds, "allowOutage": false}));
    rig.until("d", Phase::Arming);
    assert_eq!(rig.agent("n1").drill.as_ref().expect("streams").fault, None);
    rig.until("d", Phase::Injecting);
    let order = rig.agent("n1").drill.clone().and_then(|order| order.fault).expect("fault");
    assert!(order.unlink && order.length_milliseconds == 10_000, "{order:?}");
    assert_eq!(rig.agent("n0").drill.as_ref().expect("streams").fault, None, "one alone");
    assert_eq!(rig.gateway().drill, None);
    assert_eq!(rig.ends("d"), (Verdict::Passed, "every bound was kept".to_owned()));
    let injected = rig.status("d").injected.clone().expect("injected");
    assert_eq!((injected.node.as_str(), injected.gateway.as_str()), ("n1", ""));
    assert!(injected.from.is_some() && injected.to.is_some());
}

#[test]
fn the_way_to_the_api_server_is_shut_once_the_api_server_knows() {
    let mut rig = Rig::new();
    rig.dropped = 0;
    let bounds = json!({"maxLossPercent": 0});
    rig.make("d", json!({"fault": {"type": "APIServerUnreachable"}, "bounds": bounds}));
    rig.until("d", Phase::Injecting);
    assert!(!rig.gate.is_shut(), "the status may not have been written yet");
    assert_eq!(rig.gateway().drill, None);
    rig.look();
    assert!(rig.gate.is_shut());
    assert_eq!(rig.ends("d"), (Verdict::Passed, "every bound was kept".to_owned()));
    assert!(!rig.gate.is_shut());
    assert!(rig.status("d").injected.as_ref().is_some_and(|injected| injected.to.is_some()));
}

#[test]
fn whoever_leads_next_does_not_shut_the_way_again_and_an_end_opens_it() {
    let mut rig = Rig::new();
    rig.make("d", json!({"fault": {"type": "APIServerUnreachable"}}));
    rig.until("d", Phase::Injecting);
    rig.look();
    let next = Gate::default();
    rig.drills = Drills::new(next.clone());
    rig.look();
    assert_eq!(rig.ends("d").0, Verdict::Passed);
    assert!(!next.is_shut());

    let mut rig = Rig::new();
    rig.make("d", json!({"fault": {"type": "APIServerUnreachable"}}));
    rig.until("d", Phase::Injecting);
    rig.look();
    rig.scene.world.peerings.remove("osaka");
    rig.look();
    assert_eq!(rig.status("d").verdict, Some(Verdict::Aborted));
    assert!(!rig.gate.is_shut());
}

#[test]
fn one_path_is_hit_where_there_is_one_and_another_is_left() {
    let (one, other) = ("192.0.2.7:31821", "198.51.100.7:31821");
    let path = |endpoint: &str, state: &str| PathHealth {
        endpoint: endpoint.to_owned(),
        state: state.to_owned(),
        ..PathHealth::default()
    };
    for (paths, expected) in [
        (vec![path(one, "up"), path(other, "up")], None),
        (vec![path(one, "up"), path(other, "down")], Some("the last path")),
        (vec![path(other, "up")], Some("leads to 192.0.2.7:31821; there are: 198.51.100.7:31821")),
    ] {
        let mut rig = Rig::new();
        for member in rig.scene.world.gateways.values_mut() {
            let state = member.state.as_mut().expect("state");
            state.peers[0].connections[0].tunnels[0].paths = paths.clone();
        }
        let fault = json!({"type": "PathLoss", "lossPercent": 100, "endpoint": one});
        rig.make("d", json!({"fault": fault, "allowOutage": false}));
        match expected {
            None => {
                rig.until("d", Phase::Injecting);
                assert_eq!(rig.gateway().drill.as_ref().expect("fault").endpoint, one);
            }
            Some(expected) => {
                let (verdict, reasons) = rig.ends("d");
                assert!(verdict == Verdict::Refused && reasons.contains(expected), "{reasons}");
            }
        }
    }
}

#[test]
fn steps_of_the_clock_neither_hurry_nor_hold_up_a_drill() {
    for step in [3600, -3600] {
        let mut rig = Rig::new();
        let begun = rig.scene.now.instant;
        rig.make("d", json!({}));
        for phase in [Phase::Baseline, Phase::Recovering] {
            rig.until("d", phase);
            rig.scene.now.wall += SignedDuration::from_secs(step);
        }
        assert_eq!(rig.ends("d").0, Verdict::Passed, "{step}");
        let took = rig.scene.now.instant - begun;
        assert!((20 * SECOND..30 * SECOND).contains(&took), "{step}: {took:?}");
        // The next one waits for its cool-down at most, whatever the clock says of the end of this.
        rig.make("e", json!({}));
        let end = rig.scene.now.instant;
        rig.until("e", Phase::Baseline);
        assert!(rig.scene.now.instant - end < 65 * SECOND, "{step}");
    }
}

#[test]
fn a_second_drill_of_a_peering_is_refused_and_one_of_another_waits() {
    let mut rig = Rig::new();
    rig.scene.peer("rome", Peer::new("rome", &["10.3.0.0/24"]).spec(&["10.3.0.0/16"]));
    rig.make("first", json!({}));
    rig.make("second", json!({}));
    rig.make("other", json!({"peering": "rome"}));
    rig.until("first", Phase::Injecting);
    rig.make("third", json!({}));
    rig.look();
    for late in ["second", "third"] {
        let status = rig.status(late);
        assert_eq!(status.verdict, Some(Verdict::Refused), "{status:?}");
        assert!(status.reasons[0].contains("drill first"), "{status:?}");
    }
    let waits = rig.status("other");
    assert!(waits.reasons[0].contains("waits for the end of drill first"), "{waits:?}");
    assert_eq!(rig.status("first").verdict, None);
}

#[test]
fn the_next_waits_for_the_cool_down() {
    let mut rig = Rig::new();
    rig.make("first", json!({}));
    rig.until("first", Phase::Done);
    rig.make("second", json!({}));
    rig.pass();
    rig.look();
    rig.pass();
    rig.look();
    assert_eq!(rig.status("second").phase, Phase::Pending);
    assert!(rig.status("second").reasons[0].contains("cool-down"), "{:?}", rig.status("second"));
    let end = rig.scene.now.instant;
    rig.until("second", Phase::Baseline);
    assert!(rig.scene.now.instant - end > 50 * SECOND);
}

#[test]
fn deletion_ends_it_at_once_and_the_next_waits_all_the_same() {
    let mut rig = Rig::new();
    rig.make("d", json!({}));
    rig.until("d", Phase::Injecting);
    assert!(rig.gateway().drill.is_some());
    rig.scene.world.drills.remove("d");
    rig.look();
    assert!(rig.gateway().drill.is_none() && rig.agent("n0").drill.is_none());
    assert_eq!(rig.snapshot().drill, "");
    assert_eq!([rig.drills.take_deleted(), rig.drills.take_deleted()], [1, 0]);
    let end = rig.scene.now.instant;
    for _ in 0..2 {
        rig.make("next", json!({}));
        rig.until("next", Phase::Baseline);
        assert!(rig.scene.now.instant - end > 50 * SECOND);
        // Nothing was injected yet, and so the one after it need not wait.
        rig.scene.world.drills.remove("next");
        rig.look();
    }
    assert!(rig.scene.now.instant - end < 70 * SECOND);
}

#[test]
fn it_aborts_when_what_it_rests_on_is_gone() {
    type Spoil = fn(&mut Rig);
    let spoilers: [(&str, Spoil); 4] = [
        ("there is no ClusterPeering", |rig| {
            rig.scene.world.peerings.remove("osaka");
        }),
        ("is suspended", |rig| {
            let object = rig.scene.world.peerings.get_mut("osaka").expect("peering");
            object.spec.as_mut().expect("spec").suspended = true;
        }),
        ("does not allow drills", |rig| {
            rig.osaka_says(|osaka| osaka.drills = false);
        }),
        ("nothing has arrived at node n1", |rig| rig.silent = 6000),
    ];
    for (expected, spoil) in spoilers {
        let mut rig = Rig::new();
        let outage = !expected.contains("has arrived");
        let fault = json!({"type": "PathLoss", "lossPercent": 15});
        rig.make("d", json!({"fault": fault, "allowOutage": outage}));
        rig.until("d", Phase::Injecting);
        spoil(&mut rig);
        rig.look();
        let status = rig.status("d").clone();
        assert_eq!(status.verdict, Some(Verdict::Aborted), "{expected}: {status:?}");
        assert!(status.reasons[0].contains(expected), "{expected}: {:?}", status.reasons);
        assert_eq!(rig.gateway().drill, None, "{expected}");
    }
}

#[test]
fn members_that_do_nothing_end_it_in_time() {
    let mut rig = Rig::new();
    rig.agents_answer = false;
    rig.make("d", json!({}));
    let (verdict, reasons) = rig.ends("d");
    assert!(verdict == Verdict::Aborted && reasons.contains("send no streams"), "{reasons}");
    let mut rig = Rig::new();
    rig.gateways_answer = false;
    rig.make("d", json!({}));
    let (verdict, reasons) = rig.ends("d");
    assert!(verdict == Verdict::Aborted && reasons.contains("did not begin"), "{reasons}");
}

#[test]
fn another_controller_goes_on_with_the_very_same_orders() {
    let mut rig = Rig::new();
    rig.make("d", json!({}));
    rig.until("d", Phase::Injecting);
    rig.pass();
    rig.look();
    let (fault, streams) = (rig.gateway().drill.clone(), rig.agent("n0").drill.clone());
    rig.drills = Drills::default();
    rig.ready = false;
    rig.look();
    assert_eq!((rig.gateway().drill.clone(), rig.agent("n0").drill.clone()), (fault, streams));
    let (verdict, reasons) = rig.ends("d");
    assert_eq!(verdict, Verdict::Passed, "{reasons}");
}

#[test]
fn one_that_cannot_be_gone_on_with_is_aborted() {
    let mut rig = Rig::new();
    rig.make("d", json!({}));
    rig.until("d", Phase::Injecting);
    rig.drills = Drills::default();
    let object = rig.scene.world.drills.get_mut("d").expect("drill");
    object.status.phases.clear();
    rig.look();
    assert_eq!(rig.status("d").verdict, Some(Verdict::Aborted));
    assert_eq!(rig.gateway().drill, None);
}

#[test]
fn limits_of_the_operator_hold() {
    let limits = crate::options::DrillLimits::default();
    let spec: FailoverDrillSpec = serde_json::from_value(json!({
        "peering": "p", "fault": {"type": "GatewayCrash"}, "durationSeconds": 5,
        "bounds": {"maxLossPercent": 1},
    }))
    .expect("spec");
    let drill = carrick_crds::drill::Drill::parse(&spec).expect("drill");
    let why = guard::within(&limits, "GatewayCrash", &drill).expect_err("off");
    assert!(why.contains("drills.enabled"), "{why}");
    let kinds = vec!["GatewayDrain".to_owned()];
    let limits = crate::options::DrillLimits { enabled: true, kinds, ..limits };
    let why = guard::within(&limits, "GatewayCrash", &drill).expect_err("not among them");
    assert!(why.contains("GatewayCrash is not among the chart's drills.kinds"), "{why}");
}

#[test]
fn connections_that_never_were_have_not_survived() {
    let mut rig = Rig::new();
    rig.opened = 3;
    rig.make("d", json!({}));
    let (verdict, reasons) = rig.ends("d");
    assert_eq!(verdict, Verdict::Failed);
    assert!(reasons.contains("only 6 of 8 connections could be opened"), "{reasons}");
}
