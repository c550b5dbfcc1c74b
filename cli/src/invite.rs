//! `carrick invite`: the ClusterPeering that another cluster applies to be joined with this one.

use carrick_crds::condition::{self, IdentityCondition};
use carrick_crds::{ClusterIdentity, ClusterPeering, Reason};
use carrick_model::{ClusterId, Family, Prefix};

use crate::args::InviteArgs;

/// IPv4 ranges shorter than this are broad: a peer that accepts one gives up more than a cluster needs.
const BROAD_V4: u8 = 12;
/// The same for IPv6.
const BROAD_V6: u8 = 32;

/// Ranges that are nobody's on the internet: RFC 1918, RFC 6598, RFC 2544, class E, RFC 4193.
const PRIVATE: [&str; 7] = [
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "100.64.0.0/10",
    "198.18.0.0/15",
    "240.0.0.0/4",
    "fc00::/7",
];

/// What to print.
#[derive(Debug, PartialEq, Eq)]
pub struct Invitation {
    /// For the person, on standard error.
    pub summary: String,
    /// For the other cluster, on standard output.
    pub yaml: String,
}

/// Why there is no invitation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InviteError {
    /// There is no ClusterIdentity.
    #[error("this cluster has no ClusterIdentity `self`")]
    NoIdentity,
    /// The ClusterIdentity offers nothing yet.
    #[error("ClusterIdentity `self` offers no ClusterPeering yet: {why}")]
    NotReady {
        /// What its condition Ready says.
        why: String,
        /// What to do about that.
        remedy: &'static str,
    },
    /// The offer cannot be read.
    #[error("ClusterIdentity `self`, status.clusterPeering: {0}")]
    Malformed(String),
    /// The ranges are public or very wide.
    #[error("{}", .0.join("; "))]
    Broad(Vec<String>),
    /// `--name` is none.
    #[error("--name {0:?} must be 1-253 characters of a-z, 0-9, '-' and '.'")]
    Name(String),
    /// Not writable as YAML.
    #[error("cannot write the ClusterPeering: {0}")]
    Render(String),
}

impl InviteError {
    /// What to do about it.
    pub fn remedy(&self) -> String {
        match self {
            Self::NoIdentity => "see that the controller runs: carrick check".to_owned(),
            Self::NotReady { remedy, .. } if !remedy.is_empty() => (*remedy).to_owned(),
            Self::NotReady { .. } => {
                "wait until the controller is ready; carrick check says what is missing".to_owned()
            }
            Self::Malformed(_) | Self::Render(_) => {
                "use a `carrick` of the same release as the cluster's controller (carrick version)"
                    .to_owned()
            }
            Self::Broad(_) => "set podRanges in the chart's values to what the pods really use, \
                               or, if it is meant so, add --allow-broad"
                .to_owned(),
            Self::Name(_) => "choose another --name".to_owned(),
        }
    }
}

/// What to print for the identity of a cluster.
pub fn invite(
    identity: Option<&ClusterIdentity>,
    args: &InviteArgs,
) -> Result<Invitation, InviteError> {
    let status = identity.ok_or(InviteError::NoIdentity)?.status.as_ref();
    let Some(offer) = status.and_then(|status| status.cluster_peering.as_ref()) else {
        return Err(not_ready(identity));
    };
    let mut offer = ClusterPeering { status: None, ..offer.clone() };
    let name = args.name.clone().unwrap_or_else(|| offer.spec.cluster_id.clone());
    if name.parse::<carrick_model::MemberName>().is_err() {
        return Err(InviteError::Name(name));
    }
    offer.metadata.name = Some(name);
    let cluster: ClusterId = offer.spec.cluster_id.parse().map_err(malformed)?;
    let ranges = ranges(&offer)?;
    let broad: Vec<String> = ranges.iter().filter_map(broad).collect();
    if !broad.is_empty() && !args.allow_broad {
        return Err(InviteError::Broad(broad));
    }
    let yaml = serde_yaml::to_string(&offer).map_err(|e| InviteError::Render(e.to_string()))?;
    Ok(Invitation { summary: summary(&offer, &cluster, &broad), yaml })
}

fn not_ready(identity: Option<&ClusterIdentity>) -> InviteError {
    let conditions = identity.and_then(|i| i.status.as_ref()).map(|s| s.conditions.as_slice());
    let ready = condition::find(conditions.unwrap_or_default(), IdentityCondition::Ready.as_str());
    let why = ready.map_or_else(
        || "the controller has not written it".to_owned(),
        |c| format!("{}: {}", c.reason, c.message),
    );
    let reason = ready.and_then(|c| c.reason.parse::<Reason>().ok());
    InviteError::NotReady { why, remedy: reason.map_or("", Reason::remedy) }
}

fn malformed(error: impl std::fmt::Display) -> InviteError {
    InviteError::Malformed(error.to_string())
}

fn ranges(offer: &ClusterPeering) -> Result<Vec<Prefix>, InviteError> {
    offer.spec.accept.pod_ranges.iter().map(|text| text.parse().map_err(malformed)).collect()
}

/// Why a range should not be handed out without a second thought.
fn broad(range: &Prefix) -> Option<String> {
    let limit = if range.family() == Family::V4 { BROAD_V4 } else { BROAD_V6 };
    if range.length() < limit {
        return Some(format!("pod range {range} is very wide (shorter than /{limit})"));
    }
    let private = PRIVATE.iter().filter_map(|text| text.parse().ok());
    let is_private = private.into_iter().any(|p: Prefix| p.covers(range));
    (!is_private).then(|| format!("pod range {range} is of public addresses"))
}

fn summary(offer: &ClusterPeering, cluster: &ClusterId, broad: &[String]) -> String {
    let spec = &offer.spec;
    let endpoints: Vec<String> =
        spec.endpoints.iter().map(|e| format!("{}:{}", e.address, e.port)).collect();
    let dialled = if endpoints.is_empty() {
        "nowhere: this cluster dials out, so the other one's gateways must be reachable".to_owned()
    } else {
        format!("UDP {} (and its lanes on the next ports)", endpoints.join(", "))
    };
    let mut text = format!(
        "# Who applies this lets pods of cluster {cluster} talk to all of its own pods.\n\
         #   identity  {}\n\
         #   pods in   {}\n\
         #   dialled   {dialled}\n",
        spec.identities.join(", "),
        spec.accept.pod_ranges.join(", "),
    );
    for warning in broad {
        text.push_str(&format!("#   note      {warning}\n"));
    }
    text.push_str(&format!(
        "# Traffic flows when {cluster} has applied the other cluster's invitation as well.\n"
    ));
    text
}

#[cfg(test)]
mod tests;
