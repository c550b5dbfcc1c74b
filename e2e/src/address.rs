//! Which addresses a lab's clusters have.
//!
//! Labs have network namespaces of their own, so every lab uses the same
//! addresses. Only node addresses are routed between clusters: pods and
//! services of one cluster mean nothing to another's routers, as in clouds.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::spec::{CLUSTER_NAMES, LabSpec};

/// All pod and service ranges of all clusters: what routers must never carry.
pub const CLUSTER_RANGES: &str = "10.0.0.0/8";

/// The private networks of all clusters: the second way between them.
pub const PRIVATE_RANGES: &str = "172.30.0.0/16";

/// The addresses of one cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterPlan {
    /// The cluster's name.
    pub name: String,
    /// Its number in the lab, from 1.
    pub index: u8,
    /// Where its nodes live: routed between clusters.
    pub underlay: Ipv4Net,
    /// Its router: the nodes' default gateway.
    pub router: Ipv4Addr,
    /// Where its nodes live as well: routed between clusters by another way.
    pub private: Ipv4Net,
    /// The router's address there.
    pub private_router: Ipv4Addr,
    /// Its control plane.
    pub control_plane: Ipv4Addr,
    /// Its pods.
    pub pods: Ipv4Net,
    /// Its services.
    pub services: Ipv4Net,
    /// The `kubernetes` service: the first service address.
    pub api_service: Ipv4Addr,
    /// The cluster's DNS service.
    pub dns_service: Ipv4Addr,
    /// Its nodes.
    pub nodes: Vec<NodePlan>,
}

/// The addresses of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodePlan {
    /// The node's name: the cluster's with a number from 1.
    pub name: String,
    /// Its address on the underlay.
    pub address: Ipv4Addr,
    /// Its address on the private network.
    pub private: Ipv4Addr,
    /// Its pods.
    pub pods: Ipv4Net,
}

impl ClusterPlan {
    /// Plans the cluster with this number (from 1) and this many nodes. Both
    /// have been validated by [`LabSpec::validate`].
    #[must_use]
    pub fn new(index: u8, nodes: u8) -> Self {
        let name = CLUSTER_NAMES[usize::from(index) - 1].to_owned();
        let service = |last| Ipv4Addr::new(10, 100 + index, 0, last);
        let underlay = |last| Ipv4Addr::new(172, 31, index, last);
        let private = |last| Ipv4Addr::new(172, 30, index, last);
        Self {
            index,
            underlay: net(underlay(0), 24),
            router: underlay(1),
            private: net(private(0), 24),
            private_router: private(1),
            control_plane: underlay(10),
            pods: net(Ipv4Addr::new(10, index, 0, 0), 16),
            services: net(service(0), 16),
            api_service: service(1),
            dns_service: service(10),
            nodes: (1..=nodes)
                .map(|number| NodePlan {
                    name: format!("{name}-{number}"),
                    address: underlay(10 + number),
                    private: private(10 + number),
                    pods: net(Ipv4Addr::new(10, index, number, 0), 24),
                })
                .collect(),
            name,
        }
    }

    /// Plans all clusters of a validated lab.
    #[must_use]
    pub fn all(spec: &LabSpec) -> Vec<Self> {
        (1..=spec.clusters).map(|index| Self::new(index, spec.nodes)).collect()
    }

    /// The name of the machine of its router.
    #[must_use]
    pub fn router_name(&self) -> String {
        format!("{}-router", self.name)
    }

    /// The name of its site on the private network between clusters.
    #[must_use]
    pub fn private_site(&self) -> String {
        format!("{}-private", self.name)
    }

    /// The name of the machine of its control plane.
    #[must_use]
    pub fn control_plane_name(&self) -> String {
        format!("{}-cp", self.name)
    }

    /// The address of the API server as clients write it.
    #[must_use]
    pub fn api_url(&self) -> String {
        format!("https://{}:6443", self.control_plane)
    }
}

fn net(address: Ipv4Addr, length: u8) -> Ipv4Net {
    Ipv4Net::new_assert(address, length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::MAX_NODES;

    fn largest() -> Vec<ClusterPlan> {
        let clusters = CLUSTER_NAMES.len().try_into().expect("few");
        ClusterPlan::all(&LabSpec { clusters, nodes: MAX_NODES, ..LabSpec::default() })
    }

    #[test]
    fn no_two_ranges_overlap() {
        let ranges: Vec<Ipv4Net> =
            largest().iter().flat_map(|c| [c.underlay, c.private, c.pods, c.services]).collect();
        for (i, a) in ranges.iter().enumerate() {
            for b in &ranges[i + 1..] {
                assert!(!a.contains(b) && !b.contains(a), "{a} and {b}");
            }
        }
    }

    #[test]
    fn nodes_are_inside_their_cluster_and_distinct() {
        for cluster in largest() {
            let mut seen = vec![cluster.router, cluster.control_plane];
            for node in &cluster.nodes {
                assert!(cluster.underlay.contains(&node.address));
                assert!(cluster.private.contains(&node.private));
                assert_ne!(node.private, cluster.private_router);
                assert!(cluster.pods.contains(&node.pods));
                assert!(!seen.contains(&node.address), "{}", node.address);
                seen.push(node.address);
            }
        }
    }

    #[test]
    fn routers_filter_pods_and_services_but_not_nodes() {
        let filtered: Ipv4Net = CLUSTER_RANGES.parse().expect("a prefix");
        for cluster in largest() {
            assert!(filtered.contains(&cluster.pods) && filtered.contains(&cluster.services));
            assert!(!filtered.contains(&cluster.underlay));
        }
    }
}
