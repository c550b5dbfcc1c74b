//! A node: its agent's watch and plan, and the kernel's choice among next hops.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use carrick_agent::config::{Cluster, Gateway, NodeConfig};
use carrick_agent::plan::{Plan, remembered};
use carrick_agent::probe::gateways::Verdicts;
use carrick_agent::probe::gateways::watch::{INTERVAL, Target, Watch};
use carrick_gateway_core::spread;
use carrick_model::Prefix;
use carrick_netlink::{GroupSupport, NexthopKind};

use super::place::{
    self, ALL_GATEWAYS, CLUSTERS, gateway_at, gateway_name, gateways_of, of_node, prefixes, router,
};
use super::wire::{Arrival, Time};

/// What a controller tells its agents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Word {
    /// Which gateways have a tunnel to which cluster.
    pub carries: [[bool; CLUSTERS]; ALL_GATEWAYS],
    /// Which have said that they answer.
    pub answers: [bool; ALL_GATEWAYS],
    /// Which clusters are routed.
    pub routed: [bool; CLUSTERS],
}

/// A node.
pub struct Node {
    number: usize,
    watch: Watch,
    word: Option<Word>,
    /// What its controller said while it was halted.
    unread: Option<Word>,
    config: Option<NodeConfig>,
    verdicts: Verdicts,
    /// What flows were spread over when the agent began.
    before: Option<BTreeSet<IpAddr>>,
    version: u64,
    /// Since when the agent runs undisturbed.
    pub since: Option<Time>,
    pub frozen: bool,
    pub backlog: Vec<Arrival>,
    /// By how much its clock is ahead of the world's.
    pub ahead: Time,
    /// When the watch wants to run, by the world's clock.
    pub due: Time,
    /// The port from which the agent asks.
    pub port: u16,
    /// The next hops to each cluster, by gateway; none: unreachable.
    pub group: [Vec<usize>; CLUSTERS],
    /// How often one of them changed, and when they last did.
    pub changes: u64,
}

impl Node {
    /// One whose agent begins now.
    pub fn new(number: usize, now: Time, nonce: u64) -> Self {
        Self {
            number,
            watch: Watch::new(nonce),
            word: None,
            unread: None,
            config: None,
            verdicts: Verdicts::new(),
            before: None,
            version: 0,
            since: Some(now),
            frozen: false,
            backlog: Vec::new(),
            ahead: 0,
            due: Time::MAX,
            port: 40_000,
            group: Default::default(),
            changes: 0,
        }
    }

    /// Another agent takes over: it knows the last order, and what the kernel has.
    pub fn restart(&mut self, start: Instant, now: Time, nonce: u64) {
        let used = self.group.iter().flatten().map(|g| IpAddr::V4(place::pod_of_gateway(*g)));
        self.before = Some(used.collect());
        self.watch = Watch::new(nonce);
        (self.verdicts, self.version) = (Verdicts::new(), 0);
        (self.since, self.frozen, self.port) = (Some(now), false, self.port + 1);
        self.backlog.clear();
        self.unread = None;
        if let Some(config) = self.config.take() {
            self.follow(start, now, config);
        }
    }

    /// Takes what the controller says, or does so later, if it is halted.
    pub fn hear(&mut self, start: Instant, now: Time, word: &Word) {
        if self.frozen {
            self.unread = Some(*word);
        } else if self.word.as_ref() != Some(word) {
            self.word = Some(*word);
            let config = self.order(word);
            self.follow(start, now, config);
        }
    }

    /// Takes what the controller said while it was halted.
    pub fn catch_up(&mut self, start: Instant, now: Time) {
        if let Some(word) = self.unread.take() {
            self.hear(start, now, &word);
        }
    }

    fn order(&self, word: &Word) -> NodeConfig {
        let own = of_node(self.number);
        let gateway = |gateway: usize| Gateway {
            name: gateway_name(gateway).to_owned(),
            address: place::pod_of_gateway(gateway).into(),
            local: false,
            mesh: Some(place::mesh_of_gateway(gateway)),
            answers: word.answers[gateway],
        };
        let others = (0..CLUSTERS).filter(|cluster| *cluster != own && word.routed[*cluster]);
        let cluster = |cluster: usize| Cluster {
            id: place::name(cluster),
            router: router(cluster),
            prefixes: prefixes(cluster),
            gateways: gateways_of(own)
                .filter(|gateway| word.carries[*gateway][cluster])
                .map(|gateway| gateway_name(gateway).to_owned())
                .collect(),
            mtu: 1420,
            nodes: Vec::new(),
            all_pods: true,
            routable: true,
            drills: false,
        };
        NodeConfig {
            generation: 1,
            vni: 51_746,
            vxlan_port: 7789,
            node_address: std::net::Ipv4Addr::new(172, 17, 0, self.number as u8 + 1).into(),
            mesh: place::mesh_of_node(self.number),
            gateways: gateways_of(own).map(gateway).collect(),
            gateway_pause: INTERVAL,
            clusters: others.map(cluster).collect(),
            unreachable: (0..CLUSTERS).filter(|c| *c != own).flat_map(prefixes).collect(),
            pod_prefixes: prefixes(own).into_iter().take(1).collect(),
            node_pod_prefixes: Vec::<Prefix>::new(),
            drill: None,
            nodes: Vec::new(),
            fault: None,
        }
    }

