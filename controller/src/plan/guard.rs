//! Nothing leaks in clear: what another cluster may have is unreachable while it is not routed, and
//! stays so after its ClusterPeering's end.

use std::collections::BTreeMap;

use carrick_model::{Family, Prefix};
use jiff::Timestamp;

use super::Base;
use crate::identity::Record;
use crate::peering::Resolved;

/// The tombstones that are kept at most; beyond, the oldest go.
const TOMBSTONES_LIMIT: usize = 256;

/// The pieces, beyond the ranges themselves, that our own ranges may cut unreachable ranges into.
const PIECES_LIMIT: usize = 2048;

type Accepted = BTreeMap<Prefix, String>;
type Tombstones = BTreeMap<Prefix, (String, Timestamp)>;

/// What is accepted now, and what was once.
pub(super) fn remember(
    before: &Record,
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
    // What has become ours in the meantime stays remembered: it may cease to be ours.
    let lifted = |prefix: &Prefix| before.forget.iter().any(|forgotten| forgotten.covers(prefix));
    tombstones.retain(|prefix, _| !still(prefix) && !lifted(prefix));
    while tombstones.len() > TOMBSTONES_LIMIT {
        let oldest = tombstones.iter().min_by_key(|(_, (_, since))| *since).map(|(p, _)| *p);
        oldest.and_then(|prefix| tombstones.remove(&prefix));
    }
    (accepted, tombstones)
}

/// What must be unreachable on every node: all that peerings may have and that no route of ours
/// covers, without what is our own. A node or service of ours inside of such a range takes nothing
/// but itself out of it.
pub(super) fn unreachable(
    base: &Base,
    resolved: &[Resolved<'_>],
    record: &Record,
    routed: &[Prefix],
) -> Vec<Prefix> {
    let mut ours = base.own.ranges.clone();
    ours.push(base.own.mesh.prefix());
    // A range that was never accepted, because it swallows something of ours, must not cut this
    // cluster off from what else is near it. One that was accepted has its tombstone by now.
    let harmless = &|range: &Prefix| !ours.iter().any(|own| own.overlaps(range));
    let wanted = resolved.iter().flat_map(|one| {
        let accepted = one.accepted().is_some();
        one.ranges().iter().filter(move |range| accepted || harmless(range))
    });
    let ranges = wanted.chain(record.tombstones.keys());
    let mut guarded: Vec<Prefix> =
        ranges.filter(|range| !routed.iter().any(|route| route.covers(range))).copied().collect();
    guarded.sort_unstable();
    guarded.dedup();
    cut(&guarded, &ours)
}

/// `guarded` without `ours`. When that makes too many pieces, the holes are widened until it does
/// not: a node's routing table is bounded, and our own traffic goes first.
fn cut(guarded: &[Prefix], ours: &[Prefix]) -> Vec<Prefix> {
    let widened = |spared: u8| -> Vec<Prefix> {
        let longest = |p: &Prefix| if p.family() == Family::V4 { 32 } else { 128 } - spared;
        ours.iter().map(|p| Prefix::containing(p.address(), p.length().min(longest(p)))).collect()
    };
    let pieces = |holes: &[Prefix]| -> Vec<Prefix> {
        let mut out: Vec<Prefix> = guarded.iter().flat_map(|range| range.without(holes)).collect();
        out.sort_unstable();
        out.dedup();
        out
    };
    let few = |out: &Vec<Prefix>| out.len() <= guarded.len() + PIECES_LIMIT;
    let attempts = [0, 4, 8, 12, 16].into_iter().map(|spared| pieces(&widened(spared)));
    // Holes that wide in so many ranges: what overlaps nothing of ours is left.
    attempts.into_iter().find(few).unwrap_or_else(|| {
        let clear = |range: &&Prefix| !ours.iter().any(|own| own.overlaps(range));
        guarded.iter().filter(clear).copied().collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scene::prefix;

    #[test]
    fn many_nodes_inside_a_guarded_range_make_a_bounded_number_of_pieces() {
        let host = |i: u32| Prefix::host(std::net::Ipv4Addr::from(0x0a09_0000 + i * 6).into());
        let ours: Vec<Prefix> = (0..5000).map(host).collect();
        let guarded = [prefix("10.0.0.0/8"), prefix("172.16.0.0/12")];
        let left = cut(&guarded, &ours);
        assert!(left.len() <= guarded.len() + PIECES_LIMIT, "{}", left.len());
        assert!(left.iter().all(|piece| !ours.iter().any(|own| own.overlaps(piece))));
        assert!(left.iter().any(|piece| piece.covers(&prefix("10.200.0.0/16"))));
        assert!(left.contains(&prefix("172.16.0.0/12")));
    }
}
