//! What leaves somewhere, and what arrives.

use std::net::SocketAddr;
use std::time::Duration;

use carrick_exchange::snapshot::SnapshotError;
use carrick_gateway_core::Offload;
use carrick_model::Mac;

use super::World;
use crate::clusters::control::{Message, Taken};
use crate::clusters::links::Way;
use crate::clusters::packet;
use crate::clusters::place::{self, of_gateway, of_node};
use crate::clusters::wire::{Arrival, MILLI};

/// What an agent's socket holds.
const SOCKET: usize = 256;

impl World {
    /// A datagram leaves a gateway.
    pub(super) fn depart(
        &mut self,
        gateway: usize,
        to: SocketAddr,
        fragment: bool,
        mut bytes: Vec<u8>,
    ) {
        let Some((mut target, network, mapping)) = place::who(to) else {
            self.violate(format!("gateway {gateway} sends to {to}, which nobody has"));
            return;
        };
        self.count(gateway);
        self.check_sent(gateway, target, &bytes);
        self.gateways[gateway].contacted[target] = true;
        let passes = match mapping {
            Some(mapping) => {
                let nat = &self.gateways[target];
                mapping == nat.mapping && nat.contacted[gateway]
            }
            None => self.story.nat != Some(of_gateway(target)),
        };
        let mut delays = [None; 2];
        if passes {
            let size = if fragment { 0 } else { bytes.len() + 28 };
            delays = self.links.wan(gateway, target, network).cross(size, &mut self.random);
            if let Some((a, b)) = self.swapped
                && (target == a || target == b)
            {
                target = a + b - target;
                delays = [Some(20 * MILLI), None];
            }
        }
        if let Some(skewed) = self.story.skewed
            && (skewed == gateway || skewed == target)
        {
            blur(&mut bytes);
        }
        let from = self.gateways[gateway].source(network);
        if let Some(delay) = delays[1] {
            let mut copy = self.wire.buffer();
            copy.extend_from_slice(&bytes);
            let arrival = Arrival::Datagram { gateway: target, from, bytes: copy };
            self.wire.push(self.now + delay, arrival);
        }
        match delays[0] {
            Some(delay) => {
                self.wire
                    .push(self.now + delay, Arrival::Datagram { gateway: target, from, bytes });
            }
            None => self.wire.recycle(bytes),
        }
    }

    /// A frame leaves a gateway for a node.
    pub(super) fn deliver(&mut self, gateway: usize, frame: Vec<u8>) {
        let cluster = of_gateway(gateway);
        let mac = std::array::from_fn(|i| frame[i]);
        let Some(node) = place::node_with(cluster, mac) else {
            self.violate(format!("gateway {gateway} writes to {:?}, which no node has", Mac(mac)));
            return;
        };
        if let Some(seen) = packet::read(&frame[packet::ETHERNET..])
            && packet::stamped(seen.payload).is_some()
            && place::node_of_pod(seen.target).map(of_node) != Some(cluster)
        {
            self.violate(format!("gateway {gateway} took a packet that is not for its cluster"));
        }
        match self.links.local(node, gateway, Way::Down).cross(0, &mut self.random)[0] {
            Some(delay) => {
                self.wire.push(self.now + delay, Arrival::ToNode { node, gateway, bytes: frame });
            }
            None => self.wire.recycle(frame),
        }
    }

    /// A frame leaves a node for a gateway.
    pub(super) fn enter(&mut self, node: usize, gateway: usize, frame: Vec<u8>) {
        match self.links.local(node, gateway, Way::Up).cross(0, &mut self.random)[0] {
            Some(delay) => {
                self.wire.push(self.now + delay, Arrival::FromNode { gateway, bytes: frame })
            }
            None => self.wire.recycle(frame),
        }
    }

