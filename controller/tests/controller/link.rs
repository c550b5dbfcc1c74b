//! Joining, configurations, reports and statuses over loopback, against a fake Kubernetes API.

use carrick_controller::event::{Change, Event};
use carrick_controller::peering::PeeringObject;
use carrick_crds::ClusterPeeringSpec;
use carrick_crds::peering::AcceptSpec;
use carrick_exchange::join::{JoinError, join};
use carrick_exchange::message::member::{
    AgentState, ConnectionState, FromController, FromMember, GatewayState, PeerState, ProbeState,
    ProbeTarget, TunnelState, from_controller, from_member,
};
use carrick_exchange::message::snapshot::{ClusterSnapshot, GatewayEntry, NodeEntry};
use carrick_exchange::{ClusterIdentity, Link, Protocol, Receiver, Sender};
use carrick_model::MeshPrefix;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::rig::{PATIENCE, Rig, member, review, until};

/// A gateway or agent that joined and is linked.
pub struct Member {
    sender: Sender<FromMember>,
    receiver: Receiver<FromController>,
    pub link: Link,
}

impl Member {
    pub async fn start(rig: &Rig, token: &str) -> Self {
        let credentials =
            join(&member(None), rig.address, &rig.pin(), token).await.expect("joined");
        let exchange = member(Some(credentials));
        let link = exchange.dial(Protocol::Member, rig.address, &rig.pin()).await.expect("linked");
        let (sender, receiver) = link.channel().await.expect("channel");
        // The exchange closes its links when it is dropped; the test's process outlives it.
        std::mem::forget(exchange);
        Self { sender, receiver, link }
    }

    pub async fn say(&mut self, kind: from_member::Kind) {
        self.sender.send(&FromMember { kind: Some(kind) }).await.expect("sent");
    }

    /// The first frame for which `wanted` gives something.
    async fn hear<T>(&mut self, wanted: impl Fn(&from_controller::Kind) -> Option<T>) -> T {
        let heard = async {
            loop {
                let frame = self.receiver.receive().await.expect("frame").expect("open");
                if let Some(found) = frame.kind.as_ref().and_then(&wanted) {
                    return found;
                }
            }
        };
        tokio::time::timeout(PATIENCE, heard).await.expect("heard in time")
    }
}

pub fn peering(identity: &ClusterIdentity, suspended: bool) -> PeeringObject {
    PeeringObject {
        name: "osaka".to_owned(),
        uid: "uid-1".to_owned(),
        generation: Some(1),
        created: Timestamp::from_second(1).expect("time"),
        spec: Ok(ClusterPeeringSpec {
            cluster_id: "osaka".to_owned(),
            identities: vec![identity.public().to_string()],
            accept: AcceptSpec { pod_ranges: vec!["10.2.0.0/16".to_owned()], max_prefixes: 4 },
            access: "AllPods".to_owned(),
            drills: "Deny".to_owned(),
            remap: "Never".to_owned(),
            suspended,
            ..ClusterPeeringSpec::default()
        }),
        status: Default::default(),
    }
}

/// What a gateway says once it is connected to osaka.
pub fn connected(osaka: &ClusterIdentity) -> GatewayState {
    let mesh = MeshPrefix::for_identity(&osaka.public());
    let now = u64::try_from(Timestamp::now().as_second()).expect("after 1970");
    let content = ClusterSnapshot {
        cluster: "osaka".to_owned(),
        audience: "paris".to_owned(),
        epoch: 1,
        generation: 1,
        issued_at: now,
        expires_at: now + 3600,
        gateways: vec![GatewayEntry { name: "far".to_owned(), endpoints: Vec::new() }],
        pod_prefixes: vec!["10.2.0.0/24".parse::<carrick_model::Prefix>().expect("prefix").into()],
        mesh_prefix: Some(mesh.into()),
        nodes: vec![NodeEntry {
            name: "far-node".to_owned(),
            mesh_address: mesh.node(0).expect("node").octets().to_vec(),
        }],
        consents: true,
        ..ClusterSnapshot::default()
    };
    let tunnel = TunnelState { up: true, ..TunnelState::default() };
    let connection = ConnectionState {
        gateway: "far".to_owned(),
        tunnels: vec![tunnel],
        ..ConnectionState::default()
    };
    let peer = PeerState {
        cluster: "osaka".to_owned(),
        connections: vec![connection],
        snapshot: Some(osaka.sign_snapshot(&content).expect("signed")),
        ..PeerState::default()
    };
    GatewayState { release: "0.1.0".to_owned(), peers: vec![peer], ..GatewayState::default() }
}

