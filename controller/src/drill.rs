//! Failover drills: one at a time, from waiting for its turn to its verdict.
//!
//! [`run`] is the machine of one drill, without clock or client; [`guard`] says which may begin and go on;
//! [`orders`] is what gateways and agents are told; [`verdict`], [`paths`] and [`status`] are what is made of their
//! reports; [`desk`] keeps all of it in line with the objects, and [`door`] shuts this controller off from the API
//! server where that is the fault.

pub mod desk;
mod door;
pub mod guard;
mod object;
mod orders;
mod paths;
pub mod run;
mod status;
mod verdict;

pub use desk::Drills;
pub use object::DrillObject;

#[cfg(test)]
mod tests;
