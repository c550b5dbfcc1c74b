//! From configuration to the kernel objects that should be: pure.

pub mod filter;
mod gateways;
mod sieve;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use carrick_model::fnv::fnv1a;
use carrick_model::{Family, Mac, Prefix, mesh};
use carrick_netlink::{
    FdbEntry, FdbTarget, GroupSupport, LinkSettings, Neighbour, Nexthop, NexthopKind, NftBody,
    Route, RouteKind, Rule, TABLE_MAIN, Vxlan,
};

pub use self::gateways::remembered;
use self::sieve::Sifted;
use crate::config::{Cluster, NodeConfig};
use crate::probe::gateways::Verdicts;

/// Our VXLAN device.
pub const DEVICE: &str = "carrick0";
/// Our routing table.
pub const TABLE: u32 = 51_820;
/// Priority of the rule that sends everything through our table; precedes the CNIs'.
const RULE_MESH: u32 = 40;
/// Priority of the rules that keep packets of gateway pods in the main table, so that what leaves a
/// tunnel never loops into the mesh.
const RULE_GATEWAYS: u32 = 39;
/// Metric of the routes that stand behind every mesh route: if the device goes, and its routes with
/// it, nothing leaves in clear until it is back.
const FALLBACK_METRIC: u32 = 0xffff_0000;
/// Device MTU in bytes while no cluster says another.
const DEFAULT_MTU: u32 = 1420;
/// The least device MTU in bytes: what every link of IPv6 carries.
const LEAST_DEVICE_MTU: u32 = 1280;
/// IPv4 and TCP header in bytes; IPv6's is 20 longer.
const TCP_HEADERS: u32 = 40;
/// Metric of mesh routes of IPv6, where 0 would become this.
const METRIC_SIX: u32 = 1024;
/// Reverse-path filter: an answer may come in by the mesh although the main table says otherwise.
const LOOSE: u32 = 2;

/// All that should be on the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Number of the configuration.
    pub generation: u64,
    /// How the device is made.
    pub vxlan: Vxlan,
    /// How it is set.
    pub settings: LinkSettings,
    /// The node's mesh address.
    pub mesh: Ipv4Addr,
    /// The same in its IPv6 form, where IPv6 is carried.
    pub mesh_six: Option<Ipv6Addr>,
    /// What goes to which cluster.
    pub mesh_routes: Vec<MeshRoute>,
    /// What never leaves the node but by a mesh route.
    pub captured: Vec<Prefix>,
    /// Mesh addresses of our gateways, which do not either.
    pub hosts: Vec<Prefix>,
    /// The rules.
    pub rules: Vec<Rule>,
    /// Outer addresses of the gateways on this node.
    pub local_gateways: Vec<IpAddr>,
    /// The clusters' next hops.
    pub neighbours: Vec<Neighbour>,
    /// Gateways and groups of them.
    pub nexthops: Vec<Nexthop>,
    /// Which group a cluster's next hop is behind.
    pub fdb: Vec<FdbEntry>,
    /// The nft table's content.
    pub filter: NftBody,
    /// What of the configuration is left out and should not be, for a person.
    pub errors: Vec<String>,
    /// What else a person may want to know; nothing is wrong.
    pub notes: Vec<String>,
}

/// A prefix of a remote cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MeshRoute {
    /// What lies there.
    pub destination: Prefix,
    /// The next hop that stands for the cluster.
    pub router: Ipv4Addr,
    /// Largest packet in bytes.
    pub mtu: u32,
}

impl Plan {
    /// What `config` asks for on a kernel with these groups, of gateways of which no more is known.
    pub fn new(config: &NodeConfig, support: GroupSupport) -> Self {
        Self::with(config, support, &Verdicts::new())
    }

