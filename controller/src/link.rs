//! The links to our own gateways and agents: who may join ([`admission`], [`join`]), who is served
//! ([`serve`]), and one session a link ([`session`]), whose
//! reports are cut to bounds.

pub mod admission;
mod bounds;
pub mod join;
pub mod serve;
pub mod session;
