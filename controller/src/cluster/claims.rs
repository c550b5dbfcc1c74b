//! Which node has which pods: what an agent says of its node counts only for its own node.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use carrick_model::{Family, Prefix};

use super::Facts;

/// A claim that was not taken.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RefusedClaim {
    /// The node whose agent claimed.
    pub node: String,
    /// What it claimed.
    pub prefix: Prefix,
    /// Why it was not taken.
    pub why: ClaimError,
}

/// Why a claim was not taken.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum ClaimError {
    /// The node has podCIDRs, and this is not in them.
    #[error("lies outside of the node's spec.podCIDRs")]
    OutsideNode,
    /// Not where pods live.
    #[error("lies outside of the cluster's pod ranges")]
    OutsideRanges,
    /// Wider than any node needs.
    #[error("is wider than /{0}")]
    TooWide(u8),
    /// The pods in it run elsewhere.
    #[error("holds addresses of pods on other nodes, and of none on this one")]
    StrangePods,
    /// Another node has it.
    #[error("belongs to node {0}")]
    Taken(String),
}

/// Who holds which prefixes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claims {
    /// By node.
    pub granted: BTreeMap<String, Vec<Prefix>>,
    /// What was not taken.
    pub refused: Vec<RefusedClaim>,
}

/// The widest claims that are taken (bits, IPv4 and IPv6): a node has no more pods than this holds.
const WIDEST: (u8, u8) = (20, 56);

/// A claim of a node without podCIDRs, with what speaks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Claim<'a> {
    /// A single address; those come after all blocks.
    host: bool,
    /// It was not granted before.
    new: bool,
    /// How many pods of other nodes have an address in it.
    foreign: usize,
    /// A tie goes to who has more pods in it, and then to the wider one.
    own: Reverse<usize>,
    length: u8,
    node: &'a str,
    prefix: Prefix,
    /// How many of the foreign pods are not claimed one by one by their own nodes, as borrowed ones are.
    strange: usize,
}

/// Decides which node has which pods. A node with podCIDRs has just those. Else its agent's claims
/// count as far as they lie in `ranges` and the pods that run do not speak against them. Blocks of two
/// nodes never overlap: what `before` grants stays, then the one with the fewest strange pods wins.
/// An address inside of another's block (borrowed, as some IPAM does) is granted when a pod with that
/// address runs on the node, and leaves the block with its holder.
pub fn decide(
    facts: &Facts,
    ranges: &[Prefix],
    claimed: &BTreeMap<String, Vec<Prefix>>,
    before: &BTreeMap<String, Vec<Prefix>>,
) -> Claims {
    let mut claims = Claims::default();
    let mut free: BTreeSet<Claim<'_>> = BTreeSet::new();
    let pods = pods_by_address(facts, claimed);
    for (name, node) in &facts.nodes {
        let said = claimed.get(name).map(Vec::as_slice).unwrap_or_default();
        if node.pod_prefixes.is_empty() {
            let held = before.get(name).map(Vec::as_slice).unwrap_or_default();
            free.extend(said.iter().map(|prefix| Claim::new(name, *prefix, held, &pods)));
            claims.granted.insert(name.clone(), Vec::new());
            continue;
        }
        claims.granted.insert(name.clone(), node.pod_prefixes.clone());
        let strangers = said.iter().filter(|p| !node.pod_prefixes.iter().any(|own| own.covers(p)));
        claims.refused.extend(strangers.map(|prefix| RefusedClaim {
            node: name.clone(),
            prefix: *prefix,
            why: ClaimError::OutsideNode,
        }));
    }
    for claim in free {
        let (node, prefix) = (claim.node.to_owned(), claim.prefix);
        match check(ranges, &claims.granted, &claim) {
            Ok(()) => claims.granted.entry(node).or_default().push(prefix),
            Err(why) => claims.refused.push(RefusedClaim { node, prefix, why }),
        }
    }
    claims.granted.values_mut().for_each(|prefixes| prefixes.sort_unstable());
    claims.refused.sort_unstable();
    claims
}

