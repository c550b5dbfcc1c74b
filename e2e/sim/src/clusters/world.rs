//! One world: it runs a story, and says what was violated.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use carrick_gateway_core::{Lane, Offload};
use carrick_model::Mac;

use super::control::{Control, Taken};
use super::controller::{Controller, acceptable};
use super::gateway::{Gateway, Networks};
use super::judge::{self, Truth};
use super::links::Links;
use super::node::{Node, Word};
use super::packet;
use super::place::{
    self, ALL_GATEWAYS, ALL_NODES, CLUSTERS, NETWORKS, gateways_of, of_gateway, of_node,
};
use super::story::{Act, LENGTH, Story};
use super::traffic::{FORGED, Flow, PACE, flows};
use super::wire::{Arrival, MILLI, Out, SECOND, Time, Wire};
use crate::random::{Random, mix};

/// How often connections and controllers are looked after.
const CONTROL: Time = 100 * MILLI;
/// How often a controller tells its agents what changed, in such steps.
const TELLS: u64 = 5;
/// What an agent's socket holds.
const SOCKET: usize = 256;
/// Where requests of users go.
const PORT: u16 = 9;
/// More steps than this at one instant are a loop.
const STEPS: u32 = 20_000;
/// More than this under way at once, or of one gateway's datagrams in a second, is without bound.
const UNDER_WAY: usize = 4000;
const DATAGRAMS: u32 = 1500;

/// What a world came to.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// What was violated, and when in milliseconds.
    pub violation: Option<(Time, String)>,
    /// How many things happened.
    pub events: u64,
    /// Users' packets that were sent, and that arrived.
    pub sent: u64,
    /// As above.
    pub arrived: u64,
    /// The most changes of next hops of one node, and of one gateway's reach.
    pub changes: (u64, u64),
    /// A digest of all that happened.
    pub digest: u64,
}

/// A world.
pub struct World {
    story: Story,
    start: Instant,
    now: Time,
    random: Random,
    wire: Wire,
    out: Out,
    links: Links,
    gateways: Vec<Gateway>,
    nodes: Vec<Node>,
    control: Control,
    flows: Vec<Flow>,
    /// Whether two clusters are to peer, whether a cluster's controller knows, and since when both do.
    wanted: [[bool; CLUSTERS]; CLUSTERS],
    adopted: [[bool; CLUSTERS]; CLUSTERS],
    peered: [[Option<Time>; CLUSTERS]; CLUSTERS],
    parted: [[Time; CLUSTERS]; CLUSTERS],
    controllers: [Option<Time>; CLUSTERS],
    governors: Vec<Controller>,
    swapped: Option<(usize, usize)>,
    next_packet: (Time, usize),
    next_control: (Time, u64),
    steps: (Time, u32),
    datagrams: (Time, [u32; ALL_GATEWAYS]),
    outcome: Outcome,
    /// Says what happens, and what was seen of that already.
    tells: Option<(u64, u64)>,
}

impl World {
    /// The world of a story.
    pub fn new(story: Story) -> Self {
        let mut random = Random::new(mix(1, story.seed));
        let networks = Networks { second: story.second, nat: story.nat };
        let links = Links::new(story.second, &mut random);
        let mut wanted = [[true; CLUSTERS]; CLUSTERS];
        if let Some((a, b)) = story.apart {
            (wanted[a][b], wanted[b][a]) = (false, false);
        }
        null_time();
        let nodes = (0..ALL_NODES).map(|node| Node::new(node, 0, random.bits())).collect();
        Self {
            start: Instant::now(),
            now: 0,
            wire: Wire::default(),
            out: Out::default(),
            links,
            gateways: (0..ALL_GATEWAYS).map(|gateway| Gateway::new(gateway, networks)).collect(),
            nodes,
            control: Control::new(),
            flows: flows(story.seed),
            wanted,
            adopted: [[false; CLUSTERS]; CLUSTERS],
            peered: [[None; CLUSTERS]; CLUSTERS],
            parted: [[0; CLUSTERS]; CLUSTERS],
            controllers: [Some(0); CLUSTERS],
            governors: (0..CLUSTERS).map(|cluster| Controller::new(cluster, 0)).collect(),
            swapped: None,
            next_packet: (SECOND, 0),
            next_control: (0, 0),
            steps: (0, 0),
            datagrams: (0, [0; ALL_GATEWAYS]),
            outcome: Outcome::default(),
            tells: None,
            random,
            story,
        }
    }