    /// As above, by those gateways that are fit for it.
    pub fn with(config: &NodeConfig, support: GroupSupport, verdicts: &Verdicts) -> Self {
        let Sifted { captured, errors, notes } = sieve::sift(config);
        let mut plan = Self {
            generation: config.generation,
            vxlan: Vxlan { vni: config.vni, port: config.vxlan_port, local: config.node_address },
            settings: settings(config),
            mesh: config.mesh,
            mesh_six: config.carries_six().then(|| mesh::six(config.mesh)),
            mesh_routes: Vec::new(),
            filter: filter::render(config, &captured),
            captured,
            hosts: Vec::new(),
            rules: rules(config),
            local_gateways: local_gateways(config).collect(),
            neighbours: Vec::new(),
            nexthops: Vec::new(),
            fdb: Vec::new(),
            errors,
            notes,
        };
        plan.add_hosts(config);
        for cluster in &config.clusters {
            let gateways = gateways::chosen(config, cluster, verdicts);
            plan.add_cluster(cluster, &gateways, support);
        }
        plan.nexthops.sort();
        plan.nexthops.dedup();
        plan
    }

    /// Each gateway as a host, to be asked how it is.
    fn add_hosts(&mut self, config: &NodeConfig) {
        let known = config.gateways.iter().filter_map(|g| Some((g.mesh?, g.address)));
        for (mesh, address) in known.collect::<BTreeMap<_, _>>() {
            let (mac, destination) = (Mac::of_mesh(mesh), Prefix::host(mesh.into()));
            self.hosts.push(destination);
            self.neighbours.push(Neighbour { address: mesh.into(), mac });
            self.fdb.push(FdbEntry { mac, target: FdbTarget::Address(address) });
            self.mesh_routes.push(MeshRoute { destination, router: mesh, mtu: device_mtu(config) });
        }
    }

    fn add_cluster(&mut self, cluster: &Cluster, gateways: &[IpAddr], support: GroupSupport) {
        let Some(first) = gateways.first() else { return };
        let mac = Mac::of_mesh(cluster.router);
        self.neighbours.push(Neighbour { address: cluster.router.into(), mac });
        if self.mesh_six.is_some() {
            self.neighbours.push(Neighbour { address: mesh::six(cluster.router).into(), mac });
        }
        let target = if support == GroupSupport::None {
            FdbTarget::Address(*first)
        } else {
            FdbTarget::Nexthop(self.add_group(cluster.router, gateways, support))
        };
        self.fdb.push(FdbEntry { mac, target });
        let family = |prefix: &Prefix| prefix.family() == Family::V4 || self.mesh_six.is_some();
        let carried = |prefix: &&Prefix| family(prefix) && self.captured.contains(prefix);
        let routes = cluster.prefixes.iter().filter(carried).map(|destination| MeshRoute {
            destination: *destination,
            router: cluster.router,
            mtu: cluster.mtu,
        });
        self.mesh_routes.extend(routes);
    }

    fn add_group(&mut self, router: Ipv4Addr, gateways: &[IpAddr], support: GroupSupport) -> u32 {
        let mut members: Vec<u32> = gateways.iter().map(|address| nexthop_id(*address)).collect();
        members.sort_unstable();
        members.dedup();
        for address in gateways {
            self.nexthops.push(Nexthop::new(nexthop_id(*address), NexthopKind::Fdb(*address)));
        }
        let id = nexthop_id(router.into());
        let resilient = support == GroupSupport::Resilient;
        self.nexthops.push(Nexthop::new(id, NexthopKind::FdbGroup { members, resilient }));
        id
    }

    /// The routes of our table, those first that keep packets in; without the device (`None`) these
    /// only.
    pub fn routes(&self, link: Option<u32>) -> Vec<Route> {
        let fallback = self
            .captured
            .iter()
            .chain(&self.hosts)
            .map(|prefix| Route::unreachable(*prefix, TABLE, FALLBACK_METRIC));
        let mesh = link
            .into_iter()
            .flat_map(|link| self.mesh_routes.iter().map(move |route| self.to_kernel(route, link)));
        fallback.chain(mesh).collect()
    }

    /// A mesh route as the kernel has it, by the device of this number.
    pub fn to_kernel(&self, route: &MeshRoute, link: u32) -> Route {
        route.to_kernel(link, self.mesh)
    }
}

