//! Carrick's node agent.
//!
//! It makes its node so that packets for remote clusters go through one VXLAN device to the gateways,
//! and says what it sees: which pods are on the node, and whether full-size packets come back from
//! the nodes of every remote cluster.
//!
//! [`config`] parses what the controller orders, [`plan`] turns it into kernel objects without
//! touching anything, [`node`] makes the kernel so, [`probe`] measures, [`agent`] ties them together
//! in one thread. [`drill`] sends the streams of failover drills. What must survive the process is in [`store`]. On exit the node keeps working.

pub mod agent;
pub mod claims;
pub mod config;
pub mod drill;
pub mod http;
pub mod metrics;
mod mix;
pub mod node;
pub mod options;
pub mod plan;
pub mod probe;
pub mod report;
pub mod run;
pub mod shortcut;
pub mod store;
mod sys;
mod timer;
pub mod view;

#[cfg(test)]
mod samples;
