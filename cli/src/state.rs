//! What was found in a cluster: plain data, on which everything that is shown is a pure function.

use carrick_crds::{ClusterIdentity, ClusterPeering};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;

/// What one request found.
pub type Fetched<T> = Result<T, FetchError>;

/// What was found in a cluster.
#[derive(Debug, Clone)]
pub struct State {
    /// The API server's address.
    pub server: String,
    /// The API server's version.
    pub version: Fetched<String>,
    /// The namespace that Carrick is installed in, or should be.
    pub namespace: String,
    /// Names of Carrick's CustomResourceDefinitions that are missing or not yet served.
    pub missing_kinds: Fetched<Vec<String>>,
    /// The controller.
    pub controller: Fetched<Option<Deployment>>,
    /// Who leads the controllers.
    pub lease: Fetched<Option<Lease>>,
    /// The gateways.
    pub gateways: Fetched<Option<StatefulSet>>,
    /// The agents.
    pub agents: Fetched<Option<DaemonSet>>,
    /// All pods in the namespace that are Carrick's.
    pub pods: Fetched<Vec<Pod>>,
    /// ClusterIdentity `self`.
    pub identity: Fetched<Option<ClusterIdentity>>,
    /// All ClusterPeerings, by name.
    pub peerings: Fetched<Vec<Listed>>,
}

/// A ClusterPeering as it is stored; one that cannot be read is still listed.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// The object, or why it cannot be read.
    pub object: Result<Box<ClusterPeering>, String>,
}

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot {what} at {server}: {message}")]
pub struct FetchError {
    /// What was asked for, e.g. `list clusterpeerings.carrick.dev`.
    pub what: String,
    /// The API server.
    pub server: String,
    /// What kind of failure.
    pub kind: FetchErrorKind,
    /// What the server or the network said.
    pub message: String,
}

/// Kinds of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FetchErrorKind {
    /// Nothing answered, or not as an API server does.
    Unreachable,
    /// The credentials are not valid.
    Unauthorized,
    /// The person may not.
    Forbidden,
    /// The API server doesn't know this kind.
    KindMissing,
    /// There is no object of this name.
    Missing,
    /// Anything else that the API server says.
    Other,
}

impl FetchError {
    /// Whether trying again does not help.
    pub fn is_final(&self) -> bool {
        !matches!(self.kind, FetchErrorKind::Unreachable | FetchErrorKind::Other)
    }

    /// What to do about it.
    pub fn remedy(&self) -> String {
        match self.kind {
            FetchErrorKind::Unreachable => format!(
                "see that {} is the right API server and can be reached from here \
                 (VPN, firewall, `kubectl version`)",
                self.server
            ),
            FetchErrorKind::Unauthorized => {
                "renew the credentials of this kubeconfig context (log in again)".to_owned()
            }
            FetchErrorKind::Forbidden => {
                format!("ask a cluster administrator for the right to {}", self.what)
            }
            FetchErrorKind::KindMissing => "install Carrick in this cluster: \
                 helm install carrick charts/carrick -n carrick-system --create-namespace \
                 --set clusterID=NAME"
                .to_owned(),
            FetchErrorKind::Missing => {
                "see that the name and the context are the right ones; `carrick drill list` shows which \
                 drills there are"
                    .to_owned()
            }
            FetchErrorKind::Other => {
                "see the API server's message; try again if it is busy".to_owned()
            }
        }
    }
}
