//! What we know of one peer: its snapshot, its gateways, their links and tunnels.
//!
//! Tunnels outlive links: a link that breaks changes nothing on the packet path. They end when the
//! peer's snapshot no longer names the gateway, when it or we withdraw, or when its lanes are new.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use carrick_exchange::message::peer::Report;
use carrick_exchange::message::snapshot::SignedSnapshot;
use carrick_exchange::peer::{Agreed, DialRole, Established, Held, Lane, dial_role};
use carrick_exchange::snapshot::{RemoteGateway, VerifiedSnapshot, Version};
use carrick_exchange::wire::Endpoint;
use carrick_exchange::{CloseReason, Link};
use carrick_gateway_core::{PathConfig, TunnelId};
use carrick_model::{IdentityKey, MemberName};
use tokio::sync::watch;

use super::config::Peering;
use super::dialling::Dialling;
use super::failures::Failures;
use super::link::Outbound;
use super::paths::{self, Exchanges, beside};
use super::sparing::Sparing;

/// How long a gateway that its cluster's snapshot does not name may stay linked, to bring a newer one.
const UNNAMED: Duration = Duration::from_secs(10);

/// Two connections that come about within this time were dialled at once from both sides.
const SIMULTANEOUS: Duration = Duration::from_secs(2);

/// The most gateways of one peer that may be linked.
const MAX_LINKS: usize = 64;

/// One peer.
#[derive(Debug)]
pub struct Peer {
    /// What the controller says of it.
    pub peering: Peering,
    /// Who is dialled when.
    pub dialling: Dialling,
    /// Its newest snapshot, verified, and as it came.
    pub snapshot: Option<(VerifiedSnapshot, SignedSnapshot)>,
    /// Its gateways that are linked or have tunnels.
    pub gateways: BTreeMap<MemberName, Gateway>,
    /// The newest failures.
    pub failures: Failures,
    /// What it says of our snapshot.
    pub report: Option<Report>,
    /// Why its newest snapshot was refused as a whole.
    pub refused: Option<String>,
    /// How often refusals of snapshots are logged.
    pub refusals: Sparing,
    own: IdentityKey,
}

/// A gateway of the peer.
#[derive(Debug, Default)]
pub struct Gateway {
    /// Its link.
    pub link: Option<PeerLink>,
    /// What its newest link brought.
    pub known: Option<Known>,
    /// Its tunnels, by lane.
    pub tunnels: BTreeMap<u32, Tunnel>,
    /// What it said of our snapshot, until its own cluster's snapshot names it: then it counts.
    pub said: Option<Report>,
    /// It has linked, which makes up for failures as soon as it counts.
    pub fresh: bool,
}

/// A live link.
#[derive(Debug)]
pub struct PeerLink {
    /// The link.
    pub link: Link,
    /// What the other side is to know.
    pub outbound: watch::Sender<Outbound>,
    /// Since when it stands.
    pub since: Instant,
    /// Both sides have said Hello.
    pub established: bool,
}

/// What a link's Hello brought; it stays after the link.
#[derive(Debug, Clone)]
pub struct Known {
    /// What was agreed on.
    pub established: Established,
    /// The gateway's exchange address, as seen.
    pub remote: SocketAddr,
    /// Whether we dialled that address, so that it is known to take what we send.
    pub dialled: bool,
    /// Who signed its certificate.
    pub identity: IdentityKey,
    /// What its link derives stays closed to a later quantum computer.
    pub post_quantum: bool,
}

/// A tunnel.
#[derive(Debug, Clone)]
pub struct Tunnel {
    /// Its name on the packet path.
    pub id: TunnelId,
    /// Keys.
    pub agreed: Agreed,
    /// Where the remote lane listens, as far as is known best.
    pub endpoint: SocketAddr,
    /// All ways to it, that one first.
    pub paths: Vec<PathConfig>,
    /// Its preshared key comes from a key exchange that was post-quantum.
    pub post_quantum: bool,
}

