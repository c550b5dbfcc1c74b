//! Carrick's controller: peerings in, signed snapshots out.
//!
//! Facts of the Kubernetes API and reports of gateways and agents make a [`world`]; a pure [`plan`]
//! says what each member is to know; the [`outbox`] sends only what differs, and the [`writer`] writes
//! only what differs. The only part of Carrick with rights in Kubernetes, and the only one that holds
//! the cluster's identity key.

pub mod book;
mod brief;
pub mod cluster;
pub mod drill;
pub mod engine;
pub mod event;
pub mod gate;
pub mod http;
pub mod identity;
pub mod leader;
pub mod link;
mod live;
pub mod metrics;
mod object;
pub mod options;
pub mod outbox;
pub mod peering;
pub mod plan;
pub mod remote;
pub mod run;
#[cfg(test)]
mod scene;
pub mod services;
pub mod term;
pub mod withdraw;
pub mod world;
pub mod writer;
