//! What of a controller counts here: the signed word of its cluster, and what it accepts of others.

use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use carrick_exchange::ClusterIdentity;
use carrick_exchange::filter::{Policy, filter};
use carrick_exchange::message::snapshot::{ClusterSnapshot, SignedSnapshot};
use carrick_exchange::snapshot::signer::{Signer, VALIDITY};
use carrick_exchange::snapshot::{MAX_SKEW, VerifiedSnapshot};
use carrick_model::{ClusterId, MeshPrefix, Prefix};

use super::place::{self, CLUSTERS, prefixes};
use super::wire::Time;

/// The clusters' identities, the same for all worlds of a process.
pub fn identity(cluster: usize) -> Option<&'static ClusterIdentity> {
    static ALL: OnceLock<Vec<ClusterIdentity>> = OnceLock::new();
    let make = || (0..CLUSTERS).filter_map(|_| ClusterIdentity::generate().ok()).collect();
    ALL.get_or_init(make).get(cluster)
}

/// Seconds by which a machine's wall clock is ahead of the world's.
pub type Offset = i64;

/// A wall clock that is ahead by so much.
pub fn wall(now: Time, ahead: Offset) -> SystemTime {
    let seconds = 1_800_000_000_u64.saturating_add_signed(ahead);
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_nanos(now)
}

/// A range that a cluster announces at times.
pub fn second_range(cluster: usize) -> Prefix {
    Prefix::containing(std::net::Ipv4Addr::new(10, cluster as u8 + 101, 0, 0).into(), 16)
}

/// What a cluster may announce, all told.
pub fn acceptable(cluster: usize) -> Vec<Prefix> {
    let [pods, _] = &prefixes(cluster)[..] else { return Vec::new() };
    vec![*pods, second_range(cluster)]
}

/// A controller.
pub struct Controller {
    own: usize,
    signer: Signer,
    /// By how much its wall clock is ahead, and was before; and since when.
    pub ahead: [Offset; 2],
    pub set: Time,
    /// When its processes began, at the latest, by its wall clock; and whether this one did before that. Its word is
    /// older than what others hold then, until that time has come.
    began: SystemTime,
    pub behind: bool,
    /// It announces the second range, and one of another cluster.
    pub second: bool,
    pub lies: bool,
}

impl Controller {
    /// One that begins now.
    pub fn new(own: usize, now: Time) -> Self {
        let began = wall(now, 0);
        Self {
            own,
            signer: Signer::new(began),
            ahead: [0; 2],
            set: now,
            began,
            behind: false,
            second: false,
            lies: false,
        }
    }

    /// Another process takes over.
    pub fn restart(&mut self, now: Time) {
        let begins = self.wall(now);
        self.signer = Signer::new(begins);
        self.behind = begins < self.began;
        self.began = self.began.max(begins);
    }

    /// Its wall clock is set.
    pub fn set_wall(&mut self, now: Time, ahead: Offset) {
        (self.ahead, self.set) = ([ahead, self.ahead[0]], now);
    }

    fn wall(&self, now: Time) -> SystemTime {
        wall(now, self.ahead[0])
    }

    /// Whether a gateway whose wall clock is ahead by so much takes all that it signs, and signed before the clock
    /// was set.
    pub fn agrees_with(&self, ahead: Offset) -> bool {
        let skew = MAX_SKEW.as_secs() as Offset;
        let validity = VALIDITY.as_secs() as Offset;
        // Less the world's length.
        let fits = |signed: Offset| signed - ahead <= skew && ahead - signed < validity - 60;
        self.ahead.into_iter().all(fits)
    }

    /// Signs what there is to be said to a cluster.
    pub fn speak(&mut self, now: Time, other: usize, consents: bool) {
        let Some(identity) = identity(self.own) else { return };
        let [pods, mesh] = prefixes(self.own)[..] else { return };
        let mut ranges = vec![pods];
        ranges.extend(self.second.then(|| second_range(self.own)));
        let third = CLUSTERS - self.own - other;
        ranges.extend(self.lies.then(|| prefixes(third)[0]));
        let content = ClusterSnapshot {
            cluster: place::name(self.own).to_string(),
            audience: place::name(other).to_string(),
            pod_prefixes: ranges.into_iter().map(Into::into).collect(),
            mesh_prefix: Some(mesh.into()),
            consents,
            ..ClusterSnapshot::default()
        };
        // What cannot be signed is not said, and worlds do not converge.
        let _ = self.signer.sign(identity, &place::name(other), content, self.wall(now));
    }

    /// What was signed last for a cluster.
    pub fn signed(&self, other: usize) -> Option<&SignedSnapshot> {
        self.signer.signed(&place::name(other))
    }

    /// What gateways are to hold of this cluster.
    pub fn announced(&self) -> Vec<Prefix> {
        let [pods, mesh] = prefixes(self.own)[..] else { return Vec::new() };
        let second = self.second.then(|| second_range(self.own));
        [pods].into_iter().chain(second).chain([mesh]).collect()
    }
}

/// What a gateway of `own` believes of a cluster's snapshot; nothing where that does not want its traffic.
pub fn believed(
    own: usize,
    other: usize,
    snapshot: &VerifiedSnapshot,
    held: &[Vec<Prefix>; CLUSTERS],
) -> Vec<Prefix> {
    let [pods, mesh] = prefixes(own)[..] else { return Vec::new() };
    let Ok(own_mesh) = MeshPrefix::try_from(mesh) else { return Vec::new() };
    let others = (0..CLUSTERS).filter(|cluster| *cluster != other);
    let named = |cluster: usize| {
        held[cluster]
            .iter()
            .map(move |prefix| -> (ClusterId, Prefix) { (place::name(cluster), *prefix) })
    };
    let policy = Policy {
        accept: acceptable(other),
        max_prefixes: 16,
        own_ranges: vec![pods],
        own_mesh,
        others: others.flat_map(named).collect(),
    };
    let filtered = filter(snapshot, &policy);
    match filtered.mesh.filter(|_| snapshot.consents) {
        Some(mesh) => filtered.accepted.into_iter().chain([mesh.prefix()]).collect(),
        None => Vec::new(),
    }
}
