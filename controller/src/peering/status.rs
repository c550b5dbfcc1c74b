//! `ClusterPeering.status`: the judgement with its figures, and when it is worth a write.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use carrick_crds::condition;
use carrick_crds::peering::{
    ClusterPeeringStatus, PeerStatus, Peering, PrefixesStatus, RefusedPrefix, TunnelStatus,
};
use carrick_exchange::message::member::{ConnectionState, PathHealth, PeerState, TunnelState};
use carrick_exchange::wire;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::Resolved;
use super::conditions::{Evidence, Judgement};
use super::services::services;

/// How often a status is written while only figures or wordings change.
pub const FIGURES_INTERVAL: Duration = Duration::from_secs(60);
/// How often while tunnels come, go, rise and fall: people who scale gateways look for them here, and a tunnel that
/// flaps is no reason to write without end.
pub const TUNNELS_INTERVAL: Duration = Duration::from_secs(2);

/// The most tunnels that a status lists.
const TUNNELS_LIMIT: usize = 64;
/// The most paths of a tunnel that are looked at.
const PATHS_LIMIT: usize = 8;

/// The status for one ClusterPeering, on top of the conditions in `before`.
pub fn status(
    evidence: Evidence<'_>,
    one: &Resolved<'_>,
    judgement: &Judgement,
    before: &ClusterPeeringStatus,
) -> ClusterPeeringStatus {
    let generation = one.object.generation;
    let mut out = ClusterPeeringStatus {
        observed_generation: generation,
        conditions: before.conditions.clone(),
        ..ClusterPeeringStatus::default()
    };
    for (type_, verdict) in &judgement.verdicts {
        let now = evidence.now.wall;
        condition::set(&mut out.conditions, type_.as_str(), verdict, generation, now);
    }
    let Some(peering) = one.accepted() else { return out };
    let seen = Seen::collect(evidence, peering);
    out.peer = peer(evidence, peering, &seen);
    out.tunnels = tunnels(&seen);
    out.prefixes = prefixes(evidence, one, &seen);
    let planned = evidence.plan.peerings.get(&one.object.name);
    out.mtu = planned.and_then(|planned| i32::try_from(planned.mtu).ok());
    out.services = services(evidence.world.shared.as_ref(), peering);
    out
}

/// How two statuses differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Difference {
    /// Not at all.
    None,
    /// In figures and wordings.
    Figures,
    /// In which tunnels there are, whether they work, or how many gateways of the peer they reach.
    Tunnels,
    /// In what a condition says, in the prefixes, in the MTU, or in the generation that they are about.
    Substance,
}

/// How `new` differs from `old`.
pub fn difference(old: &ClusterPeeringStatus, new: &ClusterPeeringStatus) -> Difference {
    let substance = |status: &ClusterPeeringStatus| {
        let conditions = status.conditions.iter();
        let said = conditions.map(|c| (c.type_.clone(), c.status.clone(), c.reason.clone()));
        let said: BTreeSet<_> = said.collect();
        let drill = status.peer.as_ref().map(|peer| peer.drill.clone()).unwrap_or_default();
        (status.observed_generation, said, status.prefixes.clone(), status.mtu, drill)
    };
    if old == new {
        Difference::None
    } else if substance(old) != substance(new) {
        Difference::Substance
    } else if tunnels_work(old) != tunnels_work(new) {
        Difference::Tunnels
    } else {
        Difference::Figures
    }
}

/// Which tunnels a status lists, and how they are, without their figures.
fn tunnels_work(status: &ClusterPeeringStatus) -> impl PartialEq + '_ {
    let connected = status.peer.as_ref().map(|peer| peer.connected_gateways);
    let listed = status.tunnels.iter();
    let listed =
        listed.map(|t| (&t.gateway, &t.remote_gateway, t.lane, &t.state, &t.unhealthy_paths));
    (connected, listed.collect::<Vec<_>>())
}