impl<'a> Claim<'a> {
    fn new(node: &'a str, prefix: Prefix, held: &[Prefix], pods: &Pods<'_>) -> Self {
        let inside = pods.range(prefix.address()..).take_while(|(at, _)| prefix.contains(**at));
        let (own, foreign): (Vec<_>, Vec<_>) =
            inside.map(|(_, pod)| pod).partition(|pod| pod.node == node);
        Self {
            host: prefix == Prefix::host(prefix.address()),
            new: !held.contains(&prefix),
            foreign: foreign.len(),
            own: Reverse(own.len()),
            length: prefix.length(),
            node,
            prefix,
            strange: foreign.iter().filter(|pod| !pod.claimed_alone).count(),
        }
    }
}

/// Where a pod runs, and whether its node claims just its address.
struct Located<'a> {
    node: &'a str,
    claimed_alone: bool,
}

/// Pods by address.
type Pods<'a> = BTreeMap<IpAddr, Located<'a>>;

fn pods_by_address<'a>(facts: &'a Facts, claimed: &BTreeMap<String, Vec<Prefix>>) -> Pods<'a> {
    let all = claimed.iter().flat_map(|(n, said)| said.iter().map(|p| (n.as_str(), *p)));
    let claimed: BTreeSet<(&str, Prefix)> = all.collect();
    let pods = facts.pods.values().filter(|pod| !pod.host_network && !pod.node.is_empty());
    let located = pods.filter_map(|pod| {
        let (address, node) = (pod.address?, pod.node.as_str());
        let claimed_alone = claimed.contains(&(node, Prefix::host(address)));
        Some((address, Located { node, claimed_alone }))
    });
    located.collect()
}

