//! ServiceExport and ServiceImport of the Multi-Cluster Services API (KEP-1645), with the fields of mcs-api v0.5.2.
//!
//! Not Carrick's own kinds: other implementations install the same definitions, and people's manifests are
//! written against them.

mod export;
mod import;
mod schema;

pub use export::*;
pub use import::*;
pub(crate) use schema::{as_upstream, both_versions};

/// The API group of both kinds.
pub const GROUP: &str = "multicluster.x-k8s.io";

/// The version that is stored.
pub const STORED: &str = "v1beta1";

/// The older version, with the same schema; served, not stored.
pub const SERVED: &str = "v1alpha1";

/// The label that names the imported service on its EndpointSlices and its derived Service.
pub const SERVICE_NAME: &str = "multicluster.kubernetes.io/service-name";

/// The label that names the cluster that an EndpointSlice's endpoints are in.
pub const SOURCE_CLUSTER: &str = "multicluster.kubernetes.io/source-cluster";

/// The annotation that names the import that an object was made for. By this it is Carrick's, whatever its labels say.
pub const IMPORT: &str = "carrick.dev/service-import";

/// The annotation by which a person says which clusters serve a service; on a ServiceExport, or on a ServiceImport for
/// that cluster alone.
pub const POLICY: &str = "carrick.dev/service-policy";

/// The annotation on a ServiceImport that says which policy comes with the exports, unless it is the usual one.
pub const EXPORTED_POLICY: &str = "carrick.dev/exported-service-policy";

/// The release of mcs-api whose fields these are.
pub const RELEASE: &str = "v0.5.2";