impl MeshRoute {
    fn to_kernel(self, link: u32, mesh: Ipv4Addr) -> Route {
        let six = self.destination.family() == Family::V6;
        let address = |v4: Ipv4Addr| if six { mesh::six(v4).into() } else { IpAddr::V4(v4) };
        // Smaller packets of IPv6 its senders need not make: gateways cut their datagrams.
        let mtu = if six { self.mtu.max(LEAST_DEVICE_MTU) } else { self.mtu };
        let headers = TCP_HEADERS + if six { 20 } else { 0 };
        Route {
            kind: RouteKind::Unicast,
            gateway: Some(address(self.router)),
            link: Some(link),
            source: Some(address(mesh)),
            onlink: true,
            mtu: Some(mtu),
            advmss: Some(mtu - headers),
            ..Route::unreachable(self.destination, TABLE, if six { METRIC_SIX } else { 0 })
        }
    }
}

fn settings(config: &NodeConfig) -> LinkSettings {
    LinkSettings {
        mac: Some(Mac::of_mesh(config.mesh)),
        queue: None,
        mtu: Some(device_mtu(config)),
        up: Some(true),
        master: None,
        forwarding: Some(true),
        rp_filter: Some(LOOSE),
        ipv6_addresses_off: Some(true),
    }
}

/// As large as any cluster needs it; routes say less where a path carries less. The kernel takes IPv6 away
/// from a device that is smaller than [`LEAST_DEVICE_MTU`].
fn device_mtu(config: &NodeConfig) -> u32 {
    let largest = config.clusters.iter().map(|cluster| cluster.mtu).max();
    largest.unwrap_or(DEFAULT_MTU).max(LEAST_DEVICE_MTU)
}

fn rules(config: &NodeConfig) -> Vec<Rule> {
    let gateways = local_gateways(config).map(|address| {
        let source = Prefix::host(address);
        Rule::new(RULE_GATEWAYS, source.family(), Some(source), TABLE_MAIN)
    });
    let mesh = [Family::V4, Family::V6].map(|family| Rule::new(RULE_MESH, family, None, TABLE));
    gateways.chain(mesh).collect()
}

fn local_gateways(config: &NodeConfig) -> impl Iterator<Item = IpAddr> {
    config.gateways.iter().filter(|gateway| gateway.local).map(|gateway| gateway.address)
}

