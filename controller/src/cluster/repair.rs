//! Which gateway pods are to be removed because their nodes are gone: a StatefulSet replaces a pod
//! only when the old one no longer exists, and a dead node never says that it ended.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::node::Readiness;
use super::{Facts, PodFacts};

/// How long a node may be unreachable.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often a pod's removal is asked for.
const AGAIN: Duration = Duration::from_secs(30);

/// Remembers since when nodes are unreachable.
#[derive(Debug, Default)]
pub struct Repair {
    since: BTreeMap<String, Instant>,
    asked: BTreeMap<String, Instant>,
}

impl Repair {
    /// The gateway pods to remove now, and when to look again. `linked` says whether a pod's gateway
    /// has a link to us: such a node lives, whatever its kubelet says.
    pub fn due<'a>(
        &mut self,
        facts: &'a Facts,
        namespace: &str,
        linked: impl Fn(&str) -> bool,
        now: Instant,
    ) -> (Vec<&'a PodFacts>, Option<Instant>) {
        let gone = |name: &String| {
            facts.nodes.get(name).is_some_and(|n| n.readiness == Readiness::Unreachable)
        };
        self.since.retain(|name, _| gone(name));
        for name in facts.nodes.keys().filter(|name| gone(name)) {
            self.since.entry(name.clone()).or_insert(now);
        }
        self.asked.retain(|uid, at| facts.pods.contains_key(uid) && now < *at + AGAIN);
        // Without any node to go to, nothing is won.
        if !facts.nodes.values().any(|node| node.is_ready()) {
            return (Vec::new(), None);
        }
        let mut due = Vec::new();
        let mut next: Option<Instant> = None;
        for pod in facts.gateway_pods(namespace) {
            let Some(since) = self.since.get(&pod.node) else { continue };
            let asked = self.asked.get(&pod.uid).map(|at| *at + AGAIN);
            let at = asked.unwrap_or(*since + PATIENCE);
            if at > now {
                next = Some(next.map_or(at, |held| held.min(at)));
            } else if linked(&pod.uid) {
                let later = now + PATIENCE;
                next = Some(next.map_or(later, |held| held.min(later)));
            } else {
                self.asked.insert(pod.uid.clone(), now);
                due.push(pod);
            }
        }
        (due, next)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{GATEWAY, NodeFacts};
    use super::*;

    fn facts(nodes: &[(&str, Readiness)]) -> Facts {
        let node = |(name, readiness): &(&str, Readiness)| {
            let facts = NodeFacts {
                name: (*name).to_owned(),
                readiness: *readiness,
                wants_agent: true,
                internal: Vec::new(),
                external: Vec::new(),
                pod_prefixes: Vec::new(),
            };
            ((*name).to_owned(), facts)
        };
        let pod = PodFacts {
            namespace: "c".to_owned(),
            name: "carrick-gateway-0".to_owned(),
            uid: "u".to_owned(),
            account: GATEWAY.to_owned(),
            node: "dead".to_owned(),
            address: None,
            host_network: false,
            ready: false,
            terminating: true,
        };
        Facts {
            nodes: nodes.iter().map(node).collect(),
            pods: BTreeMap::from([("u".to_owned(), pod)]),
            ..Facts::default()
        }
    }

    #[test]
    fn a_gateway_is_removed_once_its_node_was_gone_for_ten_seconds() {
        let facts = facts(&[("dead", Readiness::Unreachable), ("live", Readiness::Ready)]);
        let mut repair = Repair::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let (due, next) = repair.due(&facts, "c", |_| false, at(0));
        assert!(due.is_empty());
        assert_eq!(next, Some(at(10)));
        assert_eq!(repair.due(&facts, "c", |_| false, at(10)).0.len(), 1);
        assert!(repair.due(&facts, "c", |_| false, at(11)).0.is_empty(), "asked already");
        assert_eq!(repair.due(&facts, "c", |_| false, at(41)).0.len(), 1, "asked again");
    }

    #[test]
    fn a_linked_gateway_and_a_lone_node_are_left_alone() {
        let lone = facts(&[("dead", Readiness::Unreachable)]);
        let linked = facts(&[("dead", Readiness::Unreachable), ("live", Readiness::Ready)]);
        let mut repair = Repair::default();
        let later = Instant::now() + Duration::from_secs(60);
        repair.due(&linked, "c", |_| true, Instant::now());
        assert!(repair.due(&linked, "c", |_| true, later).0.is_empty());
        assert!(repair.due(&lone, "c", |_| false, later).0.is_empty());
    }
}
