//! Which pods are on this node, as the kernel's routes say: pure.

use std::net::{IpAddr, Ipv4Addr};

use carrick_model::Prefix;
use carrick_netlink::{Address, Link, LinkKind, Route, RouteKind};

use crate::config::NodeConfig;
use crate::plan::DEVICE;

/// More claims than this are not sent; a node has at most some hundred pods.
const MAX_CLAIMS: usize = 1024;

/// What the kernel has, of what claims follow from.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// All devices.
    pub links: Vec<Link>,
    /// All addresses.
    pub addresses: Vec<Address>,
    /// The main routing table.
    pub routes: Vec<Route>,
}

impl Facts {
    /// Prefixes of pods on this node: what the main table sends straight to a device that isn't the
    /// node's own uplink, the mesh or a tunnel, as far as this node may claim it. Sorted; none covers
    /// another.
    pub fn claims(&self, config: &NodeConfig) -> Vec<Prefix> {
        let mut found: Vec<Prefix> = self
            .routes
            .iter()
            .filter(|route| self.is_local(route, config))
            .map(|route| route.destination)
            .filter(|prefix| may_claim(prefix, config))
            .collect();
        // Wider ones first, so that what they cover falls away.
        found.sort_unstable_by_key(|prefix| (prefix.length(), *prefix));
        let mut claims: Vec<Prefix> = Vec::new();
        for prefix in found {
            if !claims.iter().any(|wider| wider.covers(&prefix)) {
                claims.push(prefix);
            }
        }
        claims.truncate(MAX_CLAIMS);
        claims.sort_unstable();
        claims
    }

    /// An address of the node itself that lies in its pods' range, as bridges have one: what leaves
    /// from it is treated as a pod's packets are.
    pub fn pod_side_address(&self, claims: &[Prefix]) -> Option<Ipv4Addr> {
        self.addresses
            .iter()
            .filter(|address| claims.iter().any(|claim| claim.contains(address.address)))
            .find_map(|address| match address.address {
                IpAddr::V4(v4) => Some(v4),
                IpAddr::V6(_) => None,
            })
    }

    fn is_local(&self, route: &Route, config: &NodeConfig) -> bool {
        if route.kind != RouteKind::Unicast || route.gateway.is_some() {
            return false;
        }
        let link = self.links.iter().find(|link| Some(link.index) == route.link);
        let Some(link) = link else { return false };
        let uplink = self
            .addresses
            .iter()
            .any(|address| address.link == link.index && address.address == config.node_address);
        let tunnel = matches!(link.kind, LinkKind::Vxlan(_))
            || matches!(&link.kind, LinkKind::Software(kind) if TUNNELS.contains(&kind.as_str()));
        !uplink && !tunnel && link.name != DEVICE && link.name != "lo"
    }
}

/// Devices whose routes lead to other nodes.
const TUNNELS: [&str; 7] = ["vxlan", "geneve", "ipip", "sit", "gre", "wireguard", "ip6tnl"];

fn may_claim(prefix: &Prefix, config: &NodeConfig) -> bool {
    let within = |ranges: &[Prefix]| ranges.iter().any(|range| range.covers(prefix));
    within(&config.pod_prefixes)
        && (config.node_pod_prefixes.is_empty() || within(&config.node_pod_prefixes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{config, prefix};

    fn link(index: u32, name: &str, kind: LinkKind) -> Link {
        Link {
            index,
            name: name.to_owned(),
            mac: None,
            queue: 1000,
            mtu: 1500,
            up: true,
            master: None,
            kind,
            forwarding: None,
            rp_filter: None,
            ipv6_addresses_off: None,
        }
    }

    fn route(destination: &str, link: u32, gateway: Option<&str>) -> Route {
        Route {
            kind: RouteKind::Unicast,
            link: Some(link),
            gateway: gateway.map(|text| text.parse().expect(text)),
            ..Route::unreachable(prefix(destination), 254, 0)
        }
    }

    fn facts(routes: Vec<Route>) -> Facts {
        let at =
            |link, text: &str, length| Address { link, address: text.parse().expect(text), length };
        Facts {
            links: vec![
                link(1, "lo", LinkKind::Plain),
                link(2, "eth0", LinkKind::Plain),
                link(3, "cni0", LinkKind::Bridge),
                link(4, "veth1", LinkKind::Software("veth".to_owned())),
                link(5, "flannel.1", LinkKind::Software("vxlan".to_owned())),
                link(6, DEVICE, LinkKind::Plain),
            ],
            addresses: vec![at(2, "192.0.2.11", 24), at(3, "10.1.0.1", 24)],
            routes,
        }
    }

    #[test]
    fn a_pod_bridge_is_claimed_and_covers_host_routes() {
        let facts = facts(vec![route("10.1.0.9/32", 4, None), route("10.1.0.0/24", 3, None)]);
        let claims = facts.claims(&config());
        assert_eq!(claims, [prefix("10.1.0.0/24")]);
        assert_eq!(facts.pod_side_address(&claims), Some(Ipv4Addr::new(10, 1, 0, 1)));
    }

    #[test]
    fn what_leads_elsewhere_is_not_claimed() {
        let facts = facts(vec![
            route("10.1.0.0/25", 2, None),
            route("10.1.0.128/25", 3, Some("10.1.0.1")),
            route("10.1.0.0/26", 5, None),
            route("10.1.0.64/26", 6, None),
            route("10.1.0.0/27", 99, None),
            route("172.16.0.0/16", 3, None),
            Route::unreachable(prefix("10.1.0.32/27"), 254, 0),
        ]);
        assert_eq!(facts.claims(&config()), []);
        assert_eq!(facts.pod_side_address(&[]), None);
    }

    #[test]
    fn another_nodes_range_is_never_claimed() {
        let facts = facts(vec![route("10.1.1.0/24", 3, None), route("10.1.0.7/32", 4, None)]);
        let mut config = config();
        assert_eq!(facts.claims(&config), [prefix("10.1.0.7/32")]);
        config.node_pod_prefixes.clear();
        assert_eq!(facts.claims(&config), [prefix("10.1.0.7/32"), prefix("10.1.1.0/24")]);
    }
}
