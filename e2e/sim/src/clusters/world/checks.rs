//! What is looked at in each step.

use super::World;
use crate::clusters::controller::acceptable;
use crate::clusters::judge::{self, Truth};
use crate::clusters::packet;
use crate::clusters::place::{self, ALL_GATEWAYS, CLUSTERS, of_gateway, of_node};
use crate::clusters::story::LENGTH;
use crate::clusters::traffic::FORGED;
use crate::clusters::wire::{MILLI, SECOND};

/// More than this under way at once, or of one gateway's datagrams in a second, is without bound.
const UNDER_WAY: usize = 4000;
const DATAGRAMS: u32 = 1500;

impl World {
    pub(super) fn count(&mut self, gateway: usize) {
        let second = self.now / SECOND;
        if self.datagrams.0 != second {
            self.datagrams = (second, [0; ALL_GATEWAYS]);
        }
        self.datagrams.1[gateway] += 1;
        if self.datagrams.1[gateway] > DATAGRAMS || self.wire.most > UNDER_WAY {
            self.violate(format!("gateway {gateway} sends without bound"));
        }
    }

    /// What of users leaves by a tunnel is for whom the tunnel leads to, and came from a node.
    pub(super) fn check_sent(&mut self, gateway: usize, target: usize, datagram: &[u8]) {
        if self.story.real || datagram[0] != 4 || datagram.len() < 72 {
            return;
        }
        let Some(seen) = packet::read(&datagram[16..datagram.len() - 16]) else { return };
        let Some((flow, _)) = packet::stamped(seen.payload) else { return };
        if seen.hops != packet::HOPS - 1 {
            self.violate(format!("gateway {gateway} sends on what came by a tunnel"));
        }
        let meant = place::node_of_pod(seen.target).map(of_node);
        if meant != Some(of_gateway(target)) {
            self.violate(format!(
                "gateway {gateway} sends to {target} what is for cluster {meant:?}"
            ));
        }
        if flow == FORGED && !self.gateways[gateway].tainted {
            self.violate(format!("gateway {gateway} sends what no pod of its nodes may send"));
        }
    }

    pub(super) fn check_taken(
        &mut self,
        (node, gateway): (usize, usize),
        seen: &packet::Seen<'_>,
        flow: usize,
    ) {
        let Some(flow) = self.flows.get(flow) else {
            self.violate(format!("node {node} gets a packet with a forged source"));
            return;
        };
        let (from, to) = (flow.from, flow.to);
        if seen.hops != packet::HOPS - 2 {
            self.violate(format!("a packet to node {node} took {} hops", packet::HOPS - seen.hops));
        }
        if to != node || seen.source != place::pod(from).octets() {
            self.violate(format!("node {node} gets what is for node {to}"));
        }
        let (from, to) = (of_node(from), of_node(to));
        // A gateway that stood still first takes what came before.
        let runs = self.gateways[gateway].since.unwrap_or(0);
        let parted = self.parted[from][to].max(runs);
        if self.peered[from][to].is_none() && self.now > parted + judge::PARTED {
            self.violate(format!(
                "a packet crosses from cluster {from} to {to}, which do not peer"
            ));
        }
    }

    /// Nothing is believed that was not accepted.
    pub(super) fn check_believed(&mut self, gateway: usize) {
        for cluster in 0..CLUSTERS {
            let may = [acceptable(cluster), place::prefixes(cluster)].concat();
            let believed = &self.gateways[gateway].believed[cluster];
            if let Some(prefix) = believed.iter().find(|prefix| !may.contains(prefix)).copied() {
                self.violate(format!(
                    "gateway {gateway} believes that cluster {cluster} has {prefix}"
                ));
            }
        }
    }

    pub(super) fn truth(&self) -> Truth<'_> {
        Truth {
            now: self.now,
            story: &self.story,
            links: &self.links,
            gateways: &self.gateways,
            nodes: &self.nodes,
            peered: &self.peered,
            controllers: &self.controllers,
            governors: &self.governors,
        }
    }

    pub(super) fn finish(&mut self) {
        self.now = LENGTH;
        let held = self.truth().converged(&self.flows);
        self.hold(held);
        let changes = self.changes();
        if self.settled.is_some_and(|before| before != changes) {
            self.violate("next hops still change at the end".to_owned());
        }
        let held = self.truth().restless();
        self.hold(held);
    }

    pub(super) fn violate(&mut self, what: String) {
        self.outcome.violation.get_or_insert((self.now / MILLI, what));
    }

    pub(super) fn hold(&mut self, held: Result<(), String>) {
        if let Err(what) = held {
            self.violate(what);
        }
    }
}
