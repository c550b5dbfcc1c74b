//! A cluster's snapshot: signed ([`signer`]), verified, or refused as a whole.

pub mod signer;

use std::net::Ipv4Addr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use carrick_model::{ClusterId, MemberName, MeshPrefix, Prefix};
use prost::Message as _;

use crate::certificate::leaf::rfc3339;
use crate::identity::snapshot_signed_by;
use crate::message::snapshot::{ClusterSnapshot, SignedSnapshot};
use crate::trust::Pin;
use crate::wire::{self, Endpoint, WireError};

/// The largest payload that is looked at, in bytes.
pub const MAX_BYTES: usize = 1 << 20;
/// The most gateways that a cluster may name.
pub const MAX_GATEWAYS: usize = 64;
/// The most endpoints that one gateway may have.
pub const MAX_ENDPOINTS: usize = 8;
/// The most pod prefixes in a snapshot; a peering's own limit is at most this.
pub const MAX_PREFIXES: usize = 4096;
/// The most nodes in a snapshot.
pub const MAX_NODES: usize = 8192;
/// The most characters that are kept of what a peer says of its drill.
const DRILL_CHARACTERS: usize = 200;
/// How far ahead of ours the signer's clock may be.
pub const MAX_SKEW: Duration = Duration::from_secs(3600);

/// What orders a cluster's snapshots: epoch first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Version {
    /// Grows whenever the generations begin anew.
    pub epoch: u64,
    /// Grows with each change inside an epoch.
    pub generation: u64,
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.epoch, self.generation)
    }
}

/// What another cluster says, signed by it and meant for us. Whether we believe it is the filter's
/// question, not answered here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedSnapshot {
    /// The speaker.
    pub cluster: ClusterId,
    /// Its place in the order.
    pub version: Version,
    /// Gateways in service.
    pub gateways: Vec<RemoteGateway>,
    /// Where pods live.
    pub pod_prefixes: Vec<Prefix>,
    /// Node prefix.
    pub mesh: MeshPrefix,
    /// Nodes in service, each address inside `mesh`.
    pub nodes: Vec<RemoteNode>,
    /// The speaker wants our traffic.
    pub consents: bool,
    /// Our drills may hit the traffic between both clusters.
    pub drills: bool,
    /// The speaker's drill that hits that traffic now, in its own words; empty when none does.
    pub drill: String,
    /// When it was signed.
    pub issued_at: SystemTime,
    /// From when on it no longer holds.
    pub expires_at: SystemTime,
}

/// A gateway of another cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteGateway {
    /// Its name, as in its certificate.
    pub name: MemberName,
    /// Where its exchange listens; lane k is on port + 1 + k.
    pub endpoints: Vec<Endpoint>,
}

/// A node of another cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteNode {
    /// Its name.
    pub name: String,
    /// Its mesh address.
    pub mesh_address: Ipv4Addr,
}

