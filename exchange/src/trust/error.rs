//! Why a certificate does not do.

use carrick_model::{ClusterId, MemberId, Role};

use crate::certificate::leaf::LeafError;
use crate::transport::CloseReason;

/// Why a certificate does not do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// The other side showed no certificate.
    #[error("it showed no certificate; only joining goes without")]
    NoCertificate,
    /// The certificate is not one of ours in form.
    #[error("its certificate is no Carrick certificate: {0}")]
    BadCertificate(#[from] LeafError),
    /// It says it is a cluster that we know, but none of that cluster's pinned identities signed.
    #[error(
        "its certificate claims cluster {cluster}, but none of the identities pinned for it \
         ({pinned}) signed it; compare spec.identities of the ClusterPeering with the other \
         cluster's ClusterIdentity"
    )]
    WrongIdentity {
        /// The cluster claimed.
        cluster: ClusterId,
        /// The pinned keys.
        pinned: String,
    },
    /// It says it is a cluster that we do not know.
    #[error(
        "its certificate claims cluster {cluster}, signed by no identity known here; apply a \
         ClusterPeering for it if it is wanted"
    )]
    UnknownIdentity {
        /// The cluster claimed.
        cluster: ClusterId,
    },
    /// Whom we dialled is another cluster than the one that was to answer there.
    #[error(
        "cluster {wanted} was to answer here, but who answers is {claimed}, signed by none of the \
         identities pinned for {wanted} ({pinned}); compare spec.clusterID and spec.identities of \
         the ClusterPeering with the ClusterIdentity of the cluster that is meant, and see that \
         spec.endpoints are its own"
    )]
    AnotherCluster {
        /// Who was to answer.
        wanted: ClusterId,
        /// The keys pinned for it.
        pinned: String,
        /// Who answered, by its certificate.
        claimed: ClusterId,
    },
    /// Our own identity signed a peer's certificate.
    #[error(
        "its certificate is signed by this cluster's own identity: a cluster cannot peer with \
         itself; check that the endpoint is the other cluster's and that the two clusters do not \
         share one identity key"
    )]
    OwnIdentity,
    /// A pinned identity signed for another cluster ID.
    #[error(
        "its identity is pinned for cluster {pinned}, but its certificate names {claimed}; compare \
         spec.clusterID {pinned} of the ClusterPeering that pins it with its ClusterIdentity"
    )]
    WrongCluster {
        /// The pinned name.
        pinned: ClusterId,
        /// The name in the certificate.
        claimed: ClusterId,
    },
    /// The member's role is not the one demanded.
    #[error("it is a {found} ({member}), but only a {wanted} may speak here")]
    WrongRole {
        /// Who it is.
        member: MemberId,
        /// Its role.
        found: Role,
        /// The role demanded (the first, where several are).
        wanted: Role,
    },
    /// Expired by our clock.
    #[error(
        "its certificate ended at {not_after}, and the clock here shows {now}; set the clocks of \
         both clusters by NTP, or let the other side renew (its controller renews daily)"
    )]
    CertificateExpired {
        /// The end of its validity, RFC 3339 in UTC.
        not_after: String,
        /// Our time, RFC 3339 in UTC.
        now: String,
    },
    /// Not yet valid by our clock.
    #[error(
        "its certificate begins at {not_before}, but the clock here shows {now}; set the clocks of \
         both clusters by NTP"
    )]
    CertificateNotYetValid {
        /// The begin of its validity, RFC 3339 in UTC.
        not_before: String,
        /// Our time, RFC 3339 in UTC.
        now: String,
    },
    /// The member is no longer in service.
    #[error("{member} is not among those in service: its cluster or this one has withdrawn it")]
    Withdrawn {
        /// Who.
        member: MemberId,
    },
    /// The key exchange was classical, and the peering demands post-quantum.
    #[error(
        "the key exchange was {group}, and the ClusterPeering requires a post-quantum one; upgrade \
         the other side or set spec.tunnel.postQuantum to Preferred"
    )]
    NotPostQuantum {
        /// The group agreed on.
        group: String,
    },
}

impl TrustError {
    /// What tells the other side.
    pub(crate) fn refusal(&self) -> CloseReason {
        CloseReason::Refused { reason: self.reason().to_owned(), message: self.to_string() }
    }

    /// The CamelCase word for status and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoCertificate => "NoCertificate",
            Self::BadCertificate(_) => "BadCertificate",
            Self::WrongIdentity { .. } => "WrongIdentity",
            Self::UnknownIdentity { .. } => "UnknownIdentity",
            Self::OwnIdentity => "OwnIdentity",
            Self::WrongCluster { .. } | Self::AnotherCluster { .. } => "WrongCluster",
            Self::WrongRole { .. } => "WrongRole",
            Self::CertificateExpired { .. } => "CertificateExpired",
            Self::CertificateNotYetValid { .. } => "CertificateNotYetValid",
            Self::Withdrawn { .. } => "Withdrawn",
            Self::NotPostQuantum { .. } => "NotPostQuantum",
        }
    }
}

/// Why a link that stood ends.
pub(crate) fn closing(error: &TrustError) -> CloseReason {
    match error {
        TrustError::Withdrawn { .. } => CloseReason::Withdrawn,
        other => other.refusal(),
    }
}
