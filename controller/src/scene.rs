//! A small world for tests: cluster `paris` with two nodes and one gateway, and peers that sign.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use carrick_crds::condition::{self, PeeringCondition};
use carrick_crds::peering::AcceptSpec;
use carrick_crds::{ClusterPeeringSpec, ClusterPeeringStatus};
use carrick_exchange::ClusterIdentity;
use carrick_exchange::message::member::{
    AgentConfig, AgentState, ConnectFailure, ConnectionState, FromController, GatewayConfig,
    GatewayState, PeerState, ProbeState, ProbeTarget, TunnelState, from_controller::Kind,
};
use carrick_exchange::message::snapshot::{
    ClusterSnapshot, GatewayEntry, NodeEntry, SignedSnapshot,
};
use carrick_model::{MemberName, MeshPrefix, Prefix};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::cluster::node::Readiness;
use crate::cluster::{AGENT, AgentScheduling, GATEWAY, NodeFacts, PodFacts, ServiceFacts};
use crate::event::Change;
use crate::identity::Record;
use crate::options::{DrillLimits, Settings};
use crate::outbox::Outbox;
use crate::peering::conditions::{Evidence, judge};
use crate::peering::status::status;
use crate::peering::{PeeringObject, resolve};
use crate::plan::{Plan, base, plan};
use crate::world::{Member, Now, World};

pub const GATEWAY_UID: &str = "gw-0";

/// The world, and what an engine would remember of it.
pub struct Scene {
    pub world: World,
    pub identity: ClusterIdentity,
    pub outbox: Outbox,
    pub now: Now,
    pub statuses: BTreeMap<String, ClusterPeeringStatus>,
}

/// Another cluster, with its key.
pub struct Peer {
    pub name: String,
    pub identity: ClusterIdentity,
    pub generation: u64,
    pub prefixes: Vec<Prefix>,
    pub consents: bool,
    pub drills: bool,
    pub drill: String,
}

pub fn prefix(text: &str) -> Prefix {
    text.parse().expect(text)
}

pub fn name(text: &str) -> MemberName {
    text.parse().expect(text)
}

pub fn settings() -> Settings {
    Settings {
        cluster: "paris".parse().expect("id"),
        pod_ranges: Vec::new(),
        service_ranges: vec![prefix("10.96.0.0/16")],
        reserved: Vec::new(),
        mesh: None,
        vni: 51746,
        vxlan_port: 7789,
        gateway_base_port: 31820,
        gateway_port_stride: 8,
        gateway_addresses: Vec::new(),
        tunnel_mtu: 1420,
        agents: AgentScheduling::default(),
        drills: DrillLimits {
            enabled: true,
            kinds: [
                "GatewayCrash",
                "GatewayDrain",
                "PathLoss",
                "PathDegraded",
                "Partition",
                "AgentLinkLost",
                "APIServerUnreachable",
            ]
            .map(str::to_owned)
            .into(),
            max_seconds: 300,
            cool_down_seconds: 60,
        },
        namespace: "carrick-system".to_owned(),
    }
}

fn node(index: u8) -> NodeFacts {
    NodeFacts {
        name: format!("n{index}"),
        readiness: Readiness::Ready,
        wants_agent: true,
        internal: vec![format!("172.20.0.1{index}").parse().expect("address")],
        external: Vec::new(),
        pod_prefixes: vec![prefix(&format!("10.1.{index}.0/24"))],
    }
}

fn pod(uid: &str, pod: &str, account: &str, node: &str, address: &str) -> PodFacts {
    PodFacts {
        namespace: "carrick-system".to_owned(),
        name: pod.to_owned(),
        uid: uid.to_owned(),
        account: account.to_owned(),
        node: node.to_owned(),
        address: address.parse().ok(),
        host_network: account == AGENT,
        ready: true,
        terminating: false,
    }
}

impl Peer {
    pub fn new(name: &str, prefixes: &[&str]) -> Self {
        Self {
            name: name.to_owned(),
            identity: ClusterIdentity::generate().expect("identity"),
            generation: 1,
            prefixes: prefixes.iter().map(|p| prefix(p)).collect(),
            consents: true,
            drills: false,
            drill: String::new(),
        }
    }

    pub fn mesh(&self) -> MeshPrefix {
        MeshPrefix::for_identity(&self.identity.public())
    }

