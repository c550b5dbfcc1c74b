//! Which node has which pods: what an agent says of its node counts only for its own node.

use std::collections::BTreeMap;

use carrick_model::Prefix;

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

/// Decides which node has which pods. A node with podCIDRs has just those. Else its agent's claims
/// count as far as they lie in `ranges` and collide with nobody's: of two nodes that claim the same,
/// the one that `before` grants it to keeps it, and an address inside another's block is granted when
/// a pod with that address runs on the node.
pub fn decide(
    facts: &Facts,
    ranges: &[Prefix],
    claimed: &BTreeMap<String, Vec<Prefix>>,
    before: &BTreeMap<String, Vec<Prefix>>,
) -> Claims {
    let mut claims = Claims::default();
    let mut free: Vec<(&String, Prefix)> = Vec::new();
    for (name, node) in &facts.nodes {
        let said = claimed.get(name).map(Vec::as_slice).unwrap_or_default();
        if node.pod_prefixes.is_empty() {
            free.extend(said.iter().map(|prefix| (name, *prefix)));
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
    let held = |(node, prefix): &(&String, Prefix)| {
        before.get(*node).is_some_and(|prefixes| prefixes.contains(prefix))
    };
    let (old, new): (Vec<_>, Vec<_>) = free.into_iter().partition(held);
    for (node, prefix) in old.into_iter().chain(new) {
        match check(facts, ranges, &claims.granted, node, prefix) {
            Ok(()) => claims.granted.entry(node.clone()).or_default().push(prefix),
            Err(why) => claims.refused.push(RefusedClaim { node: node.clone(), prefix, why }),
        }
    }
    claims
}

fn check(
    facts: &Facts,
    ranges: &[Prefix],
    granted: &BTreeMap<String, Vec<Prefix>>,
    node: &str,
    prefix: Prefix,
) -> Result<(), ClaimError> {
    if !ranges.iter().any(|range| range.covers(&prefix)) {
        return Err(ClaimError::OutsideRanges);
    }
    let mut others = granted.iter().filter(|(name, _)| *name != node);
    let holder = others.find(|(_, held)| held.iter().any(|h| h.overlaps(&prefix)));
    match holder {
        Some((_, held)) if !held.contains(&prefix) && has_pod(facts, node, prefix) => Ok(()),
        Some((name, _)) => Err(ClaimError::Taken(name.clone())),
        None => Ok(()),
    }
}

/// Whether `prefix` is the address of a pod on `node`.
fn has_pod(facts: &Facts, node: &str, prefix: Prefix) -> bool {
    facts.pods.values().any(|pod| {
        pod.node == node && !pod.host_network && pod.address.map(Prefix::host) == Some(prefix)
    })
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
}
