//! The control side of a gateway in Kubernetes: one task that decides ([`actor`]), a task a link and
//! a dialling attempt, and the packet path behind a trait ([`plane`]).
//!
//! Pure parts: [`config`] (parsing), [`dialling`] (when to dial whom), [`peer`] (what is known of a
//! peer), [`paths`] (the ways to its gateways), [`derive`] (from that to the packet path), [`state`] (what to
//! report when), [`drain`] (when to end). Questions about services pass by them ([`relay`]).

pub mod actor;
pub mod cache;
pub mod config;
pub mod derive;
pub mod dial;
pub mod dialling;
pub mod drain;
mod drill;
pub mod failures;
pub mod http;
pub mod link;
pub mod offloads;
pub mod paths;
pub mod peer;
pub mod plane;
pub mod pod_plane;
pub mod relay;
pub mod run;
pub mod sparing;
pub mod state;
pub mod view;
