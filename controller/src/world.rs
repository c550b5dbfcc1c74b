//! All that the plan is made from: facts of the Kubernetes API, what members report, and what is
//! remembered across restarts. Only the engine changes it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use carrick_exchange::message::member::{AgentState, GatewayProbe, GatewayState, ProbeTarget};
use carrick_exchange::wire;
use carrick_model::{ClusterId, IdentityKey, MemberName, MeshPrefix, Prefix};
use jiff::Timestamp;

use crate::book::Shared;
use crate::cluster::{Facts, NodeFacts, PodFacts};
use crate::drill::DrillObject;
use crate::identity::Record;
use crate::options::Settings;
use crate::peering::PeeringObject;
use crate::remote::Remotes;

/// How long a member's last words count after its link broke.
pub const MEMBER_GRACE: Duration = Duration::from_secs(10);

/// How long probe results outlast a report that has none, such as the first after an agent's restart.
pub const PROBE_GRACE: Duration = Duration::from_secs(5);

/// One moment, by both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// For intervals.
    pub instant: Instant,
    /// For what is written.
    pub wall: Timestamp,
}

impl Now {
    /// This moment.
    pub fn read() -> Self {
        Self { instant: Instant::now(), wall: Timestamp::now() }
    }
}

/// All that the plan is made from.
#[derive(Debug)]
pub struct World {
    /// What the operator set.
    pub settings: Arc<Settings>,
    /// Our identity's public key.
    pub identity: IdentityKey,
    /// What the Kubernetes API says.
    pub facts: Facts,
    /// The ClusterPeerings, by name.
    pub peerings: BTreeMap<String, PeeringObject>,
    /// The FailoverDrills, by name.
    pub drills: BTreeMap<String, DrillObject>,
    /// What is remembered across restarts.
    pub record: Record,
    /// Gateways that have joined.
    pub gateways: BTreeMap<MemberName, Member<GatewayState>>,
    /// Agents that have joined.
    pub agents: BTreeMap<MemberName, Member<AgentState>>,
    /// The newest probe results of each node, by cluster.
    pub probes: BTreeMap<MemberName, BTreeMap<String, Probes>>,
    /// What other clusters say, verified.
    pub remotes: Remotes,
    /// Claims granted in the plan before, by node.
    pub claims: BTreeMap<String, Vec<Prefix>>,
    /// What the paths to each cluster carried in inner packets in the plan before, in bytes.
    pub path_mtus: BTreeMap<ClusterId, u32>,
    /// How services are shared; `None` where they are not, or before that is known.
    pub shared: Option<Shared>,
}

/// A gateway or agent, as its link shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Member<S> {
    /// Its newest report.
    pub state: Option<S>,
    /// When its link broke; `None` while it stands.
    pub lost: Option<Instant>,
}

impl<S> Member<S> {
    /// A member whose link has just come up; what an earlier link reported stays until it speaks.
    pub fn connected(before: Option<Self>) -> Self {
        Self { state: before.and_then(|member| member.state), lost: None }
    }

    /// Its report, unless its link broke too long ago.
    pub fn live(&self, now: Instant) -> Option<&S> {
        let fresh = self.lost.is_none_or(|lost| now < lost + MEMBER_GRACE);
        self.state.as_ref().filter(|_| fresh)
    }
}

/// Probe results of one node to one cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct Probes {
    /// One a target.
    pub targets: Vec<ProbeTarget>,
    /// When they were last reported.
    pub at: Instant,
}

impl World {
    /// Before anything is known.
    pub fn new(settings: Arc<Settings>, identity: IdentityKey, record: Record) -> Self {
        Self {
            settings,
            identity,
            facts: Facts::default(),
            peerings: BTreeMap::new(),
            drills: BTreeMap::new(),
            record,
            gateways: BTreeMap::new(),
            agents: BTreeMap::new(),
            probes: BTreeMap::new(),
            remotes: Remotes::default(),
            claims: BTreeMap::new(),
            path_mtus: BTreeMap::new(),
            shared: None,
        }
    }

    /// Our cluster ID.
    pub fn cluster(&self) -> &ClusterId {
        &self.settings.cluster
    }

    /// Our mesh prefix.
    pub fn mesh(&self) -> MeshPrefix {
        self.settings.mesh.unwrap_or_else(|| MeshPrefix::for_identity(&self.identity))
    }

