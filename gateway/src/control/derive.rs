//! From configuration and peers to the packet path: pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use carrick_exchange::filter::{Filtered, Policy, RefusalReason, filter};
use carrick_exchange::message::peer::{Refusal, Report};
use carrick_exchange::snapshot::VerifiedSnapshot;
use carrick_gateway_core::config::MAX_TUNNELS_PER_LANE;
use carrick_gateway_core::{ForwardingConfig, PeerForwarding, Routers, TunnelConfig, TunnelId};
use carrick_model::{ClusterId, Family, Prefix, TunnelKey, mesh};

use super::config::{Config, Peering};
use super::peer::{Peer, Tunnel};
use super::plane::Setup;

/// Each side sends at least this often, in seconds, whatever the peering says: a tunnel counts as up
/// only while something came within the last 15 s, and an idle one is no broken one.
const KEEPALIVE: u16 = 5;

/// What follows from all that is known.
#[derive(Debug)]
pub struct Derived {
    /// For the packet path.
    pub setup: Setup,
    /// By which address nodes know each peer.
    pub routers: BTreeMap<ClusterId, Ipv4Addr>,
    /// What each peer's newest snapshot came to, for the peer.
    pub reports: BTreeMap<ClusterId, Report>,
    /// What was left out and why, for a person.
    pub errors: Vec<String>,
}

/// Derives it. `own` are our lanes' keys.
pub fn derive(config: &Config, peers: &BTreeMap<ClusterId, Peer>, own: &[TunnelKey]) -> Derived {
    let router = config.own_mesh.router();
    let mut out = Derived {
        setup: Setup {
            vxlan: config.vxlan,
            forwarding: ForwardingConfig {
                nodes: config.nodes.clone(),
                mtu: config.mtu,
                routers: Routers { v4: Some(router), v6: Some(mesh::six(router)) },
                ..ForwardingConfig::default()
            },
        },
        routers: BTreeMap::new(),
        reports: BTreeMap::new(),
        errors: Vec::new(),
    };
    let mut taken = Taken::new(own);
    let mut others = Vec::new();
    // The order of the peerings, which is the controller's, decides who keeps what two peers claim.
    for peering in &config.peerings {
        let cluster = &peering.pin.cluster;
        let Some(peer) = peers.get(cluster) else { continue };
        let error = peer.refused.clone().unwrap_or_default();
        let Some((snapshot, _)) = &peer.snapshot else {
            if !error.is_empty() {
                out.reports.insert(cluster.clone(), Report { error, ..Report::default() });
            }
            continue;
        };
        let filtered = filter(snapshot, &policy(config, peering, &others));
        out.reports.insert(cluster.clone(), report(snapshot, &filtered, error));
        let prefixes = believed(&filtered);
        let router = filtered.mesh.map(|mesh| (cluster.clone(), mesh.router()));
        others.extend(prefixes.iter().map(|prefix| (cluster.clone(), *prefix)));
        if !snapshot.consents {
            continue;
        }
        out.routers.extend(router);
        let tunnels = tunnels(peering, peer, &mut taken, &mut out.errors);
        let ids: Vec<TunnelId> = tunnels.iter().map(|tunnel| tunnel.id).collect();
        let forwarding = &mut out.setup.forwarding;
        forwarding.tunnels.extend(tunnels);
        let cluster = cluster.clone();
        let mtu = peering.mtu;
        forwarding.peers.push(PeerForwarding { cluster, prefixes, tunnels: ids, mtu });
    }
    out
}

fn policy(config: &Config, peering: &Peering, others: &[(ClusterId, Prefix)]) -> Policy {
    Policy {
        accept: peering.accept.clone(),
        max_prefixes: peering.max_prefixes,
        own_ranges: config.own_ranges.clone(),
        own_mesh: config.own_mesh,
        others: others.to_vec(),
    }
}

/// A peer without a usable mesh prefix is not routed at all, as on the nodes. One with IPv6 has it in both its forms.
fn believed(filtered: &Filtered) -> Vec<Prefix> {
    let Some(mesh) = filtered.mesh else { return Vec::new() };
    let six = filtered.accepted.iter().any(|prefix| prefix.family() == Family::V6);
    let meshes = [mesh.prefix()].into_iter().chain(six.then(|| mesh.six()));
    filtered.accepted.iter().copied().chain(meshes).collect()
}

fn report(snapshot: &VerifiedSnapshot, filtered: &Filtered, error: String) -> Report {
    let refusal = |(prefix, reason): &(Prefix, RefusalReason)| Refusal {
        prefix: Some((*prefix).into()),
        reason: reason.as_str().to_owned(),
    };
    Report {
        epoch: snapshot.version.epoch,
        generation: snapshot.version.generation,
        refused: filtered.refused.iter().map(refusal).collect(),
        error,
        ..Report::default()
    }
}

/// Which remote keys each lane talks to already, so that one peer's clash never spoils the whole
/// configuration.
struct Taken {
    keys: BTreeSet<(u32, TunnelKey)>,
    counts: BTreeMap<u32, usize>,
}

impl Taken {
    fn new(own: &[TunnelKey]) -> Self {
        let lanes = 0..u32::try_from(own.len()).unwrap_or(u32::MAX);
        let own = lanes.zip(own.iter().copied());
        Self { keys: own.collect(), counts: BTreeMap::new() }
    }

    fn take(&mut self, lane: u32, key: TunnelKey) -> bool {
        let count = self.counts.entry(lane).or_default();
        let free = *count < MAX_TUNNELS_PER_LANE && self.keys.insert((lane, key));
        *count += usize::from(free);
        free
    }
}

fn tunnels(
    peering: &Peering,
    peer: &Peer,
    taken: &mut Taken,
    errors: &mut Vec<String>,
) -> Vec<TunnelConfig> {
    let mut out = Vec::new();
    for (name, gateway) in &peer.gateways {
        for (lane, tunnel) in &gateway.tunnels {
            if taken.take(*lane, tunnel.agreed.remote.key) {
                out.push(tunnel_config(peering, *lane, tunnel));
            } else {
                let (cluster, key) = (&peering.pin.cluster, tunnel.agreed.remote.key);
                errors.push(format!(
                    "gateway {name} of cluster {cluster}: lane {lane} is left out: its key {key} \
                     belongs to another tunnel of that lane or to ourselves, or the lane is full"
                ));
            }
        }
    }
    out
}

fn tunnel_config(peering: &Peering, lane: u32, tunnel: &Tunnel) -> TunnelConfig {
    let keepalive = peering.keepalive.unwrap_or(KEEPALIVE).min(KEEPALIVE);
    TunnelConfig {
        id: tunnel.id,
        lane,
        remote_key: tunnel.agreed.remote.key,
        psk: Some(tunnel.agreed.psk),
        paths: tunnel.paths.clone(),
        roaming: false,
        keepalive: Some(keepalive),
        initiate: true,
        probes: true,
        detection: peering.detection,
    }
}
