//! The one task that decides: events in, links, tunnels and reports out.
//!
//! Everything that waits (dialling, links, the controller) has a task of its own and tells this one.
//! After each event one turn brings all in line with what is known now; a turn that finds nothing
//! changed does nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use carrick_exchange::member::{MemberEvent, Trusted};
use carrick_exchange::message::member::{
    GatewayConfig, GatewayState, from_controller, from_member,
};
use carrick_exchange::message::peer::Report;
use carrick_exchange::peer::{Event, Lane, Session};
use carrick_exchange::snapshot::SnapshotError;
use carrick_exchange::transport::ConnectErrorKind;
use carrick_exchange::wire::Endpoint;
use carrick_exchange::{
    Arrival, CloseReason, ConnectError, Exchange, Incoming, Link, Rules, TrustError,
};
use carrick_gateway_core::HostConfig;
use carrick_model::{ClusterId, IdentityKey, MemberName, TunnelKey};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::cache::Cache;
use super::config::{self, Config};
use super::derive::derive;
use super::dial::{DialFailure, dial};
use super::drain::{Drain, Progress};
use super::drill::Drills;
use super::link::{self, LinkEvent, LinkEventKind, Outbound};
use super::peer::{Known, Peer, PeerLink, TunnelIds, earlier};
use super::plane::{Plane, Setup};
use super::relay::Relay;
use super::state::{self, Own, Pace};
use super::view::{self, Counts, View};

/// A set-up that failed is tried again after this time.
const APPLY_AGAIN: Duration = Duration::from_secs(1);

/// How long a refused stranger is remembered, so that a peering for it is dialled at once.
const KNOCK: Duration = Duration::from_secs(10);

/// How many strangers are remembered.
const MAX_KNOCKS: usize = 64;

/// Events of links that wait.
const QUEUE: usize = 256;

/// What control works with.
#[derive(Debug)]
pub struct Parts<P> {
    /// The packet path.
    pub plane: Arc<P>,
    /// The exchange for peers.
    pub exchange: Exchange,
    /// Our own cluster.
    pub trusted: Trusted,
    /// Our own name, by which drills are ordered; without it there are none.
    pub name: Option<MemberName>,
    /// The exchange's port as it is reported.
    pub base_port: u16,
    /// Which of our cluster's gateways it is; `None` where no nodes ask.
    pub ordinal: Option<u16>,
    /// Where the last configuration is kept.
    pub cache: Option<Cache>,
    /// How long it may take at most until nobody uses us any more, once we are told to end; `None` where there is
    /// no other gateway that could take over.
    pub drain: Option<Duration>,
    /// Carries questions about services between our controller and peers.
    pub relay: Relay,
}

/// What control publishes.
#[derive(Debug)]
pub struct Outlets {
    /// Reports for the controller.
    pub state: watch::Sender<Option<from_member::Kind>>,
    /// The picture for HTTP.
    pub view: watch::Sender<View>,
}

/// The packet path has stopped by itself; only a restart helps.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the packet path stopped: {0}")]
pub struct PlaneStopped(pub String);

/// A set-up that the packet path refused. It may have been taken over in part.
struct ApplyFailed {
    setup: Setup,
    error: String,
    again: Instant,
}

type Dialled = (ClusterId, Endpoint, Result<Link, DialFailure>);

/// The task's state.
pub struct Control<P> {
    parts: Parts<P>,
    outlets: Outlets,
    lanes: Vec<Lane>,
    own_keys: Vec<TunnelKey>,
    raw: Option<GatewayConfig>,
    config: Option<Config>,
    config_refused: Option<String>,
    own: Own,
    peers: BTreeMap<ClusterId, Peer>,
    ids: TunnelIds,
    knocks: BTreeMap<ClusterId, Instant>,
    applied: Option<Setup>,
    apply_failed: Option<ApplyFailed>,
    pace: Pace,
    drills: Drills,
    counts: Counts,
    /// We were told to end.
    drain: Option<Drain>,
    /// What each peer is told of its newest snapshot.
    told: Arc<BTreeMap<ClusterId, Report>>,
    dials: JoinSet<Dialled>,
    links: JoinSet<()>,
    link_events: (mpsc::Sender<LinkEvent>, mpsc::Receiver<LinkEvent>),
}

