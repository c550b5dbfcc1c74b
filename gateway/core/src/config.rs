//! What the control side asks of the data plane: one whole snapshot at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use carrick_model::{ClusterId, Mac, Prefix, TunnelKey};

use crate::path::beat::MOST_PATHS;

/// The most tunnels that one lane holds.
pub const MAX_TUNNELS_PER_LANE: usize = 4096;

/// The bounds in bytes of an inner MTU that is configured: IPv6's minimum, and what a jumbo frame holds. A
/// path may carry less: see [`crate::path::PATH_RANGE`].
pub const MTU_RANGE: std::ops::RangeInclusive<usize> = 1280..=9000;

/// A tunnel's name inside one gateway process; the control side gives it out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TunnelId(pub u64);

impl fmt::Display for TunnelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tunnel {}", self.0)
    }
}

/// Everything that the data plane is to do. A later one replaces the earlier whole; tunnels that are
/// equal in both keep their sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwardingConfig {
    /// Tunnels to remote gateways.
    pub tunnels: Vec<TunnelConfig>,
    /// Remote clusters, with what they were accepted for.
    pub peers: Vec<PeerForwarding>,
    /// Our own nodes; used with a TAP only.
    pub nodes: Vec<NodeForwarding>,
    /// The largest inner packet in bytes, within [`MTU_RANGE`].
    pub mtu: usize,
    /// Where our ICMP errors come from.
    pub routers: Routers,
    /// What the gateway tells its nodes of itself, with a TAP only; `None`: nothing.
    pub host: Option<HostConfig>,
}

impl Default for ForwardingConfig {
    fn default() -> Self {
        Self {
            tunnels: Vec::new(),
            peers: Vec::new(),
            nodes: Vec::new(),
            mtu: 1420,
            routers: Routers::default(),
            host: None,
        }
    }
}

/// The gateway as its nodes see it: a host with a mesh address, which answers their probes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostConfig {
    /// Its address (`MeshPrefix::gateway`). What is sent there goes nowhere else.
    pub address: Ipv4Addr,
    /// It leaves: nodes are to move their flows.
    pub draining: bool,
    /// The router address by which nodes know each cluster.
    pub routers: BTreeMap<ClusterId, Ipv4Addr>,
}

/// The gateway's own inner addresses: source of the ICMP errors that it sends as a router. Without
/// one for a family, "too big" bears the address that the packet was for, and other errors are not sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Routers {
    /// For IPv4: the cluster's mesh router address (`MeshPrefix::router`).
    pub v4: Option<Ipv4Addr>,
    /// For IPv6: the same in its IPv6 form (`carrick_model::mesh::six`).
    pub v6: Option<Ipv6Addr>,
}

/// The most announced endpoints that a tunnel has; a learned one may come beside them.
pub const MOST_ENDPOINTS: usize = MOST_PATHS - 1;

/// A way to a remote lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathConfig {
    /// Its number in the tunnel, below [`MOST_ENDPOINTS`]. It should stay the endpoint's.
    pub number: u8,
    /// Where it leads.
    pub endpoint: SocketAddr,
    /// The operator's cost: dearer paths are used when cheaper ones fail.
    pub cost: u16,
}

impl PathConfig {
    /// The paths of a tunnel with one endpoint, or without any.
    pub fn only(endpoint: Option<SocketAddr>) -> Vec<Self> {
        endpoint.into_iter().map(|endpoint| Self { number: 0, endpoint, cost: 0 }).collect()
    }
}

