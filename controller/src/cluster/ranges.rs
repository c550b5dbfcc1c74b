//! Where our pods live: given by the operator, or found by the nodes' podCIDRs.

use std::collections::BTreeMap;
use std::net::IpAddr;

use carrick_model::{Family, Prefix};

use super::{Facts, NodeFacts};

/// A found range is never wider than this (bits), lest we claim half of a company's network.
const WIDEST: u8 = 16;

/// How many exact prefixes are announced beside the common one.
const EXACT_LIMIT: usize = 16;

/// Where our pods live.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodRanges {
    /// What the cluster says of itself, one a family unless the operator gave more.
    pub ranges: Vec<Prefix>,
    /// What peers are told. Found ranges grow with the cluster beyond what a peer accepted earlier,
    /// so the nodes' exact prefixes are told as well: those stay accepted.
    pub announced: Vec<Prefix>,
}

/// Why there are no pod ranges.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RangesError {
    /// No node has podCIDRs.
    #[error("no node has spec.podCIDRs, and the chart's value podRanges is empty")]
    Unknown,
    /// The common prefix is too wide.
    #[error(
        "the nodes' spec.podCIDRs ({first} … {last}) have no common prefix of at least /{WIDEST}"
    )]
    TooWide {
        /// The lowest of them.
        first: Prefix,
        /// The highest of them.
        last: Prefix,
    },
}

/// Finds the pod ranges: `given`, or else the smallest common prefix of the nodes' podCIDRs.
pub fn find(
    given: &[Prefix],
    nodes: &BTreeMap<String, NodeFacts>,
) -> Result<PodRanges, RangesError> {
    if !given.is_empty() {
        return Ok(PodRanges { ranges: given.to_vec(), announced: given.to_vec() });
    }
    let mut found = PodRanges::default();
    for family in [Family::V4, Family::V6] {
        let all = nodes.values().flat_map(|node| &node.pod_prefixes).copied();
        let mut prefixes: Vec<Prefix> = all.filter(|p| p.family() == family).collect();
        prefixes.sort_unstable();
        let (Some(first), Some(last)) = (prefixes.first(), prefixes.last()) else { continue };
        let common = Prefix::common(&prefixes).filter(|common| common.length() >= WIDEST);
        let common = common.ok_or(RangesError::TooWide { first: *first, last: *last })?;
        found.ranges.push(common);
        found.announced.push(common);
        let exact = aggregate(&prefixes);
        found.announced.extend(exact.into_iter().filter(|p| *p != common).take(EXACT_LIMIT));
    }
    if found.ranges.is_empty() { Err(RangesError::Unknown) } else { Ok(found) }
}

/// The fewest prefixes that hold exactly the addresses of `sorted`.
fn aggregate(sorted: &[Prefix]) -> Vec<Prefix> {
    let mut out: Vec<Prefix> = Vec::new();
    for prefix in sorted {
        if out.last().is_some_and(|held| held.covers(prefix)) {
            continue;
        }
        out.push(*prefix);
        while let [.., low, high] = out[..] {
            let Some(parent) = parent_of(low, high) else { break };
            out.truncate(out.len() - 2);
            out.push(parent);
        }
    }
    out
}

/// The prefix of which the two are the halves.
fn parent_of(low: Prefix, high: Prefix) -> Option<Prefix> {
    let halves = low != high && low.length() == high.length() && low.length() > 0;
    let parent = Prefix::containing(low.address(), low.length().checked_sub(1)?);
    (halves && low.address() == parent.address() && parent.covers(&high)).then_some(parent)
}

/// Pods outside of `ranges`: at most five of them, and how many there are.
pub fn outside(facts: &Facts, ranges: &[Prefix]) -> (Vec<String>, usize) {
    let strangers = facts.pods.values().filter(|pod| !pod.host_network).filter_map(|pod| {
        let address: IpAddr = pod.address?;
        let known = ranges.iter().any(|range| range.contains(address));
        // A family that has no range at all is not announced, and so not claimed to be covered.
        let relevant = ranges.iter().any(|range| range.family() == Family::of(address));
        (relevant && !known).then(|| format!("{}/{} {address}", pod.namespace, pod.name))
    });
    let mut shown = Vec::new();
    let mut count = 0;
    for stranger in strangers {
        count += 1;
        if shown.len() < 5 {
            shown.push(stranger);
        }
    }
    (shown, count)
}

#[cfg(test)]
mod tests {
    use super::super::node::Readiness;
    use super::*;

    fn prefix(text: &str) -> Prefix {
        text.parse().expect(text)
    }

    fn nodes(cidrs: &[&[&str]]) -> BTreeMap<String, NodeFacts> {
        let node = |(i, cidrs): (usize, &&[&str])| {
            let name = format!("n{i}");
            let facts = NodeFacts {
                name: name.clone(),
                readiness: Readiness::Ready,
                wants_agent: true,
                internal: Vec::new(),
                external: Vec::new(),
                pod_prefixes: cidrs.iter().map(|c| prefix(c)).collect(),
            };
            (name, facts)
        };
        cidrs.iter().enumerate().map(node).collect()
    }

    #[test]
    fn the_operators_word_goes_first() {
        let given = [prefix("10.9.0.0/16")];
        let found = find(&given, &nodes(&[&["10.1.0.0/24"]])).expect("ranges");
        assert_eq!(found.ranges, given);
    }

    #[test]
    fn neighbours_become_one_range() {
        let found = find(&[], &nodes(&[&["10.1.0.0/24"], &["10.1.1.0/24"]])).expect("ranges");
        assert_eq!(found.ranges, [prefix("10.1.0.0/23")]);
        assert_eq!(found.announced, found.ranges);
    }

    #[test]
    fn a_third_node_leaves_what_was_announced_before_announced() {
        let three = nodes(&[&["10.1.0.0/24"], &["10.1.1.0/24"], &["10.1.2.0/24", "fd00::/64"]]);
        let found = find(&[], &three).expect("ranges");
        assert_eq!(found.ranges, [prefix("10.1.0.0/22"), prefix("fd00::/64")]);
        assert!(found.announced.contains(&prefix("10.1.0.0/23")));
        assert!(found.announced.contains(&prefix("10.1.2.0/24")));
    }

    #[test]
    fn too_wide_and_unknown_ranges_are_refused() {
        let wide = nodes(&[&["10.1.0.0/24"], &["10.2.0.0/24"]]);
        assert!(matches!(find(&[], &wide), Err(RangesError::TooWide { .. })));
        assert_eq!(find(&[], &nodes(&[&[]])), Err(RangesError::Unknown));
    }
}