/// Gives out names of tunnels, each once.
#[derive(Debug, Default)]
pub struct TunnelIds(u64);

impl TunnelIds {
    fn next(&mut self) -> TunnelId {
        self.0 += 1;
        TunnelId(self.0)
    }
}

impl Peer {
    /// A peer that nothing is known of yet.
    pub fn new(peering: Peering, own: &IdentityKey) -> Self {
        Self {
            dialling: Dialling::new(role(own, &peering)),
            peering,
            own: *own,
            snapshot: None,
            gateways: BTreeMap::new(),
            failures: Failures::default(),
            report: None,
            refused: None,
            refusals: Sparing::default(),
        }
    }

    /// Takes over what the controller says now. What only identities vouched for that are no longer
    /// pinned is forgotten, and so are failures of what has been corrected since, and tunnels by a key
    /// exchange that does not do any more.
    pub fn reconfigure(&mut self, peering: Peering) {
        let pinned = peering.pin.identities.clone();
        if self.peering.pin != peering.pin || self.peering.endpoints != peering.endpoints {
            self.failures.clear();
        }
        let lanes = self.peering.lanes != peering.lanes;
        self.peering = peering;
        self.dialling.set_role(role(&self.own, &self.peering));
        let vouched = |signed: &SignedSnapshot| {
            pinned.iter().any(|key| signed.key.as_slice() == key.as_bytes())
        };
        self.snapshot.take_if(|(_, signed)| !vouched(signed));
        let required = self.peering.pin.post_quantum;
        for gateway in self.gateways.values_mut() {
            if gateway.known.as_ref().is_some_and(|known| !pinned.contains(&known.identity)) {
                gateway.forget();
            }
            if required && gateway.is_classical() {
                gateway.forget();
                // A link that is itself classical has been closed with the rules.
                if let Some(held) = &gateway.link {
                    held.link.close(&not_post_quantum());
                }
            } else if lanes && let Some(held) = &gateway.link {
                // A new link agrees on other lanes; tunnels that are on both stay as they are.
                held.link.close(&CloseReason::Done);
            }
        }
    }

    /// Those of our lanes that are to have tunnels with it.
    pub fn lanes(&self, all: &[Lane]) -> Vec<Lane> {
        all.iter().take(self.peering.lanes.unwrap_or(usize::MAX)).copied().collect()
    }

    /// The version of the snapshot that we hold.
    pub fn version(&self) -> Option<Version> {
        self.snapshot.as_ref().map(|(snapshot, _)| snapshot.version)
    }

    /// The names of the gateways that are linked.
    pub fn linked(&self) -> BTreeSet<MemberName> {
        let linked = self.gateways.iter().filter(|(_, gateway)| gateway.link.is_some());
        linked.map(|(name, _)| name.clone()).collect()
    }

    /// The links of gateways that the peer's snapshot names, in the order of their names.
    pub fn named_links(&self) -> Vec<Link> {
        let snapshot = self.snapshot.as_ref().map(|(snapshot, _)| snapshot);
        let named = |name: &MemberName| {
            snapshot.is_some_and(|s| s.gateways.iter().any(|entry| entry.name == *name))
        };
        let linked = self.gateways.iter().filter(|(name, _)| named(name));
        let held = linked.filter_map(|(_, gateway)| gateway.link.as_ref());
        held.filter(|held| held.established).map(|held| held.link.clone()).collect()
    }

    /// Where to dial, and who is known to answer there.
    pub fn endpoints(&self) -> BTreeMap<Endpoint, Option<MemberName>> {
        let configured = self.peering.endpoints.iter().map(|endpoint| (endpoint.clone(), None));
        let mut wanted: BTreeMap<_, _> = configured.collect();
        for gateway in self.snapshot.iter().flat_map(|(snapshot, _)| &snapshot.gateways) {
            for endpoint in &gateway.endpoints {
                wanted.insert(endpoint.clone(), Some(gateway.name.clone()));
            }
        }
        wanted
    }

