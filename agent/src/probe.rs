//! Whether full-size packets really cross to remote nodes and back, with the source they left with.
//!
//! [`prober`] is the machine: time and answers in, packets and verdicts out. [`packet`] is what goes
//! over the wire, [`responder`] decides what is answered, [`shell`] has the sockets. [`gateways`] is about
//! our own cluster's gateways.

pub mod gateways;
pub mod prober;
pub mod shell;

pub use carrick_exchange::probe::{PORT, packet, responder};