/// Next hops are numbered by what they stand for, so that nobody has to remember numbers: an IPv4
/// address is its own number. IPv6 gateways get one in the multicast range, which no gateway and no
/// router address lies in.
fn nexthop_id(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(v4) => u32::from(v4),
        IpAddr::V6(v6) => 0xe000_0000 | (fnv1a(&v6.octets()) & 0x0fff_ffff),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{config, prefix};

    fn plan(config: &NodeConfig) -> Plan {
        Plan::new(config, GroupSupport::Resilient)
    }

    #[test]
    fn a_routed_cluster_has_next_hop_group_and_routes() {
        let plan = plan(&config());
        let (a, b, group) = (0x0a01_0005, 0x0a01_0006, 0xf002_2001);
        let kind = NexthopKind::FdbGroup { members: vec![a, b], resilient: true };
        assert!(plan.nexthops.contains(&Nexthop::new(group, kind)), "{:?}", plan.nexthops);
        let mac = Mac::of_mesh(Ipv4Addr::new(240, 2, 32, 1));
        assert_eq!(plan.fdb, [FdbEntry { mac, target: FdbTarget::Nexthop(group) }]);
        let routes = plan.routes(Some(3));
        let to = |text| {
            let mut found: Vec<_> =
                routes.iter().filter(|route| route.destination == prefix(text)).collect();
            found.sort_by_key(|route| route.metric);
            found
        };
        let [mesh, fallback] = to("10.2.0.0/16")[..] else { panic!("{routes:?}") };
        assert_eq!((mesh.link, mesh.advmss), (Some(3), Some(1380)));
        assert_eq!(fallback.kind, RouteKind::Unreachable);
        assert_eq!(to("10.2.0.0/15").len(), 1, "accepted, but nobody announces it");
        assert_eq!(plan.errors, [] as [String; 0]);
    }

    #[test]
    fn without_a_gateway_a_cluster_is_unreachable() {
        let mut config = config();
        config.clusters[0].gateways = vec!["gone".to_owned()];
        let plan = plan(&config);
        assert!(plan.fdb.is_empty() && plan.nexthops.is_empty() && plan.neighbours.is_empty());
        let routes = plan.routes(Some(3));
        assert!(routes.iter().all(|route| route.kind == RouteKind::Unreachable), "{routes:?}");
        assert_eq!(routes.len(), 3);
    }

    #[test]
    fn gateway_pods_of_this_node_stay_in_the_main_table() {
        let rules = plan(&config()).rules;
        let of = |priority| rules.iter().filter(move |rule| rule.priority == priority);
        let sources: Vec<_> = of(39).map(|rule| (rule.source, rule.table)).collect();
        assert_eq!(sources, [(Some(prefix("10.1.0.5/32")), TABLE_MAIN)]);
        assert_eq!(of(40).count(), 2);
    }

    #[test]
    fn old_kernels_get_what_they_can() {
        let mut groups = Plan::new(&config(), GroupSupport::Plain).nexthops;
        groups.retain(|n| matches!(n.kind, NexthopKind::FdbGroup { resilient: false, .. }));
        assert_eq!(groups.len(), 1);
        let plan = Plan::new(&config(), GroupSupport::None);
        let first = Ipv4Addr::new(10, 1, 0, 5).into();
        assert_eq!(plan.fdb[0].target, FdbTarget::Address(first));
        assert!(plan.nexthops.is_empty());
    }

    #[test]
    fn ipv6_goes_by_the_same_next_hop_where_our_pods_have_it() {
        let mut wire = crate::samples::wire_config();
        wire.pod_prefixes.push(prefix("fd00:1::/48").into());
        wire.clusters[0].prefixes.push(prefix("fd00:2::/48").into());
        let crate::config::Order::Configure(config) =
            crate::config::Order::parse(&wire).expect("order")
        else {
            panic!("it configures")
        };
        let plan = plan(&config);
        let (router, own) = ("fd63:6172:7269::f002:2001", "fd63:6172:7269::f001:1002");
        let mac = Mac::of_mesh(Ipv4Addr::new(240, 2, 32, 1));
        let address = router.parse().expect(router);
        assert!(plan.neighbours.contains(&Neighbour { address, mac }), "{:?}", plan.neighbours);
        assert_eq!(plan.mesh_six, own.parse().ok());
        for to in ["fd00:2::/48", "fd63:6172:7269::f002:2000/116"] {
            let of = |route: &&Route| route.destination == prefix(to);
            let mut routes: Vec<_> = plan.routes(Some(3)).iter().filter(of).copied().collect();
            routes.sort_by_key(|route| route.metric);
            let [mesh, fallback] = routes[..] else { panic!("{to}: {routes:?}") };
            assert_eq!((mesh.gateway, mesh.source), (Some(address), own.parse().ok()));
            assert_eq!((mesh.metric, mesh.mtu, mesh.advmss), (1024, Some(1420), Some(1360)));
            assert_eq!(fallback.kind, RouteKind::Unreachable);
        }
        assert_eq!((plan.notes, plan.errors), (Vec::new(), Vec::new()));
    }

    #[test]
    fn ipv6_is_kept_in_and_noted() {
        let mut config = config();
        config.clusters[0].prefixes.push(prefix("fd00:2::/48"));
        let plan = plan(&config);
        let routes = plan.routes(Some(3));
        let six: Vec<_> = routes.iter().filter(|r| r.destination.family() == Family::V6).collect();
        assert!(matches!(six[..], [Route { kind: RouteKind::Unreachable, .. }]), "{six:?}");
        assert!(plan.notes[0].contains("osaka"), "{:?}", plan.notes);
        assert_eq!(plan.errors, [] as [String; 0], "a peer with two families is no fault");
    }
}
