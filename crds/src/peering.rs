//! ClusterPeering: this cluster's half of the consent between two clusters.

pub mod parse;
mod spec;
mod status;

pub use parse::{FieldError, Peering};
pub use spec::*;
pub use status::*;
