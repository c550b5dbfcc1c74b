//! Validation: each ClusterPeering by itself, then against this cluster and against the others.

use std::collections::BTreeMap;

use carrick_crds::Reason;
use carrick_crds::condition::Verdict;
use carrick_crds::peering::FieldError;
use carrick_crds::peering::Peering;
use carrick_crds::peering::parse::Problem;
use carrick_model::{ClusterId, IdentityKey, MeshPrefix, Prefix};

use super::PeeringObject;

/// What a peering is checked against.
#[derive(Debug, Clone)]
pub struct OwnCluster {
    /// Our ID.
    pub cluster: ClusterId,
    /// Our identity key.
    pub identity: IdentityKey,
    /// Our mesh prefix.
    pub mesh: MeshPrefix,
    /// Where our pods live; empty while unknown.
    pub pod_ranges: Vec<Prefix>,
    /// All ranges of ours that no peer may have: pods, services, nodes, API server, DNS.
    pub ranges: Vec<Prefix>,
}

/// A ClusterPeering and what became of it.
#[derive(Debug)]
pub struct Resolved<'a> {
    /// The object.
    pub object: &'a PeeringObject,
    /// What became of it.
    pub standing: Standing,
}

/// What became of a ClusterPeering.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It counts.
    Accepted(Peering),
    /// It does not, and the condition `Accepted` says why.
    Refused {
        /// The condition.
        verdict: Verdict,
        /// What it would have accepted, as far as that could be read.
        ranges: Vec<Prefix>,
    },
}

impl Resolved<'_> {
    /// The peering, if it counts.
    pub fn accepted(&self) -> Option<&Peering> {
        match &self.standing {
            Standing::Accepted(peering) => Some(peering),
            Standing::Refused { .. } => None,
        }
    }

    /// The ranges in `accept`, whether it counts or not.
    pub fn ranges(&self) -> &[Prefix] {
        match &self.standing {
            Standing::Accepted(peering) => &peering.accept,
            Standing::Refused { ranges, .. } => ranges,
        }
    }
}

/// Validates all peerings; the oldest first, which is also the order in which peers are served when
/// they collide.
pub fn resolve<'a>(
    own: &OwnCluster,
    objects: &'a BTreeMap<String, PeeringObject>,
) -> Vec<Resolved<'a>> {
    let mut objects: Vec<&PeeringObject> = objects.values().collect();
    objects.sort_by_key(|object| (object.created, object.name.clone()));
    let mut out: Vec<Resolved<'a>> = Vec::with_capacity(objects.len());
    for object in objects {
        let standing = match read(object) {
            Ok(peering) => match collision(own, &peering, &out) {
                None => Standing::Accepted(peering),
                Some(verdict) => Standing::Refused { verdict, ranges: peering.accept },
            },
            Err(verdict) => Standing::Refused { verdict, ranges: Vec::new() },
        };
        out.push(Resolved { object, standing });
    }
    out
}

fn read(object: &PeeringObject) -> Result<Peering, Verdict> {
    let spec = object.spec.as_ref().map_err(|why| Verdict::no(Reason::InvalidSpec, why))?;
    Peering::parse(spec).map_err(|errors| {
        let only_unimplemented =
            errors.iter().all(|e| matches!(e.problem, Problem::NotImplemented(_)));
        let reason = if only_unimplemented { Reason::NotImplemented } else { Reason::InvalidSpec };
        let texts: Vec<String> = errors.iter().map(FieldError::to_string).collect();
        Verdict::no(reason, texts.join("; "))
    })
}

fn collision(own: &OwnCluster, peering: &Peering, older: &[Resolved<'_>]) -> Option<Verdict> {
    if peering.cluster == own.cluster {
        let text = format!("spec.clusterID {} is this cluster's own ID", peering.cluster);
        return Some(Verdict::no(Reason::OwnCluster, text));
    }
    if let Some(i) = peering.identities.iter().position(|key| *key == own.identity) {
        let text = format!("spec.identities[{i}] {} is this cluster's own key", own.identity);
        return Some(Verdict::no(Reason::OwnIdentity, text));
    }
    duplicate(peering, older)
        .or_else(|| overlap(own, peering))
        .or_else(|| stray_announcement(own, peering))
}

fn duplicate(peering: &Peering, older: &[Resolved<'_>]) -> Option<Verdict> {
    older.iter().find_map(|other| {
        let held = other.accepted()?;
        let name = &other.object.name;
        let text = if held.cluster == peering.cluster {
            let cluster = &peering.cluster;
            format!("the older ClusterPeering {name} is for cluster {cluster} already")
        } else {
            let i = peering.identities.iter().position(|key| held.identities.contains(key))?;
            let key = peering.identities[i];
            format!("spec.identities[{i}] {key} is pinned by the older ClusterPeering {name}")
        };
        Some(Verdict::no(Reason::DuplicatePeering, text))
    })
}

fn overlap(own: &OwnCluster, peering: &Peering) -> Option<Verdict> {
    let mesh = own.mesh.prefix();
    peering.accept.iter().enumerate().find_map(|(i, range)| {
        let mine = own.ranges.iter().chain([&mesh]).find(|mine| mine.overlaps(range))?;
        let text = format!(
            "spec.accept.podRanges[{i}] {range} overlaps {mine}, which belongs to this cluster"
        );
        Some(Verdict::no(Reason::OverlapsOwnRanges, text))
    })
}

/// We cannot announce what is not ours.
fn stray_announcement(own: &OwnCluster, peering: &Peering) -> Option<Verdict> {
    if own.pod_ranges.is_empty() {
        return None;
    }
    let ours = |range: &Prefix| own.pod_ranges.iter().any(|pods| pods.covers(range));
    let i = peering.announce.iter().position(|range| !ours(range))?;
    let text = format!(
        "spec.announce.podRanges[{i}] {} lies outside of this cluster's pod ranges",
        peering.announce[i]
    );
    Some(Verdict::no(Reason::InvalidSpec, text))
}
