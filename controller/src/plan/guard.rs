//! Nothing leaks in clear: what another cluster may have is unreachable while it is not routed, and
//! stays so after its ClusterPeering's end.

use std::collections::BTreeMap;

use carrick_model::Prefix;
use jiff::Timestamp;

use super::Base;
use crate::identity::Record;
use crate::peering::Resolved;

/// The tombstones that are kept at most; beyond, the oldest go.
const TOMBSTONES_LIMIT: usize = 256;

type Accepted = BTreeMap<Prefix, String>;
type Tombstones = BTreeMap<Prefix, (String, Timestamp)>;

/// What is accepted now, and what was once.
pub(super) fn remember(
    before: &Record,
    base: &Base,
    resolved: &[Resolved<'_>],
    now: Timestamp,
) -> (Accepted, Tombstones) {
    let mut accepted = Accepted::new();
    for one in resolved {
        let Some(peering) = one.accepted() else { continue };
        for range in &peering.accept {
            accepted.entry(*range).or_insert_with(|| peering.cluster.to_string());
        }
    }
    // An object that cannot be read, or is refused for now, has not given up its ranges.
    let still = |prefix: &Prefix| accepted.keys().any(|range| range.covers(prefix));
    let ended = before.accepted.iter().map(|(prefix, cluster)| (*prefix, (cluster.clone(), now)));
    let mut tombstones: Tombstones = ended.chain(before.tombstones.clone()).collect();
    tombstones.retain(|prefix, _| !still(prefix) && !is_ours(base, prefix));
    while tombstones.len() > TOMBSTONES_LIMIT {
        let oldest = tombstones.iter().min_by_key(|(_, (_, since))| *since).map(|(p, _)| *p);
        oldest.and_then(|prefix| tombstones.remove(&prefix));
    }
    (accepted, tombstones)
}

/// What must be unreachable on every node: all that peerings may have and that no route of ours
/// covers, never anything of our own.
pub(super) fn unreachable(
    base: &Base,
    resolved: &[Resolved<'_>],
    record: &Record,
    routed: &[Prefix],
) -> Vec<Prefix> {
    let ranges = resolved.iter().flat_map(|one| one.ranges()).chain(record.tombstones.keys());
    let mut out: Vec<Prefix> = ranges
        .filter(|range| !routed.iter().any(|route| route.covers(range)))
        .filter(|range| !is_ours(base, range))
        .copied()
        .collect();
    out.sort_unstable();
    out.dedup();
    out
}

fn is_ours(base: &Base, prefix: &Prefix) -> bool {
    base.own.ranges.iter().any(|own| own.overlaps(prefix))
}
