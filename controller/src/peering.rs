//! ClusterPeering: dereference ([`object`]), validate ([`resolve`]), status ([`conditions`],
//! [`status`]). The plan in between is [`crate::plan`].

pub mod conditions;
pub mod object;
pub mod resolve;
pub mod services;
pub mod status;

pub use object::PeeringObject;
pub use resolve::{OwnCluster, Resolved, Standing, resolve};
