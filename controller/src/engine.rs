//! The loop: events change the world, the world becomes a plan, and only what differs from before is
//! sent or written.

mod links;
mod publish;
mod published;
mod synced;
mod take;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use carrick_crds::condition::{self, PeeringCondition};
use carrick_crds::{ClusterIdentityStatus, ClusterPeeringStatus};
use carrick_exchange::ClusterIdentity;
use carrick_exchange::trust::{Pin, Rules, Trust};
use carrick_model::Role;
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{error, info, warn};

use crate::book;
use crate::cluster::claims::RefusedClaim;
use crate::cluster::repair::Repair;
use crate::drill::Drills;
use crate::drill::desk::Leave;
use crate::drill::guard::Sight;
use crate::event::Event;
use crate::gate::Gate;
use crate::metrics::Metrics;
use crate::outbox::Outbox;
use crate::peering::conditions::{Evidence, judge};
use crate::peering::status::status;
use crate::peering::{Resolved, resolve};
use crate::plan::{Members, Plan, base, plan};
use crate::world::{MEMBER_GRACE, Now, World};
use crate::writer::{Desk, Target, Write};
pub use links::Links;
use published::Published;
use synced::Synced;

/// Events that come together are answered by one plan.
const COALESCE: Duration = Duration::from_millis(10);

/// How long members may take to report to a controller that has just begun. Until then nothing is
/// told to anyone: what is not known yet would look as if it were gone.
const SETTLE: Duration = Duration::from_secs(10);

/// How often something that was refused for its time is looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// The engine's parts.
pub struct Engine {
    world: World,
    identity: Arc<ClusterIdentity>,
    installation: Option<String>,
    outbox: Outbox,
    links: Links,
    trust: Trust,
    desk: Desk,
    metrics: Metrics,
    repair: Repair,
    drills: Drills,
    members: Members,
    started: Instant,
    settled: bool,
    synced: Synced,
    on_synced: Option<oneshot::Sender<()>>,
    peerings: BTreeMap<String, Published<ClusterPeeringStatus>>,
    own: Published<ClusterIdentityStatus>,
    own_generation: Option<i64>,
    refused_claims: Vec<RefusedClaim>,
    sight: watch::Sender<Option<book::Sight>>,
}

/// What an engine is made of.
pub struct Parts {
    /// What is remembered from before.
    pub world: World,
    /// Our identity.
    pub identity: Arc<ClusterIdentity>,
    /// Which installation this is.
    pub installation: Option<String>,
    /// ClusterIdentity's status as it is, with its generation.
    pub own: (ClusterIdentityStatus, Option<i64>),
    /// Who may link.
    pub trust: Trust,
    /// Where writes are left.
    pub desk: Desk,
    /// The gate to the API server, which drills may shut.
    pub gate: Gate,
    /// Counters.
    pub metrics: Metrics,
    /// Told when the Kubernetes API has said all there is: from then on members can be served.
    pub on_synced: oneshot::Sender<()>,
    /// Where it is said who the peers are and how they are reached.
    pub sight: watch::Sender<Option<book::Sight>>,
}

impl Engine {
    /// An engine that begins now.
    pub fn new(parts: Parts) -> Self {
        let now = Now::read();
        let (status, own_generation) = parts.own;
        Self {
            world: parts.world,
            identity: parts.identity,
            installation: parts.installation,
            outbox: Outbox::new(now),
            links: Links::default(),
            trust: parts.trust,
            desk: parts.desk,
            metrics: parts.metrics,
            repair: Repair::default(),
            drills: Drills::new(parts.gate),
            members: Members::default(),
            started: now.instant,
            settled: false,
            synced: Synced::default(),
            on_synced: Some(parts.on_synced),
            peerings: BTreeMap::new(),
            own: Published::found(String::new(), &status),
            own_generation,
            refused_claims: Vec::new(),
            sight: parts.sight,
        }
    }

    /// Runs until nobody can send events any more.
    pub async fn run(mut self, mut events: mpsc::Receiver<Event>) {
        let mut wake: Option<Instant> = None;
        loop {
            let first = tokio::select! {
                event = events.recv() => match event {
                    Some(event) => Some(event),
                    None => return,
                },
                () = sleep_until(wake) => None,
            };
            if let Some(event) = first {
                self.take(event);
                tokio::time::sleep(COALESCE).await;
            }
            while let Ok(event) = events.try_recv() {
                self.take(event);
            }
            wake = self.tick();
        }
    }

