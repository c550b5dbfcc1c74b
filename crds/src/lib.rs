//! Carrick's Kubernetes API types, group `carrick.dev`, version `v1alpha1`; all cluster-scoped. Beside them, those of the
//! Multi-Cluster Services API ([`service`]).
//!
//! A `spec` holds plain strings and numbers, so that an object that is wrong can still be read and be
//! told so in its status; [`peering::parse`] turns it into a type that is known to be good. The schema
//! in the chart refuses most mistakes before that, at `kubectl apply`.

pub mod condition;
pub mod drill;
pub mod generate;
pub mod identity;
pub mod peering;
pub mod reason;
pub mod service;

pub use drill::{FailoverDrill, FailoverDrillSpec, FailoverDrillStatus};
pub use identity::{ClusterIdentity, ClusterIdentitySpec, ClusterIdentityStatus};
pub use peering::{ClusterPeering, ClusterPeeringSpec, ClusterPeeringStatus};
pub use reason::Reason;
pub use service::{ServiceExport, ServiceImport};

/// The API group of Carrick's own kinds.
pub const GROUP: &str = "carrick.dev";

/// The name of the only [`ClusterIdentity`].
pub const IDENTITY_NAME: &str = "self";

/// Set on [`ClusterIdentity`] `self` by the uninstall hook: the controller then takes Carrick off
/// every node and sets the condition `Withdrawn`.
pub const WITHDRAW_ANNOTATION: &str = "carrick.dev/withdraw";

/// Set by a person on [`ClusterIdentity`] `self`: ranges, with commas between them, that deleted
/// ClusterPeerings accepted and that need not stay unreachable.
pub const FORGET_ANNOTATION: &str = "carrick.dev/forget";
