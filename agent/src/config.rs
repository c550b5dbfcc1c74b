//! What the controller orders, parsed once: behind here every value is known to be good.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use carrick_exchange::message::drill::FaultOrder;
use carrick_exchange::message::member::{AgentConfig, LocalGateway, RemoteCluster};
use carrick_exchange::wire::{self, WireError};
use carrick_model::{ClusterId, Family, MeshPrefix, Prefix};

use crate::drill;
use crate::probe::gateways::watch::INTERVAL;

/// The smallest inner packet size in bytes that a cluster may be given: IPv4's own minimum.
const MIN_MTU: u32 = 576;
/// The largest: jumbo frames.
const MAX_MTU: u32 = 9_216;

/// More of anything in one order is a mistake.
const MAX_ITEMS: usize = 16_384;

/// Why an order cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A field does not parse.
    #[error("configuration {generation}: {source}; the last good one stays in force")]
    Field {
        /// Which configuration.
        generation: u64,
        /// What is wrong.
        source: WireError,
    },
    /// A number is out of its range.
    #[error(
        "configuration {generation}: {field} is {value}, which is outside {range}; the last good \
         one stays in force"
    )]
    Range {
        /// Which configuration.
        generation: u64,
        /// Which field.
        field: &'static str,
        /// What it was.
        value: u64,
        /// What it may be.
        range: &'static str,
    },
}

/// What the controller orders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Make the node so.
    Configure(Box<NodeConfig>),
    /// Take everything of ours off the node.
    Withdraw {
        /// Number of the order.
        generation: u64,
    },
}

/// How the node should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeConfig {
    /// Number of the order.
    pub generation: u64,
    /// VXLAN network identifier.
    pub vni: u32,
    /// VXLAN UDP port.
    pub vxlan_port: u16,
    /// Outer source address of our VXLAN packets.
    pub node_address: IpAddr,
    /// The node's mesh address.
    pub mesh: Ipv4Addr,
    /// Our cluster's gateways.
    pub gateways: Vec<Gateway>,
    /// The pause between two questions to a gateway.
    pub gateway_pause: Duration,
    /// Clusters that are routed.
    pub clusters: Vec<Cluster>,
    /// Prefixes that must not leave in clear although no cluster carries them now.
    pub unreachable: Vec<Prefix>,
    /// Where our own pods live, all nodes.
    pub pod_prefixes: Vec<Prefix>,
    /// What this node may claim; empty: anything within `pod_prefixes`.
    pub node_pod_prefixes: Vec<Prefix>,
    /// Streams of a drill to send; or the drill's ID and what is wrong with the order, which spoils nothing
    /// else.
    pub drill: Option<Result<drill::Order, (String, String)>>,
    /// Outer addresses of nodes that lie where pods live.
    pub nodes: Vec<IpAddr>,
    /// A fault of a drill to inject.
    pub fault: Option<FaultOrder>,
}

/// A gateway of our own cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gateway {
    /// Its member name.
    pub name: String,
    /// Outer address of its VXLAN packets.
    pub address: IpAddr,
    /// Runs on this node.
    pub local: bool,
    /// Its mesh address, to be watched there.
    pub mesh: Option<Ipv4Addr>,
    /// It has said that it answers there.
    pub answers: bool,
}

/// A remote cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// Its ID.
    pub id: ClusterId,
    /// The next hop that stands for it.
    pub router: Ipv4Addr,
    /// What lies there, its mesh prefix among it.
    pub prefixes: Vec<Prefix>,
    /// Names of our gateways that have a tunnel to it.
    pub gateways: Vec<String>,
    /// Largest inner packet in bytes.
    pub mtu: u32,
    /// Mesh addresses of its nodes.
    pub nodes: Vec<Ipv4Addr>,
    /// New connections from it may reach all our pods.
    pub all_pods: bool,
    /// Gateways that say themselves that they reach it may be used.
    pub routable: bool,
    /// Streams of its drills are answered.
    pub drills: bool,
}

impl NodeConfig {
    /// Whether IPv6 is carried between clusters: our own pods have it.
    pub fn carries_six(&self) -> bool {
        self.pod_prefixes.iter().any(|prefix| prefix.family() == Family::V6)
    }

    /// Clusters with IPv6 have their mesh prefix in its IPv6 form, too, which nobody has to say.
    fn with_six(mut self) -> Self {
        if self.carries_six() {
            for cluster in &mut self.clusters {
                let six = cluster.prefixes.iter().any(|prefix| prefix.family() == Family::V6);
                let mesh = MeshPrefix::of_router(cluster.router).ok().filter(|_| six);
                cluster.prefixes.extend(mesh.map(|mesh| mesh.six()));
            }
        }
        self
    }
}

impl Order {
    /// Parses the controller's message; nothing of a bad one is used.
    pub fn parse(wire: &AgentConfig) -> Result<Self, ConfigError> {
        let generation = wire.generation;
        if wire.withdraw {
            return Ok(Self::Withdraw { generation });
        }
        let config = node(wire).map_err(|error| error.within(generation))?;
        Ok(Self::Configure(Box::new(config.with_six())))
    }
}

enum Bad {
    Field(WireError),
    Range(&'static str, u64, &'static str),
}

impl From<WireError> for Bad {
    fn from(error: WireError) -> Self {
        Self::Field(error)
    }
}

impl Bad {
    fn within(self, generation: u64) -> ConfigError {
        match self {
            Self::Field(source) => ConfigError::Field { generation, source },
            Self::Range(field, value, range) => {
                ConfigError::Range { generation, field, value, range }
            }
        }
    }
}

