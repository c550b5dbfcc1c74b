//! What members were told: content becomes generations and signatures here, and only when it changed.
//!
//! A controller that begins anew starts from a higher epoch and generation, so that receivers take
//! it as newer; they compare contents, and equal content changes nothing there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use carrick_exchange::ClusterIdentity;
use carrick_exchange::identity::IdentityError;
use carrick_exchange::message::member::{
    AgentConfig, FromController, GatewayConfig, RemoteCluster, from_controller::Kind,
};
use carrick_exchange::snapshot::Version;
use carrick_exchange::snapshot::signer::Signer;
use carrick_model::{ClusterId, MemberName};

use crate::plan::Plan;
use crate::world::Now;

/// What members were told.
#[derive(Debug)]
pub struct Outbox {
    signer: Signer,
    gateway: Option<Told<GatewayConfig>>,
    agents: BTreeMap<MemberName, Told<AgentConfig>>,
}

/// What a member was told last.
#[derive(Debug)]
struct Told<C> {
    content: C,
    frame: Arc<FromController>,
    generation: u64,
    at: Instant,
    /// Since which generation a cluster's part is as it is now.
    clusters: BTreeMap<String, u64>,
}

impl Outbox {
    /// For a controller that begins `now`.
    pub fn new(now: Now) -> Self {
        let signer = Signer::new(now.wall.into());
        Self { signer, gateway: None, agents: BTreeMap::new() }
    }

    /// Takes a plan over.
    pub fn update(
        &mut self,
        plan: &Plan,
        identity: &ClusterIdentity,
        now: Now,
    ) -> Result<(), IdentityError> {
        self.sign(plan, identity, now)?;
        let mut gateway = plan.gateway.clone();
        for peering in &mut gateway.peerings {
            let cluster = peering.cluster.parse::<ClusterId>().ok();
            let signed = cluster.and_then(|cluster| self.signer.signed(&cluster));
            peering.snapshot = signed.cloned();
        }
        self.tell_gateways(gateway, now);
        self.agents.retain(|name, _| plan.agents.contains_key(name));
        for (name, config) in &plan.agents {
            self.tell_agent(name, config, now);
        }
        Ok(())
    }

    fn sign(
        &mut self,
        plan: &Plan,
        identity: &ClusterIdentity,
        now: Now,
    ) -> Result<(), IdentityError> {
        self.signer.retain(|cluster| plan.snapshots.contains_key(cluster));
        for (cluster, content) in &plan.snapshots {
            self.signer.sign(identity, cluster, content.clone(), now.wall.into())?;
        }
        Ok(())
    }

    fn tell_gateways(&mut self, content: GatewayConfig, now: Now) {
        if self.gateway.as_ref().is_some_and(|told| told.content == content) {
            return;
        }
        let generation = self.signer.next_generation();
        let frame = Kind::Gateway(GatewayConfig { generation, ..content.clone() });
        self.gateway = Some(Told {
            content,
            frame: Arc::new(FromController { kind: Some(frame) }),
            generation,
            at: now.instant,
            clusters: BTreeMap::new(),
        });
    }

    fn tell_agent(&mut self, name: &MemberName, content: &AgentConfig, now: Now) {
        let before = self.agents.get(name);
        if before.is_some_and(|told| told.content == *content) {
            return;
        }
        let generation = self.signer.next_generation();
        let since = |cluster: &RemoteCluster| {
            let unchanged = before.filter(|told| told.content.clusters.contains(cluster));
            let held = unchanged.and_then(|told| told.clusters.get(&cluster.cluster));
            (cluster.cluster.clone(), held.copied().unwrap_or(generation))
        };
        let clusters = content.clusters.iter().map(since).collect();
        let frame = Kind::Agent(AgentConfig { generation, ..content.clone() });
        let told = Told {
            content: content.clone(),
            frame: Arc::new(FromController { kind: Some(frame) }),
            generation,
            at: now.instant,
            clusters,
        };
        self.agents.insert(name.clone(), told);
    }

    /// The version of what we say to `cluster` now.
    pub fn version_for(&self, cluster: &ClusterId) -> Option<Version> {
        self.signer.version(cluster)
    }

    /// What every gateway is to hear.
    pub fn for_gateways(&self) -> Option<&Arc<FromController>> {
        self.gateway.as_ref().map(|told| &told.frame)
    }

    /// What this node's agent is to hear.
    pub fn for_agent(&self, name: &MemberName) -> Option<&Arc<FromController>> {
        self.agents.get(name).map(|told| &told.frame)
    }

    /// Since which generation the agent's part about `cluster` is as it is, and when its newest
    /// configuration was made.
    pub fn routes_since(&self, agent: &MemberName, cluster: &str) -> Option<(u64, Instant)> {
        let told = self.agents.get(agent)?;
        Some((*told.clusters.get(cluster)?, told.at))
    }

    /// The newest generations: the gateways', and each agent's.
    pub fn generations(&self) -> (u64, impl Iterator<Item = (&MemberName, u64)>) {
        let gateway = self.gateway.as_ref().map(|told| told.generation).unwrap_or_default();
        (gateway, self.agents.iter().map(|(name, told)| (name, told.generation)))
    }
}
