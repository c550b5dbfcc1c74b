//! The agent's one thread: orders and kernel changes in, kernel writes and reports out.
//!
//! An order is applied when it comes. What the kernel announces leads to another look after a short
//! pause, and so does every tenth second; a look that finds everything as planned writes nothing.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant, SystemTime};

use carrick_exchange::member::MemberEvent;
use carrick_exchange::message::WirePrefix;
use carrick_exchange::message::drill::StreamState;
use carrick_exchange::message::member::{AgentConfig, AgentState, from_controller, from_member};
use carrick_exchange::wire::address_bytes;
use carrick_model::Prefix;
use carrick_netlink::{Change, Monitor, NetlinkError};
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::config::{Cluster, Gateway, NodeConfig, Order};
use crate::drill;
use crate::drill::unlink::Unlinking;
use crate::node::{Depth, GatewayWay, NFT_TABLE, Node, NodeError, Outcome};
use crate::plan::{Plan, remembered};
use crate::probe::gateways::{self, Verdict, Verdicts};
use crate::probe::responder::Accepted;
use crate::probe::shell::{Assignment, Findings};
use crate::probe::{packet, prober};
use crate::report;
use crate::store::Store;
use crate::timer::sleep_until;
use crate::view::View;

/// After a change in the kernel: many come together.
const SETTLE: Duration = Duration::from_millis(30);
/// Between looks that changes in the kernel cause, so that a restless node costs little.
const BREATH: Duration = Duration::from_millis(250);
/// Between full looks in any case.
const AUDIT: Duration = Duration::from_secs(10);
/// Between reports while nothing changes.
const REPORT: Duration = Duration::from_secs(10);
/// Between reports while a probe fails.
const ALARM: Duration = Duration::from_secs(1);
/// How long changes are gathered before they are reported, other than changes of a probe's verdict.
const GATHER: Duration = Duration::from_millis(50);
/// How many lines are logged of what one answer of a gateway says anew.
const MOST_LINES: usize = 8;
/// How many errors are told.
const MAX_ERRORS: usize = 16;

/// The agent's ends of its channels.
#[derive(Debug)]
pub struct Ends {
    /// From the controller's link.
    pub orders: mpsc::Receiver<MemberEvent>,
    /// To the controller's link.
    pub state: watch::Sender<Option<from_member::Kind>>,
    /// To the prober.
    pub assignment: watch::Sender<Assignment>,
    /// From the prober.
    pub findings: watch::Receiver<Findings>,
    /// To the watch of our gateways.
    pub watched: watch::Sender<gateways::shell::Assignment>,
    /// From it.
    pub seen: watch::Receiver<gateways::shell::Findings>,
    /// To the sender of drills' streams.
    pub streams: watch::Sender<drill::shell::Assigned>,
    /// From there.
    pub measured: watch::Receiver<Option<StreamState>>,
    /// To the link: until when a drill has it given up.
    pub away: watch::Sender<Option<Instant>>,
    /// To metrics and readiness.
    pub view: watch::Sender<View>,
}

/// The agent.
#[derive(Debug)]
pub struct Agent {
    node: Node,
    store: Store,
    ends: Ends,
    desired: Desired,
    /// Why the last order is not followed.
    refused: Option<String>,
    errors: Vec<String>,
    /// What was logged of the last order's notes.
    noted: Vec<String>,
    /// The fault of a drill, if this agent is hit.
    unlinking: Unlinking,
    applied: u64,
    withdrawn: bool,
    claims: Vec<Prefix>,
    /// The largest inner packet to all our gateways.
    way: GatewayWay,
    /// What is known of our gateways.
    verdicts: Verdicts,
    /// What flows were spread over before we began: a gateway that is none of it has to answer first.
    spread_over: Option<BTreeSet<IpAddr>>,
    device: Option<u32>,
    /// A look is due then, this deep.
    look: Option<(Instant, Depth)>,
    looked: Instant,
    report_at: Instant,
}

#[derive(Debug)]
enum Desired {
    /// Nobody has said anything; the node stays as it is.
    Unknown,
    Configured(Box<(NodeConfig, Plan)>),
    Withdrawn(u64),
}

impl Agent {
    /// With what `store` has from before.
    pub fn new(node: Node, store: Store, ends: Ends) -> Self {
        let now = Instant::now();
        let mut agent = Self {
            node,
            store,
            ends,
            desired: Desired::Unknown,
            refused: None,
            errors: Vec::new(),
            noted: Vec::new(),
            unlinking: Unlinking::default(),
            applied: 0,
            withdrawn: false,
            claims: Vec::new(),
            way: GatewayWay::default(),
            verdicts: Verdicts::new(),
            spread_over: None,
            device: None,
            look: None,
            looked: now,
            report_at: now,
        };
        if let Some(order) = agent.store.load() {
            tracing::info!(generation = order.generation, "following the last order");
            agent.remember();
            agent.follow(&order);
        }
        agent
    }

