//! A node, cut down to what the plan needs.

use std::net::IpAddr;

use carrick_model::Prefix;
use k8s_openapi::api::core::v1::Node;

use super::AgentScheduling;

/// What is known of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeFacts {
    /// Its name.
    pub name: String,
    /// What its condition `Ready` says.
    pub readiness: Readiness,
    /// An agent is to run on it, see [`AgentScheduling`].
    pub wants_agent: bool,
    /// Addresses on the cluster's network, IPv4 first.
    pub internal: Vec<IpAddr>,
    /// Addresses that others may reach from outside, IPv4 first.
    pub external: Vec<IpAddr>,
    /// `spec.podCIDRs`; entries that are no prefix are left out.
    pub pod_prefixes: Vec<Prefix>,
}

/// What a node's condition `Ready` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// True.
    Ready,
    /// False: the kubelet lives and says so.
    NotReady,
    /// Unknown: nothing was heard from the kubelet.
    Unreachable,
}

impl NodeFacts {
    /// Whether the node is in service.
    pub fn is_ready(&self) -> bool {
        self.readiness == Readiness::Ready
    }

    /// Its first address on the cluster's network.
    pub fn address(&self) -> Option<IpAddr> {
        self.internal.first().copied()
    }

    /// Where other clusters reach a NodePort on it: from outside if it has such an address.
    pub fn reachable_address(&self) -> Option<IpAddr> {
        self.external.first().or(self.internal.first()).copied()
    }

    /// What the API says of it; `scheduling` says where agents are wanted.
    pub fn read(node: &Node, scheduling: &AgentScheduling) -> Self {
        let status = node.status.as_ref();
        let addresses = |wanted: &str| {
            let all = status.and_then(|s| s.addresses.as_ref()).into_iter().flatten();
            let mut found: Vec<IpAddr> =
                all.filter(|a| a.type_ == wanted).filter_map(|a| a.address.parse().ok()).collect();
            found.sort_by_key(IpAddr::is_ipv6);
            found
        };
        let mut conditions = status.and_then(|s| s.conditions.as_ref()).into_iter().flatten();
        let readiness = match conditions.find(|c| c.type_ == "Ready").map(|c| c.status.as_str()) {
            Some("True") => Readiness::Ready,
            Some("Unknown") => Readiness::Unreachable,
            _ => Readiness::NotReady,
        };
        let spec = node.spec.as_ref();
        let listed = spec.and_then(|s| s.pod_cidrs.clone()).unwrap_or_default();
        let single = spec.and_then(|s| s.pod_cidr.clone()).filter(|_| listed.is_empty());
        Self {
            name: node.metadata.name.clone().unwrap_or_default(),
            readiness,
            wants_agent: scheduling.wants(node),
            internal: addresses("InternalIP"),
            external: addresses("ExternalIP"),
            pod_prefixes: listed.iter().chain(&single).filter_map(|p| p.parse().ok()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(json: serde_json::Value) -> NodeFacts {
        let node: Node = serde_json::from_value(json).expect("node");
        NodeFacts::read(&node, &AgentScheduling::default())
    }

    #[test]
    fn addresses_and_readiness_are_read() {
        let facts = node(serde_json::json!({
            "metadata": {"name": "n1", "labels": {"kubernetes.io/os": "windows"}},
            "spec": {"podCIDR": "10.1.0.0/24", "podCIDRs": ["10.1.0.0/24", "nonsense"]},
            "status": {
                "addresses": [
                    {"type": "InternalIP", "address": "fd00::1"},
                    {"type": "InternalIP", "address": "172.20.0.1"},
                    {"type": "Hostname", "address": "n1"},
                    {"type": "ExternalIP", "address": "192.0.2.1"},
                ],
                "conditions": [{"type": "Ready", "status": "Unknown"}],
            },
        }));
        assert_eq!((facts.readiness, facts.wants_agent), (Readiness::Unreachable, false));
        assert_eq!(facts.address(), "172.20.0.1".parse().ok());
        assert_eq!(facts.reachable_address(), "192.0.2.1".parse().ok());
        assert_eq!(facts.pod_prefixes, ["10.1.0.0/24".parse().expect("prefix")]);
    }

    #[test]
    fn a_bare_node_is_not_ready_and_has_nothing() {
        let facts = node(serde_json::json!({"metadata": {"name": "n1"}}));
        assert!(facts.wants_agent && !facts.is_ready() && facts.address().is_none());
    }
}
