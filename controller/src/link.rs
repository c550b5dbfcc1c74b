//! The links to our own gateways and agents: who may join ([`admission`], [`join`]), who is served
//! ([`serve`]), and one session a link ([`session`]).

pub mod admission;
pub mod join;
pub mod serve;
pub mod session;
