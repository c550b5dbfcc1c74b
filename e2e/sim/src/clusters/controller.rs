//! What of a controller counts here: the signed word of its cluster, and what it accepts of others.

use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use carrick_exchange::ClusterIdentity;
use carrick_exchange::filter::{Policy, filter};
use carrick_exchange::message::snapshot::{ClusterSnapshot, SignedSnapshot};
use carrick_exchange::snapshot::VerifiedSnapshot;
use carrick_exchange::snapshot::signer::Signer;
use carrick_model::{ClusterId, MeshPrefix, Prefix};

use super::place::{self, CLUSTERS, prefixes};
use super::wire::Time;

/// The clusters' identities, the same for all worlds of a process.
pub fn identity(cluster: usize) -> Option<&'static ClusterIdentity> {
    static ALL: OnceLock<Vec<ClusterIdentity>> = OnceLock::new();
    let make = || (0..CLUSTERS).filter_map(|_| ClusterIdentity::generate().ok()).collect();
    ALL.get_or_init(make).get(cluster)
}

/// The wall clock.
pub fn wall(now: Time) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000) + Duration::from_nanos(now)
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
    /// It announces the second range, and one of another cluster.
    pub second: bool,
    pub lies: bool,
}

impl Controller {
    /// One that begins now.
    pub fn new(own: usize, now: Time) -> Self {
        Self { own, signer: Signer::new(wall(now)), second: false, lies: false }
    }

    /// Another process takes over.
    pub fn restart(&mut self, now: Time) {
        self.signer = Signer::new(wall(now));
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
        let _ = self.signer.sign(identity, &place::name(other), content, wall(now));
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
