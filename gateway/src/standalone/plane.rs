//! The packet path of a standalone gateway: what the file says of plain peers and what the exchange
//! brought of Carrick ones, in one data plane.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use carrick_exchange::peer::Lane;
use carrick_gateway_core::{ForwardingConfig, Routers};
use carrick_model::TunnelKey;
use tokio::sync::watch;

use crate::control::plane::{Plane, PlaneError, Setup};
use crate::dataplane::{
    ConfigError, Dataplane, DataplaneStats, Fault, LaneInfo, PeerForwarding, TunnelConfig,
};

/// The packet path. It has two writers, which know nothing of each other.
#[derive(Debug)]
pub(super) struct StandalonePlane {
    dataplane: Arc<Dataplane>,
    offered: Vec<Lane>,
    parts: Mutex<Parts>,
    carrick: watch::Sender<Vec<PeerForwarding>>,
}

#[derive(Debug, Clone, Default)]
struct Parts {
    plain: Part,
    carrick: Part,
    mtu: usize,
    routers: Routers,
}

#[derive(Debug, Clone, Default)]
struct Part {
    tunnels: Vec<TunnelConfig>,
    peers: Vec<PeerForwarding>,
}

impl StandalonePlane {
    /// With nothing configured yet.
    pub fn new(dataplane: Dataplane) -> Self {
        let offered = offered(dataplane.lanes());
        let carrick = watch::Sender::default();
        Self { dataplane: Arc::new(dataplane), offered, parts: Mutex::default(), carrick }
    }

    /// The data plane.
    pub fn dataplane(&self) -> &Arc<Dataplane> {
        &self.dataplane
    }

    /// What Carrick peers have been accepted for, as it is in force.
    pub fn carrick(&self) -> watch::Receiver<Vec<PeerForwarding>> {
        self.carrick.subscribe()
    }

    /// Replaces the plain peers, and the MTU. Refused, it leaves all as it was.
    pub fn set_plain(&self, plain: ForwardingConfig) -> Result<(), ConfigError> {
        self.change(|parts| {
            parts.plain = Part { tunnels: plain.tunnels, peers: plain.peers };
            parts.mtu = plain.mtu;
        })
    }

    fn change(&self, how: impl FnOnce(&mut Parts)) -> Result<(), ConfigError> {
        let mut parts = self.parts();
        let mut next = parts.clone();
        how(&mut next);
        let (config, carrick) = merge(&next);
        self.dataplane.apply(config)?;
        *parts = next;
        self.carrick.send_if_modified(|held| {
            let changed = *held != carrick;
            *held = carrick;
            changed
        });
        Ok(())
    }

    fn parts(&self) -> MutexGuard<'_, Parts> {
        // Parts are replaced whole, so that a panic elsewhere leaves none half changed.
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The lanes that Carrick peers may use. Lanes that plain peers know share the file's key, and each key
/// may be offered once only.
fn offered(lanes: &[LaneInfo]) -> Vec<Lane> {
    let mut keys = BTreeSet::new();
    let first = lanes.iter().filter(|lane| keys.insert(lane.public_key));
    first.map(|l| Lane { index: l.index, key: l.public_key, port: l.port }).collect()
}

/// Both parts in one; also the Carrick part as it is in there. A Carrick peer whose lane has the key of a
/// plain peer loses that tunnel: it must not spoil the whole.
fn merge(parts: &Parts) -> (ForwardingConfig, Vec<PeerForwarding>) {
    let taken: BTreeSet<(u32, TunnelKey)> =
        parts.plain.tunnels.iter().map(|t| (t.lane, t.remote_key)).collect();
    let free = |tunnel: &&TunnelConfig| !taken.contains(&(tunnel.lane, tunnel.remote_key));
    let tunnels: Vec<TunnelConfig> = parts.carrick.tunnels.iter().filter(free).cloned().collect();
    let lost = parts.carrick.tunnels.len() - tunnels.len();
    if lost > 0 {
        tracing::warn!(lost, "lanes of Carrick peers have keys of plain peers, and are left out");
    }
    let ids: BTreeSet<_> = tunnels.iter().map(|tunnel| tunnel.id).collect();
    let mut carrick = parts.carrick.peers.clone();
    carrick.iter_mut().for_each(|peer| peer.tunnels.retain(|id| ids.contains(id)));
    let config = ForwardingConfig {
        tunnels: [parts.plain.tunnels.clone(), tunnels].concat(),
        peers: [parts.plain.peers.clone(), carrick.clone()].concat(),
        nodes: Vec::new(),
        mtu: parts.mtu,
        routers: parts.routers,
        host: None,
    };
    (config, carrick)
}

impl Plane for StandalonePlane {
    fn lanes(&self) -> Vec<Lane> {
        self.offered.clone()
    }

    async fn apply(&self, setup: &Setup) -> Result<(), PlaneError> {
        let ForwardingConfig { tunnels, peers, routers, .. } = setup.forwarding.clone();
        let changed = self.change(|parts| {
            parts.carrick = Part { tunnels, peers };
            parts.routers = routers;
        });
        changed.map_err(|error| PlaneError(error.to_string()))
    }

    fn inject(&self, fault: Option<Fault>) {
        self.dataplane.inject(fault);
    }

    fn stats(&self) -> DataplaneStats {
        self.dataplane.stats()
    }

    async fn foreign_packets(&self) -> Option<u64> {
        None
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.dataplane.changes()
    }

    fn failure(&self) -> watch::Receiver<Option<String>> {
        self.dataplane.failure()
    }
}

#[cfg(test)]
mod tests {
    use carrick_gateway_core::TunnelId;

    use super::*;

    fn key(n: u8) -> TunnelKey {
        TunnelKey::from_bytes([n; 32])
    }

    fn tunnel(id: u64, lane: u32, remote: u8) -> TunnelConfig {
        TunnelConfig {
            id: TunnelId(id),
            lane,
            remote_key: key(remote),
            psk: None,
            paths: Vec::new(),
            roaming: false,
            keepalive: None,
            initiate: false,
            probes: false,
            detection: carrick_gateway_core::path::health::DETECTION,
        }
    }

    fn peer(name: &str, ids: &[u64]) -> PeerForwarding {
        PeerForwarding {
            cluster: name.parse().expect("a name"),
            prefixes: Vec::new(),
            tunnels: ids.iter().map(|id| TunnelId(*id)).collect(),
            mtu: None,
        }
    }

    #[test]
    fn a_carrick_peer_cannot_take_a_plain_peers_key() {
        let parts = Parts {
            plain: Part { tunnels: vec![tunnel(9, 0, 1)], peers: vec![peer("laptop", &[9])] },
            carrick: Part {
                tunnels: vec![tunnel(1, 0, 1), tunnel(2, 1, 1)],
                peers: vec![peer("osaka", &[1, 2])],
            },
            mtu: 1420,
            routers: Routers::default(),
        };
        let (config, carrick) = merge(&parts);
        assert_eq!(config.check(&[key(7), key(8)]), Ok(()));
        assert_eq!(config.tunnels.len(), 2, "on another lane the key is free");
        assert_eq!(carrick, [peer("osaka", &[2])]);
        assert_eq!(config.peers.len(), 2);
    }

    #[test]
    fn each_key_is_offered_once() {
        let lane = |index, n| LaneInfo { index, public_key: key(n), port: 51_820 };
        let lanes = offered(&[lane(0, 1), lane(1, 1), lane(2, 2)]);
        assert_eq!(lanes.iter().map(|lane| lane.index).collect::<Vec<_>>(), [0, 2]);
    }
}
