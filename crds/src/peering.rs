//! ClusterPeering: this cluster's half of the consent between two clusters.

mod namespaces;
pub mod parse;
mod spec;
mod status;

pub use namespaces::{NamespaceError, Namespaces};
pub use parse::{FieldError, Peering};
pub use spec::*;
pub use status::*;
