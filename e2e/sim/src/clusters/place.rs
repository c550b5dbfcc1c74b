//! Who is where: addresses of clusters, gateways, nodes and pods, all by their numbers.

use std::net::{Ipv4Addr, SocketAddr};

use carrick_model::{ClusterId, Mac, Prefix};

/// Clusters of a world.
pub const CLUSTERS: usize = 3;
/// Gateways of each.
pub const GATEWAYS: usize = 2;
/// Nodes of each.
pub const NODES: usize = 2;
/// Networks between clusters: the internet, and one that only some have.
pub const NETWORKS: usize = 2;
/// All gateways, and all nodes.
pub const ALL_GATEWAYS: usize = CLUSTERS * GATEWAYS;
pub const ALL_NODES: usize = CLUSTERS * NODES;

/// Port of a lane; NAT gives others.
const LANE: u16 = 31_821;

/// The cluster of a gateway.
pub fn of_gateway(gateway: usize) -> usize {
    gateway / GATEWAYS
}

/// The cluster of a node.
pub fn of_node(node: usize) -> usize {
    node / NODES
}

/// The gateways of a cluster.
pub fn gateways_of(cluster: usize) -> std::ops::Range<usize> {
    cluster * GATEWAYS..(cluster + 1) * GATEWAYS
}

/// The nodes of a cluster.
pub fn nodes_of(cluster: usize) -> std::ops::Range<usize> {
    cluster * NODES..(cluster + 1) * NODES
}

/// What a cluster is called.
pub fn name(cluster: usize) -> ClusterId {
    ["paris", "osaka", "lagos"][cluster].parse().expect("a name")
}

/// What a gateway is called inside its cluster.
pub fn gateway_name(gateway: usize) -> &'static str {
    ["gateway-0", "gateway-1"][gateway % GATEWAYS]
}

/// The address of a gateway's lane in a network.
pub fn lane(gateway: usize, network: usize) -> SocketAddr {
    SocketAddr::from(([198, 18, network as u8, gateway as u8 + 1], LANE))
}

/// Where a gateway behind a NAT is seen, by the NAT's mapping.
pub fn behind_nat(gateway: usize, mapping: u16) -> SocketAddr {
    SocketAddr::from(([198, 19, 0, gateway as u8 + 1], 40_000 + mapping))
}

/// Whose address that is: gateway, network, and the mapping where there is a NAT.
pub fn who(address: SocketAddr) -> Option<(usize, usize, Option<u16>)> {
    let SocketAddr::V4(v4) = address else { return None };
    let [a, b, network, last] = v4.ip().octets();
    let gateway = usize::from(last).checked_sub(1).filter(|gateway| *gateway < ALL_GATEWAYS)?;
    match (a, b) {
        (198, 18) => Some((gateway, network.into(), None)),
        (198, 19) => Some((gateway, 0, Some(v4.port().checked_sub(40_000)?))),
        _ => None,
    }
}

/// The outer address of a gateway inside its cluster.
pub fn pod_of_gateway(gateway: usize) -> Ipv4Addr {
    Ipv4Addr::new(172, 16, of_gateway(gateway) as u8, gateway as u8 + 1)
}

/// The gateway with this outer address.
pub fn gateway_at(address: u32) -> Option<usize> {
    (0..ALL_GATEWAYS).find(|gateway| u32::from(pod_of_gateway(*gateway)) == address)
}

/// The router address by which nodes know a cluster.
pub fn router(cluster: usize) -> Ipv4Addr {
    Ipv4Addr::new(240, 0, cluster as u8 * 16, 1)
}

/// A node's mesh address.
pub fn mesh_of_node(node: usize) -> Ipv4Addr {
    Ipv4Addr::new(240, 0, of_node(node) as u8 * 16, 2 + (node % NODES) as u8)
}

/// A gateway's mesh address.
pub fn mesh_of_gateway(gateway: usize) -> Ipv4Addr {
    Ipv4Addr::new(240, 0, of_gateway(gateway) as u8 * 16 + 15, 254 - (gateway % GATEWAYS) as u8)
}

/// A node's Ethernet address inside the VXLAN.
pub fn mac(node: usize) -> Mac {
    Mac::of_mesh(mesh_of_node(node))
}

/// The node with this Ethernet address.
pub fn node_with(cluster: usize, mac_bytes: [u8; 6]) -> Option<usize> {
    nodes_of(cluster).find(|node| mac(*node).0 == mac_bytes)
}

/// The pod of a node.
pub fn pod(node: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, of_node(node) as u8 + 1, (node % NODES) as u8, 5)
}

/// The node that has a pod's address.
pub fn node_of_pod(address: [u8; 4]) -> Option<usize> {
    (0..ALL_NODES).find(|node| pod(*node).octets() == address)
}

/// What a cluster announces: its pods and its mesh.
pub fn prefixes(cluster: usize) -> Vec<Prefix> {
    let pods = Ipv4Addr::new(10, cluster as u8 + 1, 0, 0);
    let mesh = Ipv4Addr::new(240, 0, cluster as u8 * 16, 0);
    vec![Prefix::containing(pods.into(), 16), Prefix::containing(mesh.into(), 20)]
}

/// The pods of a node.
pub fn pods_of_node(node: usize) -> Prefix {
    Prefix::containing(pod(node).into(), 24)
}