/// Why a snapshot is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// The signature is not one of a pinned identity over these bytes.
    #[error("snapshot of {cluster} is not signed by an identity pinned for it")]
    Signature {
        /// Whose it should be.
        cluster: ClusterId,
    },
    /// Not a snapshot in form.
    #[error("snapshot of {cluster} is malformed: {error}")]
    Malformed {
        /// Whose it should be.
        cluster: ClusterId,
        /// What is wrong.
        error: String,
    },
    /// More of something than we hold.
    #[error("snapshot of {cluster} has {count} {what}; at most {limit} are taken")]
    TooMany {
        /// Whose it is.
        cluster: ClusterId,
        /// Of what.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// How many would be taken.
        limit: usize,
    },
    /// It speaks for a cluster other than the pinned one.
    #[error("snapshot names cluster {named}, but its signer is pinned as {pinned}")]
    WrongCluster {
        /// The pinned name.
        pinned: ClusterId,
        /// The name in it.
        named: ClusterId,
    },
    /// It is meant for somebody else.
    #[error("snapshot of {cluster} is meant for {audience}, not for {own}")]
    WrongAudience {
        /// Whose it is.
        cluster: ClusterId,
        /// For whom.
        audience: String,
        /// Who we are.
        own: ClusterId,
    },
    /// An older one than the one held.
    #[error(
        "snapshot {offered} of {cluster} is older than {held}, which is held; if that stays so, the \
         clock of {cluster}'s controller was put back, or its gateways do not hear from it"
    )]
    Older {
        /// Whose it is.
        cluster: ClusterId,
        /// Its version.
        offered: Version,
        /// The version held.
        held: Version,
    },
    /// Expired by our clock.
    #[error(
        "snapshot of {cluster} ended at {expires_at}, and the clock here shows {now}; its \
         controller renews it while it runs: look at that controller and at both clocks"
    )]
    Expired {
        /// Whose it is.
        cluster: ClusterId,
        /// Its end, RFC 3339.
        expires_at: String,
        /// Our time, RFC 3339.
        now: String,
    },
    /// Signed in our future.
    #[error(
        "snapshot of {cluster} was signed at {issued_at}, but the clock here shows {now}; set the \
         clocks of both clusters by NTP"
    )]
    FromTheFuture {
        /// Whose it is.
        cluster: ClusterId,
        /// When it was signed, RFC 3339.
        issued_at: String,
        /// Our time, RFC 3339.
        now: String,
    },
}

impl SnapshotError {
    /// Whether another time on a clock is all that it takes: the same snapshot may be taken later.
    pub fn is_of_clocks(&self) -> bool {
        matches!(self, Self::Expired { .. } | Self::FromTheFuture { .. })
    }

    /// The CamelCase word for status and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Signature { .. } => "WrongSignature",
            Self::Malformed { .. } => "MalformedSnapshot",
            Self::TooMany { .. } => "TooMany",
            Self::WrongCluster { .. } => "WrongCluster",
            Self::WrongAudience { .. } => "WrongAudience",
            Self::Older { .. } => "OlderSnapshot",
            Self::Expired { .. } => "SnapshotExpired",
            Self::FromTheFuture { .. } => "SnapshotNotYetValid",
        }
    }
}

/// Verifies a snapshot of the cluster in `pin`, meant for `own`.
///
/// `held` is the version that the caller has; an equal one is taken again (it says the same), an
/// older one is refused.
pub fn verify(
    signed: &SignedSnapshot,
    pin: &Pin,
    own: &ClusterId,
    now: SystemTime,
    held: Option<Version>,
) -> Result<VerifiedSnapshot, SnapshotError> {
    let cluster = pin.cluster.clone();
    limit(&cluster, "bytes", signed.payload.len(), MAX_BYTES)?;
    let known = pin.identities.iter().find(|key| signed.key.as_slice() == key.as_bytes());
    if !known.is_some_and(|key| snapshot_signed_by(key, &signed.payload, &signed.signature)) {
        return Err(SnapshotError::Signature { cluster });
    }
    let raw = ClusterSnapshot::decode(signed.payload.as_slice())
        .map_err(|error| SnapshotError::Malformed { cluster, error: error.to_string() })?;
    check_names(&raw, pin, own)?;
    let verified = parse(&raw, &pin.cluster)?;
    check_time(&verified, now)?;
    match held {
        Some(held) if verified.version < held => {
            Err(SnapshotError::Older { cluster: verified.cluster, offered: verified.version, held })
        }
        _ => Ok(verified),
    }
}

fn limit(
    cluster: &ClusterId,
    what: &'static str,
    count: usize,
    limit: usize,
) -> Result<(), SnapshotError> {
    if count <= limit {
        Ok(())
    } else {
        Err(SnapshotError::TooMany { cluster: cluster.clone(), what, count, limit })
    }
}

fn check_names(raw: &ClusterSnapshot, pin: &Pin, own: &ClusterId) -> Result<(), SnapshotError> {
    let cluster = pin.cluster.clone();
    let named: ClusterId = wire::parse(&raw.cluster, "cluster").map_err(|e| malformed(pin, &e))?;
    if named != cluster {
        return Err(SnapshotError::WrongCluster { pinned: cluster, named });
    }
    if raw.audience != own.as_str() {
        let audience = raw.audience.chars().take(130).collect();
        return Err(SnapshotError::WrongAudience { cluster, audience, own: own.clone() });
    }
    Ok(())
}