    /// Plans, sends, writes. Returns when to do so again although nothing happens.
    fn tick(&mut self) -> Option<Instant> {
        let now = Now::read();
        if let Err(wake) = self.synced.ready(now.instant) {
            return wake;
        }
        let mut wake = self.settle(now);
        let base = base(&self.world);
        let resolved = resolve(&base.own, &self.world.peerings);
        let gateways = self.world.gateways.values().filter_map(|m| m.state.as_ref());
        let own = &self.world.settings.cluster;
        self.world.remotes.refresh(own, &resolved, gateways, SystemTime::now());
        let mut plan = plan(&self.world, &base, &resolved, now);
        let mut leave = Vec::new();
        if self.settled {
            let ready = |name: &str| is_ready(&self.peerings, &self.world, name);
            let (world, resolved) = (&self.world, resolved.as_slice());
            let sight = Sight { world, resolved, plan: &plan, ready: &ready, now: now.instant };
            let (left, due) = self.drills.step(sight, now);
            (leave, wake) = (left, earliest(wake, due));
            self.drills.add_orders(&mut plan);
        }
        self.metrics.planned(plan.claims.refused.len());
        self.metrics.set_silent_gateways(self.world.silent_gateways(now.instant).len());
        if self.settled
            && let Err(error) = self.outbox.update(&plan, &self.identity, now)
        {
            error!(%error, "cannot sign; what is new is not sent");
        }
        let statuses = self.evaluate(&plan, &resolved, now);
        if self.settled {
            wake = earliest(wake, self.look(&resolved, &plan, now));
        }
        drop(resolved);
        self.leave_drills(leave, now);

        self.adopt(&plan);
        wake = earliest(wake, self.publish_own(&plan, now));
        if self.settled {
            self.links.push(&self.outbox, &self.metrics);
            for (name, new, recheck) in statuses {
                let due = self.publish(name, new, now);
                wake = earliest(wake, earliest(recheck, due));
            }
            self.forget_peerings();
        }
        if self.world.remotes.wait_for_time() {
            wake = earliest(wake, Some(now.instant + LOOK_AGAIN));
        }
        wake = earliest(wake, self.mend(now));
        earliest(wake, self.grace_end(now))
    }