    /// The peering that accepts `ranges` of this peer.
    pub fn spec(&self, ranges: &[&str]) -> ClusterPeeringSpec {
        ClusterPeeringSpec {
            cluster_id: self.name.clone(),
            identities: vec![self.identity.public().to_string()],
            accept: AcceptSpec {
                pod_ranges: ranges.iter().map(|r| (*r).to_owned()).collect(),
                max_prefixes: 8,
            },
            access: "AllPods".to_owned(),
            drills: "Deny".to_owned(),
            remap: "Never".to_owned(),
            ..ClusterPeeringSpec::default()
        }
    }

    pub fn snapshot(&self) -> SignedSnapshot {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
        let node = self.mesh().node(0).expect("node");
        let content = ClusterSnapshot {
            cluster: self.name.clone(),
            audience: "paris".to_owned(),
            epoch: 1,
            generation: self.generation,
            issued_at: now.as_secs(),
            expires_at: now.as_secs() + 3600,
            gateways: vec![GatewayEntry { name: "far".to_owned(), endpoints: Vec::new() }],
            pod_prefixes: self.prefixes.iter().map(|p| (*p).into()).collect(),
            mesh_prefix: Some(self.mesh().into()),
            nodes: vec![NodeEntry {
                name: "far-node".to_owned(),
                mesh_address: node.octets().to_vec(),
            }],
            consents: self.consents,
            drills: self.drills,
            drill: self.drill.clone(),
        };
        self.identity.sign_snapshot(&content).expect("signature")
    }

    /// What our gateway says of this peer while a tunnel is up.
    pub fn connected(&self) -> PeerState {
        let tunnel = TunnelState {
            endpoint: "192.0.2.1:31821".to_owned(),
            up: true,
            last_handshake: 1,
            ..TunnelState::default()
        };
        let connection = ConnectionState {
            gateway: "far".to_owned(),
            remote: "192.0.2.1:31820".to_owned(),
            release: "0.1.0".to_owned(),
            version: 1,
            rtt_micros: 20_000,
            tunnels: vec![tunnel],
        };
        PeerState {
            cluster: self.name.clone(),
            connections: vec![connection],
            snapshot: Some(self.snapshot()),
            ..PeerState::default()
        }
    }

    /// What our gateway says of this peer when dialling fails.
    pub fn failing(&self, endpoint: &str, reason: &str, message: &str) -> PeerState {
        let failure = ConnectFailure {
            endpoint: endpoint.to_owned(),
            reason: reason.to_owned(),
            message: message.to_owned(),
            at: 1,
        };
        PeerState { cluster: self.name.clone(), failures: vec![failure], ..PeerState::default() }
    }
}

impl Scene {
    pub fn new() -> Self {
        let identity = ClusterIdentity::generate().expect("identity");
        let mut world = World::new(Arc::new(settings()), identity.public(), Record::default());
        for index in [0, 1] {
            let node = node(index);
            world.facts.nodes.insert(node.name.clone(), node);
        }
        for pod in [
            pod(GATEWAY_UID, "carrick-gateway-0", GATEWAY, "n0", "10.1.0.5"),
            pod("ag-0", "carrick-agent-a", AGENT, "n0", "172.20.0.10"),
            pod("ag-1", "carrick-agent-b", AGENT, "n1", "172.20.0.11"),
        ] {
            world.facts.pods.insert(pod.uid.clone(), pod);
        }
        let service = ServiceFacts {
            name: "carrick-gateway-0".to_owned(),
            node_ports: true,
            load_balancer: Vec::new(),
            wants_load_balancer: false,
        };
        world.facts.services.insert(service.name.clone(), service);
        let slice = ("kubernetes".to_owned(), vec![[172, 20, 1, 1].into()]);
        world.facts.api_server.take(Change::All(vec![slice]));
        let now = Now::read();
        let outbox = Outbox::new(now);
        let mut scene = Self { world, identity, outbox, now, statuses: BTreeMap::new() };
        scene.gateway_says(Vec::new());
        scene.agents_say(|_, _| {});
        scene.step();
        // Mesh addresses count once they are remembered; agents then set up their nodes.
        scene.step();
        scene.agents_apply(&[]);
        scene
    }

    /// Adds or replaces a peering.
    pub fn peer(&mut self, object: &str, spec: ClusterPeeringSpec) {
        let age = i64::try_from(self.world.peerings.len()).expect("few");
        let held = self.world.peerings.get(object);
        let created =
            held.map_or_else(|| Timestamp::from_second(1000 + age).expect("time"), |h| h.created);
        let generation = held.and_then(|held| held.generation).unwrap_or_default() + 1;
        let peering = PeeringObject {
            name: object.to_owned(),
            uid: format!("uid-{object}"),
            generation: Some(generation),
            created,
            spec: Ok(spec),
            status: ClusterPeeringStatus::default(),
        };
        self.world.peerings.insert(object.to_owned(), peering);
    }

