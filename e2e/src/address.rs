//! Which addresses a lab's clusters have.
//!
//! Labs have network namespaces of their own, so every lab uses the same
//! addresses. Only node addresses are routed between clusters: pods and
//! services of one cluster mean nothing to another's routers, as in clouds.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

use crate::spec::{CLUSTER_NAMES, Family, LabSpec};

/// All pod and service ranges of all clusters: what routers must never carry.
pub const CLUSTER_RANGES: &str = "10.0.0.0/8";

/// As above, of the second family.
pub const CLUSTER_RANGES_6: &str = "fd10::/16";

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
    /// What it has of IPv6, where it has both families.
    pub six: Option<SixPlan>,
}

/// What a cluster has of IPv6, beside IPv4.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SixPlan {
    /// Where its nodes live.
    pub underlay: Ipv6Net,
    /// Its router, which sends nothing on: nodes alone talk IPv6 with each other.
    pub router: Ipv6Addr,
    /// Its control plane.
    pub control_plane: Ipv6Addr,
    /// Its pods.
    pub pods: Ipv6Net,
    /// Its services.
    pub services: Ipv6Net,
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
    /// Its IPv6 address on the underlay and its IPv6 pods, where there are both families.
    pub six: Option<(Ipv6Addr, Ipv6Net)>,
}

impl NodePlan {
    /// Its addresses on the underlay, IPv4 first.
    #[must_use]
    pub fn addresses(&self) -> Vec<IpAddr> {
        let six = self.six.map(|(address, _)| address.into());
        std::iter::once(self.address.into()).chain(six).collect()
    }

    /// The ranges of its pods, IPv4 first.
    #[must_use]
    pub fn pod_ranges(&self) -> Vec<String> {
        let six = self.six.map(|(_, pods)| pods.to_string());
        std::iter::once(self.pods.to_string()).chain(six).collect()
    }
}

impl SixPlan {
    fn new(index: u8) -> Self {
        let underlay = |last| Ipv6Addr::new(0xfd72, 0x31, index.into(), 0, 0, 0, 0, last);
        let inside = |kind| Ipv6Addr::new(0xfd10, kind, index.into(), 0, 0, 0, 0, 0);
        Self {
            underlay: Ipv6Net::new_assert(underlay(0), 64),
            router: underlay(1),
            control_plane: underlay(0x10),
            pods: Ipv6Net::new_assert(inside(0), 48),
            services: Ipv6Net::new_assert(inside(0x100), 112),
        }
    }

    fn node(index: u8, number: u8) -> (Ipv6Addr, Ipv6Net) {
        let (index, number) = (u16::from(index), u16::from(number));
        let pods = Ipv6Addr::new(0xfd10, 0, index, number, 0, 0, 0, 0);
        let address = Ipv6Addr::new(0xfd72, 0x31, index, 0, 0, 0, 0, 0x10 + number);
        (address, Ipv6Net::new_assert(pods, 64))
    }
}

impl ClusterPlan {
    /// Plans the cluster with this number (from 1) and this many nodes, of IPv4. Both
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
                    six: None,
                })
                .collect(),
            six: None,
            name,
        }
    }

    /// With IPv6 as well.
    #[must_use]
    pub fn with_six(mut self) -> Self {
        self.six = Some(SixPlan::new(self.index));
        for (number, node) in (1..).zip(&mut self.nodes) {
            node.six = Some(SixPlan::node(self.index, number));
        }
        self
    }

    /// The ranges of its pods, IPv4 first, as flags have them.
    #[must_use]
    pub fn pod_ranges(&self) -> String {
        self.of_both(&self.pods, |six| six.pods)
    }

    /// The ranges of its services, IPv4 first, as flags have them.
    #[must_use]
    pub fn service_ranges(&self) -> String {
        self.of_both(&self.services, |six| six.services)
    }

    fn of_both(&self, four: &Ipv4Net, six: impl Fn(&SixPlan) -> Ipv6Net) -> String {
        match &self.six {
            Some(plan) => format!("{four},{}", six(plan)),
            None => four.to_string(),
        }
    }

    /// Plans all clusters of a validated lab.
    #[must_use]
    pub fn all(spec: &LabSpec) -> Vec<Self> {
        let plan = |index| match spec.family {
            Family::Ipv4 => Self::new(index, spec.nodes),
            Family::Dual => Self::new(index, spec.nodes).with_six(),
        };
        (1..=spec.clusters).map(plan).collect()
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
        let family = Family::Dual;
        ClusterPlan::all(&LabSpec { clusters, nodes: MAX_NODES, family, ..LabSpec::default() })
    }

    #[test]
    fn the_second_family_has_ranges_of_its_own() {
        let filtered: Ipv6Net = CLUSTER_RANGES_6.parse().expect("a prefix");
        let mut ranges: Vec<Ipv6Net> = Vec::new();
        for cluster in largest() {
            let six = cluster.six.as_ref().expect("both families");
            for range in [six.underlay, six.pods, six.services] {
                assert!(!ranges.iter().any(|r| r.contains(&range) || range.contains(r)), "{range}");
                ranges.push(range);
            }
            assert!(filtered.contains(&six.pods) && filtered.contains(&six.services));
            assert!(!filtered.contains(&six.underlay));
            let mut seen = vec![six.router, six.control_plane];
            for node in &cluster.nodes {
                let (address, pods) = node.six.expect("both families");
                assert!(six.underlay.contains(&address) && six.pods.contains(&pods));
                assert!(!seen.contains(&address), "{address}");
                seen.push(address);
            }
        }
        let paris = ClusterPlan::new(1, 1);
        assert_eq!(paris.service_ranges(), "10.101.0.0/16");
        assert_eq!(paris.with_six().service_ranges(), "10.101.0.0/16,fd10:100:1::/112");
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