impl<P: Plane> Control<P> {
    /// With nothing known yet but the last configuration, if there is one.
    pub fn new(parts: Parts<P>, outlets: Outlets) -> Self {
        let lanes = parts.plane.lanes();
        let own = Own { base_port: parts.base_port, ..Own::default() };
        let last = parts.cache.as_ref().and_then(Cache::load);
        let drills = Drills::new(parts.name.clone());
        let mut control = Self {
            own_keys: lanes.iter().map(|lane| lane.key).collect(),
            lanes,
            parts,
            outlets,
            raw: None,
            config: None,
            config_refused: None,
            own,
            peers: BTreeMap::new(),
            ids: TunnelIds::default(),
            knocks: BTreeMap::new(),
            applied: None,
            apply_failed: None,
            pace: Pace::default(),
            drills,
            counts: Counts::default(),
            drain: None,
            told: Arc::default(),
            dials: JoinSet::new(),
            links: JoinSet::new(),
            link_events: mpsc::channel(QUEUE),
        };
        if let Some(last) = last {
            tracing::info!(generation = last.generation, "going on from the last configuration");
            control.configure(&last);
        }
        control
    }

    /// Works until `stop`, and then until nobody uses us any more, for which there is a limit.
    pub async fn run(
        mut self,
        mut member: mpsc::Receiver<MemberEvent>,
        stop: CancellationToken,
    ) -> Result<(), PlaneStopped> {
        let exchange = self.parts.exchange.clone();
        let (mut changes, mut failure) = (self.parts.plane.changes(), self.parts.plane.failure());
        while let Some(deadline) = self.turn().await {
            tokio::select! {
                Some(event) = member.recv() => self.on_member(event),
                incoming = exchange.accept() => self.on_incoming(incoming),
                Some(event) = self.link_events.1.recv() => self.on_link(event),
                Some(Ok(dialled)) = self.dials.join_next() => self.on_dialled(dialled),
                Some(_) = self.links.join_next() => {}
                Ok(()) = changes.changed() => {}
                failed = failure.wait_for(Option::is_some) => return Err(PlaneStopped(match failed {
                    Ok(why) => why.clone().unwrap_or_default(),
                    Err(_) => "all its lanes are gone".to_owned(),
                })),
                () = tokio::time::sleep_until(deadline.into()) => {}
                () = stop.cancelled(), if self.drain.is_none() => match self.parts.drain {
                    Some(most) => self.begin_drain(most),
                    None => break,
                },
            }
        }
        let gateways = self.peers.values().flat_map(|peer| peer.gateways.values());
        for held in gateways.filter_map(|gateway| gateway.link.as_ref()) {
            held.link.close(&CloseReason::Draining);
        }
        Ok(())
    }

    /// Tells everybody that we leave; what still comes is carried.
    fn begin_drain(&mut self, most: Duration) {
        tracing::info!(seconds = most.as_secs(), "draining: others take over what we carry");
        self.own.draining = true;
        self.drain = Some(Drain::new(Instant::now(), most, self.parts.plane.stats().carried()));
    }

    /// When draining has to be looked at again; `None` when it has ended.
    fn drained(&mut self) -> Option<Instant> {
        let Some(drain) = &mut self.drain else { return Some(Instant::now() + state::REPEAT) };
        match drain.look(Instant::now(), self.parts.plane.stats().carried()) {
            Progress::Wait(until) => Some(until),
            Progress::Quiet => {
                tracing::info!("nobody uses this gateway any more");
                None
            }
            Progress::TimedOut => {
                tracing::warn!(
                    "ending although packets still come: no other gateway took over in time; is \
                     there another one with tunnels?"
                );
                None
            }
        }
    }

    fn on_member(&mut self, event: MemberEvent) {
        match event {
            MemberEvent::Credentials(credentials) => {
                if let Err(error) = self.parts.exchange.set_credentials(credentials) {
                    tracing::error!(%error, "the certificate cannot be used");
                }
            }
            MemberEvent::Said(from_controller::Kind::Gateway(raw)) => {
                self.counts.configs += 1;
                if self.configure(&raw)
                    && let Some(cache) = &self.parts.cache
                {
                    cache.store(&raw);
                }
            }
            // Certificates come as credentials; agents' configurations are none of ours.
            MemberEvent::Said(
                from_controller::Kind::Certificate(_) | from_controller::Kind::Agent(_),
            ) => {}
        }
    }

