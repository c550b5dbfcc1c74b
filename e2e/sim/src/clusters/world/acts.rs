//! Faults begin and end.

use super::World;
use crate::clusters::links::Way;
use crate::clusters::packet;
use crate::clusters::place::{self, ALL_GATEWAYS, CLUSTERS, NETWORKS, of_node};
use crate::clusters::story::Act;
use crate::clusters::traffic::FORGED;
use crate::clusters::wire::Time;

use super::PORT;

impl World {
    pub(super) fn act(&mut self, act: Act) {
        let now = self.now;
        match act {
            Act::Crash(gateway) => self.gateways[gateway].end(now),
            Act::Start(gateway) => self.begin(gateway),
            Act::Freeze(gateway) => {
                self.gateways[gateway].frozen = self.gateways[gateway].lane.is_some();
                self.gateways[gateway].since = None;
            }
            Act::Thaw(gateway) => self.thaw(gateway),
            Act::Drain(gateway) => {
                self.gateways[gateway].draining = true;
                if self.gateways[gateway].runs() {
                    self.apply(gateway);
                }
            }
            Act::Cut { from, to, network, cut } => {
                let link = self.links.wan_mut(now, from, to, network);
                link.cuts = if cut { link.cuts + 1 } else { link.cuts.saturating_sub(1) };
            }
            Act::Loss { from, to, network, thousandths } => {
                self.links.wan_mut(now, from, to, network).loss = thousandths;
            }
            Act::Twice { from, to, network, thousandths } => {
                self.links.wan_mut(now, from, to, network).twice = thousandths;
            }
            Act::Jitter { from, to, network, most } => {
                self.links.wan_mut(now, from, to, network).jitter = most;
            }
            Act::Detour { from, to, network, delay } => {
                self.links.wan_mut(now, from, to, network).detour = delay;
            }
            Act::Narrow { from, to, network, mtu } => {
                self.links.wan_mut(now, from, to, network).mtu = mtu;
            }
            Act::Jump { gateway, by } => self.jump(gateway, by),
            Act::JumpNode { node, by } => {
                self.nodes[node].ahead += by;
                self.nodes[node].due = now;
                self.nodes[node].since = self.nodes[node].since.map(|_| now);
            }
            Act::SetWall { gateway, ahead } => {
                let one = &mut self.gateways[gateway];
                (one.wall_ahead, one.wall_set) = (ahead, now);
            }
            Act::SetControllersWall { cluster, ahead } => {
                self.governors[cluster].set_wall(now, ahead);
            }
            Act::CutLocal { node, gateway, way, cut } => {
                let link = self.links.local_mut(now, node, gateway, way);
                link.cuts = if cut { link.cuts + 1 } else { link.cuts.saturating_sub(1) };
            }
            Act::LoseLocal { node, gateway, thousandths } => {
                for way in [Way::Up, Way::Down] {
                    self.links.local_mut(now, node, gateway, way).loss = thousandths;
                }
            }
            Act::RestartAgent(node) => {
                let nonce = self.random.bits();
                self.nodes[node].restart(self.start, now, nonce);
                self.ask(node);
            }
            Act::FreezeAgent(node) => {
                self.nodes[node].frozen = true;
                self.nodes[node].since = None;
            }
            Act::ThawAgent(node) => self.thaw_agent(node),
            Act::Controller { cluster, gone } => {
                self.controllers[cluster] = (!gone).then_some(now);
                // What it signed before is with its gateways.
                if !gone {
                    self.governors[cluster].restart(now);
                    self.govern(cluster);
                }
            }
            Act::Swap { a, b, on } => self.swap(a, b, on),
            Act::Rebind(gateway) => self.rebind(gateway),
            Act::Announce { cluster, second } => self.governors[cluster].second = second,
            Act::Lie { cluster, on } => self.governors[cluster].lies = on,
            Act::Peer { a, b, on } => (self.wanted[a][b], self.wanted[b][a]) = (on, on),
            Act::Detect { cluster, other, after } => {
                for gateway in place::gateways_of(cluster) {
                    self.gateways[gateway].detection[other] = after;
                    if self.gateways[gateway].runs() {
                        self.apply(gateway);
                    }
                }
            }
            Act::Forge { node, gateway } => self.forge(node, gateway),
            Act::Evil { gateway, on } => {
                self.gateways[gateway].evil = on;
                self.gateways[gateway].tainted |= on;
                if self.gateways[gateway].runs() {
                    self.apply(gateway);
                }
            }
        }
    }

    /// A gateway's process begins.
    pub(super) fn begin(&mut self, gateway: usize) {
        if self.gateways[gateway].lane.is_none() {
            let (real, seed) = (self.story.real, self.random.bits());
            self.gateways[gateway].start(self.now, real, seed);
            self.apply(gateway);
        }
    }

    pub(super) fn thaw(&mut self, gateway: usize) {
        let one = &mut self.gateways[gateway];
        if !one.frozen {
            return;
        }
        (one.frozen, one.since) = (false, Some(self.now));
        let backlog = std::mem::take(&mut one.backlog);
        if self.random.percent(50) {
            self.with(gateway, |lane, now, out| lane.handle_timeout(now, out));
        }
        backlog.into_iter().for_each(|arrival| self.arrive(arrival));
        self.apply(gateway);
    }

    pub(super) fn thaw_agent(&mut self, node: usize) {
        if !std::mem::take(&mut self.nodes[node].frozen) {
            return;
        }
        self.nodes[node].since = Some(self.now);
        // First it hears what has arrived.
        for arrival in std::mem::take(&mut self.nodes[node].backlog) {
            self.arrive(arrival);
        }
        self.nodes[node].catch_up(self.start, self.now);
        self.nodes[node].run(self.start, self.now);
        self.ask(node);
    }

    pub(super) fn jump(&mut self, gateway: usize, by: Time) {
        let one = &mut self.gateways[gateway];
        one.ahead += by;
        one.since = one.since.map(|_| self.now);
        if one.runs() {
            one.due = self.now;
        }
    }

    /// The addresses of two gateways lead to each other, or to themselves again.
    pub(super) fn swap(&mut self, a: usize, b: usize, on: bool) {
        if on == self.swapped.is_some() {
            return;
        }
        let (a, b) = self.swapped.unwrap_or((a, b));
        self.swapped = on.then_some((a, b));
        for from in 0..ALL_GATEWAYS {
            for network in 0..NETWORKS {
                for to in [a, b] {
                    let link = self.links.wan_mut(self.now, from, to, network);
                    link.cuts = if on { link.cuts + 1 } else { link.cuts.saturating_sub(1) };
                }
            }
        }
    }

    pub(super) fn rebind(&mut self, gateway: usize) {
        let one = &mut self.gateways[gateway];
        one.mapping += 1;
        one.contacted = [false; ALL_GATEWAYS];
        for other in 0..ALL_GATEWAYS {
            self.links.wan_mut(self.now, other, gateway, 0);
        }
    }

    /// A pod sends with a source that is another cluster's, to a third.
    pub(super) fn forge(&mut self, node: usize, gateway: usize) {
        let own = of_node(node);
        let (victim, target) = ((own + 1) % CLUSTERS, (own + 2) % CLUSTERS);
        let source = (place::pod(victim * place::NODES), 5);
        let target = (place::pod(target * place::NODES), PORT);
        let mut frame = self.wire.buffer();
        let stamp = packet::stamp(FORGED, 0);
        packet::udp(&mut frame, place::mac(node), source, target, &stamp, stamp.len());
        self.enter(node, gateway, frame);
    }
}