    /// Runs until `stop`. The node keeps working afterwards.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), NetlinkError> {
        let mut monitor = Monitor::open()?;
        let mut audit = tokio::time::interval(AUDIT);
        audit.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.report_if_due();
            let look = self.look.map(|(at, _)| at);
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                Some(event) = self.ends.orders.recv() => self.take(event),
                changes = monitor.next() => self.notice(&changes?),
                Ok(()) = self.ends.seen.changed() => self.saw(),
                Ok(()) = self.ends.findings.changed() => self.found(),
                Ok(()) = self.ends.measured.changed() => self.report_within(Duration::ZERO),
                () = sleep_until(look) => self.look(),
                () = sleep_until(self.unlinking.deadline()) => self.linked_again(),
                _ = audit.tick() => {
                    self.look = Some((Instant::now(), Depth::Full));
                    self.look();
                }
                () = sleep_until(Some(self.report_at)) => {}
            }
        }
    }

    fn take(&mut self, event: MemberEvent) {
        match event {
            MemberEvent::Said(from_controller::Kind::Agent(order)) => {
                self.follow(&order);
                if self.refused.is_none()
                    && let Err(error) = self.store.save(&order)
                {
                    tracing::warn!(%error, "cannot keep the order; a restart needs the controller");
                }
            }
            // The link keeps credentials itself; gateways' orders are none of ours.
            MemberEvent::Said(_) | MemberEvent::Credentials(_) => {}
        }
    }

    fn follow(&mut self, order: &AgentConfig) {
        self.refused = None;
        match Order::parse(order) {
            Ok(Order::Configure(config)) => {
                let verdicts = self.verdicts_of(&config);
                let plan = Plan::with(&config, self.node.support(), &verdicts);
                for note in plan.notes.iter().filter(|note| !self.noted.contains(note)) {
                    tracing::info!(%note, "following the order");
                }
                self.noted.clone_from(&plan.notes);
                self.desired = Desired::Configured(Box::new((*config, plan)));
            }
            Ok(Order::Withdraw { generation }) => self.desired = Desired::Withdrawn(generation),
            Err(error) => {
                tracing::error!(%error, "cannot follow the order");
                self.refused = Some(error.to_string());
            }
        }
        self.drill();
        self.look = Some((Instant::now(), Depth::Quick));
        self.look();
        self.report_within(GATHER);
    }

    /// Notes which gateways carry packets now, of which nothing else is known yet.
    fn remember(&mut self) {
        match self.node.spread_over() {
            Ok(addresses) => self.spread_over = addresses,
            Err(error) => tracing::warn!(%error, "cannot read which gateways are in use"),
        }
    }

    /// What is known of the gateways.
    fn verdicts_of(&self, config: &NodeConfig) -> Verdicts {
        remembered(config, &self.verdicts, self.spread_over.as_ref())
    }

    /// The watch has seen something of our gateways: flows are moved at once.
    fn saw(&mut self) {
        let seen = self.ends.seen.borrow_and_update().clone();
        let verdicts: Verdicts =
            seen.gateways.iter().map(|one| (one.name.clone(), one.verdict.clone())).collect();
        for (name, verdict) in &verdicts {
            let known = self.verdicts.get(name).unwrap_or(&Verdict::Unknown);
            if known == verdict {
                continue;
            }
            if known.label() != verdict.label() {
                tracing::info!(
                    gateway = name,
                    before = known.label(),
                    now = verdict.label(),
                    "gateway"
                );
            }
            for (cluster, before, now) in verdict.moved(known).into_iter().take(MOST_LINES) {
                tracing::debug!(gateway = name, %cluster, ?before, ?now, "rank of a gateway's tunnels");
            }
        }
        if replace(&mut self.verdicts, verdicts) {
            self.steer();
            self.report_within(GATHER);
        }
        self.publish();
    }

    /// Brings the kernel in line with what is known of the gateways.
    fn steer(&mut self) {
        let Desired::Configured(desired) = &self.desired else { return };
        let config = &desired.0;
        let after = Plan::with(config, self.node.support(), &self.verdicts_of(config));
        if after == desired.1 {
            return;
        }
        let outcome = self.node.steer(&desired.1, &after, self.device);
        for error in &outcome.errors {
            // The look that follows does it again, and says what is wrong.
            tracing::debug!(%error, "cannot move flows at once");
        }
        self.ends.view.send_modify(|view| view.writes += outcome.writes as u64);
        if let Desired::Configured(desired) = &mut self.desired {
            desired.1 = after;
        }
        self.look = Some((Instant::now(), Depth::Quick));
        self.look();
    }

    /// Hands on which streams of a drill to send, and whether to give up the link.
    fn drill(&mut self) {
        let streams = match &self.desired {
            Desired::Configured(desired) => {
                let (config, _) = desired.as_ref();
                config.drill.clone().map(|order| (config.mesh, order))
            }
            Desired::Unknown | Desired::Withdrawn(_) => None,
        };
        self.ends.streams.send_if_modified(|assigned| replace(assigned, streams));
        let fault = match &self.desired {
            Desired::Configured(desired) => desired.0.fault.as_ref(),
            Desired::Unknown | Desired::Withdrawn(_) => None,
        };
        let now = Instant::now();
        self.unlinking.order(fault, now, SystemTime::now());
        let away = self.unlinking.away(now);
        self.ends.away.send_if_modified(|held| replace(held, away));
    }

    /// The time without a link is over.
    fn linked_again(&mut self) {
        self.unlinking.handle_timeout(Instant::now(), SystemTime::now());
        self.report_within(Duration::ZERO);
    }

    /// Whether what changed in the kernel may concern us, and how deep to look then.
    fn notice(&mut self, changes: &[Change]) {
        let depth = |change: &Change| match change {
            Change::Nft { table } => (table == NFT_TABLE).then_some(Depth::Full),
            Change::Neighbour { link } => (self.device == Some(*link)).then_some(Depth::Quick),
            Change::Overflow => Some(Depth::Full),
            Change::Link | Change::Address | Change::Route | Change::Rule | Change::Nexthop => {
                Some(Depth::Quick)
            }
        };
        let Some(depth) = changes.iter().filter_map(depth).max() else { return };
        let soon = (Instant::now() + SETTLE).max(self.looked + BREATH);
        let (at, known) = self.look.unwrap_or((soon, depth));
        self.look = Some((at, known.max(depth)));
    }

    /// Looks at the kernel and mends it.
    fn look(&mut self) {
        let Some((_, depth)) = self.look.take() else { return };
        let mut outcome = match &self.desired {
            Desired::Unknown => return,
            Desired::Configured(desired) => self.node.reconcile(&desired.1, depth),
            Desired::Withdrawn(_) => self.node.withdraw(),
        };
        self.looked = Instant::now();
        if let Err(error) = self.look_around() {
            outcome.errors.push(error);
        }
        self.judge(&outcome);
        self.publish();
    }

    /// What follows from the result of a look.
    fn judge(&mut self, outcome: &Outcome) {
        if outcome.writes > 0 {
            tracing::info!(writes = outcome.writes, "changed the node");
        }
        self.ends.view.send_modify(|view| {
            view.looks += 1;
            view.writes += outcome.writes as u64;
        });
        let done = outcome.errors.is_empty();
        let errors = outcome.errors.iter().take(MAX_ERRORS).map(NodeError::to_string).collect();
        let news = replace(&mut self.errors, errors);
        if news {
            for error in &self.errors {
                tracing::error!(%error, "cannot make the node as ordered");
            }
        }
        let withdrawn = matches!(self.desired, Desired::Withdrawn(_)) && done;
        let applied = match &self.desired {
            Desired::Configured(desired) if done => desired.1.generation,
            Desired::Withdrawn(generation) if done => *generation,
            _ => self.applied,
        };
        if (withdrawn, applied) != (self.withdrawn, self.applied) || news {
            (self.withdrawn, self.applied) = (withdrawn, applied);
            self.report_within(GATHER);
        }
    }

    /// Reads which pods there are, and tells the prober what to probe and whom to answer.
    fn look_around(&mut self) -> Result<(), NodeError> {
        self.device = self.node.device_index()?;
        let (claims, assignment, watched, way) = match &self.desired {
            Desired::Configured(desired) => {
                let (config, plan) = desired.as_ref();
                let facts = self.node.facts()?;
                let claims = facts.claims(config);
                let pod_side = facts.pod_side_address(&claims);
                let is_ours = |at| facts.addresses.iter().any(|held| held.address == at);
                let way = self.node.way_to_gateways(config)?.or(self.way, is_ours);
                (claims, assignment(config, plan, pod_side), watched(config), way)
            }
            Desired::Unknown | Desired::Withdrawn(_) => {
                (Vec::new(), Assignment::default(), Default::default(), self.way)
            }
        };
        self.ends.assignment.send_if_modified(|assigned| replace(assigned, assignment));
        self.ends.watched.send_if_modified(|assigned| replace(assigned, watched));
        if replace(&mut self.claims, claims) | replace(&mut self.way, way) {
            self.report_within(GATHER);
        }
        Ok(())
    }

    fn found(&mut self) {
        let version = self.ends.findings.borrow_and_update().version;
        let known = self.ends.view.borrow().findings.version;
        self.publish();
        if version != known {
            // A verdict is told at once.
            self.report_within(Duration::ZERO);
        }
    }

    /// For metrics and readiness.
    fn publish(&self) {
        let counters = self.node.counters();
        let findings = self.ends.findings.borrow().clone();
        let not_ready = self.not_ready();
        let gateways = self.ends.seen.borrow().gateways.clone();
        self.ends.view.send_modify(|view| {
            view.applied = self.applied;
            view.claims = self.claims.len();
            view.shortcuts = self.node.shortcuts();
            view.not_ready = not_ready;
            view.findings = findings;
            view.gateways = gateways;
            view.counters = counters;
        });
    }

    /// Ready is: device, routes and filters are as ordered. Peers do not count.
    fn not_ready(&self) -> Option<String> {
        match &self.desired {
            Desired::Unknown => Some(self.refused.clone().unwrap_or_else(|| {
                "the controller has not said yet how this node should be".to_owned()
            })),
            _ => self.errors.first().cloned(),
        }
    }

    fn report_within(&mut self, time: Duration) {
        self.report_at = self.report_at.min(Instant::now() + time);
    }

    fn report_if_due(&mut self) {
        let now = Instant::now();
        if now < self.report_at {
            return;
        }
        let findings = self.ends.findings.borrow().clone();
        let alarmed = report::is_alarming(&findings);
        self.report_at = now + if alarmed { ALARM } else { REPORT };
        let state = self.state(&findings);
        self.ends.state.send_replace(Some(from_member::Kind::Agent(state)));
        self.ends.view.send_modify(|view| view.reports += 1);
    }

    /// Whether there is a shortcut to a gateway; `None` where it is not on this node.
    fn shortcut_to(&self, name: &str) -> Option<bool> {
        let Desired::Configured(desired) = &self.desired else { return None };
        let local = desired.0.gateways.iter().find(|gateway| gateway.local && gateway.name == name);
        local.map(|gateway| self.node.has_shortcut_to(gateway.address))
    }

    fn state(&self, findings: &Findings) -> AgentState {
        let left_out = match &self.desired {
            Desired::Configured(desired) => desired.1.errors.as_slice(),
            _ => &[],
        };
        let errors = self.refused.iter().chain(&self.errors).chain(left_out);
        AgentState {
            release: env!("CARGO_PKG_VERSION").to_owned(),
            applied: self.applied,
            claims: self.claims.iter().map(|prefix| WirePrefix::from(*prefix)).collect(),
            probes: report::probes(findings),
            errors: errors.take(MAX_ERRORS).cloned().collect(),
            withdrawn: self.withdrawn,
            gateways: report::gateways(&self.ends.seen.borrow().gateways, |name| {
                self.shortcut_to(name)
            }),
            mesh_mtu: self.way.mtu.unwrap_or(0),
            outer_address: self.way.source.map(address_bytes).unwrap_or_default(),
            drill: self.ends.measured.borrow().clone().map(Box::new),
            fault: self.unlinking.state().map(Box::new),
        }
    }
}