    pub(super) fn arrive(&mut self, arrival: Arrival) {
        match arrival {
            Arrival::Datagram { gateway, .. } | Arrival::FromNode { gateway, .. }
                if !self.gateways[gateway].runs() =>
            {
                if self.gateways[gateway].frozen {
                    self.gateways[gateway].keep(self.now, arrival);
                }
            }
            Arrival::Datagram { gateway, from, bytes } => {
                self.with(gateway, |lane, now, out| {
                    lane.handle_datagram(now, from, &bytes, 0, out)
                });
                self.wire.recycle(bytes);
            }
            Arrival::FromNode { gateway, mut bytes } => {
                let asks = self.story.skewed == Some(gateway)
                    && bytes[packet::ETHERNET + 16..packet::ETHERNET + 20]
                        == place::mesh_of_gateway(gateway).octets();
                if !asks {
                    self.with(gateway, |lane, now, out| {
                        lane.handle_device(now, &mut bytes, Offload::Whole, out);
                    });
                }
                self.wire.recycle(bytes);
            }
            Arrival::ToNode { node, .. } if self.nodes[node].frozen && is_answer(&arrival) => {
                if self.nodes[node].backlog.len() < SOCKET {
                    self.nodes[node].backlog.push(arrival);
                }
            }
            Arrival::ToNode { node, gateway, bytes } => {
                self.take(node, gateway, &bytes);
                self.wire.recycle(bytes);
            }
            Arrival::Message { pair, number, to, message } => {
                self.message(pair, number, to, message);
            }
        }
    }

    pub(super) fn message(&mut self, pair: usize, number: u64, to: usize, message: Box<Message>) {
        if self.gateways[to].frozen {
            self.gateways[to].keep(self.now, Arrival::Message { pair, number, to, message });
            return;
        }
        if self.gateways[to].lane.is_none() {
            return;
        }
        let at = self.start + Duration::from_nanos(self.now);
        let at = (at, self.now, self.gateways[to].wall_ahead);
        if let Some(taken) = self.control.take(at, (pair, number, to), *message) {
            self.hear(to, taken);
        }
    }

    /// A gateway has heard something of another one.
    pub(super) fn hear(&mut self, to: usize, taken: Taken) {
        let agrees = |other: usize| {
            self.governors[of_gateway(other)].agrees_with(self.gateways[to].wall_ahead)
        };
        let changed = match taken {
            Taken::Tunnels(other, established) => {
                self.gateways[to].adopt(self.now, other, &established.tunnels)
            }
            Taken::Snapshot(cluster, snapshot) => {
                self.control.newest(to, cluster, &snapshot);
                self.gateways[to].believe(self.now, cluster, &snapshot)
            }
            // Two gateways of a cluster hear of a change one after the other.
            Taken::Refused(_, SnapshotError::Older { .. }) => false,
            Taken::Refused(other, error) if error.is_of_clocks() && !agrees(other) => false,
            Taken::Refused(other, error) => {
                self.violate(format!("gateway {to} refuses what {other} brings: {error}"));
                false
            }
        };
        if changed {
            self.check_believed(to);
            self.apply(to);
        }
    }

    /// A node takes a frame.
    pub(super) fn take(&mut self, node: usize, gateway: usize, frame: &[u8]) {
        let Some(seen) = packet::read(&frame[packet::ETHERNET..]) else { return };
        if seen.source == place::mesh_of_gateway(gateway).octets() {
            if seen.port == self.nodes[node].port {
                let payload = seen.payload;
                self.nodes[node].answered(self.start, self.now, gateway, payload);
                self.ask(node);
            }
            return;
        }
        let Some((flow, number)) = packet::stamped(seen.payload).filter(|_| seen.protocol == 17)
        else {
            return;
        };
        self.check_taken((node, gateway), &seen, flow);
        let now = self.now;
        if let Some(flow) = self.flows.get_mut(flow)
            && !flow.arrive(now, number)
        {
            self.violate(format!("a packet arrives twice at node {node}"));
        }
    }
}

/// An answer to a question, for which an agent has to run.
fn is_answer(arrival: &Arrival) -> bool {
    let Arrival::ToNode { gateway, bytes, .. } = arrival else { return false };
    packet::read(&bytes[packet::ETHERNET..])
        .is_some_and(|seen| seen.source == place::mesh_of_gateway(*gateway).octets())
}

/// Makes heartbeats and probes those of a version that nobody knows.
fn blur(datagram: &mut [u8]) {
    const VERSION: u8 = 15;
    if datagram[0] != 4 || datagram.len() < 16 + 37 {
        return;
    }
    let inner = &mut datagram[16..];
    match inner[0] >> 4 {
        4 if inner[9] == 253 => inner[20] = VERSION << 4,
        6 if inner[6] == 253 => inner[44] = VERSION,
        _ => {}
    }
}