    fn follow(&mut self, start: Instant, now: Time, config: NodeConfig) {
        let target = |gateway: &Gateway| {
            let (name, answers) = (gateway.name.clone(), gateway.answers);
            Some(Target { name, address: gateway.mesh?, answers })
        };
        let targets: Vec<Target> = config.gateways.iter().filter_map(target).collect();
        self.watch.configure(self.clock(start, now), &targets, config.gateway_pause);
        self.config = Some(config);
        self.steer();
        self.run(start, now);
    }

    fn clock(&self, start: Instant, now: Time) -> Instant {
        start + Duration::from_nanos(now + self.ahead)
    }

    /// Takes an answer of a gateway.
    pub fn answered(&mut self, start: Instant, now: Time, gateway: usize, payload: &[u8]) {
        let source = place::mesh_of_gateway(gateway);
        self.watch.handle_answer(self.clock(start, now), source, payload);
    }

    /// Runs what is due.
    pub fn run(&mut self, start: Instant, now: Time) {
        self.watch.handle_timeout(self.clock(start, now));
        self.settle(start, now);
    }

    /// After anything else: moves flows where that follows, and says when it is to run next.
    pub fn settle(&mut self, start: Instant, now: Time) {
        if self.watch.version() != self.version {
            self.version = self.watch.version();
            let seen = self.watch.seen();
            let verdicts: Verdicts = seen.into_iter().map(|one| (one.name, one.verdict)).collect();
            if self.verdicts != verdicts {
                self.verdicts = verdicts;
                self.steer();
            }
        }
        let due = self.watch.poll_timeout().map_or(Time::MAX, |at| {
            let at = at.saturating_duration_since(start).as_nanos() as Time;
            at.saturating_sub(self.ahead).max(now)
        });
        self.due = due;
    }

    /// A question to be sent now: to which gateway, and what.
    pub fn question(&mut self, start: Instant, now: Time) -> Option<(usize, [u8; 24])> {
        let transmit = self.watch.poll_transmit(self.clock(start, now))?;
        let mut gateways = gateways_of(of_node(self.number));
        let gateway = gateways.find(|g| place::mesh_of_gateway(*g) == transmit.target)?;
        Some((gateway, transmit.payload))
    }

    /// Brings next hops in line with what is known.
    fn steer(&mut self) {
        let Some(config) = &self.config else { return };
        let verdicts = remembered(config, &self.verdicts, self.before.as_ref());
        let plan = Plan::with(config, GroupSupport::Resilient, &verdicts);
        let groups: BTreeMap<u32, Vec<usize>> = plan
            .nexthops
            .iter()
            .filter_map(|nexthop| match &nexthop.kind {
                NexthopKind::FdbGroup { members, .. } => {
                    Some((nexthop.id, members.iter().filter_map(|id| gateway_at(*id)).collect()))
                }
                _ => None,
            })
            .collect();
        for (cluster, group) in self.group.iter_mut().enumerate() {
            let router = router(cluster);
            let routed = plan.mesh_routes.iter().any(|route| route.router == router);
            let wanted = groups.get(&u32::from(router)).filter(|_| routed);
            let wanted = wanted.cloned().unwrap_or_default();
            if *group != wanted {
                *group = wanted;
                self.changes += 1;
            }
        }
    }

    /// The gateway by which the kernel sends a flow; `None`: unreachable.
    pub fn next_hop(&self, cluster: usize, flow: u64) -> Option<usize> {
        let members = self.group[cluster].iter();
        spread::choose(flow, members.map(|gateway| (*gateway as u64 + 1, *gateway)))
    }

    /// Whether the watch believes of all gateways that they are silent.
    pub fn is_cut_off(&self) -> bool {
        self.group.iter().all(Vec::is_empty)
    }
}
