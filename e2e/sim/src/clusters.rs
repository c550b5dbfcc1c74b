//! Clusters with gateways, nodes and agents on a network with faults, in virtual time, from a seed.
//!
//! [`world`] runs one; [`story`] is what happens in it, [`judge`] what must hold, [`crowd`] runs many.
//! Real are the gateways' lanes, the agents' watch and plan, the sessions between gateways with what they
//! agree on, and the signed word of each cluster with what is believed of it. Modelled are links, NAT, the kernel's choice among next hops, the QUIC connections below
//! the sessions, and what a controller tells its agents and gateways.

mod control;
mod controller;
pub mod crowd;
mod gateway;
mod judge;
mod links;
mod node;
mod packet;
mod place;
pub mod story;
mod traffic;
mod wire;
pub mod world;
