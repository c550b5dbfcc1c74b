//! A gateway: its process with one lane, and what it keeps when that ends.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use carrick_exchange::peer::{Agreed, Held, Lane as ExchangeLane};
use carrick_exchange::snapshot::{VerifiedSnapshot, Version};
use carrick_gateway_core::noise::null;
use carrick_gateway_core::path::Fitness;
use carrick_gateway_core::{
    ForwardingConfig, Framing, HostConfig, Lane, NodeForwarding, PathConfig, PeerForwarding,
    Routers, SecretKey, TunnelConfig, TunnelId,
};

use carrick_model::Prefix;

use super::controller::{Offset, believed};
use super::place::{self, ALL_GATEWAYS, CLUSTERS, NETWORKS, nodes_of, of_gateway, router};
use super::wire::{Arrival, Out, Time};

/// What the socket holds while nobody reads it.
const SOCKET: usize = 512;
/// What the control code asks for, in seconds.
const KEEPALIVE: u16 = 5;

/// A tunnel as control knows it.
#[derive(Debug, Clone)]
pub struct Tunnel {
    id: TunnelId,
    agreed: Agreed,
    /// Since when it is configured, and since when a session stands.
    pub configured: Time,
    pub session: Option<Time>,
    /// How fit its gateway takes it for.
    pub fitness: Option<Fitness>,
}

/// What of the world decides where a gateway's tunnels lead.
#[derive(Debug, Clone, Copy)]
pub struct Networks {
    /// The second network is there.
    pub second: bool,
    /// The cluster whose gateways are behind a NAT.
    pub nat: Option<usize>,
}

/// A gateway.
pub struct Gateway {
    number: usize,
    networks: Networks,
    /// Its process, while it runs.
    pub lane: Option<Box<Lane>>,
    /// How many processes there were.
    pub lives: u64,
    secret: Option<SecretKey>,
    /// When the last process ended.
    pub ended: Option<Time>,
    /// Since when it runs undisturbed.
    pub since: Option<Time>,
    pub frozen: bool,
    pub draining: bool,
    /// It lets packets pass that its nodes have no right to send.
    pub evil: bool,
    /// It did once: what it took then may wait for a session.
    pub tainted: bool,
    pub backlog: Vec<Arrival>,
    /// When its socket last had no room for more.
    pub overflowed: Option<Time>,
    /// By how much its clock is ahead of the world's.
    pub ahead: Time,
    /// By how many seconds its wall clock is ahead, and since when.
    pub wall_ahead: Offset,
    pub wall_set: Time,
    /// When its timers want to run, by the world's clock.
    pub due: Time,
    /// Tunnels by remote gateway.
    pub tunnels: BTreeMap<usize, Tunnel>,
    /// Which clusters it peers with, as its controller and they themselves said last.
    pub peers: [bool; CLUSTERS],
    /// After how long a silence it takes a path to each for lost.
    pub detection: [Time; CLUSTERS],
    /// What it believes of each cluster's newest word, and which that is.
    pub believed: [Vec<Prefix>; CLUSTERS],
    pub newest: [Option<Version>; CLUSTERS],
    /// Since when it believes anything.
    pub trusts: [Option<Time>; CLUSTERS],
    next_id: u64,
    /// The NAT's mapping, and to whom something left by it.
    pub mapping: u16,
    pub contacted: [bool; ALL_GATEWAYS],
    /// The lane's revision, and of what it reaches, when it was looked at last.
    revision: (u64, u64),
    /// Which clusters it reaches, by its own word, and how often that changed; and how well, 0 being best.
    pub reaches: [bool; CLUSTERS],
    pub ranks: [Option<u8>; CLUSTERS],
    pub changes: u64,
}

impl Gateway {
    /// One that does not run yet.
    pub fn new(number: usize, networks: Networks, detection: [Time; CLUSTERS]) -> Self {
        Self {
            number,
            networks,
            lane: None,
            lives: 0,
            secret: None,
            ended: None,
            since: None,
            frozen: false,
            draining: false,
            evil: false,
            tainted: false,
            backlog: Vec::new(),
            overflowed: None,
            ahead: 0,
            wall_ahead: 0,
            wall_set: 0,
            due: Time::MAX,
            tunnels: BTreeMap::new(),
            peers: [false; CLUSTERS],
            detection,
            believed: Default::default(),
            newest: [None; CLUSTERS],
            trusts: [None; CLUSTERS],
            next_id: 0,
            mapping: 0,
            contacted: [false; ALL_GATEWAYS],
            revision: (0, 0),
            reaches: [false; CLUSTERS],
            ranks: [None; CLUSTERS],
            changes: 0,
        }
    }

