//! The links: what happens to what crosses them, and since when they are as they are.

use super::place::{ALL_GATEWAYS, ALL_NODES, GATEWAYS, NETWORKS, of_gateway};
use super::wire::{MILLI, Time};
use crate::random::Random;

/// One direction of one link.
#[derive(Debug, Clone, Copy)]
pub struct Link {
    /// It exists.
    pub there: bool,
    /// How long things are under way.
    pub delay: Time,
    /// By how much more at most, at random, so that things overtake each other.
    pub jitter: Time,
    /// By how much more, always.
    pub detour: Time,
    /// For how many reasons nothing crosses.
    pub cuts: u32,
    /// How many of a thousand are lost, and arrive twice.
    pub loss: u64,
    pub twice: u64,
    /// The largest IP packet in bytes.
    pub mtu: usize,
    /// When it became as it is, the MTU aside.
    pub since: Time,
    /// When it was last changed while it lost some of what crossed it; known of links to nodes only.
    lossy: Option<Time>,
}

impl Link {
    const NONE: Self = Self {
        there: false,
        delay: 0,
        jitter: 0,
        detour: 0,
        cuts: 0,
        loss: 0,
        twice: 0,
        mtu: 1500,
        since: 0,
        lossy: None,
    };

    /// Whether anything crosses at all.
    pub fn is_open(&self) -> bool {
        self.there && self.cuts == 0 && self.loss < 1000
    }

    /// Whether it does nothing but delay what crosses it, as ever.
    pub fn is_clean(&self) -> bool {
        self.is_open() && self.loss == 0 && self.jitter == 0 && self.detour == 0
    }

    /// After how long each copy of `size` bytes arrives; of a lost one none does.
    pub fn cross(&self, size: usize, random: &mut Random) -> [Option<Time>; 2] {
        if !self.is_open() || size > self.mtu || self.loss > 0 && random.below(1000) < self.loss {
            return [None; 2];
        }
        let mut one = || {
            let jitter = if self.jitter > 0 { random.below(self.jitter) } else { 0 };
            self.delay + self.detour + jitter
        };
        let first = one();
        let second = self.twice > 0 && random.below(1000) < self.twice;
        [Some(first), second.then(|| first + self.delay / 8 + MILLI)]
    }
}

/// A direction between a node and a gateway of its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// To the gateway.
    Up,
    /// To the node.
    Down,
}

/// What crosses between a node and a gateway of its cluster, both directions together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Local {
    /// Everything.
    Clean,
    /// Nothing in one direction at least.
    Cut,
    /// Some of it.
    Rough,
}

/// All of them.
#[derive(Debug)]
pub struct Links {
    wan: Vec<Link>,
    /// Between nodes and gateways of one cluster, by direction.
    local: [Vec<Link>; 2],
}

fn wan_place(from: usize, to: usize, network: usize) -> usize {
    (from * ALL_GATEWAYS + to) * NETWORKS + network
}

impl Links {
    /// Links as they are at first. `second`: the second network is there.
    pub fn new(second: bool, random: &mut Random) -> Self {
        let mut wan = vec![Link::NONE; ALL_GATEWAYS * ALL_GATEWAYS * NETWORKS];
        for from in 0..ALL_GATEWAYS {
            for to in 0..from {
                for network in 0..NETWORKS {
                    let there = of_gateway(from) != of_gateway(to) && (network == 0 || second);
                    let delay = MILLI + random.below(60 * MILLI);
                    let link = Link { there, delay, ..Link::NONE };
                    wan[wan_place(from, to, network)] = link;
                    wan[wan_place(to, from, network)] = link;
                }
            }
        }
        let local = Link { there: true, delay: MILLI / 5, ..Link::NONE };
        Self { wan, local: [Way::Up, Way::Down].map(|_| vec![local; ALL_NODES * GATEWAYS]) }
    }

    /// From gateway to gateway.
    pub fn wan(&self, from: usize, to: usize, network: usize) -> &Link {
        &self.wan[wan_place(from, to, network)]
    }

    /// From gateway to gateway, to be changed now.
    pub fn wan_mut(&mut self, now: Time, from: usize, to: usize, network: usize) -> &mut Link {
        let link = &mut self.wan[wan_place(from, to, network)];
        link.since = now;
        link
    }

    /// Between a node and a gateway of its cluster.
    pub fn local(&self, node: usize, gateway: usize, way: Way) -> &Link {
        &self.local[way as usize][node * GATEWAYS + gateway % GATEWAYS]
    }

    /// Between a node and a gateway of its cluster, to be changed now.
    pub fn local_mut(&mut self, now: Time, node: usize, gateway: usize, way: Way) -> &mut Link {
        let link = &mut self.local[way as usize][node * GATEWAYS + gateway % GATEWAYS];
        if link.loss > 0 {
            link.lossy = Some(now);
        }
        link.since = now;
        link
    }

    /// Whether some of what crosses between a node and a gateway of its cluster is lost, or was of late.
    pub fn is_local_rough(&self, node: usize, gateway: usize, now: Time, memory: Time) -> bool {
        let lossy = |way| self.local(node, gateway, way).lossy;
        self.local_both(node, gateway).0 == Local::Rough
            || [Way::Up, Way::Down].into_iter().filter_map(lossy).any(|at| at + memory > now)
    }

    /// What crosses between a node and a gateway of its cluster, and since when that is so.
    pub fn local_both(&self, node: usize, gateway: usize) -> (Local, Time) {
        let both = [Way::Up, Way::Down].map(|way| self.local(node, gateway, way));
        let cut = both.iter().filter(|link| link.cuts > 0).map(|link| link.since).min();
        let since = both.map(|link| link.since).into_iter().max().unwrap_or(0);
        match cut {
            Some(since) => (Local::Cut, since),
            None if both.iter().all(|link| link.is_clean()) => (Local::Clean, since),
            None => (Local::Rough, since),
        }
    }

    /// Since when everything crosses between a node and a gateway of its cluster, if it does.
    pub fn local_clean(&self, node: usize, gateway: usize) -> Option<Time> {
        let (local, since) = self.local_both(node, gateway);
        (local == Local::Clean).then_some(since)
    }

    /// Whether both directions are open in some network.
    pub fn is_open(&self, a: usize, b: usize) -> bool {
        (0..NETWORKS).any(|n| self.wan(a, b, n).is_open() && self.wan(b, a, n).is_open())
    }

    /// Since when some network carries packets cleanly both ways; `None` where none does.
    pub fn clean_since(&self, a: usize, b: usize) -> Option<Time> {
        let since = |network| {
            let (there, back) = (self.wan(a, b, network), self.wan(b, a, network));
            (there.is_clean() && back.is_clean()).then(|| there.since.max(back.since))
        };
        (0..NETWORKS).filter_map(since).min()
    }

    /// When a link between the gateways changed last.
    pub fn changed(&self, a: usize, b: usize) -> Time {
        let both = |n| [self.wan(a, b, n).since, self.wan(b, a, n).since];
        (0..NETWORKS).flat_map(both).max().unwrap_or(0)
    }

    /// When a link between the gateways was last lossy, slow or changed.
    pub fn is_rough(&self, a: usize, b: usize, now: Time, memory: Time) -> bool {
        (0..NETWORKS).flat_map(|n| [self.wan(a, b, n), self.wan(b, a, n)]).any(|link| {
            link.there
                && (link.since + memory > now && now > memory
                    || link.loss > 0
                    || link.jitter > 0
                    || link.detour > 0)
        })
    }
}
