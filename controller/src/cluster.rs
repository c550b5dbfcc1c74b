//! What the Kubernetes API says of this cluster, cut down to what the plan needs, and what follows
//! from it: pod ranges, mesh addresses, gateway endpoints, claims.

pub mod api_server;
pub mod claims;
pub mod endpoints;
pub mod mesh;
pub mod node;
pub mod pauses;
pub mod pod;
pub mod ranges;
pub mod repair;
pub mod scheduling;
pub mod service;
pub mod watch;

pub use api_server::ApiServer;
pub use node::NodeFacts;
pub use pod::PodFacts;
pub use scheduling::AgentScheduling;
pub use service::ServiceFacts;

use std::collections::BTreeMap;

/// The ServiceAccount of gateways; also the name of their StatefulSet.
pub const GATEWAY: &str = "carrick-gateway";

/// The ServiceAccount of agents; also the name of their DaemonSet.
pub const AGENT: &str = "carrick-agent";

/// Facts about this cluster, by name (pods by UID).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    /// Nodes.
    pub nodes: BTreeMap<String, NodeFacts>,
    /// Pods of all namespaces that have not ended.
    pub pods: BTreeMap<String, PodFacts>,
    /// Services of Carrick's own namespace.
    pub services: BTreeMap<String, ServiceFacts>,
    /// Where the API server answers.
    pub api_server: ApiServer,
}

impl Facts {
    /// The gateway pods in `namespace`, in the order of their ordinals.
    pub fn gateway_pods(&self, namespace: &str) -> Vec<&PodFacts> {
        let mut pods = self.members(namespace, GATEWAY);
        pods.sort_by_key(|pod| (pod.ordinal(), pod.uid.clone()));
        pods
    }

    /// The agent pods in `namespace`.
    pub fn agent_pods(&self, namespace: &str) -> Vec<&PodFacts> {
        self.members(namespace, AGENT)
    }

    fn members(&self, namespace: &str, account: &str) -> Vec<&PodFacts> {
        let all = self.pods.values();
        all.filter(|pod| pod.namespace == namespace && pod.account == account).collect()
    }
}
