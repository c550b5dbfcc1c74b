//! What must hold, after each step and at the end.

use super::controller::Controller;
use super::gateway::Gateway;
use super::links::Links;
use super::node::Node;
use super::place::{CLUSTERS, gateways_of, of_gateway, of_node};
use super::story::Story;
use super::traffic::Flow;
use super::wire::{MILLI, SECOND, Time};

/// After so long a flow that has a clean way gets packets through.
const BOUND: Time = 1500 * MILLI;
/// Where links around it lose, scatter or delay packets, or did of late.
const ROUGH: Time = 4 * SECOND;
/// Where a gateway of another release is part of it, of which only silence tells.
const SKEWED: Time = 20 * SECOND;
/// Where a session has to be made first: WireGuard tries again after 5 s.
const HANDSHAKE: Time = 6 * SECOND;
/// After so long a node says "unreachable" that has no gateway.
const UNREACHABLE: Time = 2500 * MILLI;
/// After so long nothing crosses between clusters that no longer peer.
pub const PARTED: Time = 1500 * MILLI;
/// The most changes of a node's next hops in a world, and of what a gateway reaches, for each fault.
const RESTLESS: u64 = 10;

/// What is true of a world, whatever its machines believe.
pub struct Truth<'a> {
    pub now: Time,
    pub story: &'a Story,
    pub links: &'a Links,
    pub gateways: &'a [Gateway],
    pub nodes: &'a [Node],
    /// Since when two clusters peer, by both controllers' word.
    pub peered: &'a [[Option<Time>; CLUSTERS]; CLUSTERS],
    /// Since when a cluster's controller is there.
    pub controllers: &'a [Option<Time>; CLUSTERS],
    /// What clusters announce.
    pub governors: &'a [Controller],
}