    /// Begins a process, which knows nothing but its key.
    pub fn start(&mut self, now: Time, real: bool, seed: u64) {
        self.lives += 1;
        // Its limiter of handshakes counts from now, not from the time of whoever did something before it.
        self.set_clock(now);
        let number = (self.number as u64) << 32 | self.lives;
        let secret = if real {
            let mut bytes = [self.number as u8 + 1; 32];
            bytes[..8].copy_from_slice(&self.lives.to_le_bytes());
            SecretKey::from_bytes(bytes)
        } else {
            null::key(number)
        };
        let mut lane = Box::new(Lane::new(0, secret.clone(), Framing::Ethernet));
        lane.set_seed(seed);
        lane.set_epoch(seed ^ number);
        (self.lane, self.secret) = (Some(lane), Some(secret));
        (self.since, self.frozen, self.draining) = (Some(now), false, false);
        (self.revision, self.reaches) = ((0, 0), [false; CLUSTERS]);
        self.ranks = [None; CLUSTERS];
    }

    /// Ends the process.
    pub fn end(&mut self, now: Time) {
        if self.lane.is_some() {
            self.ended = Some(now);
        }
        self.frozen = false;
        (self.lane, self.secret, self.since, self.due) = (None, None, None, Time::MAX);
        self.tunnels.clear();
        (self.believed, self.newest) = (Default::default(), [None; CLUSTERS]);
        self.trusts = [None; CLUSTERS];
        self.backlog.clear();
    }

    /// Keeps what arrives while nobody reads it.
    pub fn keep(&mut self, now: Time, arrival: Arrival) {
        let reliable = matches!(arrival, Arrival::Message { .. });
        if reliable || self.backlog.len() < SOCKET {
            self.backlog.push(arrival);
        } else {
            self.overflowed = Some(now);
        }
    }

    /// Whether it runs and is not halted.
    pub fn runs(&self) -> bool {
        self.lane.is_some() && !self.frozen
    }

    /// The lane as the exchange tells of it.
    pub fn exchange_lane(&self) -> Option<ExchangeLane> {
        let key = self.secret.as_ref()?.public();
        Some(ExchangeLane { index: 0, key, port: 31_821 })
    }

    /// The tunnel that it holds with another gateway.
    pub fn held(&self, remote: usize) -> Vec<Held> {
        let held = self.tunnels.get(&remote).map(|tunnel| Held {
            lane: 0,
            own_key: tunnel.agreed.own_key,
            remote_key: tunnel.agreed.remote.key,
            psk: tunnel.agreed.psk,
        });
        held.into_iter().collect()
    }

    /// Takes over what was agreed with another gateway; whether that changes anything.
    pub fn adopt(&mut self, now: Time, remote: usize, agreed: &[Agreed]) -> bool {
        let Some(agreed) = agreed.first() else { return false };
        if agreed.kept && self.tunnels.contains_key(&remote) {
            return false;
        }
        self.next_id += 1;
        let id = TunnelId(self.next_id);
        let tunnel = Tunnel { id, agreed: *agreed, configured: now, session: None, fitness: None };
        self.tunnels.insert(remote, tunnel);
        true
    }

    /// Forgets whom it no longer peers with.
    pub fn forget(&mut self) {
        let peers = self.peers;
        self.tunnels.retain(|remote, _| peers[of_gateway(*remote)]);
        for cluster in (0..CLUSTERS).filter(|cluster| !peers[*cluster]) {
            (self.believed[cluster], self.newest[cluster]) = (Vec::new(), None);
            self.trusts[cluster] = None;
        }
    }

    /// Takes the word of a cluster; whether that changes anything.
    pub fn believe(&mut self, now: Time, other: usize, snapshot: &VerifiedSnapshot) -> bool {
        let believed = believed(of_gateway(self.number), other, snapshot, &self.believed);
        self.newest[other] = Some(snapshot.version);
        let since = self.trusts[other].unwrap_or(now);
        self.trusts[other] = (!believed.is_empty()).then_some(since);
        std::mem::replace(&mut self.believed[other], believed.clone()) != believed
    }

    /// The configuration that follows from what it knows.
    pub fn config(&self) -> ForwardingConfig {
        let own = of_gateway(self.number);
        let routed = |cluster: &usize| self.peers[*cluster] && !self.believed[*cluster].is_empty();
        let clusters = (0..CLUSTERS).filter(|cluster| *cluster != own && routed(cluster));
        let to = |cluster: usize| {
            self.tunnels.iter().filter(move |(remote, _)| of_gateway(**remote) == cluster)
        };
        let peers = clusters.clone().map(|cluster| PeerForwarding {
            cluster: place::name(cluster),
            prefixes: self.believed[cluster].clone(),
            tunnels: to(cluster).map(|(_, tunnel)| tunnel.id).collect(),
            mtu: None,
        });
        let routers = clusters.clone().map(|cluster| (place::name(cluster), router(cluster)));
        ForwardingConfig {
            tunnels: clusters
                .clone()
                .flat_map(to)
                .map(|(remote, tunnel)| self.tunnel(*remote, tunnel))
                .collect(),
            peers: peers.collect(),
            nodes: nodes_of(own).map(|node| self.node(node)).collect(),
            routers: Routers { v4: Some(router(own)), v6: None },
            host: Some(HostConfig {
                address: place::mesh_of_gateway(self.number),
                draining: self.draining,
                routers: routers.collect(),
            }),
            ..ForwardingConfig::default()
        }
    }

