//! Failover drills: this node sends numbered packets to a remote node, as users' packets go, and measures what
//! becomes of them; and it gives up its link to the controller where that is the fault.

mod connection;
mod flow;
mod histogram;
mod meter;
pub mod order;
pub mod shell;
pub mod unlink;

pub use order::Order;
