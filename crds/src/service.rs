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

/// The release of mcs-api whose fields these are.
pub const RELEASE: &str = "v0.5.2";