    /// Lets it print what nodes and gateways conclude.
    pub fn telling(mut self) -> Self {
        self.tells = Some((0, 0));
        self
    }

    fn tell(&mut self) {
        let nodes = self.nodes.iter().map(|node| node.changes).sum();
        let gateways = self.gateways.iter().map(|gateway| gateway.changes).sum();
        if self.tells.is_some_and(|told| told != (nodes, gateways)) {
            self.tells = Some((nodes, gateways));
            let groups: Vec<_> = self.nodes.iter().map(|node| &node.group).collect();
            let reach: Vec<String> = self
                .gateways
                .iter()
                .map(|gateway| {
                    (0..CLUSTERS).map(|c| if gateway.reaches[c] { '+' } else { '-' }).collect()
                })
                .collect();
            println!("{:>6} ms  next hops {groups:?}, reached {reach:?}", self.now / MILLI);
        }
    }

    /// Runs it to its end, or to the first violation.
    pub fn run(mut self) -> Outcome {
        for gateway in 0..ALL_GATEWAYS {
            self.begin(gateway);
        }
        let acts = std::mem::take(&mut self.story.acts);
        let mut acts = acts.into_iter().peekable();
        while self.outcome.violation.is_none() {
            let act = acts.peek().map_or(Time::MAX, |(at, _)| *at);
            let next = act.min(self.next_due());
            if next > LENGTH {
                self.finish();
                break;
            }
            self.pass(next);
            if act == next {
                if let Some((_, act)) = acts.next() {
                    if self.tells.is_some() {
                        println!("{:>6} ms  {act:?}", self.now / MILLI);
                    }
                    self.act(act);
                }
            } else {
                self.step();
                self.tell();
            }
        }
        if self.tells.is_some() {
            for (number, gateway) in self.gateways.iter().enumerate() {
                println!("gateway {number}: {:#?}", gateway.describe(self.start, self.now));
            }
        }
        self.outcome.sent = self.flows.iter().map(|flow| u64::from(flow.sent)).sum();
        self.outcome.arrived = self.flows.iter().map(|flow| u64::from(flow.arrived)).sum();
        let most = |changes: &mut dyn Iterator<Item = u64>| changes.max().unwrap_or(0);
        self.outcome.changes = (
            most(&mut self.nodes.iter().map(|node| node.changes)),
            most(&mut self.gateways.iter().map(|gateway| gateway.changes)),
        );
        self.outcome
    }

    fn next_due(&self) -> Time {
        let gateways = self.gateways.iter().filter(|gateway| !gateway.frozen).map(|g| g.due);
        let nodes = self.nodes.iter().filter(|node| !node.frozen).map(|node| node.due);
        let timers = gateways.chain(nodes).min().unwrap_or(Time::MAX);
        let arrival = self.wire.next().unwrap_or(Time::MAX);
        timers.min(arrival).min(self.next_packet.0).min(self.next_control.0)
    }

    fn pass(&mut self, next: Time) {
        let next = next.max(self.now);
        self.outcome.events += 1;
        self.outcome.digest = mix(self.outcome.digest, next);
        let (at, steps) = self.steps;
        self.steps = if at == next { (at, steps + 1) } else { (next, 0) };
        if steps > STEPS {
            self.violate("something runs again and again without time passing".to_owned());
        }
        self.now = next;
    }

