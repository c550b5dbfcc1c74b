//! What happens in a world: its shape and its faults, all from a seed.

use std::fmt;

use super::controller::Offset;
use super::links::Way;
use super::place::{
    ALL_GATEWAYS, ALL_NODES, CLUSTERS, GATEWAYS, NETWORKS, NODES, gateways_of, nodes_of, of_gateway,
};
use super::wire::{MILLI, SECOND, Time};
use crate::random::Random;

/// How long a world is.
pub(crate) const LENGTH: Time = 60 * SECOND;
/// Faults begin after this time, and all are over by the second.
const FIRST: Time = 5 * SECOND;
pub(crate) const QUIET: Time = 42 * SECOND;
/// After how long a silence a cluster takes a path to another one for lost, if nothing else is said.
const DETECTION: Time = carrick_gateway_core::path::health::DETECTION.as_nanos() as Time;
/// What else it may be told to, the slower side's wish being what counts.
const WISHES: [Time; 4] = [150 * MILLI, DETECTION, 600 * MILLI, 1000 * MILLI];
/// By how many seconds wall clocks are wrong: a little, not quite what is put up with, more than that, and a month.
const WRONG: [Offset; 4] = [10, 3000, 7200, 30 * 24 * 3600];
/// How many faults there are.
const LEAST: u64 = 5;
const MOST: u64 = 12;

/// One step of a fault: it begins, or ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Act {
    /// A gateway's process dies; another one begins.
    Crash(usize),
    Start(usize),
    /// A process halts, or goes on.
    Freeze(usize),
    Thaw(usize),
    /// A gateway says that it leaves.
    Drain(usize),
    /// One direction of a link carries nothing, or does again.
    Cut {
        from: usize,
        to: usize,
        network: usize,
        cut: bool,
    },
    /// One direction loses, doubles, scatters, or delays what crosses it.
    Loss {
        from: usize,
        to: usize,
        network: usize,
        thousandths: u64,
    },
    Twice {
        from: usize,
        to: usize,
        network: usize,
        thousandths: u64,
    },
    Jitter {
        from: usize,
        to: usize,
        network: usize,
        most: Time,
    },
    Detour {
        from: usize,
        to: usize,
        network: usize,
        delay: Time,
    },
    /// It carries packets up to this size only.
    Narrow {
        from: usize,
        to: usize,
        network: usize,
        mtu: usize,
    },
    /// Clocks jump.
    Jump {
        gateway: usize,
        by: Time,
    },
    JumpNode {
        node: usize,
        by: Time,
    },
    /// A gateway's or a controller's wall clock is set to what is so many seconds ahead, or behind.
    SetWall {
        gateway: usize,
        ahead: Offset,
    },
    SetControllersWall {
        cluster: usize,
        ahead: Offset,
    },
    /// What a node sends to a gateway of its cluster, or that to the node, does not arrive, or some of it.
    CutLocal {
        node: usize,
        gateway: usize,
        way: Way,
        cut: bool,
    },
    LoseLocal {
        node: usize,
        gateway: usize,
        thousandths: u64,
    },
    /// An agent begins anew, halts, or goes on.
    RestartAgent(usize),
    FreezeAgent(usize),
    ThawAgent(usize),
    /// A cluster's controller is gone, or back.
    Controller {
        cluster: usize,
        gone: bool,
    },
    /// Two gateways' addresses lead to each other.
    Swap {
        a: usize,
        b: usize,
        on: bool,
    },
    /// The NAT before a gateway forgets, and gives another port.
    Rebind(usize),
    /// A cluster announces a second range, or no longer; or one that is another's.
    Announce {
        cluster: usize,
        second: bool,
    },
    Lie {
        cluster: usize,
        on: bool,
    },
    /// Two clusters peer, or no longer.
    Peer {
        a: usize,
        b: usize,
        on: bool,
    },
    /// A cluster takes paths to another one for lost after another time.
    Detect {
        cluster: usize,
        other: usize,
        after: Time,
    },
    /// Pods of a node forge sources.
    Forge {
        node: usize,
        gateway: usize,
    },
    /// A gateway lets its node forge those of another cluster.
    Evil {
        gateway: usize,
        on: bool,
    },
}

/// A world.
#[derive(Debug, Clone)]
pub struct Story {
    /// From which all follows.
    pub(crate) seed: u64,
    /// With WireGuard's cipher.
    pub(crate) real: bool,
    /// There is a second network.
    pub(crate) second: bool,
    /// The cluster whose gateways are behind a NAT.
    pub(crate) nat: Option<usize>,
    /// The gateway of another release, whose probes and heartbeats nobody knows.
    pub(crate) skewed: Option<usize>,
    /// Two clusters that do not peer at first.
    pub(crate) apart: Option<(usize, usize)>,
    /// After how long a silence each cluster takes paths to each other one for lost, at first.
    pub(crate) detection: [[Time; CLUSTERS]; CLUSTERS],
    /// How many times as long as usual it takes two clusters to find out that a path is lost: at any time, as a change
    /// is agreed on by heartbeats of the time before.
    pub(crate) patience: [[Time; CLUSTERS]; CLUSTERS],
    /// How many faults there are.
    pub(crate) faults: u64,
    /// What happens when.
    pub(crate) acts: Vec<(Time, Act)>,
}

impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, real, second, nat, skewed, apart, detection, faults, .. } = self;
        let detection = detection.map(|row| row.map(|after| after / MILLI));
        write!(
            f,
            "seed {seed}: {faults} faults; real noise {real}, second network {second}, cluster behind NAT {nat:?}, \
             gateway of another release {skewed:?}, clusters that do not peer {apart:?}, detection in ms {detection:?}"
        )
    }
}

impl Story {
    /// The story of a seed.
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(crate::random::mix(0x0073_746f_7279, seed));
        let faults = LEAST + random.below(MOST - LEAST + 1);
        let real = seed % 100 == 99;
        let second = random.percent(30);
        let nat = random.percent(15).then(|| random.below(CLUSTERS as u64) as usize);
        let skewed =
            (!real && random.percent(10)).then(|| random.below(ALL_GATEWAYS as u64) as usize);
        let apart = random.percent(25).then(|| pair(&mut random));
        let mut story = Self {
            seed,
            real,
            second: second && nat.is_none(),
            nat,
            skewed,
            apart,
            detection: [[DETECTION; CLUSTERS]; CLUSTERS],
            patience: [[1; CLUSTERS]; CLUSTERS],
            faults,
            acts: Vec::new(),
        };
        for _ in 0..faults {
            story.fault(&mut random);
        }
        if seed % 8 == 5 {
            story.lossy(&mut Random::new(crate::random::mix(0x006c_6f73_7379, seed)));
        }
        if seed % 8 == 6 {
            story.cut_off(&mut Random::new(crate::random::mix(0x0000_6c6f_6361_6c00, seed)));
        }
        if seed % 4 == 1 {
            story.detect(&mut Random::new(crate::random::mix(0x0064_6574_6563_7400, seed)));
        }
        if seed % 8 == 0 {
            story.clocks(&mut Random::new(crate::random::mix(0x0063_6c6f_636b_7300, seed)));
        }
        story.words(&mut Random::new(crate::random::mix(0x0077_6f72_6473, seed)));
        story.acts.sort_by_key(|(at, _)| *at);
        story
    }

    fn fault(&mut self, random: &mut Random) {
        let begin = FIRST + random.below(QUIET - FIRST - 2 * SECOND);
        let length = match random.below(4) {
            0 => 50 * MILLI + random.below(450 * MILLI),
            1 | 2 => 500 * MILLI + random.below(4 * SECOND),
            _ => 4 * SECOND + random.below(10 * SECOND),
        };
        let end = (begin + length).min(QUIET);
        let gateway = random.below(ALL_GATEWAYS as u64) as usize;
        let node = random.below(ALL_NODES as u64) as usize;
        let near =
            gateways_of(super::place::of_node(node)).start + random.below(GATEWAYS as u64) as usize;
        let both = |story: &mut Self, first: Act, last: Act| {
            story.acts.push((begin, first));
            story.acts.push((end, last));
        };
        match random.below(20) {
            0 | 1 => both(self, Act::Crash(gateway), Act::Start(gateway)),
            2 => both(self, Act::Freeze(gateway), Act::Thaw(gateway)),
            3 => {
                self.acts.push((begin, Act::Drain(gateway)));
                let gone = begin + SECOND + random.below(SECOND);
                self.acts.push((gone, Act::Crash(gateway)));
                self.acts
                    .push((gone + 200 * MILLI + random.below(2 * SECOND), Act::Start(gateway)));
            }
            4..=6 => self.cut(begin, end, random),
            7 | 8 => {
                let (from, to, network) = self.direction(random);
                let thousandths = [20, 100, 300, 600, 950][random.below(5) as usize];
                let loss = |thousandths| Act::Loss { from, to, network, thousandths };
                both(self, loss(thousandths), loss(0));
            }
            9 => {
                let (from, to, network) = self.direction(random);
                match random.below(3) {
                    0 => {
                        let twice = |thousandths| Act::Twice { from, to, network, thousandths };
                        both(self, twice(300), twice(0));
                    }
                    1 => {
                        let most = 5 * MILLI + random.below(200 * MILLI);
                        let jitter = |most| Act::Jitter { from, to, network, most };
                        both(self, jitter(most), jitter(0));
                    }
                    _ => {
                        let delay = 20 * MILLI + random.below(300 * MILLI);
                        let detour = |delay| Act::Detour { from, to, network, delay };
                        both(self, detour(delay), detour(0));
                    }
                }
            }
            10 => {
                let (from, to, network) = self.direction(random);
                let mtu = 1280 + random.below(200) as usize;
                let narrow = |mtu| Act::Narrow { from, to, network, mtu };
                both(self, narrow(mtu), narrow(1500));
            }
            11 => {
                let by = 100 * MILLI + random.below(20 * SECOND);
                let act = if random.percent(50) {
                    Act::Jump { gateway, by }
                } else {
                    Act::JumpNode { node, by }
                };
                self.acts.push((begin, act));
            }
            12 => {
                for way in [Way::Up, Way::Down] {
                    let cut = |cut| Act::CutLocal { node, gateway: near, way, cut };
                    both(self, cut(true), cut(false));
                }
            }
            13 => {
                let thousandths = [20, 200, 500][random.below(3) as usize];
                let lose = |thousandths| Act::LoseLocal { node, gateway: near, thousandths };
                both(self, lose(thousandths), lose(0));
            }
            14 => {
                if random.percent(50) {
                    self.acts.push((begin, Act::RestartAgent(node)));
                } else {
                    both(self, Act::FreezeAgent(node), Act::ThawAgent(node));
                }
            }
            15 => {
                let cluster = of_gateway(gateway);
                let gone = |gone| Act::Controller { cluster, gone };
                both(self, gone(true), gone(false));
            }
            16 => {
                let other =
                    (gateway + 1 + random.below(ALL_GATEWAYS as u64 - 1) as usize) % ALL_GATEWAYS;
                let swap = |on| Act::Swap { a: gateway, b: other, on };
                both(self, swap(true), swap(false));
            }
            17 => match self.nat {
                Some(cluster) => {
                    self.acts.push((begin, Act::Rebind(gateways_of(cluster).start)));
                }
                None => both(self, Act::Crash(gateway), Act::Start(gateway)),
            },
            18 => {
                let (a, b) = pair(random);
                if self.apart == Some((a, b)) {
                    // They meet at last.
                    self.acts.push((begin, Act::Peer { a, b, on: true }));
                    self.apart = Some((a, b));
                } else {
                    let peer = |on| Act::Peer { a, b, on };
                    both(self, peer(false), peer(true));
                }
            }
            _ => {
                self.acts.push((begin, Act::Evil { gateway, on: true }));
                for step in 1..=3 {
                    let node = gateways_node(gateway);
                    let at = begin + step * 50 * MILLI;
                    for gateway in gateways_of(of_gateway(gateway)) {
                        self.acts.push((at, Act::Forge { node, gateway }));
                    }
                }
                self.acts.push((end, Act::Evil { gateway, on: false }));
            }
        }
    }

    /// All ways of a gateway to a cluster, and some of them back, lose what they carry. Only some worlds have that, so
    /// that seeds from before there was it stand for the same worlds.
    fn lossy(&mut self, random: &mut Random) {
        let (from, to, _) = self.direction(random);
        // What lost so much is not called good again for up to half a minute.
        let begin = FIRST + random.below(QUIET - FIRST - 26 * SECOND);
        let end = begin + 6 * SECOND + random.below(6 * SECOND);
        let thousandths = [200, 300, 600][random.below(3) as usize];
        let both = random.percent(50);
        for to in gateways_of(of_gateway(to)) {
            for network in 0..NETWORKS {
                for (from, to) in [(from, to), (to, from)].into_iter().take(1 + usize::from(both)) {
                    let loss = |thousandths| Act::Loss { from, to, network, thousandths };
                    self.acts.push((begin, loss(thousandths)));
                    self.acts.push((end, loss(0)));
                }
            }
        }
        self.faults += 1;
    }

    /// A gateway's ways to its own nodes, or to one of them, are cut, in one direction or both, while its ways to other
    /// clusters go on. Only some worlds have that, as above.
    fn cut_off(&mut self, random: &mut Random) {
        let gateway = random.below(ALL_GATEWAYS as u64) as usize;
        let nodes = nodes_of(of_gateway(gateway));
        let one = nodes.start + random.below(NODES as u64) as usize;
        let nodes = if random.percent(50) { nodes } else { one..one + 1 };
        let ways = [&[Way::Up, Way::Down][..], &[Way::Up], &[Way::Down]];
        let ways = ways[random.below(ways.len() as u64) as usize];
        for _ in 0..=random.below(2) {
            let begin = FIRST + random.below(QUIET - FIRST - 10 * SECOND);
            let end = begin + 500 * MILLI + random.below(9 * SECOND);
            for node in nodes.clone() {
                for way in ways.iter().copied() {
                    let cut = |cut| Act::CutLocal { node, gateway, way, cut };
                    self.acts.push((begin, cut(true)));
                    self.acts.push((end, cut(false)));
                }
            }
            self.faults += 1;
        }
    }

    /// Wall clocks are wrong, some from the beginning, and are set right later. Only some worlds have that, as above.
    fn clocks(&mut self, random: &mut Random) {
        for _ in 0..=random.below(3) {
            let begin = match random.percent(40) {
                true => 0,
                false => FIRST + random.below(QUIET - FIRST - 10 * SECOND),
            };
            let end = begin + SECOND + random.below(15 * SECOND);
            let by = WRONG[random.below(WRONG.len() as u64) as usize];
            let ahead = if random.percent(50) { by } else { -by };
            let gateway = random.below(ALL_GATEWAYS as u64) as usize;
            let cluster = random.below(CLUSTERS as u64) as usize;
            let of_gateway = random.percent(60);
            let set = |ahead| match of_gateway {
                true => Act::SetWall { gateway, ahead },
                false => Act::SetControllersWall { cluster, ahead },
            };
            self.acts.push((begin, set(ahead)));
            self.acts.push((end.min(QUIET), set(0)));
            self.faults += 1;
        }
    }

    /// Clusters differ in how soon they take a path for lost, and some change their minds. Only some worlds have that,
    /// as above.
    fn detect(&mut self, random: &mut Random) {
        for cluster in 0..CLUSTERS {
            for other in (0..CLUSTERS).filter(|other| *other != cluster) {
                self.detection[cluster][other] = self.wish(cluster, other, random);
                if random.percent(25) {
                    let at = FIRST + random.below(QUIET - FIRST);
                    let after = self.wish(cluster, other, random);
                    self.acts.push((at, Act::Detect { cluster, other, after }));
                }
            }
        }
    }

    /// After how long a silence a cluster is told to take paths to another one for lost.
    fn wish(&mut self, cluster: usize, other: usize, random: &mut Random) -> Time {
        let after = WISHES[random.below(WISHES.len() as u64) as usize];
        for (one, other) in [(cluster, other), (other, cluster)] {
            let patience = &mut self.patience[one][other];
            *patience = (*patience).max(after.div_ceil(DETECTION));
        }
        after
    }

    /// What clusters announce meanwhile.
    fn words(&mut self, random: &mut Random) {
        for cluster in 0..CLUSTERS {
            let time = |random: &mut Random| FIRST + random.below(QUIET - FIRST);
            if random.percent(30) {
                self.acts.push((time(random), Act::Announce { cluster, second: true }));
            }
            if random.percent(20) {
                self.acts.push((time(random), Act::Announce { cluster, second: false }));
            }
            if random.percent(10) {
                self.acts.push((time(random), Act::Lie { cluster, on: true }));
            }
        }
    }

    /// One direction of a link between two clusters.
    fn direction(&self, random: &mut Random) -> (usize, usize, usize) {
        let from = random.below(ALL_GATEWAYS as u64) as usize;
        let others = CLUSTERS - 1;
        let cluster = (of_gateway(from) + 1 + random.below(others as u64) as usize) % CLUSTERS;
        let to = cluster * GATEWAYS + random.below(GATEWAYS as u64) as usize;
        let network = if self.second { random.below(NETWORKS as u64) as usize } else { 0 };
        (from, to, network)
    }

    /// Cuts one direction, one link, a gateway from a cluster, or two clusters in one network or all.
    fn cut(&mut self, begin: Time, end: Time, random: &mut Random) {
        let (from, to, network) = self.direction(random);
        let (from_all, to_all) = (gateways_of(of_gateway(from)), gateways_of(of_gateway(to)));
        let (froms, tos, both) = match random.below(6) {
            0 | 1 => (from..from + 1, to..to + 1, false),
            2 | 3 => (from..from + 1, to..to + 1, true),
            4 => (from..from + 1, to_all, true),
            _ => (from_all, to_all, random.percent(70)),
        };
        let networks = if random.percent(50) { 0..NETWORKS } else { network..network + 1 };
        for from in froms {
            for to in tos.clone() {
                for network in networks.clone() {
                    for (from, to) in
                        [(from, to), (to, from)].into_iter().take(1 + usize::from(both))
                    {
                        let cut = |cut| Act::Cut { from, to, network, cut };
                        self.acts.push((begin, cut(true)));
                        self.acts.push((end, cut(false)));
                    }
                }
            }
        }
    }
}

/// The first node of a gateway's cluster.
fn gateways_node(gateway: usize) -> usize {
    super::place::nodes_of(of_gateway(gateway)).start
}

/// Two clusters, the lower one first.
fn pair(random: &mut Random) -> (usize, usize) {
    [(0, 1), (0, 2), (1, 2)][random.below(3) as usize]
}
