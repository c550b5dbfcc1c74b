//! Streams of failover drills: this node sends numbered packets to a remote node, as users' packets go, and
//! measures what becomes of them.

mod connection;
mod flow;
mod histogram;
mod meter;
pub mod order;
pub mod shell;

pub use order::Order;