    /// Says who the peers are and how they are reached; no longer when Carrick is to go, so that what was imported can be
    /// removed and nobody makes it anew. Returns when to do so again although nothing happens.
    fn look(&self, resolved: &[Resolved<'_>], plan: &Plan, now: Now) -> Option<Instant> {
        let look = || book::sight(&self.world, resolved, plan, self.sight.borrow().as_ref(), now);
        let seen = (!self.world.record.withdraw).then(look);
        let due = seen.iter().flatten().filter_map(|(_, peer)| peer.reach.due()).min();
        self.sight.send_if_modified(|held| {
            let changed = *held != seen;
            *held = seen;
            changed
        });
        due
    }

    /// Leaves what is said of drills for writing.
    fn leave_drills(&mut self, leave: Vec<Leave>, now: Now) {
        self.metrics.set_drilling(self.drills.is_running());
        for _ in 0..self.drills.take_deleted() {
            self.metrics.drilled("Deleted");
        }
        for Leave { name, uid, status, news } in leave {
            if let Some(verdict) = status.verdict {
                self.metrics.drilled(verdict.as_str());
            }
            self.desk.leave(Target::Drill(name), Write::Drill { uid, status, news }, now.instant);
        }
    }

    /// The statuses that the plan asks for, by name, with the time at which to judge again.
    fn evaluate(
        &self,
        plan: &Plan,
        resolved: &[Resolved<'_>],
        now: Now,
    ) -> Vec<(String, ClusterPeeringStatus, Option<Instant>)> {
        let evidence = Evidence { world: &self.world, plan, outbox: &self.outbox, now };
        let one = |one: &Resolved<'_>| {
            let published = self.peerings.get(&one.object.name);
            let published = published.filter(|published| published.uid == one.object.uid);
            let before = published.map_or(&one.object.status, |published| &published.status);
            let judgement = judge(evidence, one, &before.conditions);
            let new = status(evidence, one, &judgement, before);
            (one.object.name.clone(), new, judgement.recheck)
        };
        resolved.iter().map(one).collect()
    }

    /// Takes over what the plan found out and what does not wait for anyone.
    fn adopt(&mut self, plan: &Plan) {
        for refused in plan.claims.refused.iter().filter(|r| !self.refused_claims.contains(r)) {
            let RefusedClaim { node, prefix, why } = refused;
            warn!(node, %prefix, %why, "claim refused");
        }
        self.refused_claims.clone_from(&plan.claims.refused);
        self.world.claims.clone_from(&plan.claims.granted);
        self.world.path_mtus.clone_from(&plan.path_mtus);
        self.world.record.accepted.clone_from(&plan.record.accepted);
        self.world.record.tombstones.clone_from(&plan.record.tombstones);
        self.world.gateways.retain(|name, _| plan.members.gateways.contains(name));
        self.world.agents.retain(|name, _| plan.members.agents.contains(name));
        self.forget_probes(plan);
        if self.members != plan.members || self.on_synced.is_some() {
            self.members = plan.members.clone();
            self.trust.set(self.rules());
        }
        if let Some(on_synced) = self.on_synced.take() {
            // The receiver is gone only when this term is over.
            let _over = on_synced.send(());
        }
    }

    /// What is not routed is not probed: old results must not speak for a new connection.
    fn forget_probes(&mut self, plan: &Plan) {
        let routed = |cluster: &str| {
            plan.agents.values().next().is_some_and(|config| {
                config.clusters.iter().any(|c| c.cluster == cluster && !c.gateways.is_empty())
            })
        };
        for probes in self.world.probes.values_mut() {
            probes.retain(|cluster, _| routed(cluster));
        }
        let agents = &self.world.agents;
        self.world.probes.retain(|name, _| agents.contains_key(name));
    }

    fn rules(&self) -> Rules {
        let pin = |role, members: &std::collections::BTreeSet<_>| {
            let cluster = self.world.settings.cluster.clone();
            let mut pin = Pin::new(cluster, vec![self.world.identity], role);
            pin.members = Some(members.clone());
            pin
        };
        let gateways = pin(Role::Gateway, &self.members.gateways);
        let agents = pin(Role::Agent, &self.members.agents);
        Rules { join: true, member: vec![gateways, agents], peer: Vec::new() }
    }

    /// Whether everyone who is there has reported, or has had the time. Returns when to ask again.
    fn settle(&mut self, now: Now) -> Option<Instant> {
        if self.settled {
            return None;
        }
        let deadline = self.started + SETTLE;
        let missing = self.missing();
        if missing == 0 || now.instant >= deadline {
            info!(missing, after = ?now.instant.duration_since(self.started), "settled");
            self.settled = true;
            return None;
        }
        Some(deadline)
    }

    /// How many gateways and agents run, by the API, and have not reported yet; and nodes whose mesh
    /// address is not remembered yet.
    fn missing(&self) -> usize {
        let world = &self.world;
        let namespace = &world.settings.namespace;
        let ready_node = |name: &str| world.facts.nodes.get(name).is_some_and(|n| n.is_ready());
        // Where no node is ready it is the API server that was away, and members may well live.
        let blind = !world.facts.nodes.values().any(|node| node.is_ready());
        let runs = |pod: &&crate::cluster::PodFacts| {
            !pod.terminating && (blind || pod.ready && ready_node(&pod.node))
        };
        let gateways = world.facts.gateway_pods(namespace).into_iter().filter(runs);
        let silent = gateways.filter(|pod| {
            let name = pod.uid.parse().ok();
            name.and_then(|n| world.gateways.get(&n)).is_none_or(|m| m.state.is_none())
        });
        let agents = world.facts.agent_pods(namespace).into_iter().filter(runs);
        let mute = agents.filter(|pod| {
            let name = pod.node.parse().ok();
            name.and_then(|n| world.agents.get(&n)).is_none_or(|m| m.state.is_none())
        });
        let remembered = &world.record.mesh;
        let strange = world.facts.nodes.keys().filter(|name| !remembered.contains_key(*name));
        silent.count() + mute.count() + strange.count()
    }

    /// Frees gateways from nodes that are gone.
    fn mend(&mut self, now: Now) -> Option<Instant> {
        let world = &self.world;
        let linked = |uid: &str| {
            let name = uid.parse().ok();
            name.and_then(|name| world.gateways.get(&name)).is_some_and(|m| m.lost.is_none())
        };
        let namespace = &world.settings.namespace;
        let (due, next) = self.repair.due(&world.facts, namespace, linked, now.instant);
        for pod in due {
            warn!(pod = pod.name, node = pod.node, "node is unreachable; its gateway moves");
            let write = Write::Remove { uid: pod.uid.clone() };
            self.desk.leave(Target::Pod(pod.name.clone()), write, now.instant);
        }
        next
    }

    /// When the next member's last words stop counting.
    fn grace_end(&self, now: Now) -> Option<Instant> {
        let gateways = self.world.gateways.values().filter_map(|member| member.lost);
        let agents = self.world.agents.values().filter_map(|member| member.lost);
        let ends = gateways.chain(agents).map(|lost| lost + MEMBER_GRACE);
        ends.filter(|end| *end > now.instant).min()
    }
}

/// Whether a ClusterPeering is Ready, by what was said of it last.
fn is_ready(
    published: &BTreeMap<String, Published<ClusterPeeringStatus>>,
    world: &World,
    name: &str,
) -> bool {
    let status = published.get(name).map(|published| &published.status);
    let status = status.or(world.peerings.get(name).map(|object| &object.status));
    let ready = PeeringCondition::Ready.as_str();
    status.is_some_and(|status| condition::is_true(&status.conditions, ready))
}

fn earliest(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    [a, b].into_iter().flatten().min()
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
