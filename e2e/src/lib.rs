//! Real Kubernetes clusters on one machine, joined by an emulated wide-area
//! network: for daily work, for the demo, and for the tests that need them.
//!
//! A lab is a set of *machines*: each a process that holds namespaces of its
//! own (network, mounts, processes, host name). Killing that process is a power
//! cut. What a lab made is in its record on disk before it is made, so that
//! another process can always remove it.

pub mod address;
pub mod carrick;
pub mod cluster;
pub mod conformance;
pub mod error;
pub mod helper;
pub mod host;
pub mod image;
pub mod lab;
pub mod lock;
pub mod machine;
pub mod outages;
pub mod parts;
pub mod pki;
pub mod probes;
pub mod progress;
pub mod run;
pub mod spec;
pub mod spread;
pub mod standstill;
pub mod state;
pub mod turns;
pub mod wait;

pub use error::{Error, Result};
pub use lab::Lab;
pub use spec::{Family, LabSpec};
