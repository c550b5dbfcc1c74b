//! Mesh addresses: where nodes and clusters are found inside our own encapsulation.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

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

/// The length in bits of its IPv6 form.
const SIX_LENGTH: u8 = 96 + MESH_PREFIX_LENGTH;

/// How many gateways one prefix has room for.
pub const MESH_GATEWAYS: u32 = 64;

/// How many nodes one prefix has room for.
pub const MESH_NODES: u32 = (1 << (32 - MESH_PREFIX_LENGTH as u32)) - 3 - MESH_GATEWAYS;

/// What the IPv6 form of every mesh address begins with: a /96 of unique local addresses (RFC 4193), whose global ID is
/// Carrick's own.
const SIX: [u16; 6] = [0xfd63, 0x6172, 0x7269, 0, 0, 0];

/// The IPv6 form of a mesh address: it follows from the IPv4 one, which is in its last 32 bits, so that no one has to
/// announce it.
pub fn six(address: Ipv4Addr) -> Ipv6Addr {
    let [a, b, c, d, e, f] = SIX;
    let [high, low] = [0, 2].map(|at| {
        let octets = address.octets();
        u16::from_be_bytes([octets[at], octets[at + 1]])
    });
    Ipv6Addr::new(a, b, c, d, e, f, high, low)
}

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

    /// The same addresses in their IPv6 form: a /116.
    pub fn six(&self) -> Prefix {
        Prefix::containing(six(self.nth(0)).into(), SIX_LENGTH)
    }

    /// The prefix that holds a router address.
    ///
    /// # Errors
    /// When no mesh prefix can hold it.
    pub fn of_router(router: Ipv4Addr) -> Result<Self, MeshPrefixError> {
        Prefix::containing(router.into(), MESH_PREFIX_LENGTH).try_into()
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

    #[test]
    fn the_ipv6_form_holds_the_ipv4_one() {
        let mesh = MeshPrefix::of_router(Ipv4Addr::new(240, 1, 16, 1)).expect("mesh");
        assert_eq!(mesh.prefix().to_string(), "240.1.16.0/20");
        assert_eq!(mesh.six().to_string(), "fd63:6172:7269::f001:1000/116");
        let gateway = mesh.gateway(0).expect("the first");
        assert_eq!(six(gateway).to_string(), "fd63:6172:7269::f001:1ffe");
        assert!(mesh.six().contains(six(gateway).into()));
        assert!(MeshPrefix::of_router(Ipv4Addr::new(127, 0, 0, 1)).is_err());
    }
}