/// When a status that differs so may be written, the last write having been at `last`.
pub fn due(difference: Difference, last: Option<Instant>, now: Instant) -> Option<Instant> {
    match difference {
        Difference::None => None,
        Difference::Substance => Some(now),
        Difference::Tunnels => Some(last.map_or(now, |last| last + TUNNELS_INTERVAL)),
        Difference::Figures => Some(last.map_or(now, |last| last + FIGURES_INTERVAL)),
    }
}

/// What our gateways say of one peer: the gateway's pod name, and its view.
struct Seen<'a>(Vec<(String, &'a PeerState)>);

impl<'a> Seen<'a> {
    fn collect(evidence: Evidence<'a>, peering: &Peering) -> Self {
        let world = evidence.world;
        let mut out = Vec::new();
        for pod in world.facts.gateway_pods(&world.settings.namespace) {
            let Some(state) = world.gateway_says(pod, evidence.now.instant) else { continue };
            let peers = state.peers.iter().filter(|p| p.cluster == peering.cluster.as_str());
            out.extend(peers.map(|peer| (pod.name.clone(), peer)));
        }
        Self(out)
    }

    fn connections(&self) -> impl Iterator<Item = (&String, &'a ConnectionState)> {
        self.0.iter().flat_map(|(gateway, peer)| {
            peer.connections.iter().map(move |connection| (gateway, connection))
        })
    }
}

fn peer(evidence: Evidence<'_>, peering: &Peering, seen: &Seen<'_>) -> Option<PeerStatus> {
    let snapshot = evidence.world.remotes.snapshot(&peering.cluster);
    let releases = seen.connections().map(|(_, connection)| connection.release.clone());
    let up = |c: &ConnectionState| c.tunnels.iter().any(|tunnel| tunnel.up);
    let connected: BTreeSet<&str> =
        seen.connections().filter(|(_, c)| up(c)).map(|(_, c)| c.gateway.as_str()).collect();
    let release = releases.min().unwrap_or_default();
    let snapshot = match snapshot {
        None if release.is_empty() => return None,
        snapshot => snapshot,
    };
    Some(PeerStatus {
        release,
        gateways: count(snapshot.map_or(0, |s| s.gateways.len())),
        connected_gateways: count(connected.len()),
        nodes: count(snapshot.map_or(0, |s| s.nodes.len())),
        mesh_prefix: snapshot.map(|s| s.mesh.prefix().to_string()).unwrap_or_default(),
        drill: snapshot.map(|s| s.drill.clone()).unwrap_or_default(),
    })
}

fn tunnels(seen: &Seen<'_>) -> Vec<TunnelStatus> {
    let all = seen.connections().flat_map(|(gateway, connection)| {
        connection.tunnels.iter().map(move |tunnel| one_tunnel(gateway, connection, tunnel))
    });
    let mut all: Vec<TunnelStatus> = all.collect();
    let key = |t: &TunnelStatus| (t.gateway.clone(), t.remote_gateway.clone(), t.lane);
    all.sort_by_key(key);
    all.truncate(TUNNELS_LIMIT);
    all
}

fn one_tunnel(gateway: &str, connection: &ConnectionState, tunnel: &TunnelState) -> TunnelStatus {
    let handshake = i64::try_from(tunnel.last_handshake).ok().filter(|at| *at > 0);
    let handshake = handshake.and_then(|at| Timestamp::from_second(at).ok());
    let rtt = i32::try_from(connection.rtt_micros.saturating_add(500) / 1000).ok();
    TunnelStatus {
        gateway: gateway.to_owned(),
        remote_gateway: connection.gateway.clone(),
        remote_endpoint: tunnel.endpoint.clone(),
        lane: i32::try_from(tunnel.lane).unwrap_or(i32::MAX),
        state: if tunnel.up { "Up" } else { "Down" }.to_owned(),
        last_handshake: handshake.map(Time),
        rtt_milliseconds: rtt,
        path_mtu: i32::try_from(tunnel.path_mtu).ok().filter(|mtu| *mtu > 0),
        path_mtu_state: tunnel.path_state.chars().take(32).collect(),
        unhealthy_paths: tunnel.paths.iter().take(PATHS_LIMIT).filter_map(unhealthy).collect(),
    }
}

