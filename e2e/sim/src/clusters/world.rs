//! One world: it runs a story, and says what was violated.

mod acts;
mod checks;
mod network;

use std::time::{Duration, Instant};

use carrick_gateway_core::Lane;

use super::control::Control;
use super::controller::Controller;
use super::gateway::{Gateway, Networks};
use super::links::Links;
use super::node::{Node, Word};
use super::packet;
use super::place::{self, ALL_GATEWAYS, ALL_NODES, CLUSTERS, gateways_of, of_node};
use super::story::{LENGTH, Story};
use super::traffic::{Flow, PACE, flows};
use super::wire::{MILLI, Out, SECOND, Time, Wire};
use crate::random::{Random, mix};

/// How often connections and controllers are looked after.
const CONTROL: Time = 100 * MILLI;
/// How often a controller tells its agents what changed, in such steps.
const TELLS: u64 = 5;
/// Where requests of users go.
const PORT: u16 = 9;
/// From then on nothing changes any more.
const SETTLED: Time = 55 * SECOND;
/// More steps than this at one instant are a loop.
const STEPS: u32 = 20_000;

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
    /// How often next hops and what gateways reach had changed shortly before the end.
    settled: Option<u64>,
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
            gateways: (0..ALL_GATEWAYS)
                .map(|gateway| {
                    Gateway::new(gateway, networks, story.detection[place::of_gateway(gateway)])
                })
                .collect(),
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
            settled: None,
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
        self.play();
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

    fn play(&mut self) {
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
    }

    /// How often next hops and what gateways reach have changed.
    fn changes(&self) -> u64 {
        let nodes: u64 = self.nodes.iter().map(|node| node.changes).sum();
        nodes + self.gateways.iter().map(|gateway| gateway.changes).sum::<u64>()
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
                let held = self.truth().avoidance(&self.flows[number], gateway);
                self.hold(held);
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
        if self.now >= SETTLED && self.settled.is_none() {
            // Where one is about to be called good again, nodes will take it.
            let mut ranks = self.gateways.iter().flat_map(|gateway| gateway.ranks);
            let calm = ranks.all(|rank| rank.is_none_or(|rank| rank == 0));
            self.settled = calm.then(|| self.changes());
        }
        let at = (self.start + Duration::from_nanos(self.now), self.now);
        for (to, taken) in self.control.look_again(at, &self.gateways) {
            self.hear(to, taken);
        }
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
            self.nodes[node].hear(self.start, self.now, &word);
            if !self.nodes[node].frozen {
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
}

#[cfg(test)]
mod tests;

/// The clocks of this thread begin anew.
fn null_time() {
    mock_instant::MockClock::set_time(Duration::ZERO);
    carrick_gateway_core::noise::null::set_time(Duration::ZERO);
}