fn check(
    ranges: &[Prefix],
    granted: &BTreeMap<String, Vec<Prefix>>,
    claim: &Claim<'_>,
) -> Result<(), ClaimError> {
    if !ranges.iter().any(|range| range.covers(&claim.prefix)) {
        return Err(ClaimError::OutsideRanges);
    }
    let widest = if claim.prefix.family() == Family::V4 { WIDEST.0 } else { WIDEST.1 };
    if claim.length < widest {
        return Err(ClaimError::TooWide(widest));
    }
    let Reverse(own) = claim.own;
    if claim.strange > 0 && own == 0 {
        return Err(ClaimError::StrangePods);
    }
    let collides = |held: &Prefix| match claim.host {
        true => *held == claim.prefix || held.covers(&claim.prefix) && own == 0,
        false => held.overlaps(&claim.prefix),
    };
    let mut others = granted.iter().filter(|(name, _)| name.as_str() != claim.node);
    match others.find(|(_, held)| held.iter().any(collides)) {
        Some((name, _)) => Err(ClaimError::Taken(name.clone())),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::node::Readiness;
    use super::super::{NodeFacts, PodFacts};
    use super::*;

    fn prefix(text: &str) -> Prefix {
        text.parse().expect(text)
    }

    fn map(entries: &[(&str, &[&str])]) -> BTreeMap<String, Vec<Prefix>> {
        let entry =
            |(n, p): &(&str, &[&str])| ((*n).to_owned(), p.iter().map(|p| prefix(p)).collect());
        entries.iter().map(entry).collect()
    }

    fn facts(nodes: &[(&str, &[&str])], pods: &[(&str, &str)]) -> Facts {
        let node = |(name, pod_prefixes): (String, Vec<Prefix>)| {
            let (readiness, none) = (Readiness::Ready, Vec::new());
            let facts = NodeFacts {
                name: name.clone(),
                readiness,
                wants_agent: true,
                internal: none.clone(),
                external: none,
                pod_prefixes,
            };
            (name, facts)
        };
        let pod = |(node, address): &(&str, &str)| {
            let facts = PodFacts {
                namespace: "default".to_owned(),
                name: format!("on-{node}"),
                uid: (*address).to_owned(),
                account: "default".to_owned(),
                node: (*node).to_owned(),
                address: address.parse().ok(),
                host_network: false,
                ready: true,
                terminating: false,
            };
            (facts.uid.clone(), facts)
        };
        Facts {
            nodes: map(nodes).into_iter().map(node).collect(),
            pods: pods.iter().map(pod).collect(),
            ..Facts::default()
        }
    }

    #[test]
    fn an_agent_cannot_claim_another_nodes_pods() {
        let facts = facts(&[("a", &["10.1.0.0/24"]), ("b", &["10.1.1.0/24"])], &[]);
        let said = map(&[("b", &["10.1.1.0/24", "10.1.0.7/32"])]);
        let claims = decide(&facts, &[prefix("10.1.0.0/16")], &said, &BTreeMap::new());
        assert_eq!(claims.granted, map(&[("a", &["10.1.0.0/24"]), ("b", &["10.1.1.0/24"])]));
        assert_eq!(claims.refused.len(), 1);
        assert_eq!(claims.refused[0].why, ClaimError::OutsideNode);
    }

    #[test]
    fn without_pod_cidrs_a_live_claim_stays_with_its_holder() {
        let facts = facts(&[("a", &[]), ("b", &[])], &[]);
        let ranges = [prefix("10.1.0.0/16")];
        let said = map(&[("a", &["10.1.5.0/26"]), ("b", &["10.1.5.0/26", "10.2.0.0/24"])]);
        let before = map(&[("b", &["10.1.5.0/26"])]);
        let claims = decide(&facts, &ranges, &said, &before);
        assert_eq!(claims.granted, map(&[("a", &[]), ("b", &["10.1.5.0/26"])]));
        let why: Vec<_> = claims.refused.into_iter().map(|r| r.why).collect();
        assert_eq!(why, [ClaimError::Taken("b".to_owned()), ClaimError::OutsideRanges]);
    }

    #[test]
    fn a_borrowed_address_is_granted_to_the_node_that_runs_the_pod() {
        let facts = facts(&[("a", &[]), ("b", &[]), ("c", &[])], &[("b", "10.1.5.9")]);
        let said =
            map(&[("a", &["10.1.5.0/26"]), ("b", &["10.1.5.9/32"]), ("c", &["10.1.5.8/32"])]);
        let claims = decide(&facts, &[prefix("10.1.0.0/16")], &said, &BTreeMap::new());
        assert_eq!(claims.granted["b"], [prefix("10.1.5.9/32")]);
        assert!(claims.granted["c"].is_empty());
    }

    #[test]
    fn a_lender_keeps_its_block_whatever_the_nodes_are_called() {
        for (lender, borrower) in [("a", "b"), ("b", "a")] {
            let facts = facts(&[("a", &[]), ("b", &[])], &[(borrower, "10.1.5.9")]);
            let block: (&str, &[&str]) = (lender, &["10.1.5.0/26"]);
            let said = map(&[block, (borrower, &["10.1.5.9/32"])]);
            let mut before = BTreeMap::new();
            for round in 0..2 {
                let claims = decide(&facts, &[prefix("10.1.0.0/16")], &said, &before);
                assert_eq!(claims.granted, said, "round {round}");
                before = claims.granted;
            }
        }
    }

    #[test]
    fn an_agent_cannot_claim_pods_that_run_elsewhere() {
        let pods = [("a", "10.1.5.9"), ("a", "10.1.5.10"), ("e", "10.1.6.1")];
        let facts = facts(&[("a", &[]), ("e", &[])], &pods);
        let ranges = [prefix("10.1.0.0/16")];
        let refused = |said: &[&str]| {
            let said = map(&[("a", &["10.1.5.0/26"]), ("e", said)]);
            let claims = decide(&facts, &ranges, &said, &BTreeMap::new());
            assert_eq!(claims.granted["a"], [prefix("10.1.5.0/26")]);
            assert!(claims.granted["e"].is_empty(), "{:?}", claims.granted);
            claims.refused.into_iter().map(|claim| claim.why).collect::<Vec<_>>()
        };
        assert_eq!(
            refused(&["10.1.5.9/32", "10.1.5.8/30"]),
            [ClaimError::StrangePods, ClaimError::StrangePods]
        );
        assert_eq!(refused(&["10.1.0.0/16"]), [ClaimError::TooWide(20)]);
        let taken = ClaimError::Taken("a".to_owned());
        assert_eq!(refused(&["10.1.0.0/20", "10.1.5.32/27"]), [taken.clone(), taken]);
    }
}