fn assignment(config: &NodeConfig, plan: &Plan, pod_side: Option<Ipv4Addr>) -> Assignment {
    let clusters = config.clusters.iter().map(|cluster| prober::Cluster {
        id: cluster.id.clone(),
        nodes: cluster.nodes.clone(),
        mtu: cluster.mtu,
    });
    let drills = config.clusters.iter().filter(|cluster| cluster.drills);
    let accepted = |prefix: &Prefix| {
        let holds = |cluster: &&Cluster| cluster.prefixes.iter().any(|held| held.overlaps(prefix));
        let from = config.clusters.iter().find(holds);
        let most = from.map_or(packet::MAX, |cluster| prober::full_size(cluster.mtu));
        Accepted { prefix: *prefix, most }
    };
    Assignment {
        clusters: clusters.collect(),
        sources: std::iter::once(config.mesh).chain(pod_side).collect(),
        accepted: plan.captured.iter().map(accepted).collect(),
        drills: drills.flat_map(|cluster| cluster.prefixes.iter().copied()).collect(),
    }
}

fn watched(config: &NodeConfig) -> gateways::shell::Assignment {
    let target = |gateway: &Gateway| {
        let (name, answers) = (gateway.name.clone(), gateway.answers);
        Some(gateways::watch::Target { name, address: gateway.mesh?, answers })
    };
    gateways::shell::Assignment {
        mesh: Some(config.mesh),
        targets: config.gateways.iter().filter_map(target).collect(),
        interval: config.gateway_pause,
    }
}

/// Whether that changed anything.
fn replace<T: PartialEq>(held: &mut T, new: T) -> bool {
    let changed = *held != new;
    *held = new;
    changed
}