    /// Takes a configuration over. Returns whether it is to be kept.
    fn configure(&mut self, raw: &GatewayConfig) -> bool {
        let content = GatewayConfig { generation: 0, ..raw.clone() };
        if self.raw.as_ref() == Some(&content) {
            self.config_refused = None;
            self.own.applied = raw.generation;
            return true;
        }
        let config = match config::parse(raw, &self.parts.trusted.cluster) {
            Ok(config) => config,
            Err(error) => {
                tracing::error!(generation = raw.generation, %error, "configuration refused");
                let text = format!("configuration {} refused: {error}", raw.generation);
                self.config_refused = Some(text);
                return false;
            }
        };
        tracing::info!(generation = raw.generation, peers = config.peerings.len(), "configured");
        self.raw = Some(content);
        self.config_refused = None;
        self.own.applied = raw.generation;
        self.set_peers(&config);
        self.drills.order(raw.drill.as_deref(), rand::random(), Instant::now(), SystemTime::now());
        self.config = Some(config);
        true
    }

    fn set_peers(&mut self, config: &Config) {
        let wanted: BTreeMap<ClusterId, _> =
            config.peerings.iter().map(|p| (p.pin.cluster.clone(), p.clone())).collect();
        let peer = wanted.values().map(|peering| peering.pin.clone()).collect();
        // Closes what is no longer allowed, at once.
        self.parts.exchange.trust().set(Rules { peer, ..Rules::default() });
        self.peers.retain(|cluster, _| wanted.contains_key(cluster));
        let own = self.parts.trusted.identities.first().copied();
        let own = own.unwrap_or(IdentityKey::from_bytes([0; 32]));
        for (cluster, peering) in wanted {
            match self.peers.get_mut(&cluster) {
                Some(peer) => peer.reconfigure(peering),
                None => {
                    self.peers.insert(cluster, Peer::new(peering, &own));
                }
            }
        }
    }

    fn on_incoming(&mut self, incoming: Incoming) {
        match incoming.result {
            Ok(Arrival::Link(link)) => self.on_link_up(link),
            // The rules serve nobody who joins.
            Ok(Arrival::Join(attempt)) => drop(attempt),
            Err(error) => self.on_refused(&error),
        }
    }

    fn on_refused(&mut self, error: &ConnectError) {
        self.counts.failed(error.reason());
        // One that calls itself otherwise than it is pinned is a matter of that peering.
        let claimed = match &error.kind {
            ConnectErrorKind::Trust(TrustError::WrongCluster { pinned, .. }) => Some(pinned),
            _ => error.claimed.as_ref(),
        };
        let Some(claimed) = claimed else {
            tracing::debug!(%error, "an attempt to link failed");
            return;
        };
        if let Some(peer) = self.peers.get_mut(claimed) {
            tracing::debug!(cluster = %claimed, %error, "refused one that claims to be a peer");
            let text = error.to_string();
            let ip = error.remote.ip();
            peer.failures.note_stranger(ip, error.reason(), &text, SystemTime::now());
        } else if let ConnectErrorKind::Trust(TrustError::UnknownIdentity { cluster }) = &error.kind
        {
            let now = Instant::now();
            self.knocks.retain(|_, at| now < *at + KNOCK);
            if self.knocks.len() < MAX_KNOCKS {
                self.knocks.insert(cluster.clone(), now);
            }
        }
    }

    fn on_dialled(&mut self, (cluster, endpoint, result): Dialled) {
        let now = Instant::now();
        match result {
            Ok(link) => {
                if let Some(peer) = self.peers.get_mut(&cluster) {
                    peer.dialling.connected(&endpoint, &link.peer().name, Instant::now());
                }
                self.on_link_up(link);
            }
            Err(failure) => {
                self.counts.failed(&failure.reason);
                let Some(peer) = self.peers.get_mut(&cluster) else { return };
                peer.dialling.failed(&endpoint, failure.how, rand::random(), now);
                if let Some(remote) = failure.disowned {
                    peer.disowned(&endpoint, remote);
                }
                // An attempt that was under way when its endpoint was corrected says nothing any more.
                let meant = peer.endpoints().contains_key(&endpoint);
                if meant && failure.reason != CloseReason::Duplicate.reason() {
                    tracing::debug!(%cluster, reason = failure.reason, "{}", failure.message);
                    let (name, text) = (endpoint.to_string(), &failure.message);
                    peer.failures.note(&name, &failure.reason, text, SystemTime::now());
                }
            }
        }
    }

