//! What must hold, after each step and at the end.

use carrick_gateway_core::path::Fitness;

use super::controller::Controller;
use super::gateway::Gateway;
use super::links::{Links, Local};
use super::node::Node;
use super::place::{CLUSTERS, NETWORKS, gateways_of, nodes_of, of_gateway, of_node};
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
/// A cluster's word is looked at again, or signed anew, so long after a clock was set.
const RECHECKED: Time = 4 * SECOND;
/// After so long a node says "unreachable" that has no gateway.
const UNREACHABLE: Time = 2500 * MILLI;
/// A way that loses so many of a thousand is to be avoided.
const MUCH: u64 = 200;
/// After so long flows have left a gateway all of whose ways lose that much.
const AVOIDED: Time = 5 * SECOND;
/// From then on a gateway whose ways have failed is one to be taken: it is not called good at once.
const TRUSTED: Time = 25 * SECOND;
/// After so long a way that lost packets is called good again, unless it does so again and again.
const GRUDGE: Time = 40 * SECOND;
/// The rank of a gateway whose tunnels lose a little, as one has that lost something within a minute; and that of one
/// all of whose tunnels have flapped, which are held back up to a minute. Worlds are not much longer, so only tunnels
/// that nothing ever happened to must not have them.
const AILING: u8 = 1;
const FLAPPED: u8 = 3;
/// Gateways that began later have begun anew.
const FIRST: Time = SECOND;
/// After so long nothing crosses between clusters that no longer peer.
pub const PARTED: Time = 1500 * MILLI;
/// The most changes of a node's next hops in a world, and of what a gateway reaches, for each fault.
const RESTLESS: u64 = 6;

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
        let parts = [
            a.since?,
            b.since?,
            self.word(near, of_gateway(far))?,
            self.word(far, of_gateway(near))?,
            self.links.local_clean(flow.from, near)?,
            self.links.clean_since(near, far)?,
            self.session(near, far)?,
        ];
        parts.into_iter().max()
    }

    /// Since when a gateway takes the word of a cluster, or should. One that holds any needs no clock.
    fn word(&self, gateway: usize, cluster: usize) -> Option<Time> {
        let (one, governor) = (&self.gateways[gateway], &self.governors[cluster]);
        if one.trusts[cluster].is_some() {
            return Some(0);
        }
        let agree = governor.agrees_with(one.wall_ahead) && !governor.behind;
        match governor.set.max(one.wall_set) {
            _ if !agree => None,
            0 => Some(0),
            set => Some(set.max(self.controllers[cluster]?) + RECHECKED),
        }
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
            .max(self.gateways[near].trusts[of_gateway(far)].unwrap_or(0))
            .max(self.gateways[far].trusts[of_gateway(near)].unwrap_or(0))
            + HANDSHAKE;
        Some(ready.map_or(due, |ready| ready.min(due)))
    }

    /// Which gateways reach a node of theirs, and since when that is known: by all of them, or some have lost it, and
    /// fewer nodes are left to each of these than to any that have not.
    fn behind(&self, node: usize) -> Option<(Vec<usize>, Time)> {
        let gateways = gateways_of(of_node(node));
        let all = gateways.clone().map(|gateway| self.links.local_clean(node, gateway));
        if let Some(since) = all.into_iter().try_fold(0, |last: Time, one| Some(last.max(one?))) {
            return Some((gateways.collect(), since));
        }
        let mut since = self.nodes[node].since?;
        let (mut reach, mut lost) = (Vec::new(), Vec::new());
        for gateway in gateways {
            let mut nodes = 0;
            for node in nodes_of(of_gateway(gateway)) {
                let (local, at) = self.links.local_both(node, gateway);
                since = since.max(at);
                nodes += match local {
                    Local::Clean => 1,
                    Local::Cut => 0,
                    Local::Rough => return None,
                };
            }
            let reaches = self.links.local_clean(node, gateway).is_some();
            if reaches { &mut reach } else { &mut lost }.push((nodes, gateway));
        }
        let (least, most) = (reach.iter().min()?.0, lost.iter().max()?.0);
        (least > most).then(|| (reach.into_iter().map(|(_, gateway)| gateway).collect(), since))
    }

    /// How long a flow may be without a packet, if it has a clean way; and since when it has that.
    pub fn bound(&self, flow: &Flow) -> Option<(Time, Time)> {
        let (from, to) = (of_node(flow.from), of_node(flow.to));
        let since = self.nodes[flow.from].since?.max(self.peered[from][to]?);
        let involved = |cluster| self.story.skewed.is_some_and(|one| of_gateway(one) == cluster);
        let (fars, behind) = self.behind(flow.to)?;
        let mut quiet = since.max(behind);
        if fars.len() < gateways_of(to).len() {
            // Who is of another release neither says what it lost nor hears of it, and one that has no tunnel to who
            // reaches the node cannot compare.
            if involved(from) || involved(to) {
                return None;
            }
            for near in gateways_of(from).filter(|near| self.gateways[*near].lane.is_some()) {
                let sessions = fars.iter().filter_map(|far| self.session(near, *far));
                quiet = quiet.max(sessions.min()?);
            }
        }
        let pairs =
            || gateways_of(from).flat_map(|near| gateways_of(to).map(move |far| (near, far)));
        let ways = pairs().filter(|(_, far)| fars.contains(far));
        let way = ways.filter_map(|(near, far)| self.way(flow, near, far)).min()?;
        if involved(from) {
            // Who says nothing is used as the controller says.
            quiet = quiet.max(self.controllers[from]?);
        }
        if involved(from) || involved(to) {
            // Silence tells of one fault after the other.
            let ends = gateways_of(from).chain(gateways_of(to)).map(|one| &self.gateways[one]);
            let ends = ends.flat_map(|one| one.ended.max(one.since));
            let links = pairs().map(|(near, far)| self.links.changed(near, far));
            quiet = ends.chain(links).fold(quiet, Time::max);
        }
        let rough = pairs().any(|(near, far)| {
            self.links.is_rough(near, far, self.now, ROUGH)
                || self.links.is_local_rough(flow.from, near, self.now, ROUGH)
        });
        let bound = match () {
            () if involved(from) || involved(to) => SKEWED,
            () if rough => ROUGH,
            () => BOUND,
        };
        Some((bound * self.story.patience[from][to], way.max(quiet)))
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

    /// Since when all ways by a gateway to a cluster lose much.
    fn loses(&self, near: usize, to: usize) -> Option<Time> {
        let ways = gateways_of(to).flat_map(|far| (0..NETWORKS).map(move |n| (far, n)));
        let ways = ways.map(|(far, network)| self.links.wan(near, far, network));
        let mut ways = ways.filter(|link| link.there).peekable();
        ways.peek()?;
        ways.map(|link| (!link.is_open() || link.loss >= MUCH).then_some(link.since))
            .try_fold(self.gateways[near].since?, |last, since| Some(last.max(since?)))
    }

    /// A flow is about to take this gateway: it should not go on to, if all that it offers is much worse than what
    /// another one does.
    pub fn avoidance(&self, flow: &Flow, near: usize) -> Result<(), String> {
        let (from, to) = (of_node(flow.from), of_node(flow.to));
        let Some(loses) = self.loses(near, to) else { return Ok(()) };
        let fit = |other: usize| {
            let far = gateways_of(to).filter(|far| !self.gateways[*far].draining);
            far.filter_map(|far| self.way(flow, other, far)).min()
        };
        let others = gateways_of(from).filter(|other| *other != near);
        let others = others.filter(|other| !self.gateways[*other].draining);
        // A gateway that has lost nodes comes last, however good its ways are.
        let mut locals = nodes_of(to).flat_map(|node| gateways_of(to).map(move |far| (node, far)));
        let kept = locals.try_fold(0, |last: Time, (node, far)| {
            Some(last.max(self.links.local_clean(node, far)?))
        });
        let Some(kept) = kept else { return Ok(()) };
        let Some(better) = others.filter_map(fit).min() else { return Ok(()) };
        let node = self.nodes[flow.from].since;
        let (Some(node), Some(peered)) = (node, self.peered[from][to]) else { return Ok(()) };
        let patience = self.story.patience[from][to];
        let since = loses.max(better.max(kept) + TRUSTED * patience).max(node).max(peered);
        if self.story.skewed.is_some() || self.now <= since + AVOIDED * patience {
            return Ok(());
        }
        Err(format!(
            "node {} still sends to cluster {to} by gateway {near}, all of whose ways lose much for {} ms",
            flow.from,
            (self.now - loses) / MILLI
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
            let (one, local) = (&self.gateways[gateway], self.links.local_both(number, gateway));
            let ended = one.ended.filter(|_| one.lane.is_none());
            let cut = (local.0 == Local::Cut).then_some(local.1);
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
            // One whose clock was put back, and whose process began anew then, is not listened to until that time.
            let heard = |c: &usize| self.peered[own][*c].is_some() && !self.governors[*c].behind;
            for cluster in (0..CLUSTERS).filter(heard) {
                let (held, said) =
                    (&gateway.believed[cluster], self.governors[cluster].announced());
                if *held != said {
                    return Err(format!(
                        "at the end gateway {number} holds {held:?} of cluster {cluster}, which announces {said:?}"
                    ));
                }
            }
        }
        for (number, gateway) in self.gateways.iter().enumerate() {
            let poor = |c: &usize| gateway.ranks[*c].is_some_and(|rank| rank > 0) && !skewed(*c);
            let judged = self.story.skewed != Some(number);
            for cluster in (0..CLUSTERS).filter(poor).filter(|_| judged) {
                let patience = self.story.patience[of_gateway(number)][cluster];
                // No longer than the world is.
                let memory = (GRUDGE * patience).min(self.now - FIRST);
                let calm = |far| match gateway.ranks[cluster] {
                    Some(AILING | FLAPPED) => self.untouched(number, far),
                    _ if self.is_held(number, far) => self.untouched(number, far),
                    _ => self.is_calm(number, far, memory),
                };
                if gateways_of(cluster).any(calm) {
                    return Err(format!(
                        "at the end gateway {number} reaches cluster {cluster} by rank {:?}, though its ways are good",
                        gateway.ranks[cluster]
                    ));
                }
            }
        }
        for (number, node) in self.nodes.iter().enumerate() {
            let own = of_node(number);
            for cluster in (0..CLUSTERS).filter(|cluster| *cluster != own) {
                let peered = self.peered[own][cluster].is_some();
                let best = gateways_of(own).filter_map(|g| self.gateways[g].ranks[cluster]).min();
                let fit = |g: &usize| peered && self.gateways[*g].ranks[cluster] == best;
                let wanted: Vec<usize> = gateways_of(own).filter(fit).collect();
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

    /// Whether nothing was lost on the ways between two gateways for so long, or where one of them was halted.
    fn is_calm(&self, near: usize, far: usize, memory: Time) -> bool {
        let overflowed = self.gateways[near].overflowed.max(self.gateways[far].overflowed);
        overflowed.is_none_or(|at| at + memory < self.now)
            && !self.links.is_rough(near, far, self.now, memory)
    }

    /// Whether a gateway holds its tunnel to another one back, as one that has flapped.
    fn is_held(&self, near: usize, far: usize) -> bool {
        let tunnel = self.gateways[near].tunnels.get(&far);
        tunnel.is_some_and(|tunnel| tunnel.fitness == Some(Fitness::Wanted))
    }

    /// Whether two gateways run since the beginning, undisturbed, and the links between them are as they were then.
    fn untouched(&self, near: usize, far: usize) -> bool {
        let runs = |one: usize| self.gateways[one].since.is_some_and(|since| since < FIRST);
        runs(near) && runs(far) && !self.links.is_rough(near, far, self.now, self.now - FIRST)
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