/// A tunnel to one lane of one remote gateway.
#[derive(Clone, PartialEq, Eq)]
pub struct TunnelConfig {
    /// Its name here.
    pub id: TunnelId,
    /// The lane that holds it.
    pub lane: u32,
    /// The remote lane's public key; unique in the lane.
    pub remote_key: TunnelKey,
    /// The preshared key. Another one makes another session.
    pub psk: Option<[u8; 32]>,
    /// Where the remote lane is announced to listen, the endpoint that is tried first before others; empty
    /// when it can only dial us. At most [`MOST_ENDPOINTS`].
    pub paths: Vec<PathConfig>,
    /// Whether the source of the newest authentic datagram replaces the endpoint, as plain WireGuard
    /// does. Without it, a learned source is used only where no announced endpoint works.
    pub roaming: bool,
    /// Send something at least every so many seconds while a session stands; `None` or 0 is off.
    pub keepalive: Option<u16>,
    /// Begin handshakes unasked, and again whenever the session is lost. Else the first packet does.
    pub initiate: bool,
    /// The other side is a gateway like us: the path is probed. Without it, it is probed only once the
    /// other side has sent a probe.
    pub probes: bool,
    /// After how long a silence a path is lost, where both sides send heartbeats; the slower side's wish
    /// wins. Within [`crate::path::health::DETECTION_RANGE`]: what is beyond is taken for the bound.
    pub detection: Duration,
}

impl fmt::Debug for TunnelConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TunnelConfig")
            .field("id", &self.id)
            .field("lane", &self.lane)
            .field("remote_key", &self.remote_key)
            .field("psk", &self.psk.map(|_| "secret"))
            .field("paths", &self.paths)
            .field("initiate", &self.initiate)
            .field("probes", &self.probes)
            .field("detection", &self.detection)
            .finish_non_exhaustive()
    }
}

/// A remote cluster as the packet path sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerForwarding {
    /// Which.
    pub cluster: ClusterId,
    /// What it was accepted for: destinations that go to it, and the only sources that may come from
    /// it. Its mesh prefix is among them.
    pub prefixes: Vec<Prefix>,
    /// Its tunnels, on any lane.
    pub tunnels: Vec<TunnelId>,
    /// The largest inner packet to and from it in bytes, within [`MTU_RANGE`]; where it is larger than
    /// [`ForwardingConfig::mtu`], or not given, that counts.
    pub mtu: Option<usize>,
}

/// A node of our own cluster as the packet path sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeForwarding {
    /// Its mesh address; its Ethernet address inside the VXLAN follows.
    pub mesh_address: Ipv4Addr,
    /// Its address on the cluster's network: outer address of its VXLAN packets.
    pub address: IpAddr,
    /// Which pod addresses are on it (the mesh address need not be repeated).
    pub prefixes: Vec<Prefix>,
}

impl NodeForwarding {
    /// Its Ethernet address inside the VXLAN.
    pub fn mac(&self) -> Mac {
        Mac::of_mesh(self.mesh_address)
    }
}

/// Why a [`ForwardingConfig`] is refused as a whole; what was applied before stays.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// An ID is used twice.
    #[error("{0} is configured twice")]
    DuplicateTunnel(TunnelId),
    /// Two tunnels of one lane lead to the same remote key, which demultiplexing cannot tell apart.
    #[error("{first} and {second} of lane {lane} have the same remote key {key}")]
    DuplicateKey {
        /// The lane.
        lane: u32,
        /// The tunnel that came first.
        first: TunnelId,
        /// The other.
        second: TunnelId,
        /// The key.
        key: TunnelKey,
    },
    /// A tunnel names a lane that this gateway has not.
    #[error("{tunnel} wants lane {lane}, but there are {lanes} (numbered from 0)")]
    NoSuchLane {
        /// The tunnel.
        tunnel: TunnelId,
        /// The lane it wants.
        lane: u32,
        /// How many there are.
        lanes: usize,
    },
    /// A peer names a tunnel that is not configured.
    #[error("cluster {cluster} lists {tunnel}, which is not configured")]
    NoSuchTunnel {
        /// The peer.
        cluster: ClusterId,
        /// The tunnel.
        tunnel: TunnelId,
    },
    /// Two peers list one tunnel, so that its packets would belong to neither.
    #[error("{tunnel} is listed by cluster {first} and again by {second}")]
    SharedTunnel {
        /// The tunnel.
        tunnel: TunnelId,
        /// The peer that came first.
        first: ClusterId,
        /// The other.
        second: ClusterId,
    },
    /// A tunnel's remote key is the lane's own.
    #[error("{0} leads to our own public key; is this our own announcement?")]
    OwnKey(TunnelId),
    /// More paths than a tunnel has, or two with one number.
    #[error(
        "the paths of {0} must be numbered differently and below {MOST_ENDPOINTS}; name fewer endpoints"
    )]
    Paths(TunnelId),
    /// More tunnels than a lane holds.
    #[error("lane {lane} would hold {count} tunnels; the most is {MAX_TUNNELS_PER_LANE}")]
    TooManyTunnels {
        /// The lane.
        lane: u32,
        /// How many were asked for.
        count: usize,
    },
    /// The MTU is out of bounds.
    #[error("mtu {0} must be from {low} to {high}", low = MTU_RANGE.start(), high = MTU_RANGE.end())]
    Mtu(usize),
}

