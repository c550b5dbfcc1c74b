//! What of a peer's announcement is believed: pure, the same in gateway and controller.

use std::collections::BTreeSet;

use carrick_model::{ClusterId, MeshPrefix, Prefix};

use crate::snapshot::VerifiedSnapshot;

/// What one peering takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Ranges inside which the peer may announce.
    pub accept: Vec<Prefix>,
    /// How many pod prefixes it may announce.
    pub max_prefixes: usize,
    /// Ranges of our own: pods, services, nodes, API server, DNS.
    pub own_ranges: Vec<Prefix>,
    /// Our own mesh prefix.
    pub own_mesh: MeshPrefix,
    /// What other peers hold already.
    pub others: Vec<(ClusterId, Prefix)>,
}

/// The outcome for one snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filtered {
    /// Pod prefixes that are believed, in order, each once.
    pub accepted: Vec<Prefix>,
    /// The rest (a refused mesh prefix among them), with the reasons.
    pub refused: Vec<(Prefix, RefusalReason)>,
    /// The mesh prefix, when it is believed.
    pub mesh: Option<MeshPrefix>,
}

/// Why a prefix is not believed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RefusalReason {
    /// `0.0.0.0/0` or `::/0`.
    DefaultRoute,
    /// Loopback, link-local, multicast or unspecified addresses.
    SpecialUse,
    /// Not inside what our ClusterPeering accepts.
    OutsideAccept,
    /// Shares addresses with a range of our own.
    OverlapsOwn(Prefix),
    /// Shares addresses with what another peer holds.
    OverlapsPeer(ClusterId),
    /// Beyond the number of prefixes that the peer may announce.
    TooMany,
    /// Of a family that our own pods do not have, and which nodes therefore do not carry.
    NotCarried,
}

impl RefusalReason {
    /// The CamelCase word for the wire, status and metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::DefaultRoute => "DefaultRoute",
            Self::SpecialUse => "SpecialUse",
            Self::OutsideAccept => "OutsideAccept",
            Self::OverlapsOwn(_) => "OverlapsOwn",
            Self::OverlapsPeer(_) => "OverlapsPeer",
            Self::TooMany => "TooMany",
            Self::NotCarried => "NotCarried",
        }
    }
}

impl std::fmt::Display for RefusalReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::DefaultRoute => f.write_str("a default route is never taken"),
            Self::SpecialUse => f.write_str("loopback, link-local, multicast or unspecified"),
            Self::OutsideAccept => f.write_str("outside spec.accept of the ClusterPeering"),
            Self::OverlapsOwn(range) => write!(f, "overlaps {range}, a range of this cluster"),
            Self::OverlapsPeer(peer) => write!(f, "overlaps what cluster {peer} holds"),
            Self::TooMany => f.write_str("more prefixes than spec.accept allows"),
            Self::NotCarried => f.write_str("of a family that pods of this cluster do not have"),
        }
    }
}

/// Splits a snapshot's prefixes into believed and refused. The order of the announcement decides
/// which ones fall to the limit.
pub fn filter(snapshot: &VerifiedSnapshot, policy: &Policy) -> Filtered {
    let mut out = Filtered::default();
    let mut seen = BTreeSet::new();
    for prefix in snapshot.pod_prefixes.iter().copied().filter(|prefix| seen.insert(*prefix)) {
        let full = out.accepted.len() >= policy.max_prefixes;
        match refusal(prefix, policy, &policy.accept) {
            Some(reason) => out.refused.push((prefix, reason)),
            None if full => out.refused.push((prefix, RefusalReason::TooMany)),
            None => out.accepted.push(prefix),
        }
    }
    // Node addresses live in class E unless an operator chose another range, which then has to be
    // accepted like any other.
    let mut accept = policy.accept.clone();
    accept.extend("240.0.0.0/4".parse::<Prefix>());
    let mesh = snapshot.mesh.prefix();
    match refusal(mesh, policy, &accept) {
        Some(reason) => out.refused.push((mesh, reason)),
        None => out.mesh = Some(snapshot.mesh),
    }
    out
}

fn refusal(prefix: Prefix, policy: &Policy, accept: &[Prefix]) -> Option<RefusalReason> {
    if prefix.is_default_route() {
        return Some(RefusalReason::DefaultRoute);
    }
    if prefix.is_special_use() {
        return Some(RefusalReason::SpecialUse);
    }
    if !accept.iter().any(|range| range.covers(&prefix)) {
        return Some(RefusalReason::OutsideAccept);
    }
    let own_mesh = policy.own_mesh.prefix();
    let own = policy.own_ranges.iter().chain([&own_mesh]).find(|range| range.overlaps(&prefix));
    if let Some(range) = own {
        return Some(RefusalReason::OverlapsOwn(*range));
    }
    let other = policy.others.iter().find(|(_, held)| held.overlaps(&prefix));
    other.map(|(cluster, _)| RefusalReason::OverlapsPeer(cluster.clone()))
}