/// What is wrong with a path, if anything is.
fn unhealthy(path: &PathHealth) -> Option<String> {
    let short = |text: &str| text.chars().take(64).collect::<String>();
    let wrong = match (path.state.as_str(), path.grade.as_str()) {
        ("unknown", _) | ("up", "good") => return None,
        ("up", grade) => grade,
        (state, _) => state,
    };
    Some(format!("{} {}", short(&path.endpoint), short(wrong)))
}

fn prefixes(evidence: Evidence<'_>, one: &Resolved<'_>, seen: &Seen<'_>) -> Option<PrefixesStatus> {
    let planned = evidence.plan.peerings.get(&one.object.name)?;
    let filtered = planned.filtered.as_ref()?;
    let refused =
        |(prefix, why): &(carrick_model::Prefix, carrick_exchange::filter::RefusalReason)| {
            RefusedPrefix { prefix: prefix.to_string(), reason: why.as_str().to_owned() }
        };
    let mut imported = filtered.accepted.clone();
    imported.sort_unstable();
    Some(PrefixesStatus {
        imported: imported.iter().filter(|_| planned.routed).map(ToString::to_string).collect(),
        refused: filtered.refused.iter().map(refused).collect(),
        refused_by_peer: refused_by_peer(seen),
    })
}

fn refused_by_peer(seen: &Seen<'_>) -> Vec<RefusedPrefix> {
    let reports = seen.0.iter().filter_map(|(_, peer)| peer.report.as_ref());
    let newest = reports.max_by_key(|report| (report.epoch, report.generation));
    let refusals = newest.into_iter().flat_map(|report| &report.refused);
    let readable = refusals.filter_map(|refusal| {
        let prefix = wire::prefix(refusal.prefix.as_ref()?, "report.refused").ok()?;
        let reason: String = refusal.reason.chars().take(64).collect();
        Some(RefusedPrefix { prefix: prefix.to_string(), reason })
    });
    let all: BTreeSet<RefusedPrefix> = readable.collect();
    all.into_iter().take(256).collect()
}

fn count(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_are_not_well_are_named_with_what_is_wrong() {
        let path = |state: &str, grade: &str| {
            let [state, grade] = [state, grade].map(str::to_owned);
            unhealthy(&PathHealth {
                endpoint: "a:1".to_owned(),
                state,
                grade,
                ..PathHealth::default()
            })
        };
        assert_eq!((path("up", "good"), path("unknown", "good")), (None, None));
        assert_eq!(path("up", "poor").as_deref(), Some("a:1 poor"));
        assert_eq!(path("down", "good").as_deref(), Some("a:1 down"));
        assert!(path(&"x".repeat(9999), "good").is_some_and(|text| text.len() < 100));
    }

    #[test]
    fn an_mtu_is_written_at_once_tunnels_soon_and_their_figures_late() {
        let tunnel = |rtt: i32, state: &str| TunnelStatus {
            rtt_milliseconds: Some(rtt),
            state: state.to_owned(),
            ..TunnelStatus::default()
        };
        let status = |mtu, rtt| ClusterPeeringStatus {
            mtu: Some(mtu),
            tunnels: vec![tunnel(rtt, "Up")],
            ..ClusterPeeringStatus::default()
        };
        let (now, before) = (Instant::now(), status(1220, 20));
        let due = |new: &ClusterPeeringStatus| due(difference(&before, new), Some(now), now);
        assert_eq!(due(&before), None);
        assert_eq!(due(&status(1220, 21)), Some(now + FIGURES_INTERVAL));
        assert_eq!(due(&status(1420, 20)), Some(now), "nodes have it already");
        for tunnels in [vec![], vec![tunnel(21, "Down")], vec![tunnel(20, "Up"), tunnel(20, "Up")]]
        {
            let new = ClusterPeeringStatus { tunnels, ..status(1220, 20) };
            assert_eq!(due(&new), Some(now + TUNNELS_INTERVAL));
        }
    }
}