impl ForwardingConfig {
    /// The lanes that have tunnels to `peer`, in order.
    pub fn lanes_to(&self, peer: &PeerForwarding) -> Vec<u32> {
        let ids: BTreeSet<TunnelId> = peer.tunnels.iter().copied().collect();
        let tunnels = self.tunnels.iter().filter(|tunnel| ids.contains(&tunnel.id));
        let lanes: BTreeSet<u32> = tunnels.map(|tunnel| tunnel.lane).collect();
        lanes.into_iter().collect()
    }

    /// Checks it against the lanes' public keys, lane k's at index k.
    pub fn check(&self, lanes: &[TunnelKey]) -> Result<(), ConfigError> {
        if !MTU_RANGE.contains(&self.mtu) {
            return Err(ConfigError::Mtu(self.mtu));
        }
        let mut mtus = self.peers.iter().filter_map(|peer| peer.mtu);
        if let Some(mtu) = mtus.find(|mtu| !MTU_RANGE.contains(mtu)) {
            return Err(ConfigError::Mtu(mtu));
        }
        let ids = self.check_tunnels(lanes)?;
        self.check_peers(&ids)
    }

    fn check_tunnels(&self, lanes: &[TunnelKey]) -> Result<BTreeSet<TunnelId>, ConfigError> {
        let mut ids = BTreeSet::new();
        let mut keys = BTreeMap::new();
        let mut counts = vec![0; lanes.len()];
        for tunnel in &self.tunnels {
            let (id, lane) = (tunnel.id, tunnel.lane);
            if !ids.insert(id) {
                return Err(ConfigError::DuplicateTunnel(id));
            }
            let Some(own) = lanes.get(lane as usize) else {
                return Err(ConfigError::NoSuchLane { tunnel: id, lane, lanes: lanes.len() });
            };
            if *own == tunnel.remote_key {
                return Err(ConfigError::OwnKey(id));
            }
            if let Some(first) = keys.insert((lane, tunnel.remote_key), id) {
                let key = tunnel.remote_key;
                return Err(ConfigError::DuplicateKey { lane, first, second: id, key });
            }
            let numbers: BTreeSet<u8> = tunnel.paths.iter().map(|path| path.number).collect();
            let most = numbers.last().map_or(0, |number| usize::from(*number) + 1);
            if numbers.len() != tunnel.paths.len() || most > MOST_ENDPOINTS {
                return Err(ConfigError::Paths(id));
            }
            counts[lane as usize] += 1;
        }
        match counts.iter().position(|count| *count > MAX_TUNNELS_PER_LANE) {
            Some(lane) => {
                Err(ConfigError::TooManyTunnels { lane: lane as u32, count: counts[lane] })
            }
            None => Ok(ids),
        }
    }

