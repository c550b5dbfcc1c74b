//! What was found of services of several clusters: plain data.

use carrick_crds::service::{EXPORTED_POLICY, POLICY, SERVICE_NAME, SOURCE_CLUSTER};
use carrick_crds::{ServiceExport, ServiceImport};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt as _;

use crate::state::{FetchError, FetchErrorKind, Fetched};

/// The most characters of a label's value.
const LABEL_LIMIT: usize = 63;

/// Services of several clusters, of one namespace or all.
#[derive(Debug, Clone)]
pub struct Services {
    /// What this cluster exports.
    pub exports: Fetched<Vec<ServiceExport>>,
    /// What it imports.
    pub imports: Fetched<Vec<ServiceImport>>,
    /// The Services that were derived from imports.
    pub derived: Fetched<Vec<Service>>,
    /// The EndpointSlices of imports.
    pub slices: Fetched<Vec<EndpointSlice>>,
}

/// An endpoint of an import.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Its address.
    pub address: String,
    /// Whether it is ready for connections.
    pub ready: bool,
}

/// Why services cannot be looked at or changed.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The API server does not know the kinds.
    #[error("{server} does not serve ServiceExport and ServiceImport")]
    NotServed {
        /// The API server.
        server: String,
    },
    /// There is no such export.
    #[error("there is no ServiceExport {namespace}/{name}")]
    NotExported {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// There is no such namespace.
    #[error("there is no namespace {0}")]
    NoNamespace(String),
    /// A request failed.
    #[error(transparent)]
    Request(FetchError),
}

impl From<FetchError> for ServiceError {
    fn from(error: FetchError) -> Self {
        match error.kind {
            FetchErrorKind::KindMissing => Self::NotServed { server: error.server },
            _ => Self::Request(error),
        }
    }
}

impl ServiceError {
    /// What to do about it.
    pub fn remedy(&self) -> String {
        match self {
            Self::NotServed { .. } => {
                "switch services on: helm upgrade carrick charts/carrick -n carrick-system \
                                       --reuse-values --set services.enabled=true"
                    .to_owned()
            }
            Self::NotExported { namespace, .. } => {
                format!(
                    "`carrick service list -n {namespace}` shows what is exported (-A: everywhere)"
                )
            }
            Self::NoNamespace(name) => {
                format!("name another one by -n, or make it: kubectl create namespace {name}")
            }
            Self::Request(error) => error.remedy(),
        }
    }
}

/// The endpoints of an import by cluster, as its slices name them.
pub fn endpoints(
    slices: &[EndpointSlice],
    namespace: &str,
    name: &str,
) -> Vec<(String, Vec<Endpoint>)> {
    let mut clusters: Vec<(String, Vec<Endpoint>)> = Vec::new();
    for slice in slices.iter().filter(|slice| is_of(*slice, namespace, name)) {
        let cluster = slice.labels().get(SOURCE_CLUSTER).cloned().unwrap_or_default();
        let endpoints = slice.endpoints.iter().flatten().flat_map(|endpoint| {
            // As the API says: no word on it means ready.
            let ready = endpoint.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true);
            endpoint.addresses.iter().map(move |a| Endpoint { address: a.clone(), ready })
        });
        let at = clusters.iter().position(|(held, _)| *held == cluster).unwrap_or_else(|| {
            clusters.push((cluster, Vec::new()));
            clusters.len() - 1
        });
        clusters[at].1.extend(endpoints);
    }
    clusters.sort_by(|a, b| a.0.cmp(&b.0));
    for (_, endpoints) in &mut clusters {
        // Pods with several lists of ports are in several slices.
        endpoints.sort_by(|a, b| a.address.cmp(&b.address));
        endpoints.dedup();
    }
    clusters
}

/// Whether something was derived from this import.
pub fn is_of(object: &impl kube::Resource, namespace: &str, name: &str) -> bool {
    object.namespace().as_deref() == Some(namespace)
        && object.labels().get(SERVICE_NAME).is_some_and(|value| value == name)
}

/// Whether a label names a cluster. An ID that is too long for one is cut there, and has a digest behind it.
pub fn names_cluster(label: &str, id: &str) -> bool {
    label == id
        || id.len() > LABEL_LIMIT
            && label.rsplit_once('-').is_some_and(|(head, _)| id.starts_with(head))
}

/// The policy by which clusters of an import are left out, if there is one.
pub fn policy(import: &ServiceImport) -> Option<&str> {
    let named = |key| import.annotations().get(key).map(|policy| policy.trim());
    named(POLICY).or_else(|| named(EXPORTED_POLICY)).filter(|policy| *policy != "Balanced")
}

/// The conditions of an export.
pub fn of_export(export: &ServiceExport) -> &[Condition] {
    export.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default()
}

/// The conditions of an import.
pub fn of_import(import: &ServiceImport) -> &[Condition] {
    import.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default()
}

/// The clusters that an import is made of.
pub fn clusters(import: &ServiceImport) -> impl Iterator<Item = &str> {
    let clusters = import.status.iter().flat_map(|status| &status.clusters);
    clusters.map(|one| one.cluster.as_str())
}