    fn tunnel(&self, remote: usize, tunnel: &Tunnel) -> TunnelConfig {
        TunnelConfig {
            id: tunnel.id,
            lane: 0,
            remote_key: tunnel.agreed.remote.key,
            psk: Some(tunnel.agreed.psk),
            paths: self.paths(remote),
            roaming: false,
            keepalive: Some(KEEPALIVE),
            initiate: true,
            probes: true,
            detection: Duration::from_nanos(self.detection[of_gateway(remote)]),
        }
    }

    fn paths(&self, remote: usize) -> Vec<PathConfig> {
        if self.networks.nat == Some(of_gateway(remote)) {
            return Vec::new();
        }
        let networks = if self.networks.second { NETWORKS } else { 1 };
        let path = |network: usize| PathConfig {
            number: network as u8,
            endpoint: place::lane(remote, network),
            cost: network as u16 * 10,
        };
        (0..networks).map(path).collect()
    }

    fn node(&self, node: usize) -> NodeForwarding {
        let mut of_node = vec![place::pods_of_node(node)];
        if self.evil {
            // What its neighbour among the clusters has.
            let victim = (of_gateway(self.number) + 1) % CLUSTERS;
            of_node.extend(nodes_of(victim).take(1).map(place::pods_of_node));
            of_node.truncate(1 + usize::from(node.is_multiple_of(place::NODES)));
        }
        NodeForwarding {
            mesh_address: place::mesh_of_node(node),
            address: std::net::Ipv4Addr::new(172, 17, 0, node as u8 + 1).into(),
            prefixes: of_node,
        }
    }

    /// The source that its datagrams bear in a network.
    pub fn source(&self, network: usize) -> SocketAddr {
        if self.networks.nat == Some(of_gateway(self.number)) {
            place::behind_nat(self.number, self.mapping)
        } else {
            place::lane(self.number, network)
        }
    }

    /// Lets the lane do something; then its timers are due as it says.
    pub fn step(
        &mut self,
        start: Instant,
        now: Time,
        out: &mut Out,
        step: impl FnOnce(&mut Lane, Instant, &mut Out),
    ) {
        let at = start + self.set_clock(now);
        let Some(lane) = &mut self.lane else { return };
        step(lane, at, out);
        lane.flush(out);
        self.due = match lane.poll_timeout() {
            Some((due, _)) => {
                let due = due.saturating_duration_since(start).as_nanos() as Time;
                due.saturating_sub(self.ahead).max(now)
            }
            None => Time::MAX,
        };
        if (lane.revision(), lane.reached().1) != self.revision {
            self.look(now, at);
        }
    }

    /// Sets this thread's mock clocks to its own, and gives what that says.
    fn set_clock(&self, now: Time) -> Duration {
        let own = Duration::from_nanos(now + self.ahead);
        null::set_time(own);
        mock_instant::MockClock::set_time(own);
        own
    }

    /// How its tunnels are, for who looks for a mistake.
    pub fn describe(&self, start: Instant, now: Time) -> Vec<String> {
        let at = start + Duration::from_nanos(now + self.ahead);
        let Some(lane) = &self.lane else { return vec!["ended".to_owned()] };
        let reports = lane.tunnels(at);
        let of = |tunnel: &Tunnel| reports.iter().find(|report| report.id == tunnel.id);
        let line = |(remote, tunnel): (&usize, &Tunnel)| {
            let report = of(tunnel)?;
            let paths = report.health.iter().map(|path| {
                format!(
                    "{} {} {:?} rtt {:?}",
                    path.number,
                    path.state.label(),
                    path.grade,
                    path.rtt
                )
            });
            let paths: Vec<String> = paths.collect();
            let (fitness, end) = (report.fitness, report.endpoint);
            let (nodes, standing) = (report.nodes, report.standing.label());
            let sessions = report.sessions;
            Some(format!(
                "to {remote}: {fitness:?}, {standing} by {nodes:?} nodes, {end:?} sessions {sessions} {paths:?}"
            ))
        };
        self.tunnels.iter().filter_map(line).collect()
    }

    /// Looks at sessions and at what is reached.
    fn look(&mut self, now: Time, at: Instant) {
        let Some(lane) = &self.lane else { return };
        let (reached, changes) = lane.reached();
        self.revision = (lane.revision(), changes);
        for report in lane.tunnels(at) {
            let tunnel = self.tunnels.values_mut().find(|tunnel| tunnel.id == report.id);
            let Some(tunnel) = tunnel else { continue };
            tunnel.fitness = report.fitness;
            if report.established.is_some() {
                tunnel.session.get_or_insert(now);
            }
        }
        self.ranks = std::array::from_fn(|cluster| {
            let one = reached.iter().find(|one| one[..4] == router(cluster).octets());
            one.map(|one| one[4])
        });
        let reaches = self.ranks.map(|rank| rank.is_some());
        self.changes += u64::from(self.reaches != reaches);
        self.reaches = reaches;
    }
}