    /// Whether a node serves: Kubernetes says so, or its agent is linked with us and wanted there. A kubelet that cannot
    /// reach the API server, for one, makes its node unready, and stops no packet.
    pub fn serves(&self, node: &NodeFacts) -> bool {
        let linked = || {
            let name = node.name.parse::<MemberName>().ok();
            let agent = name.and_then(|name| self.agents.get(&name));
            agent.is_some_and(|agent| agent.lost.is_none() && agent.state.is_some())
        };
        node.wants_agent && (node.is_ready() || linked())
    }

    /// The largest inner packet in bytes that fits whole into the VXLAN packets between all nodes and gateways, as agents
    /// say; `None` while nobody knows.
    pub fn mesh_mtu(&self, now: Instant) -> Option<u32> {
        let agents = self.agents.values().filter_map(|member| member.live(now));
        agents.map(|state| state.mesh_mtu).filter(|mtu| *mtu > 0).min()
    }

    /// Outer address of a node's VXLAN packets. In an overlay that is the one by which the node is part of it, as its
    /// agent says: packets between pods and the address that Kubernetes knows pass by another device each way, and many
    /// networks drop those that bear a pod's source. It is believed where the node's own pods live.
    pub fn outer_address(&self, node: &NodeFacts) -> Option<IpAddr> {
        let name = node.name.parse::<MemberName>().ok();
        let state = name.and_then(|name| self.agents.get(&name)?.state.as_ref());
        let said = state.and_then(|state| wire::address(&state.outer_address, "outer").ok());
        let claims = self.claims.get(&node.name).into_iter().flatten();
        let mut own = claims.chain(&node.pod_prefixes);
        said.filter(|said| own.any(|prefix| prefix.contains(*said))).or(node.address())
    }

    /// What live agents say of gateways of ours, by node.
    pub fn gateway_probes(
        &self,
        now: Instant,
    ) -> impl Iterator<Item = (&MemberName, &GatewayProbe)> {
        let agents = self.agents.iter().filter_map(move |(name, m)| Some((name, m.live(now)?)));
        agents.flat_map(|(name, state)| state.gateways.iter().map(move |probe| (name, probe)))
    }

    /// The same, by gateway.
    pub fn probes_by_gateway(
        &self,
        now: Instant,
    ) -> BTreeMap<&str, Vec<(&MemberName, &GatewayProbe)>> {
        let mut all = BTreeMap::<&str, Vec<_>>::new();
        for (node, probe) in self.gateway_probes(now) {
            all.entry(&probe.gateway).or_default().push((node, probe));
        }
        all
    }

    /// What the gateway of a pod of ours says of itself, while it lives.
    pub fn gateway_says(&self, pod: &PodFacts, now: Instant) -> Option<&GatewayState> {
        self.gateways.get(&pod.uid.parse().ok()?)?.live(now)
    }

    /// Gateways of ours that do not answer some node, as live agents say.
    pub fn silent_gateways(&self, now: Instant) -> BTreeSet<&str> {
        let silent = self.gateway_probes(now).filter(|(_, probe)| probe.is_silent());
        silent.map(|(_, probe)| probe.gateway.as_str()).collect()
    }

    /// Takes an agent's report.
    pub fn agent_reported(&mut self, name: MemberName, mut state: AgentState, now: Instant) {
        if let Some(before) = self.agents.get(&name).and_then(|member| member.state.as_ref()) {
            // It may have just begun, and not have looked yet.
            if state.mesh_mtu == 0 {
                state.mesh_mtu = before.mesh_mtu;
            }
            if state.outer_address.is_empty() {
                state.outer_address.clone_from(&before.outer_address);
            }
        }
        let held = self.probes.entry(name.clone()).or_default();
        for probe in &state.probes {
            // A target that is neither good nor bad has not been measured yet: the agent has just
            // begun, and what it found before counts a little longer.
            let measured = probe.targets.iter().filter(|t| t.ok || !t.reason.is_empty());
            let targets: Vec<ProbeTarget> = measured.cloned().collect();
            if !targets.is_empty() {
                held.insert(probe.cluster.clone(), Probes { targets, at: now });
            }
        }
        held.retain(|_, probes| now < probes.at + PROBE_GRACE || is_reported(&state, probes));
        self.agents.insert(name, Member { state: Some(state), lost: None });
    }
}

/// Whether the report itself holds these results (which may be old because nothing changed since).
fn is_reported(state: &AgentState, probes: &Probes) -> bool {
    state.probes.iter().any(|probe| probe.targets == probes.targets)
}