    fn on_link_up(&mut self, link: Link) {
        let Some(peer) = self.peers.get_mut(&link.peer().cluster) else {
            link.close(&CloseReason::Withdrawn);
            return;
        };
        if !peer.admits(&link) {
            link.close(&CloseReason::Duplicate);
            return;
        }
        self.counts.links += 1;
        let name = link.peer().name.clone();
        tracing::info!(peer = %link.peer(), remote = %link.remote_address(),
            dialled = link.dialled(), "linked");
        let now = Instant::now();
        let session = Session::new(
            peer.peering.pin.clone(),
            self.parts.trusted.cluster.clone(),
            peer.lanes(&self.lanes),
            peer.held(&name),
            peer.version(),
            now,
        );
        let (outbound, theirs) = watch::channel(Outbound {
            pin: peer.peering.pin.clone(),
            snapshot: peer.peering.snapshot.clone(),
            report: None,
            newest: peer.version(),
        });
        let (events, relay) = (self.link_events.0.clone(), self.parts.relay.clone());
        self.links.spawn(link::run(link.clone(), session, theirs, events, relay));
        let held = PeerLink { link, outbound, since: now, established: false };
        peer.gateways.entry(name).or_default().link = Some(held);
    }

    fn on_link(&mut self, event: LinkEvent) {
        let LinkEvent { cluster, gateway, link, kind } = event;
        let Some(peer) = self.peers.get_mut(&cluster) else { return };
        let held = peer.gateways.get_mut(&gateway);
        let current = held.filter(|held| held.link.as_ref().is_some_and(|l| l.link.id() == link));
        let Some(current) = current else { return };
        match kind {
            LinkEventKind::Session(Event::Established(established)) => {
                let Some(held) = &mut current.link else { return };
                held.established = true;
                let (remote, dialled) = (held.link.remote_address(), held.link.dialled());
                let identity = *held.link.identity();
                let post_quantum = held.link.is_post_quantum();
                current.known =
                    Some(Known { established, remote, dialled, identity, post_quantum });
                current.fresh = true;
            }
            LinkEventKind::Session(Event::Snapshot(snapshot, signed)) => {
                if peer.take_snapshot(*snapshot, signed) {
                    tracing::info!(%cluster, version = ?peer.version(), "snapshot taken");
                }
            }
            LinkEventKind::Session(Event::SnapshotRefused(error)) => {
                if let Some(left_out) = peer.refusals.due(Instant::now()) {
                    tracing::warn!(%cluster, %gateway, %error, left_out, "snapshot refused");
                }
                // An older one leaves the one that is held as it is; its sender alone is told.
                if !matches!(error, SnapshotError::Older { .. }) {
                    peer.refused = Some(error.to_string());
                }
            }
            LinkEventKind::Session(Event::Report(report)) => current.said = Some(report),
            LinkEventKind::Ended(reason) => {
                tracing::info!(%cluster, %gateway, %reason, "link ended");
                peer.link_ended(&gateway, link, &reason);
                peer.dialling.lost(&gateway, rand::random(), Instant::now());
                note_end(peer, &gateway.to_string(), &reason);
            }
        }
    }

    /// Brings all in line with what is known; returns when to do so again at the latest, or `None` when
    /// there is nothing left to do.
    async fn turn(&mut self) -> Option<Instant> {
        let now = Instant::now();
        let mut again = Some(self.drained()?);
        for (cluster, peer) in &mut self.peers {
            peer.failures.prune(SystemTime::now());
            again = earlier(again, peer.settle(&mut self.ids, now));
            let waits = self.knocks.get(cluster).is_some_and(|at| now < *at + KNOCK);
            peer.dialling.retarget(&peer.endpoints(), waits, now);
            let linked = peer.linked();
            for endpoint in peer.dialling.due(&linked, now) {
                let exchange = self.parts.exchange.clone();
                let (cluster, pin) = (cluster.clone(), peer.peering.pin.clone());
                self.dials.spawn(async move {
                    let result = dial(&exchange, &endpoint, &pin).await;
                    (cluster, endpoint, result)
                });
            }
            again = earlier(again, peer.dialling.deadline(&linked));
        }
        let asked = self.peers.iter().map(|(cluster, peer)| (cluster.clone(), peer.named_links()));
        self.parts.relay.set_peers(asked.collect());
        self.own.draining = self.drain.is_some() || self.drills.drains(now);
        again = earlier(again, self.apply(now).await);
        again = earlier(again, self.drill(Instant::now()));
        earlier(again, self.publish(Instant::now()))
    }