fn node(wire: &AgentConfig) -> Result<NodeConfig, Bad> {
    let vxlan = wire.vxlan.ok_or(WireError::Missing { field: "vxlan" })?;
    let port = u16::try_from(vxlan.port).ok().filter(|port| *port != 0);
    let prefixes = wire.clusters.iter().map(|cluster| cluster.prefixes.len()).sum::<usize>();
    for (field, count) in [
        ("number of gateways", wire.gateways.len()),
        ("number of clusters", wire.clusters.len()),
        ("number of node_addresses", wire.node_addresses.len()),
        ("number of prefixes", prefixes + wire.unreachable.len() + wire.pod_prefixes.len()),
    ] {
        in_range(field, count as u64, MAX_ITEMS as u64, "0-16384")?;
    }
    in_range("vxlan.vni", vxlan.vni.into(), 0xff_ffff, "1-16777215")?;
    Ok(NodeConfig {
        generation: wire.generation,
        vni: vxlan.vni,
        vxlan_port: port.ok_or(Bad::Range("vxlan.port", vxlan.port.into(), "1-65535"))?,
        node_address: wire::address(&wire.node_address, "node_address")?,
        mesh: wire::ipv4(&wire.mesh_address, "mesh_address")?,
        gateways: wire.gateways.iter().map(gateway).collect::<Result<_, _>>()?,
        gateway_pause: pause(wire.gateway_probe_millis),
        clusters: wire.clusters.iter().map(cluster).collect::<Result<_, _>>()?,
        unreachable: wire::prefixes(&wire.unreachable, "unreachable")?,
        pod_prefixes: wire::prefixes(&wire.pod_prefixes, "pod_prefixes")?,
        node_pod_prefixes: wire::prefixes(&wire.node_pod_prefixes, "node_pod_prefixes")?,
        drill: wire
            .drill
            .as_deref()
            .map(|order| drill::Order::parse(order).map_err(|error| (order.id.clone(), error))),
        nodes: wire
            .node_addresses
            .iter()
            .map(|bytes| wire::address(bytes, "node_addresses"))
            .collect::<Result<_, _>>()?,
        fault: wire.drill.as_deref().and_then(|drill| drill.fault.as_deref().cloned()),
    })
}

fn in_range(field: &'static str, value: u64, most: u64, range: &'static str) -> Result<(), Bad> {
    if value > most { Err(Bad::Range(field, value, range)) } else { Ok(()) }
}

fn gateway(wire: &LocalGateway) -> Result<Gateway, Bad> {
    let address = wire::address(&wire.address, "gateways.address")?;
    let mesh = match wire.mesh_address.as_slice() {
        [] => None,
        bytes => Some(wire::ipv4(bytes, "gateways.mesh_address")?),
    };
    let (name, local) = (wire.name.clone(), wire.on_this_node);
    Ok(Gateway { name, address, local, mesh, answers: wire.answers_probes })
}

fn pause(millis: u32) -> Duration {
    if millis == 0 { INTERVAL } else { Duration::from_millis(millis.into()) }
}

fn cluster(wire: &RemoteCluster) -> Result<Cluster, Bad> {
    if !(MIN_MTU..=MAX_MTU).contains(&wire.mtu) {
        return Err(Bad::Range("clusters.mtu", wire.mtu.into(), "576-9216"));
    }
    in_range("number of clusters.nodes", wire.nodes.len() as u64, MAX_ITEMS as u64, "0-16384")?;
    let nodes = wire.nodes.iter().map(|node| wire::ipv4(node, "clusters.nodes"));
    Ok(Cluster {
        id: wire::parse(&wire.cluster, "clusters.cluster")?,
        router: wire::ipv4(&wire.next_hop, "clusters.next_hop")?,
        prefixes: wire::prefixes(&wire.prefixes, "clusters.prefixes")?,
        gateways: wire.gateways.clone(),
        mtu: wire.mtu,
        nodes: nodes.collect::<Result<_, _>>()?,
        all_pods: wire.access_all_pods,
        // An older controller does not say: what it lists is routed.
        routable: wire.routable || !wire.gateways.is_empty(),
        drills: wire.drills,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    #[test]
    fn a_bad_field_is_named_and_nothing_is_taken() {
        type Spoil = fn(&mut AgentConfig);
        let spoilers: [(&str, Spoil); 10] = [
            ("node_addresses", |c| c.node_addresses = vec![vec![10, 1, 2]]),
            ("gateways.mesh_address", |c| c.gateways[0].mesh_address = vec![1]),
            ("vxlan is missing", |c| c.vxlan = None),
            ("vxlan.port", |c| c.vxlan.as_mut().expect("vxlan").port = 70_000),
            ("vxlan.vni", |c| c.vxlan.as_mut().expect("vxlan").vni = 1 << 24),
            ("mesh_address", |c| c.mesh_address = vec![1, 2, 3]),
            ("node_address", |c| c.node_address.clear()),
            ("clusters.mtu", |c| c.clusters[0].mtu = 100),
            ("clusters.prefixes", |c| c.clusters[0].prefixes[0].length = 7),
            ("clusters.cluster", |c| c.clusters[0].cluster = "No Cluster".to_owned()),
        ];
        for (name, spoil) in spoilers {
            let mut wire = samples::wire_config();
            spoil(&mut wire);
            let error = Order::parse(&wire).expect_err(name).to_string();
            assert!(error.contains(name) && error.contains("configuration 7"), "{name}: {error}");
        }
    }

    #[test]
    fn withdrawal_needs_no_other_field() {
        let wire = AgentConfig { generation: 9, withdraw: true, ..AgentConfig::default() };
        assert_eq!(Order::parse(&wire).expect("order"), Order::Withdraw { generation: 9 });
    }
}