    /// The tunnels that we hold with a gateway.
    pub fn held(&self, gateway: &MemberName) -> Vec<Held> {
        let tunnels = self.gateways.get(gateway).into_iter().flat_map(|g| g.tunnels.values());
        tunnels
            .map(|tunnel| Held {
                lane: tunnel.agreed.remote.index,
                own_key: tunnel.agreed.own_key,
                remote_key: tunnel.agreed.remote.key,
                psk: tunnel.agreed.psk,
            })
            .collect()
    }

    /// Whether a new link with a gateway stays, by the rule for duplicates. If so, the one that it
    /// replaces has been closed.
    pub fn admits(&mut self, new: &Link) -> bool {
        let others = self.linked().len();
        let Some(gateway) = self.gateways.get_mut(&new.peer().name) else {
            return others < MAX_LINKS;
        };
        let Some(old) = gateway.link.take_if(|old| old.link.close_reason().is_none()) else {
            return others <= MAX_LINKS;
        };
        // Who has a link does not dial. So a second one from the same side, or long after the first,
        // is of a process that lost the first or began anew.
        let same_side = old.link.dialled() == new.dialled();
        let lost = old.since.elapsed() > SIMULTANEOUS;
        if same_side || lost || self.dialling.role().keeps(new.dialled()) {
            old.link.close(&CloseReason::Duplicate);
            true
        } else {
            gateway.link = Some(old);
            false
        }
    }

    /// Takes a snapshot, unless it is older than the one held. Returns whether anything changed.
    pub fn take_snapshot(&mut self, snapshot: VerifiedSnapshot, signed: SignedSnapshot) -> bool {
        let stale = self.version().is_some_and(|held| snapshot.version < held);
        let same = self.snapshot.as_ref().is_some_and(|(_, held)| *held == signed);
        // It was verified with the pin of then.
        let pinned = &self.peering.pin.identities;
        if !pinned.iter().any(|key| signed.key.as_slice() == key.as_bytes()) {
            return false;
        }
        self.refused = None;
        if stale || same {
            return false;
        }
        self.snapshot = Some((snapshot, signed));
        true
    }

    /// A link ended. A withdrawal, or a refusal of what stood so far, takes the gateway's tunnels with
    /// it.
    pub fn link_ended(&mut self, name: &MemberName, link: usize, reason: &CloseReason) {
        let Some(gateway) = self.gateways.get_mut(name) else { return };
        if gateway.link.take_if(|held| held.link.id() == link).is_none() {
            return;
        }
        if matches!(reason, CloseReason::Withdrawn | CloseReason::Refused { .. }) {
            gateway.forget();
        }
    }

    /// The gateway at `endpoint`, at `remote`, says that its cluster does not hold us: what its
    /// withdrawal would have done, had it arrived, is done now.
    pub fn disowned(&mut self, endpoint: &Endpoint, remote: SocketAddr) {
        for (name, gateway) in &mut self.gateways {
            let seen = gateway.known.as_ref().is_some_and(|known| known.remote == remote);
            if gateway.link.is_none() && (seen || self.dialling.is_of(endpoint, name)) {
                gateway.forget();
            }
        }
    }

    /// Brings tunnels in line with what is known. Returns when it has to be looked at again.
    pub fn settle(&mut self, ids: &mut TunnelIds, now: Instant) -> Option<Instant> {
        let mut again = None;
        let snapshot = self.snapshot.as_ref().map(|(snapshot, _)| snapshot);
        for (name, gateway) in &mut self.gateways {
            let Some(snapshot) = snapshot else { continue };
            match snapshot.gateways.iter().find(|entry| entry.name == *name) {
                Some(entry) => {
                    let ends = paths::ends(entry, &self.peering, &self.dialling);
                    gateway.install(entry, &ends, ids);
                    if let Some(report) = gateway.said.take() {
                        self.report = Some(report);
                    }
                    // Attempts that still fail will fail again and say so.
                    if std::mem::take(&mut gateway.fresh) {
                        self.failures.clear();
                    }
                }
                None => {
                    gateway.tunnels.clear();
                    let deadline = gateway.link.as_ref().map(|held| held.since + UNNAMED);
                    if deadline.is_some_and(|at| at <= now) {
                        gateway.withdraw();
                        self.dialling.lost(name, rand::random(), now);
                    } else {
                        again = earlier(again, deadline);
                    }
                }
            }
        }
        self.gateways.retain(|_, gateway| gateway.link.is_some() || !gateway.tunnels.is_empty());
        again
    }
}