    fn check_peers(&self, ids: &BTreeSet<TunnelId>) -> Result<(), ConfigError> {
        let mut owners: BTreeMap<TunnelId, &ClusterId> = BTreeMap::new();
        for peer in &self.peers {
            for tunnel in &peer.tunnels {
                let (tunnel, cluster) = (*tunnel, peer.cluster.clone());
                if !ids.contains(&tunnel) {
                    return Err(ConfigError::NoSuchTunnel { cluster, tunnel });
                }
                if let Some(first) = owners.insert(tunnel, &peer.cluster) {
                    let first = first.clone();
                    return Err(ConfigError::SharedTunnel { tunnel, first, second: cluster });
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tunnel(id: u64, lane: u32, key: u8) -> TunnelConfig {
        TunnelConfig {
            id: TunnelId(id),
            lane,
            remote_key: TunnelKey::from_bytes([key; 32]),
            psk: Some([5; 32]),
            paths: Vec::new(),
            roaming: false,
            keepalive: None,
            initiate: false,
            probes: false,
            detection: crate::path::health::DETECTION,
        }
    }

    fn peer(name: &str, tunnels: &[u64]) -> PeerForwarding {
        PeerForwarding {
            cluster: name.parse().expect(name),
            prefixes: Vec::new(),
            tunnels: tunnels.iter().map(|id| TunnelId(*id)).collect(),
            mtu: None,
        }
    }

    fn check(tunnels: Vec<TunnelConfig>, peers: Vec<PeerForwarding>) -> Result<(), ConfigError> {
        let lanes = [TunnelKey::from_bytes([1; 32]), TunnelKey::from_bytes([2; 32])];
        ForwardingConfig { tunnels, peers, ..Default::default() }.check(&lanes)
    }

    #[test]
    fn one_remote_key_may_be_on_two_lanes() {
        let tunnels = vec![tunnel(1, 0, 9), tunnel(2, 1, 9)];
        assert_eq!(check(tunnels, vec![peer("a", &[1, 2])]), Ok(()));
    }

    #[test]
    fn what_cannot_be_told_apart_is_refused() {
        let twice = check(vec![tunnel(1, 0, 9), tunnel(1, 0, 8)], vec![]);
        assert_eq!(twice, Err(ConfigError::DuplicateTunnel(TunnelId(1))));
        let same_key = check(vec![tunnel(1, 0, 9), tunnel(2, 0, 9)], vec![]);
        assert!(matches!(same_key, Err(ConfigError::DuplicateKey { .. })), "{same_key:?}");
        let shared = check(vec![tunnel(1, 0, 9)], vec![peer("a", &[1]), peer("b", &[1])]);
        assert!(matches!(shared, Err(ConfigError::SharedTunnel { .. })), "{shared:?}");
    }

    #[test]
    fn what_does_not_exist_is_refused() {
        let lane = check(vec![tunnel(1, 2, 9)], vec![]);
        assert!(matches!(lane, Err(ConfigError::NoSuchLane { lanes: 2, .. })), "{lane:?}");
        let unknown = check(vec![], vec![peer("a", &[7])]);
        assert!(matches!(unknown, Err(ConfigError::NoSuchTunnel { .. })), "{unknown:?}");
        let own = check(vec![tunnel(1, 1, 2)], vec![]);
        assert_eq!(own, Err(ConfigError::OwnKey(TunnelId(1))));
        let path =
            |number| PathConfig { number, ..PathConfig::only("192.0.2.1:1".parse().ok())[0] };
        for numbers in [[0, 0], [0, 5]] {
            let paths = numbers.map(path).to_vec();
            let paths = check(vec![TunnelConfig { paths, ..tunnel(1, 0, 9) }], vec![]);
            assert_eq!(paths, Err(ConfigError::Paths(TunnelId(1))));
        }
        let mtu = ForwardingConfig { mtu: 100, ..Default::default() }.check(&[]);
        assert_eq!(mtu, Err(ConfigError::Mtu(100)));
        let narrow = check(vec![], vec![PeerForwarding { mtu: Some(200), ..peer("a", &[]) }]);
        assert_eq!(narrow, Err(ConfigError::Mtu(200)));
    }

    #[test]
    fn a_preshared_key_is_never_printed() {
        assert!(!format!("{:?}", tunnel(1, 0, 9)).contains("5, 5"));
    }
}