    /// Does one of the things that are due.
    fn step(&mut self) {
        if self.wire.next().is_some_and(|at| at <= self.now) {
            if let Some(arrival) = self.wire.pop() {
                self.arrive(arrival);
            }
        } else if let Some(gateway) = self.due_gateway() {
            self.with(gateway, |lane, now, out| lane.handle_timeout(now, out));
        } else if let Some(node) = self.due_node() {
            self.nodes[node].run(self.start, self.now);
            self.ask(node);
        } else if self.next_packet.0 <= self.now {
            self.send();
        } else if self.next_control.0 <= self.now {
            self.tend();
        }
    }

    fn due_gateway(&self) -> Option<usize> {
        self.gateways.iter().position(|one| !one.frozen && one.due <= self.now)
    }

    fn due_node(&self) -> Option<usize> {
        self.nodes.iter().position(|one| !one.frozen && one.due <= self.now)
    }

    fn violate(&mut self, what: String) {
        self.outcome.violation.get_or_insert((self.now / MILLI, what));
    }

    fn hold(&mut self, held: Result<(), String>) {
        if let Err(what) = held {
            self.violate(what);
        }
    }

    /// Lets a gateway do something, and sees to what comes of it.
    fn with(&mut self, gateway: usize, step: impl FnOnce(&mut Lane, Instant, &mut Out)) {
        self.out.supply(&mut self.wire);
        let mut out = std::mem::take(&mut self.out);
        self.gateways[gateway].step(self.start, self.now, &mut out, step);
        for (to, fragment, bytes) in out.datagrams.drain(..) {
            self.depart(gateway, to, fragment, bytes);
        }
        for frame in out.frames.drain(..) {
            self.deliver(gateway, frame);
        }
        self.out = out;
    }

