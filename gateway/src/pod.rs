//! The devices inside a gateway's pod: a VXLAN that joins the cluster's nodes, bridged with the TAP.
//!
//! Nothing here forwards IP and nothing has an address, so no sysctl has to be written: NET_ADMIN is
//! enough. Packets from nodes come in by the VXLAN, and the bridge hands them to the gateway.

use std::collections::BTreeSet;
use std::net::IpAddr;

use carrick_gateway_core::NodeForwarding;
use carrick_netlink::{
    FdbEntry, FdbTarget, LinkSettings, Netlink, NetlinkError, Nft, NftBody, NftError, Vxlan,
};

use crate::dataplane::DEVICE_QUEUE;

/// Name of the TAP that [`crate::dataplane`] opens.
pub const TAP: &str = "carrick-tap";
/// Name of the bridge.
pub const BRIDGE: &str = "carrick-br";
/// Name of the VXLAN device.
pub const VXLAN: &str = "carrick-vx";
/// Name of the nft table (family inet).
pub const NFT_TABLE: &str = "carrick";
/// Name of the nft counter of VXLAN packets that came from elsewhere than a node.
pub const FOREIGN_COUNTER: &str = "foreign_vxlan";

/// Why the devices are not as they should be.
#[derive(Debug, thiserror::Error)]
pub enum PodError {
    /// A device or an entry.
    #[error("set up the pod's devices: {0}")]
    Netlink(#[from] NetlinkError),
    /// The packet filter.
    #[error("set up the pod's packet filter: {0}")]
    Nft(#[from] NftError),
}

/// How the devices should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodConfig {
    /// VXLAN network identifier.
    pub vni: u32,
    /// The VXLAN's UDP port.
    pub port: u16,
    /// The pod's own address: outer source of VXLAN packets.
    pub address: IpAddr,
    /// The largest inner packet in bytes.
    pub mtu: usize,
    /// The nodes that the VXLAN joins.
    pub nodes: Vec<NodeForwarding>,
}

/// The devices of the pod that this process runs in. Calls block for some milliseconds.
#[derive(Debug)]
pub struct PodNetwork {
    netlink: Netlink,
    nft: Nft,
    filter: Option<NftBody>,
}

impl PodNetwork {
    /// Opens the way to the kernel, in the network namespace of the calling thread.
    pub fn open() -> Result<Self, PodError> {
        let (netlink, nft) = (Netlink::open()?, Nft::new(NFT_TABLE));
        Ok(Self { netlink, nft, filter: None })
    }

    /// Makes everything as `config` says. Writes only what differs, and says how much that was.
    pub fn apply(&mut self, config: &PodConfig) -> Result<usize, PodError> {
        // The filter first: no frame is to come in before it stands.
        let mut writes = self.sync_filter(filter(config))?;
        writes += self.ensure_devices(config)?;
        Ok(writes)
    }

    /// Looks at the filter as it was applied last, and restores it if somebody changed it. Afterwards
    /// [`Self::foreign_packets`] is fresh.
    pub fn refresh(&mut self) -> Result<(), PodError> {
        match self.filter.clone() {
            Some(filter) => Ok(self.sync_filter(filter).map(drop)?),
            None => Ok(()),
        }
    }

    /// VXLAN packets that had been dropped by the last [`Self::apply`] or [`Self::refresh`] because
    /// they came from elsewhere than a node.
    pub fn foreign_packets(&self) -> u64 {
        let mut counters = self.nft.counters().into_iter();
        counters.find(|(name, _)| name == FOREIGN_COUNTER).map_or(0, |(_, count)| count)
    }

    fn sync_filter(&mut self, filter: NftBody) -> Result<usize, NftError> {
        let writes = self.nft.sync(&filter)?;
        self.filter = Some(filter);
        Ok(writes)
    }

    fn ensure_devices(&mut self, config: &PodConfig) -> Result<usize, PodError> {
        let settings = LinkSettings {
            mtu: Some(config.mtu as u32),
            up: Some(true),
            forwarding: Some(false),
            ipv6_addresses_off: Some(true),
            ..LinkSettings::default()
        };
        let (bridge, mut writes) = self.netlink.ensure_bridge(BRIDGE, &settings)?;
        let port = LinkSettings { master: Some(bridge.index), ..settings };
        let vxlan = Vxlan { vni: config.vni, port: config.port, local: config.address };
        let tap = LinkSettings { queue: Some(DEVICE_QUEUE), ..port.clone() };
        writes += self.netlink.ensure_settings(TAP, &tap)?;
        let (device, made) = self.netlink.ensure_vxlan(VXLAN, &vxlan, &port)?;
        writes += made;
        // A node that sends from another's Ethernet address must not draw its frames to itself.
        for port in [TAP, VXLAN] {
            writes += self.netlink.ensure_learning(port, false)?;
        }
        writes += self.netlink.sync_fdb(device.index, &entries(config))?;
        Ok(writes)
    }
}

/// Where the VXLAN finds each node.
fn entries(config: &PodConfig) -> Vec<FdbEntry> {
    let entry = |node: &NodeForwarding| FdbEntry {
        mac: node.mac(),
        target: FdbTarget::Address(node.address),
    };
    config.nodes.iter().map(entry).collect()
}

/// VXLAN packets are taken from nodes only: a pod that sends some is not listened to.
fn filter(config: &PodConfig) -> NftBody {
    let (v4, v6): (BTreeSet<_>, BTreeSet<_>) =
        config.nodes.iter().map(|node| node.address).partition(IpAddr::is_ipv4);
    let port = config.port;
    let sets = format!(
        "counter {FOREIGN_COUNTER} {{}}\n\
         set nodes4 {{ type ipv4_addr; {}}}\n\
         set nodes6 {{ type ipv6_addr; {}}}\n",
        elements(&v4),
        elements(&v6),
    );
    let chains = format!(
        "chain input {{\n\
         type filter hook input priority filter - 10; policy accept;\n\
         udp dport {port} jump vxlan\n\
         }}\n\
         chain vxlan {{\n\
         ip saddr @nodes4 accept\n\
         ip6 saddr @nodes6 accept\n\
         counter name {FOREIGN_COUNTER} drop\n\
         }}\n"
    );
    NftBody { sets, chains }
}

fn elements(addresses: &BTreeSet<IpAddr>) -> String {
    if addresses.is_empty() {
        return String::new();
    }
    let list: Vec<_> = addresses.iter().map(IpAddr::to_string).collect();
    format!("elements = {{ {} }}; ", list.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(nodes: &[&str]) -> PodConfig {
        let node = |address: &&str| NodeForwarding {
            mesh_address: "240.0.0.2".parse().expect("address"),
            address: address.parse().expect("address"),
            prefixes: Vec::new(),
        };
        PodConfig {
            vni: 51_746,
            port: 7789,
            address: "192.0.2.9".parse().expect("address"),
            mtu: 1420,
            nodes: nodes.iter().map(node).collect(),
        }
    }

    #[test]
    fn the_filter_names_every_node_once_by_family() {
        let text = filter(&config(&["192.0.2.2", "fd00::2", "192.0.2.1", "192.0.2.2"])).sets;
        assert!(text.contains("ipv4_addr; elements = { 192.0.2.1, 192.0.2.2 };"), "{text}");
        assert!(text.contains("ipv6_addr; elements = { fd00::2 };"), "{text}");
    }

    #[test]
    fn without_nodes_nothing_is_let_in() {
        let NftBody { sets, chains } = filter(&config(&[]));
        assert!(!sets.contains("elements"), "{sets}");
        assert!(chains.contains("counter name foreign_vxlan drop"));
    }
}