    /// Gives the packet path what is new; returns when to try again.
    async fn apply(&mut self, now: Instant) -> Option<Instant> {
        self.own.errors = self.config_refused.iter().cloned().collect();
        let config = self.config.as_ref()?;
        let mut derived = derive(config, &self.peers, &self.own_keys);
        let host = self.parts.ordinal.and_then(|ordinal| config.own_mesh.gateway(ordinal));
        self.own.mesh_address = host;
        derived.setup.forwarding.host = host.map(|address| HostConfig {
            address,
            draining: self.own.draining,
            routers: std::mem::take(&mut derived.routers),
        });
        for (cluster, peer) in &self.peers {
            let outbound = Outbound {
                pin: peer.peering.pin.clone(),
                snapshot: peer.peering.snapshot.clone(),
                report: derived.reports.get(cluster).cloned(),
                newest: peer.version(),
            };
            for held in peer.gateways.values().filter_map(|gateway| gateway.link.as_ref()) {
                held.outbound.send_if_modified(|sent| {
                    let changed = *sent != outbound;
                    sent.clone_from(&outbound);
                    changed
                });
            }
        }
        self.own.errors.extend(config.errors.iter().chain(&derived.errors).cloned());
        self.told = Arc::new(derived.reports);
        if self.applied.as_ref() == Some(&derived.setup) {
            self.apply_failed = None;
            return None;
        }
        if let Some(failed) = &self.apply_failed
            && failed.setup == derived.setup
            && now < failed.again
        {
            self.own.errors.push(failed.error.clone());
            return Some(failed.again);
        }
        self.counts.applies += 1;
        match self.parts.plane.apply(&derived.setup).await {
            Ok(()) => {
                self.applied = Some(derived.setup);
                self.apply_failed = None;
                None
            }
            Err(error) => {
                tracing::error!(%error, "the packet path refused the set-up");
                let (error, again) = (error.to_string(), Instant::now() + APPLY_AGAIN);
                self.own.errors.push(error.clone());
                // What stands now is neither the former set-up nor this one.
                self.applied = None;
                self.apply_failed = Some(ApplyFailed { setup: derived.setup, error, again });
                Some(again)
            }
        }
    }

    /// Has lanes inject what is ordered; returns when to look again.
    fn drill(&mut self, now: Instant) -> Option<Instant> {
        let gateways = |peer: &Peer| {
            let tunnels = peer.gateways.values().flat_map(|gateway| gateway.tunnels.values());
            tunnels.map(|tunnel| tunnel.id).collect()
        };
        let peers = &self.peers;
        let tunnels = |cluster: &ClusterId| peers.get(cluster).map(gateways).unwrap_or_default();
        self.parts.plane.inject(self.drills.fault(now, tunnels));
        self.drills.deadline(now)
    }

    fn report(&mut self) -> GatewayState {
        let stats = self.parts.plane.stats();
        let drill = self.drills.state(&stats.fault, Instant::now(), SystemTime::now());
        GatewayState { drill: drill.map(Box::new), ..state::report(&self.own, &self.peers, &stats) }
    }

    /// Reports when it is time; returns when to look again.
    fn publish(&mut self, now: Instant) -> Option<Instant> {
        let state = self.report();
        let repeat = if self.drills.are_ordered() { state::DRILL_REPEAT } else { state::REPEAT };
        let again = match self.pace.due(&state, repeat, now) {
            Ok(()) => {
                self.counts.reports += 1;
                self.outlets.state.send_replace(Some(from_member::Kind::Gateway(state)));
                now + repeat
            }
            Err(at) => at,
        };
        let not_ready = match (&self.config, &self.applied, &self.apply_failed) {
            (_, _, Some(failed)) => Some(failed.error.clone()),
            (None, _, _) => Some("no configuration has come from the controller yet".to_owned()),
            (_, None, _) => Some("the configuration is not applied yet".to_owned()),
            (Some(_), Some(_), None) => None,
        };
        let (applied, counts, told) = (self.own.applied, self.counts.clone(), self.told.clone());
        let view = View { not_ready, applied, counts, told, ..view::peers(&self.peers) };
        self.outlets.view.send_replace(view);
        Some(again)
    }
}

/// Notes the end of a link that a person may have to do something about.
fn note_end(peer: &mut Peer, gateway: &str, reason: &CloseReason) {
    let (word, text) = match reason {
        CloseReason::Refused { reason, message } => (reason.as_str(), message.clone()),
        CloseReason::Violation(_) | CloseReason::TimedOut | CloseReason::Transport(_) => {
            (reason.reason(), reason.to_string())
        }
        CloseReason::Withdrawn => (
            reason.reason(),
            "the other side has deleted or suspended its ClusterPeering for us".to_owned(),
        ),
        CloseReason::Done
        | CloseReason::Duplicate
        | CloseReason::Draining
        | CloseReason::Reset
        | CloseReason::ClosedHere => return,
    };
    peer.failures.note(gateway, word, &format!("gateway {gateway}: {text}"), SystemTime::now());
}
