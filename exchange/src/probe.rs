//! End-to-end probes: what goes over the wire, and who is answered. Agents probe; who answers is an agent
//! or a standalone gateway.

pub mod packet;
pub mod responder;

/// UDP port, on mesh addresses only.
pub const PORT: u16 = 7824;
