//! Where packets go and whence they may come: both questions are one longest-prefix match.

use std::collections::BTreeMap;
use std::net::IpAddr;

use carrick_model::{Mac, Prefix, mesh};

use crate::config::{ForwardingConfig, Routers};
use crate::table::PrefixTable;

/// A peer's place in [`ForwardingConfig::peers`].
pub type PeerIndex = u32;
/// A node's place in [`ForwardingConfig::nodes`].
pub type NodeIndex = u32;

/// The tables of one configuration.
#[derive(Debug, Default)]
pub struct Forwarding {
    peers: PrefixTable<PeerIndex>,
    nodes: PrefixTable<NodeIndex>,
    by_mac: BTreeMap<Mac, NodeIndex>,
    macs: Vec<Mac>,
    /// The largest inner packet of each peer, in bytes.
    mtus: Vec<usize>,
    /// Where our ICMP errors come from.
    pub routers: Routers,
}

impl Forwarding {
    /// Where two claim the same prefix, the first in the configuration has it.
    pub fn new(config: &ForwardingConfig) -> Self {
        let mut tables = Self { routers: config.routers, ..Self::default() };
        for (index, peer) in (0..).zip(&config.peers) {
            tables.mtus.push(peer.mtu.map_or(config.mtu, |mtu| mtu.min(config.mtu)));
            for prefix in &peer.prefixes {
                tables.peers.insert(*prefix, index);
            }
        }
        for (index, node) in (0..).zip(&config.nodes) {
            tables.by_mac.entry(node.mac()).or_insert(index);
            tables.macs.push(node.mac());
            for own in [node.mesh_address.into(), mesh::six(node.mesh_address).into()] {
                tables.nodes.insert(Prefix::host(own), index);
            }
            for prefix in &node.prefixes {
                tables.nodes.insert(*prefix, index);
            }
        }
        tables
    }

    /// The peer that a packet to `destination` goes to.
    pub fn peer_of(&self, destination: IpAddr) -> Option<PeerIndex> {
        self.peers.lookup(destination)
    }

    /// The largest inner packet to and from `peer`, in bytes.
    pub fn mtu_of(&self, peer: PeerIndex) -> usize {
        self.mtus[peer as usize]
    }

    /// Whether `source` belongs to `peer` and to no other: the longest prefix over all peers decides,
    /// so that one peer cannot speak for a narrower prefix of another.
    pub fn is_source_of_peer(&self, peer: PeerIndex, source: IpAddr) -> bool {
        self.peers.lookup(source) == Some(peer)
    }

    /// The Ethernet address of the node that has `destination`.
    pub fn node_of(&self, destination: IpAddr) -> Option<Mac> {
        self.nodes.lookup(destination).map(|index| self.macs[index as usize])
    }

    /// The node with this Ethernet address.
    pub fn node_with(&self, mac: Mac) -> Option<NodeIndex> {
        self.by_mac.get(&mac).copied()
    }

    /// Whether `source` is on `node` and on no other.
    pub fn is_source_of_node(&self, node: NodeIndex, source: IpAddr) -> bool {
        self.nodes.lookup(source) == Some(node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{NodeForwarding, PeerForwarding};

    fn address(text: &str) -> IpAddr {
        text.parse().expect(text)
    }

    fn prefixes(texts: &[&str]) -> Vec<Prefix> {
        texts.iter().map(|text| text.parse().expect(text)).collect()
    }

    fn peer(name: &str, of: &[&str]) -> PeerForwarding {
        let cluster = name.parse().expect(name);
        PeerForwarding { cluster, prefixes: prefixes(of), tunnels: Vec::new(), mtu: None }
    }

    fn node(mesh: &str, of: &[&str]) -> NodeForwarding {
        NodeForwarding {
            mesh_address: mesh.parse().expect(mesh),
            address: address("192.0.2.1"),
            prefixes: prefixes(of),
        }
    }

    #[test]
    fn a_wide_peer_cannot_speak_for_a_narrow_one() {
        let peers = vec![peer("wide", &["10.0.0.0/8"]), peer("narrow", &["10.2.0.0/16"])];
        let tables = Forwarding::new(&ForwardingConfig { peers, ..Default::default() });
        assert!(tables.is_source_of_peer(0, address("10.1.0.1")));
        assert!(!tables.is_source_of_peer(0, address("10.2.0.1")));
        assert!(tables.is_source_of_peer(1, address("10.2.0.1")));
        assert_eq!(tables.peer_of(address("10.2.0.1")), Some(1));
        assert_eq!(tables.peer_of(address("11.0.0.1")), None);
    }

    #[test]
    fn a_node_has_its_prefixes_and_its_mesh_address() {
        let nodes = vec![node("240.0.0.2", &["10.1.0.0/24"]), node("240.0.0.3", &["fd00:1::/64"])];
        let tables = Forwarding::new(&ForwardingConfig { nodes, ..Default::default() });
        let first = Mac::of_mesh("240.0.0.2".parse().expect("address"));
        assert_eq!(tables.node_of(address("10.1.0.9")), Some(first));
        assert_eq!(tables.node_of(address("240.0.0.2")), Some(first));
        assert_eq!(tables.node_of(address("fd63:6172:7269::f000:2")), Some(first));
        assert!(!tables.is_source_of_node(1, address("fd63:6172:7269::f000:2")));
        assert_eq!(tables.node_with(first), Some(0));
        assert!(tables.is_source_of_node(1, address("fd00:1::5")));
        assert!(!tables.is_source_of_node(0, address("fd00:1::5")));
        assert!(!tables.is_source_of_node(0, address("10.1.1.1")));
    }
}
