//! The endpoints of a tunnel: announced ones, one that was learned, and which of them is used.

use std::net::SocketAddr;
use std::time::Instant;

use crate::config::{MOST_ENDPOINTS, PathConfig, TunnelConfig};
use crate::path::random::Random;
use crate::path::{PathEnd, PathMtu};

/// The number of the path to the endpoint that was learned.
const LEARNED: u8 = MOST_ENDPOINTS as u8;

/// A path, and what is known of its size.
#[derive(Debug)]
pub(crate) struct Path {
    /// Its number.
    pub number: u8,
    /// Where it leads.
    pub end: SocketAddr,
    /// The operator's cost.
    pub cost: u16,
    /// What it carries.
    pub mtu: PathMtu,
    /// A large packet left by it since losses were looked at last.
    pub large: bool,
}

/// The endpoints.
#[derive(Debug)]
pub(crate) struct Ends {
    seeds: Random,
    /// Paths that are in use or may be: those announced, and the learned one where it is needed.
    pub paths: Vec<Path>,
    /// The place of the one that is used.
    used: usize,
    learned: Option<SocketAddr>,
    /// Our last handshake was answered from the learned address and not from an announced one.
    prefers_learned: bool,
}

impl Ends {
    /// `seed` is a random number for the paths' probes.
    pub fn new(seed: u64) -> Self {
        let seeds = Random::new(seed);
        Self { seeds, paths: Vec::new(), used: 0, learned: None, prefers_learned: false }
    }

    /// The path that is used.
    pub fn used(&self) -> Option<&Path> {
        self.paths.get(self.used)
    }

    /// The path that is used.
    pub fn used_mut(&mut self) -> Option<&mut Path> {
        self.paths.get_mut(self.used)
    }

    /// Whether the address that is used was merely heard from, although the peer announces others.
    pub fn is_makeshift(&self, config: &TunnelConfig) -> bool {
        let learned = self.used().is_some_and(|path| path.number == LEARNED);
        learned && !config.paths.is_empty() && !config.roaming
    }

    /// The path with this number.
    pub fn path_mut(&mut self, number: u16) -> Option<&mut Path> {
        self.paths.iter_mut().find(|path| u16::from(path.number) == number)
    }

    /// Every address that something may be sent to.
    pub fn all(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.paths.iter().map(|path| path.end).chain(self.learned)
    }

    /// The paths for the machine of their health.
    pub fn path_ends(&self) -> impl Iterator<Item = PathEnd> + Clone + '_ {
        self.paths.iter().map(|p| PathEnd { number: p.number, cost: p.cost, end: p.end })
    }

    /// Brings the paths in line with what is announced and learned; `active` is the one that was chosen by
    /// health, if any.
    pub fn update(&mut self, now: Instant, config: &TunnelConfig, active: Option<u8>) {
        let before = self.used().map(|path| path.number);
        let wanted = self.wanted(config, active);
        self.paths.retain(|path| wanted.iter().any(|wanted| wanted.number == path.number));
        for (place, wanted) in wanted.iter().enumerate() {
            self.put(now, place, *wanted);
        }
        let place = |number: u8| self.paths.iter().position(|path| path.number == number);
        let learned = self.prefers_learned.then_some(LEARNED);
        let first = self.paths.first().map(|path| path.number);
        let stays = before.filter(|_| config.paths.len() > 1 && !self.prefers_learned);
        let used = active.and_then(place).or_else(|| learned.and_then(place));
        let used = used.or_else(|| stays.filter(|number| *number != LEARNED).and_then(place));
        self.used = used.or_else(|| first.and_then(place)).unwrap_or(0);
    }

    /// The paths that should be there. A learned address is tried where no announced one is known to work.
    fn wanted(&self, config: &TunnelConfig, active: Option<u8>) -> Vec<PathConfig> {
        if config.roaming {
            let announced = config.paths.first();
            let endpoint = self.learned.or(announced.map(|path| path.endpoint));
            return PathConfig::only(endpoint);
        }
        let mut wanted = config.paths.clone();
        let announced_works = active.is_some_and(|number| number != LEARNED);
        let is_announced = |end: &SocketAddr| config.paths.iter().any(|p| p.endpoint == *end);
        let learned = self.learned.filter(|end| !announced_works && !is_announced(end));
        wanted.extend(learned.map(|endpoint| PathConfig {
            number: LEARNED,
            endpoint,
            cost: u16::MAX,
        }));
        wanted
    }

    /// Puts a path where it belongs. One that leads elsewhere than before is searched anew.
    fn put(&mut self, now: Instant, place: usize, wanted: PathConfig) {
        let PathConfig { number, endpoint: end, cost } = wanted;
        let held = self.paths.iter().position(|path| path.number == number);
        match held {
            Some(held) => self.paths.swap(place, held),
            None => {
                let mtu = PathMtu::new(self.seeds.number()).with_number(number);
                self.paths.insert(place, Path { number, end, cost, mtu, large: false });
            }
        }
        let path = &mut self.paths[place];
        if path.end.ip() != end.ip() {
            path.mtu.restart(now);
        }
        (path.end, path.cost) = (end, cost);
    }

    /// Notes where an authentic message came from; whether paths are to be updated for it.
    pub fn note_heard(&mut self, from: SocketAddr, config: &TunnelConfig) -> bool {
        let new = self.learned.replace(from) != Some(from);
        new && (config.roaming || config.paths.is_empty())
    }

    /// Notes that `from` answered our handshake.
    pub fn note_answered(&mut self, from: SocketAddr, config: &TunnelConfig) {
        let announced = config.paths.iter().any(|path| path.endpoint == from);
        self.prefers_learned = !announced && !config.paths.is_empty();
    }

    /// The announced endpoints are others now: whoever says where the peer is knows that it has left
    /// where it was heard.
    pub fn forget_learned(&mut self, config: &TunnelConfig) {
        self.prefers_learned = false;
        self.learned = self.learned.filter(|_| config.paths.is_empty());
    }

    /// Where a handshake goes: all endpoints by turns, the one that is used first.
    pub fn handshake_target(&self, attempt: usize) -> Option<SocketAddr> {
        let used = self.used().map(|path| path.end);
        let others = self.paths.iter().map(|path| path.end).chain(self.learned);
        let mut all: Vec<SocketAddr> = used.into_iter().collect();
        for end in others {
            if !all.contains(&end) {
                all.push(end);
            }
        }
        all.get(attempt % all.len().max(1)).copied()
    }
}