impl Truth<'_> {
    /// Since when a clean way leads from a node to another by these gateways.
    fn way(&self, flow: &Flow, near: usize, far: usize) -> Option<Time> {
        let (a, b) = (&self.gateways[near], &self.gateways[far]);
        let local = self.links.local(flow.from, near);
        let parts = [
            a.since?,
            b.since?,
            local.is_clean().then_some(local.since)?,
            self.links.clean_since(near, far)?,
            self.session(near, far)?,
        ];
        parts.into_iter().max()
    }

    /// Since when two gateways have a session, or should have.
    fn session(&self, near: usize, far: usize) -> Option<Time> {
        let (there, back) =
            (self.gateways[near].tunnels.get(&far)?, self.gateways[far].tunnels.get(&near)?);
        let ready = there.session.zip(back.session).map(|(there, back)| there.max(back));
        let due = there
            .configured
            .max(back.configured)
            .max(self.links.clean_since(near, far)?)
            .max(self.gateways[near].since?)
            .max(self.gateways[far].since?)
            + HANDSHAKE;
        Some(ready.map_or(due, |ready| ready.min(due)))
    }

    /// Whether a gateway may say for 15 s that it reaches a cluster, though its only tunnel there got a session and
    /// then no heartbeat: it looks like one with a peer of an older release.
    fn boasts(&self, flow: &Flow, near: usize, to: usize) -> bool {
        let fresh = |far: usize| {
            let session = self.gateways[near].tunnels.get(&far).and_then(|tunnel| tunnel.session);
            session.is_some_and(|session| self.now < session + SKEWED)
        };
        let unsettled =
            |far| self.way(flow, near, far).is_none_or(|since| self.now < since + ROUGH);
        gateways_of(to).any(fresh) && gateways_of(to).all(unsettled)
    }

    /// How long a flow may be without a packet, if it has a clean way; and since when it has that.
    pub fn bound(&self, flow: &Flow) -> Option<(Time, Time)> {
        let (from, to) = (of_node(flow.from), of_node(flow.to));
        let since = self.nodes[flow.from].since?.max(self.peered[from][to]?);
        // Nobody watches the way from a gateway to a node behind it.
        let mut quiet = since;
        for far in gateways_of(to) {
            let local = self.links.local(flow.to, far);
            quiet = quiet.max(local.is_clean().then_some(local.since)?);
        }
        let pairs =
            || gateways_of(from).flat_map(|near| gateways_of(to).map(move |far| (near, far)));
        let way = pairs().filter_map(|(near, far)| self.way(flow, near, far)).min()?;
        let involved = |cluster| self.story.skewed.is_some_and(|one| of_gateway(one) == cluster);
        if involved(from) {
            // Who says nothing is used as the controller says.
            quiet = quiet.max(self.controllers[from]?);
        }
        let rough = pairs().any(|(near, far)| {
            self.links.is_rough(near, far, self.now, ROUGH)
                || self.links.local(flow.from, near).loss > 0
        });
        let bound = match () {
            () if involved(from) || involved(to) => SKEWED,
            () if gateways_of(from).any(|near| self.boasts(flow, near, to)) => SKEWED,
            () if rough => ROUGH,
            () => BOUND,
        };
        Some((bound, way.max(quiet)))
    }

    /// A flow is about to send: has it been without a packet for too long?
    pub fn recovery(&self, flow: &Flow) -> Result<(), String> {
        let Some((bound, since)) = self.bound(flow) else { return Ok(()) };
        let from = flow.last.max(since);
        if self.now <= from + bound {
            return Ok(());
        }
        Err(format!(
            "no packet from node {} to node {} for {} ms, though a clean way is there for {} ms (bound {} ms); \
             next hops {:?}",
            flow.from,
            flow.to,
            (self.now - flow.last) / MILLI,
            (self.now - since) / MILLI,
            bound / MILLI,
            self.nodes[flow.from].group[of_node(flow.to)],
        ))
    }

    /// Where no gateway is left, nothing is sent in vain.
    pub fn unreachable(&self, number: usize) -> Result<(), String> {
        let (node, cluster) = (&self.nodes[number], of_node(number));
        let Some(since) = node.since else { return Ok(()) };
        if self.story.skewed.is_some_and(|one| of_gateway(one) == cluster) {
            return Ok(());
        }
        let mut gone = since;
        for gateway in gateways_of(cluster) {
            let (one, local) = (&self.gateways[gateway], self.links.local(number, gateway));
            let ended = one.ended.filter(|_| one.lane.is_none());
            let cut = (local.cuts > 0).then_some(local.since);
            match (ended, cut) {
                (None, None) => return Ok(()),
                (ended, cut) => {
                    let first = ended.into_iter().chain(cut).min().unwrap_or(since);
                    gone = gone.max(first);
                }
            }
        }
        if self.now > gone + UNREACHABLE && !node.is_cut_off() {
            return Err(format!(
                "node {number} has no gateway for {} ms, and still sends to {:?}",
                (self.now - gone) / MILLI,
                node.group
            ));
        }
        Ok(())
    }

    /// At the end, long after the last fault: everybody agrees, and nothing is lost.
    pub fn converged(&self, flows: &[Flow]) -> Result<(), String> {
        let skewed = |cluster| self.story.skewed.is_some_and(|one| of_gateway(one) == cluster);
        for (number, gateway) in self.gateways.iter().enumerate() {
            let own = of_gateway(number);
            let wanted: [bool; CLUSTERS] =
                std::array::from_fn(|c| c != own && self.peered[own][c].is_some());
            if gateway.reaches != wanted {
                return Err(format!(
                    "at the end gateway {number} reaches {:?} instead of {wanted:?}",
                    gateway.reaches
                ));
            }
        }
        for (number, gateway) in self.gateways.iter().enumerate() {
            let own = of_gateway(number);
            for cluster in (0..CLUSTERS).filter(|c| self.peered[own][*c].is_some()) {
                let (held, said) =
                    (&gateway.believed[cluster], self.governors[cluster].announced());
                if *held != said {
                    return Err(format!(
                        "at the end gateway {number} holds {held:?} of cluster {cluster}, which announces {said:?}"
                    ));
                }
            }
        }
        for (number, node) in self.nodes.iter().enumerate() {
            let own = of_node(number);
            for cluster in (0..CLUSTERS).filter(|cluster| *cluster != own) {
                let peered = self.peered[own][cluster].is_some();
                let wanted: Vec<usize> = gateways_of(own).filter(|_| peered).collect();
                if node.group[cluster] != wanted && !skewed(own) {
                    return Err(format!(
                        "at the end node {number} sends to cluster {cluster} by {:?} instead of {wanted:?}",
                        node.group[cluster]
                    ));
                }
            }
        }
        for flow in flows.iter().filter(|f| self.peered[of_node(f.from)][of_node(f.to)].is_some()) {
            let missing = flow.missing(15, 3);
            if missing > 0 {
                return Err(format!(
                    "at the end {missing} of 15 packets from node {} to node {} are lost",
                    flow.from, flow.to
                ));
            }
        }
        Ok(())
    }

    /// Nothing swings to and fro.
    pub fn restless(&self) -> Result<(), String> {
        let most = RESTLESS * (self.story.faults + 1);
        let nodes = self.nodes.iter().map(|node| node.changes).max().unwrap_or(0);
        let gateways = self.gateways.iter().map(|gateway| gateway.changes).max().unwrap_or(0);
        if nodes > most || gateways > most {
            return Err(format!(
                "next hops changed {nodes} times, what a gateway reaches {gateways} times, in {} faults",
                self.story.faults
            ));
        }
        Ok(())
    }
}