fn malformed(pin: &Pin, error: &WireError) -> SnapshotError {
    SnapshotError::Malformed { cluster: pin.cluster.clone(), error: error.to_string() }
}

fn parse(raw: &ClusterSnapshot, cluster: &ClusterId) -> Result<VerifiedSnapshot, SnapshotError> {
    limit(cluster, "gateways", raw.gateways.len(), MAX_GATEWAYS)?;
    limit(cluster, "pod prefixes", raw.pod_prefixes.len(), MAX_PREFIXES)?;
    limit(cluster, "nodes", raw.nodes.len(), MAX_NODES)?;
    for gateway in &raw.gateways {
        limit(cluster, "endpoints of one gateway", gateway.endpoints.len(), MAX_ENDPOINTS)?;
    }
    let wrong =
        |e: WireError| SnapshotError::Malformed { cluster: cluster.clone(), error: e.to_string() };
    let mesh = wire::mesh(raw.mesh_prefix.as_ref(), "mesh_prefix").map_err(wrong)?;
    Ok(VerifiedSnapshot {
        cluster: cluster.clone(),
        version: Version { epoch: raw.epoch, generation: raw.generation },
        gateways: gateways(raw).map_err(wrong)?,
        pod_prefixes: wire::prefixes(&raw.pod_prefixes, "pod_prefixes").map_err(wrong)?,
        nodes: nodes(raw, mesh).map_err(wrong)?,
        mesh,
        consents: raw.consents,
        drills: raw.drills,
        drill: raw.drill.chars().filter(|c| !c.is_control()).take(DRILL_CHARACTERS).collect(),
        issued_at: at(raw.issued_at),
        expires_at: at(raw.expires_at),
    })
}

fn gateways(raw: &ClusterSnapshot) -> Result<Vec<RemoteGateway>, WireError> {
    raw.gateways
        .iter()
        .map(|gateway| {
            let name = wire::parse(&gateway.name, "gateways.name")?;
            let endpoints: Result<_, _> =
                gateway.endpoints.iter().map(Endpoint::try_from).collect();
            Ok(RemoteGateway { name, endpoints: endpoints? })
        })
        .collect()
}

fn nodes(raw: &ClusterSnapshot, mesh: MeshPrefix) -> Result<Vec<RemoteNode>, WireError> {
    raw.nodes
        .iter()
        .map(|node| {
            let field = "nodes.mesh_address";
            let mesh_address = wire::ipv4(&node.mesh_address, field)?;
            if !mesh.prefix().contains(mesh_address.into()) {
                let error = format!("{mesh_address} is outside {}", mesh.prefix());
                return Err(WireError::Prefix { field, error });
            }
            Ok(RemoteNode { name: node.name.chars().take(253).collect(), mesh_address })
        })
        .collect()
}

/// A time on the wire; what is beyond the clock's range is its last representable time.
fn at(seconds: u64) -> SystemTime {
    // Beyond the year 9999 nothing distinguishes times, and adding could overflow.
    UNIX_EPOCH + Duration::from_secs(seconds.min(253_402_300_799))
}

fn check_time(snapshot: &VerifiedSnapshot, now: SystemTime) -> Result<(), SnapshotError> {
    let cluster = snapshot.cluster.clone();
    if now >= snapshot.expires_at {
        let (expires_at, now) = (rfc3339(snapshot.expires_at), rfc3339(now));
        return Err(SnapshotError::Expired { cluster, expires_at, now });
    }
    if snapshot.issued_at > now + MAX_SKEW {
        let (issued_at, now) = (rfc3339(snapshot.issued_at), rfc3339(now));
        return Err(SnapshotError::FromTheFuture { cluster, issued_at, now });
    }
    Ok(())
}