impl Gateway {
    /// Takes over what the newest Hellos agreed on. Tunnels with equal keys keep their name.
    fn install(&mut self, entry: &RemoteGateway, ends: &Exchanges, ids: &mut TunnelIds) {
        let Some(known) = &self.known else { return };
        let mut tunnels = BTreeMap::new();
        for agreed in &known.established.tunnels {
            let lane = agreed.remote.index;
            let same = |held: &&Tunnel| {
                let held = held.agreed;
                (held.remote.key, held.own_key, held.psk)
                    == (agreed.remote.key, agreed.own_key, agreed.psk)
            };
            let kept = self.tunnels.get(&lane).filter(same);
            let (id, post_quantum) = match kept {
                Some(held) => (held.id, held.post_quantum),
                None => (ids.next(), known.post_quantum),
            };
            let endpoint = lane_endpoint(entry, known, agreed);
            let paths = ends.paths(endpoint, known, lane);
            tunnels.insert(lane, Tunnel { id, agreed: *agreed, endpoint, paths, post_quantum });
        }
        self.tunnels = tunnels;
    }

    /// Ends its tunnels, for good: a new link has to agree on others.
    fn forget(&mut self) {
        self.tunnels.clear();
        self.known = None;
    }

    /// Whether a later quantum computer could open what any of its tunnels carries.
    fn is_classical(&self) -> bool {
        self.known.as_ref().is_some_and(|known| !known.post_quantum)
            || self.tunnels.values().any(|tunnel| !tunnel.post_quantum)
    }

    fn withdraw(&mut self) {
        if let Some(held) = self.link.take() {
            held.link.close(&CloseReason::Withdrawn);
        }
    }
}

/// Why a link ends whose tunnels have their keys from an earlier one.
fn not_post_quantum() -> CloseReason {
    CloseReason::Refused {
        reason: "NotPostQuantum".to_owned(),
        message: "the tunnels' keys come from a key exchange that was not post-quantum, which the \
                  ClusterPeering requires by now; new ones are agreed on"
            .to_owned(),
    }
}

/// Our part in dialling a peer. Its newest identity comes first.
fn role(own: &IdentityKey, peering: &Peering) -> DialRole {
    let theirs = peering.pin.identities.first();
    theirs.map_or(DialRole::AtOnce, |theirs| dial_role(own, theirs))
}

/// Where the remote lane listens: beside the exchange's address that we dialled; else beside the
/// announced one, best the one that the gateway was seen with; else, behind NAT, where it was seen.
fn lane_endpoint(entry: &RemoteGateway, known: &Known, agreed: &Agreed) -> SocketAddr {
    let beside = |exchange: SocketAddr| beside(exchange, agreed.remote.index);
    let announced: Vec<SocketAddr> = entry
        .endpoints
        .iter()
        .filter_map(|endpoint| match endpoint {
            Endpoint::Address(address) => Some(*address),
            Endpoint::Name(..) => None,
        })
        .collect();
    let seen = announced.iter().find(|address| address.ip() == known.remote.ip());
    let exchange = if known.dialled {
        Some(known.remote)
    } else {
        seen.or_else(|| {
            let family = known.remote.is_ipv4();
            announced.iter().find(|address| address.is_ipv4() == family)
        })
        .copied()
    };
    let observed = SocketAddr::new(known.remote.ip(), agreed.remote.port);
    exchange.and_then(beside).unwrap_or(observed)
}

/// The earlier of two deadlines.
pub fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    a.into_iter().chain(b).min()
}

#[cfg(test)]
mod tests;