    /// A datagram leaves a gateway.
    fn depart(&mut self, gateway: usize, to: SocketAddr, fragment: bool, mut bytes: Vec<u8>) {
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

    fn count(&mut self, gateway: usize) {
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
    fn check_sent(&mut self, gateway: usize, target: usize, datagram: &[u8]) {
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

    /// A frame leaves a gateway for a node.
    fn deliver(&mut self, gateway: usize, frame: Vec<u8>) {
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
        match self.links.local(node, gateway).cross(0, &mut self.random)[0] {
            Some(delay) => {
                self.wire.push(self.now + delay, Arrival::ToNode { node, gateway, bytes: frame });
            }
            None => self.wire.recycle(frame),
        }
    }

    fn arrive(&mut self, arrival: Arrival) {
        match arrival {
            Arrival::Datagram { gateway, .. } | Arrival::FromNode { gateway, .. }
                if !self.gateways[gateway].runs() =>
            {
                if self.gateways[gateway].frozen {
                    self.gateways[gateway].keep(arrival);
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

    fn message(
        &mut self,
        pair: usize,
        number: u64,
        to: usize,
        message: Box<super::control::Message>,
    ) {
        if self.gateways[to].frozen {
            self.gateways[to].keep(Arrival::Message { pair, number, to, message });
            return;
        }
        if self.gateways[to].lane.is_none() {
            return;
        }
        let at = (self.start + Duration::from_nanos(self.now), self.now);
        let changed = match self.control.take(at, (pair, number, to), *message) {
            None => false,
            Some(Taken::Tunnels(other, established)) => {
                self.gateways[to].adopt(self.now, other, &established.tunnels)
            }
            Some(Taken::Snapshot(cluster, snapshot)) => {
                self.control.newest(to, cluster, &snapshot);
                self.gateways[to].believe(cluster, &snapshot)
            }
            // Two gateways of a cluster hear of a change one after the other.
            Some(Taken::Refused(_, error)) if error.contains("is older than") => false,
            Some(Taken::Refused(other, error)) => {
                self.violate(format!("gateway {to} refuses what {other} brings: {error}"));
                false
            }
        };
        if changed {
            self.check_believed(to);
            self.apply(to);
        }
    }

    /// Nothing is believed that was not accepted.
    fn check_believed(&mut self, gateway: usize) {
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

    /// A node takes a frame.
    fn take(&mut self, node: usize, gateway: usize, frame: &[u8]) {
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
        self.check_taken(node, &seen, flow);
        let now = self.now;
        if let Some(flow) = self.flows.get_mut(flow)
            && !flow.arrive(now, number)
        {
            self.violate(format!("a packet arrives twice at node {node}"));
        }
    }

    fn check_taken(&mut self, node: usize, seen: &packet::Seen<'_>, flow: usize) {
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
        let parted = self.parted[from][to];
        if self.peered[from][to].is_none() && self.now > parted + judge::PARTED {
            self.violate(format!(
                "a packet crosses from cluster {from} to {to}, which do not peer"
            ));
        }
    }

    /// Sends what a node has to ask.
    fn ask(&mut self, node: usize) {
        while let Some((gateway, payload)) = self.nodes[node].question(self.start, self.now) {
            let source = (place::mesh_of_node(node), self.nodes[node].port);
            let target = (place::mesh_of_gateway(gateway), carrick_model::gateway_probe::PORT);
            let mut frame = self.wire.buffer();
            packet::udp(&mut frame, place::mac(node), source, target, &payload, payload.len());
            self.enter(node, gateway, frame);
        }
        self.nodes[node].settle(self.start, self.now);
    }

    /// A frame leaves a node for a gateway.
    fn enter(&mut self, node: usize, gateway: usize, frame: Vec<u8>) {
        match self.links.local(node, gateway).cross(0, &mut self.random)[0] {
            Some(delay) => {
                self.wire.push(self.now + delay, Arrival::FromNode { gateway, bytes: frame })
            }
            None => self.wire.recycle(frame),
        }
    }

    fn truth(&self) -> Truth<'_> {
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

    /// A user sends the next packet.
    fn send(&mut self) {
        let (at, number) = self.next_packet;
        let count = self.flows.len();
        self.next_packet = (at + PACE / count as Time, (number + 1) % count);
        if number < ALL_NODES {
            let held = self.truth().unreachable(number);
            self.hold(held);
        }
        let held = self.truth().recovery(&self.flows[number]);
        self.hold(held);
        let flow = &mut self.flows[number];
        let (from, to, port, packet) = (flow.from, flow.to, flow.port, flow.next());
        let hash = mix(mix(self.story.seed, number as u64), port.into());
        match self.nodes[from].next_hop(of_node(to), hash) {
            Some(gateway) => {
                let mut frame = self.wire.buffer();
                let stamp = packet::stamp(number, packet);
                let (source, target) = ((place::pod(from), port), (place::pod(to), PORT));
                packet::udp(&mut frame, place::mac(from), source, target, &stamp, stamp.len());
                self.enter(from, gateway, frame);
            }
            None => self.flows[number].refused += 1,
        }
    }

    /// Lets connections and controllers do what is due.
    fn tend(&mut self) {
        let (at, number) = self.next_control;
        self.next_control = (at + CONTROL, number + 1);
        let others = (&self.links, &self.governors[..]);
        self.control.tend(self.start, self.now, &self.gateways, others, &mut self.wire);
        if number.is_multiple_of(TELLS) {
            for cluster in 0..CLUSTERS {
                if self.controllers[cluster].is_some() {
                    self.govern(cluster);
                }
            }
        }
    }

    /// A controller tells its gateways and agents what it knows.
    fn govern(&mut self, own: usize) {
        for other in (0..CLUSTERS).filter(|other| *other != own) {
            self.adopted[own][other] = self.wanted[own][other];
            let both = self.adopted[own][other] && self.adopted[other][own];
            for (a, b) in [(own, other), (other, own)] {
                match (both, self.peered[a][b]) {
                    (true, None) => self.peered[a][b] = Some(self.now),
                    (false, Some(_)) => (self.peered[a][b], self.parted[a][b]) = (None, self.now),
                    _ => {}
                }
            }
        }
        for other in (0..CLUSTERS).filter(|other| *other != own) {
            self.governors[own].speak(self.now, other, self.adopted[own][other]);
        }
        for gateway in gateways_of(own) {
            if self.gateways[gateway].peers != self.adopted[own] {
                let peers = self.adopted[own];
                self.gateways[gateway].peers = peers;
                self.gateways[gateway].forget();
                self.apply(gateway);
            }
        }
        let mut word = Word { routed: self.adopted[own], ..Word::default() };
        for gateway in gateways_of(own) {
            let one = &self.gateways[gateway];
            if one.lane.is_some() {
                word.carries[gateway] = one.reaches;
            }
            word.answers[gateway] = self.story.skewed != Some(gateway) && one.lives > 0;
        }
        for node in place::nodes_of(own) {
            if !self.nodes[node].frozen {
                self.nodes[node].hear(self.start, self.now, &word);
                self.ask(node);
            }
        }
    }

    /// A gateway follows what it knows now.
    fn apply(&mut self, gateway: usize) {
        if self.gateways[gateway].lane.is_some() {
            let config = self.gateways[gateway].config();
            self.with(gateway, |lane, now, out| lane.apply(now, config, out));
        }
    }

    /// A gateway's process begins.
    fn begin(&mut self, gateway: usize) {
        if self.gateways[gateway].lane.is_none() {
            let (real, seed) = (self.story.real, self.random.bits());
            self.gateways[gateway].start(self.now, real, seed);
            self.apply(gateway);
        }
    }

    fn act(&mut self, act: Act) {
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
            Act::CutLocal { node, gateway, cut } => {
                let link = self.links.local_mut(now, node, gateway);
                link.cuts = if cut { link.cuts + 1 } else { link.cuts.saturating_sub(1) };
            }
            Act::LoseLocal { node, gateway, thousandths } => {
                self.links.local_mut(now, node, gateway).loss = thousandths;
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

    fn thaw(&mut self, gateway: usize) {
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

    fn thaw_agent(&mut self, node: usize) {
        if !std::mem::take(&mut self.nodes[node].frozen) {
            return;
        }
        self.nodes[node].since = Some(self.now);
        // First it hears what has arrived.
        for arrival in std::mem::take(&mut self.nodes[node].backlog) {
            self.arrive(arrival);
        }
        self.nodes[node].run(self.start, self.now);
        self.ask(node);
    }

    fn jump(&mut self, gateway: usize, by: Time) {
        let one = &mut self.gateways[gateway];
        one.ahead += by;
        one.since = one.since.map(|_| self.now);
        if one.runs() {
            one.due = self.now;
        }
    }

    /// The addresses of two gateways lead to each other, or to themselves again.
    fn swap(&mut self, a: usize, b: usize, on: bool) {
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

    fn rebind(&mut self, gateway: usize) {
        let one = &mut self.gateways[gateway];
        one.mapping += 1;
        one.contacted = [false; ALL_GATEWAYS];
        for other in 0..ALL_GATEWAYS {
            self.links.wan_mut(self.now, other, gateway, 0);
        }
    }

    /// A pod sends with a source that is another cluster's, to a third.
    fn forge(&mut self, node: usize, gateway: usize) {
        let own = of_node(node);
        let (victim, target) = ((own + 1) % CLUSTERS, (own + 2) % CLUSTERS);
        let source = (place::pod(victim * place::NODES), 5);
        let target = (place::pod(target * place::NODES), PORT);
        let mut frame = self.wire.buffer();
        let stamp = packet::stamp(FORGED, 0);
        packet::udp(&mut frame, place::mac(node), source, target, &stamp, stamp.len());
        self.enter(node, gateway, frame);
    }

    fn finish(&mut self) {
        self.now = LENGTH;
        let held = self.truth().converged(&self.flows);
        self.hold(held);
        let held = self.truth().restless();
        self.hold(held);
    }
}

/// The clocks of this thread begin anew.
fn null_time() {
    mock_instant::MockClock::set_time(Duration::ZERO);
    carrick_gateway_core::noise::null::set_time(Duration::ZERO);
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