    pub fn gateway_says(&mut self, peers: Vec<PeerState>) {
        let state = GatewayState { release: "0.1.0".to_owned(), peers, ..GatewayState::default() };
        let member = Member { state: Some(state), lost: None };
        self.world.gateways.insert(name(GATEWAY_UID), member);
    }

    /// Both agents report what they had reported, changed by `change`.
    pub fn agents_say(&mut self, change: impl Fn(&str, &mut AgentState)) {
        for node in ["n0", "n1"] {
            let held = self.world.agents.get(&name(node)).and_then(|m| m.state.clone());
            let mut state = held.unwrap_or_default();
            change(node, &mut state);
            self.world.agent_reported(name(node), state, self.now.instant);
        }
    }

    /// Both agents have applied what they were told, and probes to `peers` come back.
    pub fn agents_apply(&mut self, peers: &[&Peer]) {
        let told: BTreeMap<String, u64> =
            self.outbox.generations().1.map(|(n, g)| (n.to_string(), g)).collect();
        let probe = |peer: &&Peer| ProbeState {
            cluster: peer.name.clone(),
            targets: vec![ProbeTarget {
                address: peer.mesh().node(0).expect("node").octets().to_vec(),
                ok: true,
                ..ProbeTarget::default()
            }],
        };
        self.agents_say(|node, state| {
            state.applied = told.get(node).copied().unwrap_or_default();
            state.probes = peers.iter().map(probe).collect();
        });
    }

    /// One turn of the engine.
    pub fn step(&mut self) -> Plan {
        let base = base(&self.world);
        let resolved = resolve(&base.own, &self.world.peerings);
        let gateways = self.world.gateways.values().filter_map(|m| m.state.as_ref());
        let own = &self.world.settings.cluster;
        self.world.remotes.refresh(own, &resolved, gateways, SystemTime::now());
        let plan = plan(&self.world, &base, &resolved, self.now);
        self.outbox.update(&plan, &self.identity, self.now).expect("signed");
        for one in &resolved {
            let (world, outbox, now) = (&self.world, &self.outbox, self.now);
            let evidence = Evidence { world, plan: &plan, outbox, now };
            let before = self.statuses.entry(one.object.name.clone()).or_default();
            let judgement = judge(evidence, one, &before.conditions);
            *before = status(evidence, one, &judgement, before);
        }
        drop(resolved);
        self.world.claims.clone_from(&plan.claims.granted);
        self.world.path_mtus.clone_from(&plan.path_mtus);
        self.world.record = plan.record.clone();
        plan
    }

    pub fn pass(&mut self, time: Duration) {
        self.now.instant += time;
    }

    pub fn condition(&self, object: &str, type_: PeeringCondition) -> Condition {
        let conditions = &self.statuses[object].conditions;
        condition::find(conditions, type_.as_str()).cloned().expect("every condition is set")
    }

    /// A condition's status, reason and message.
    pub fn says(&self, object: &str, type_: PeeringCondition) -> (String, String, String) {
        let condition = self.condition(object, type_);
        (condition.status, condition.reason, condition.message)
    }

    pub fn gateway_config(&self) -> GatewayConfig {
        match self.outbox.for_gateways().map(|frame| FromController::clone(frame).kind) {
            Some(Some(Kind::Gateway(config))) => config,
            other => panic!("no gateway configuration: {other:?}"),
        }
    }

    pub fn agent_config(&self, node: &str) -> AgentConfig {
        match self.outbox.for_agent(&name(node)).map(|frame| FromController::clone(frame).kind) {
            Some(Some(Kind::Agent(config))) => config,
            other => panic!("no agent configuration: {other:?}"),
        }
    }

    /// The unreachable prefixes of node n0.
    pub fn unreachable_prefixes(&self) -> Vec<Prefix> {
        let all = &self.agent_config("n0").unreachable;
        carrick_exchange::wire::prefixes(all, "unreachable").expect("prefixes")
    }

    /// The same, as texts.
    pub fn unreachable(&self) -> Vec<String> {
        self.unreachable_prefixes().iter().map(ToString::to_string).collect()
    }

    /// The prefixes that node n0 routes to `cluster`, and by how many gateways.
    pub fn routes(&self, cluster: &str) -> Option<(Vec<Prefix>, usize)> {
        let config = self.agent_config("n0");
        let remote = config.clusters.iter().find(|c| c.cluster == cluster)?;
        let prefixes = carrick_exchange::wire::prefixes(&remote.prefixes, "p").expect("prefixes");
        Some((prefixes, remote.gateways.len()))
    }
}
