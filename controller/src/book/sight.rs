//! Who the peers are and how they are reached, as far as services need it: pure.

use std::collections::BTreeMap;

use carrick_crds::peering::Peering;
use carrick_exchange::message::member::GatewayState;
use carrick_model::{ClusterId, MemberName, Prefix};

use super::Reach;
use super::path::{silent, word};
use crate::peering::Resolved;
use crate::plan::Plan;
use crate::world::{Now, World};

/// All peers.
pub type Sight = BTreeMap<ClusterId, PeerSight>;

/// One peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerSight {
    /// Its ClusterPeering.
    pub peering: Peering,
    /// Where its pods may be; `None` before its snapshot came.
    pub prefixes: Option<Vec<Prefix>>,
    /// Our gateways that have a link to it.
    pub gateways: Vec<MemberName>,
    /// Whether packets get there.
    pub reach: Reach,
}

/// What follows from the world and its plan.
pub fn sight(
    world: &World,
    resolved: &[Resolved<'_>],
    plan: &Plan,
    before: Option<&Sight>,
    now: Now,
) -> Sight {
    let silent = silent(world, now);
    let one = |resolved: &Resolved<'_>| {
        let peering = resolved.accepted()?;
        let planned = plan.peerings.get(&resolved.object.name)?;
        let before = before.and_then(|before| before.get(&peering.cluster));
        let found = planned.filtered.as_ref().map(|filtered| filtered.accepted.clone());
        let word = word(world, peering, planned, &silent, now);
        let reach = before.map_or_else(|| Reach::first(word), |b| b.reach.next(word, now.instant));
        let sight = PeerSight {
            peering: peering.clone(),
            prefixes: found.or_else(|| before.and_then(|before| before.prefixes.clone())),
            gateways: linked(world, &peering.cluster, now),
            reach,
        };
        Some((peering.cluster.clone(), sight))
    };
    resolved.iter().filter_map(one).collect()
}

fn linked(world: &World, cluster: &ClusterId, now: Now) -> Vec<MemberName> {
    let reaches = |state: &GatewayState| {
        let peer = state.peers.iter().find(|peer| peer.cluster == cluster.as_str());
        // Without a link the round-trip time is 0.
        peer.is_some_and(|peer| peer.connections.iter().any(|link| link.rtt_micros > 0))
    };
    let live = world.gateways.iter().filter_map(|(name, m)| Some((name, m.live(now.instant)?)));
    // One that leaves is asked last.
    let mut linked: Vec<_> = live
        .filter(|(_, state)| reaches(state))
        .map(|(name, state)| (state.draining, name.clone()))
        .collect();
    linked.sort();
    linked.into_iter().map(|(_, name)| name).collect()
}
