//! Mesh addresses: where nodes and clusters are found inside our own encapsulation.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use crate::{IdentityKey, Prefix};

/// A cluster's node prefix: an IPv4 /20. The first usable address (`.1`) stands for the cluster
/// itself (its next hop on every other cluster's nodes); nodes get the ones from `.2` on, gateways the
/// last ones, from the top down.
///
/// By default it is one of the 65,535 /20 slots of 240.0.0.0/4, chosen by the identity, so that
/// clusters that never heard of each other rarely collide. It is seen only inside our encapsulation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MeshPrefix(Prefix);

/// The length in bits of a cluster's node prefix.
pub const MESH_PREFIX_LENGTH: u8 = 20;

/// How many gateways one prefix has room for.
pub const MESH_GATEWAYS: u32 = 64;

/// How many nodes one prefix has room for.
pub const MESH_NODES: u32 = (1 << (32 - MESH_PREFIX_LENGTH as u32)) - 3 - MESH_GATEWAYS;

/// A prefix is no [`MeshPrefix`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("mesh prefix {0} must be an IPv4 /20")]
pub struct MeshPrefixError(Prefix);

impl MeshPrefix {
    /// The default slot of 240.0.0.0/4 for a cluster of this identity.
    pub fn for_identity(identity: &IdentityKey) -> Self {
        let b = identity.as_bytes();
        // The last slot holds the broadcast address; skip it.
        let slot = u32::from(u16::from_be_bytes([b[0], b[1]])) % 0xffff;
        let address = Ipv4Addr::from(0xf000_0000 | (slot << 12));
        Self(Prefix::containing(IpAddr::V4(address), MESH_PREFIX_LENGTH))
    }

    /// The prefix.
    pub fn prefix(&self) -> Prefix {
        self.0
    }

    /// The address that stands for the cluster: next hop of all its prefixes on other clusters' nodes.
    pub fn router(&self) -> Ipv4Addr {
        self.nth(1)
    }

    /// The address of node number `index` (0-based); `None` beyond [`MESH_NODES`].
    pub fn node(&self, index: u32) -> Option<Ipv4Addr> {
        (index < MESH_NODES).then(|| self.nth(index + 2))
    }

    /// The address of gateway number `ordinal` (0-based); `None` beyond [`MESH_GATEWAYS`].
    pub fn gateway(&self, ordinal: u16) -> Option<Ipv4Addr> {
        let last = MESH_NODES + 1 + MESH_GATEWAYS;
        let ordinal = u32::from(ordinal);
        (ordinal < MESH_GATEWAYS).then(|| self.nth(last - ordinal))
    }

    fn nth(&self, n: u32) -> Ipv4Addr {
        let IpAddr::V4(base) = self.0.address() else { unreachable!("checked on construction") };
        Ipv4Addr::from(u32::from(base) + n)
    }
}

impl TryFrom<Prefix> for MeshPrefix {
    type Error = MeshPrefixError;

    fn try_from(prefix: Prefix) -> Result<Self, Self::Error> {
        let fits = prefix.address().is_ipv4()
            && prefix.length() == MESH_PREFIX_LENGTH
            && !prefix.is_special_use();
        if fits { Ok(Self(prefix)) } else { Err(MeshPrefixError(prefix)) }
    }
}

/// An Ethernet address inside the VXLAN. All of ours are locally administered and follow from a
/// mesh address, so that no one has to announce them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// The Ethernet address that goes with a mesh address (a node's, or a cluster's router address).
    pub fn of_mesh(address: Ipv4Addr) -> Self {
        let [a, b, c, d] = address.octets();
        Self([0x02, 0xca, a, b, c, d])
    }

    /// The source address of frames that a gateway writes.
    pub const GATEWAY: Self = Self([0x02, 0xcb, 0, 0, 0, 1]);
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_slots_lie_in_class_e_and_never_hold_broadcast() {
        for b in [[0, 0], [0xff, 0xff], [0xff, 0xfe], [0x12, 0x34]] {
            let mut key = [0; 32];
            key[..2].copy_from_slice(&b);
            let mesh = MeshPrefix::for_identity(&IdentityKey::from_bytes(key));
            assert!("240.0.0.0/4".parse::<Prefix>().expect("class E").covers(&mesh.prefix()));
            assert!(!mesh.prefix().is_special_use());
            assert_eq!(MeshPrefix::try_from(mesh.prefix()), Ok(mesh));
        }
    }

    #[test]
    fn nodes_follow_the_router_and_gateways_end_before_broadcast() {
        let mesh =
            MeshPrefix::try_from("240.1.16.0/20".parse::<Prefix>().expect("prefix")).expect("mesh");
        assert_eq!(mesh.router(), Ipv4Addr::new(240, 1, 16, 1));
        assert_eq!(mesh.node(0), Some(Ipv4Addr::new(240, 1, 16, 2)));
        assert_eq!(mesh.node(MESH_NODES - 1), Some(Ipv4Addr::new(240, 1, 31, 190)));
        assert_eq!(mesh.node(MESH_NODES), None);
        assert_eq!(mesh.gateway(0), Some(Ipv4Addr::new(240, 1, 31, 254)));
        assert_eq!(mesh.gateway(63), Some(Ipv4Addr::new(240, 1, 31, 191)));
        assert_eq!(mesh.gateway(64), None);
    }
}