fn condition(status: &Value, type_: &str) -> Option<(String, String)> {
    let conditions = status["conditions"].as_array()?;
    let found = conditions.iter().find(|c| c["type"] == type_)?;
    let text = |key: &str| found[key].as_str().map(str::to_owned);
    Some((text("status")?, text("reason")?))
}

fn ready_is(rig: &Rig, wanted: &str) -> Option<()> {
    (condition(&rig.status("osaka")?, "Ready")?.0 == wanted).then_some(())
}

#[tokio::test]
async fn a_peering_becomes_ready_and_stops_being_so() {
    let rig = Rig::start().await;
    let osaka = ClusterIdentity::generate().expect("identity");
    let mut gateway = Member::start(&rig, "token-of-gw-0").await;
    let mut agent = Member::start(&rig, "token-of-ag-0").await;
    rig.apply(peering(&osaka, false)).await;

    let config = gateway
        .hear(|kind| match kind {
            from_controller::Kind::Gateway(c) if !c.peerings.is_empty() => Some(c.clone()),
            _ => None,
        })
        .await;
    assert_eq!(config.peerings[0].cluster, "osaka");
    assert_eq!(config.nodes.len(), 1, "its mesh address was remembered first");
    gateway.say(from_member::Kind::Gateway(connected(&osaka))).await;

    let config = agent
        .hear(|kind| match kind {
            from_controller::Kind::Agent(c) if !c.clusters.is_empty() => Some(c.clone()),
            _ => None,
        })
        .await;
    assert_eq!(config.clusters[0].gateways, ["gw-0"]);
    let target = ProbeTarget { ok: true, ..ProbeTarget::default() };
    let probe = ProbeState { cluster: "osaka".to_owned(), targets: vec![target] };
    let mut state =
        AgentState { applied: config.generation, probes: vec![probe], ..AgentState::default() };
    agent.say(from_member::Kind::Agent(state.clone())).await;
    until("Ready is True", || ready_is(&rig, "True")).await;

    let target = &mut state.probes[0].targets[0];
    (target.ok, target.reason) = (false, "LargePacketsLost".to_owned());
    agent.say(from_member::Kind::Agent(state)).await;
    until("Ready is False", || ready_is(&rig, "False")).await;
    let status = rig.status("osaka").expect("status");
    let said = condition(&status, "DataPathReady").expect("there");
    assert_eq!(said, ("False".to_owned(), "LargePacketsLost".to_owned()));
    assert_eq!(status["prefixes"]["imported"], json!(["10.2.0.0/24"]));
    until("Events are told", || {
        let events = rig.api.writes("/events");
        events.iter().any(|e| e["reason"] == "LargePacketsLost").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_suspension_reaches_gateways_and_a_failed_write_is_repeated() {
    let rig = Rig::start().await;
    let osaka = ClusterIdentity::generate().expect("identity");
    let mut gateway = Member::start(&rig, "token-of-gw-0").await;
    rig.apply(peering(&osaka, false)).await;
    let peerings = |wanted: usize| {
        move |kind: &from_controller::Kind| match kind {
            from_controller::Kind::Gateway(c) if c.peerings.len() == wanted => Some(()),
            _ => None,
        }
    };
    gateway.hear(peerings(1)).await;
    rig.api.fail(2);
    rig.apply(peering(&osaka, true)).await;
    gateway.hear(peerings(0)).await;
    until("the suspension is written", || {
        let said = condition(&rig.status("osaka")?, "Connected")?;
        (said.1 == "Suspended").then_some(())
    })
    .await;
}

#[tokio::test]
async fn who_may_not_join_is_told_why() {
    let rig = Rig::start().await;
    let gone = "carrick-gateway-9";
    rig.api.token("dead", review("carrick-gateway", gone, "gw-9"));
    rig.api.token("stranger", review("default", "p", "u"));
    let mut elsewhere = review("carrick-gateway", "carrick-gateway-0", "gw-0");
    elsewhere["audiences"] = json!(["https://kubernetes.default.svc"]);
    rig.api.token("audience", elsewhere);
    let older = review("carrick-gateway", "carrick-gateway-0", "another-uid");
    rig.api.token("replaced", older);
    for (token, told) in [
        ("nonsense", "invalid bearer token"),
        ("dead", "no longer exists"),
        ("replaced", "no longer exists"),
        ("stranger", "only carrick-gateway and carrick-agent"),
        ("audience", "audience carrick.dev"),
    ] {
        match join(&member(None), rig.address, &rig.pin(), token).await {
            Err(JoinError::Refused { message, .. }) => {
                assert!(message.contains(told), "{token}: {message}");
            }
            other => panic!("{token}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_gateway_whose_pod_is_gone_loses_its_link_and_does_not_come_back() {
    let rig = Rig::start().await;
    let token = "token-of-gw-0";
    let credentials = join(&member(None), rig.address, &rig.pin(), token).await.expect("joined");
    let exchange = member(Some(credentials));
    let link = exchange.dial(Protocol::Member, rig.address, &rig.pin()).await.expect("linked");
    rig.send(Event::Pods(Change::Gone("gw-0".to_owned()))).await;
    let why = tokio::time::timeout(PATIENCE, link.closed()).await.expect("closed in time");
    assert_eq!(why.reason(), "Withdrawn");
    let again = exchange.dial(Protocol::Member, rig.address, &rig.pin()).await;
    assert!(again.is_err(), "its certificate still holds, but it is no member");
}

#[tokio::test]
async fn a_report_that_is_not_its_roles_ends_the_link() {
    let rig = Rig::start().await;
    let mut agent = Member::start(&rig, "token-of-ag-0").await;
    agent.say(from_member::Kind::Gateway(GatewayState::default())).await;
    let why = tokio::time::timeout(PATIENCE, agent.link.closed()).await.expect("closed in time");
    assert_eq!(why.reason(), "Violation");
}

#[tokio::test]
async fn a_newer_link_of_a_member_replaces_the_older() {
    let rig = Rig::start().await;
    let first = Member::start(&rig, "token-of-gw-0").await;
    let mut second = Member::start(&rig, "token-of-gw-0").await;
    let why = tokio::time::timeout(PATIENCE, first.link.closed()).await.expect("closed in time");
    assert_eq!(why.reason(), "Duplicate");
    let any = |kind: &from_controller::Kind| {
        matches!(kind, from_controller::Kind::Gateway(_)).then_some(())
    };
    second.hear(any).await;
}

#[tokio::test]
async fn nothing_is_written_or_said_while_nothing_changes() {
    let rig = Rig::start().await;
    let osaka = ClusterIdentity::generate().expect("identity");
    let mut gateway = Member::start(&rig, "token-of-gw-0").await;
    rig.apply(peering(&osaka, false)).await;
    gateway.say(from_member::Kind::Gateway(GatewayState::default())).await;
    until("a first status", || rig.status("osaka")).await;
    until("a first identity", || {
        let writes = rig.api.writes("/clusteridentities/self/status");
        writes
            .iter()
            .any(|w| condition(&w["status"], "Ready").is_some_and(|c| c.0 == "True"))
            .then_some(())
    })
    .await;
    let (said, own) = (
        rig.api.writes("/clusterpeerings/osaka/status").len(),
        rig.api.writes("/clusteridentities/self/status").len(),
    );
    for _ in 0..20 {
        rig.apply(peering(&osaka, false)).await;
        gateway.say(from_member::Kind::Gateway(GatewayState::default())).await;
    }
    // A change that shows comes after all that does not.
    rig.apply(peering(&osaka, true)).await;
    until("the suspension is written", || {
        let said = condition(&rig.status("osaka")?, "Connected")?;
        (said.1 == "Suspended").then_some(())
    })
    .await;
    assert_eq!(rig.api.writes("/clusterpeerings/osaka/status").len(), said + 1);
    assert_eq!(rig.api.writes("/clusteridentities/self/status").len(), own);
}

#[tokio::test]
async fn a_status_that_somebody_else_edits_is_written_again_and_its_echo_is_not() {
    let rig = Rig::start().await;
    let osaka = ClusterIdentity::generate().expect("identity");
    let mut gateway = Member::start(&rig, "token-of-gw-0").await;
    gateway.say(from_member::Kind::Gateway(GatewayState::default())).await;
    let with = |status: &Value| PeeringObject {
        status: serde_json::from_value(status.clone()).expect("status"),
        ..peering(&osaka, false)
    };
    rig.apply(peering(&osaka, false)).await;
    let connecting = || {
        let status = rig.status("osaka")?;
        (condition(&status, "Connected")?.1 == "NoEndpoint").then_some(status)
    };
    let wanted = until("a first status", connecting).await;
    let writes = || rig.api.writes("/clusterpeerings/osaka/status").len();
    let before = writes();
    let mut foreign = wanted.clone();
    foreign["conditions"][0]["message"] = json!("all is well, says somebody");
    for status in [&wanted, &foreign] {
        rig.apply(with(status)).await;
    }
    until("the status is written over", || (writes() > before).then_some(())).await;
    assert_eq!(rig.status("osaka"), Some(wanted.clone()));
    rig.apply(with(&wanted)).await;
    // A change that shows comes after all that does not.
    rig.apply(PeeringObject { generation: Some(2), ..with(&wanted) }).await;
    until("the new generation", || (rig.status("osaka")?["observedGeneration"] == 2).then_some(()))
        .await;
    assert_eq!(writes(), before + 2);
}
