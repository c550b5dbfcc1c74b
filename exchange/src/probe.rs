//! End-to-end probes: what goes over the wire, and who is answered. Agents probe; who answers is an agent
//! or a standalone gateway. What agents ask gateways of their own cluster is in
//! [`carrick_model::gateway_probe`]: those answer on their packet path, which knows no exchange.

pub mod packet;
pub mod responder;
pub mod stream;
mod tokens;

/// UDP port, on mesh addresses only.
pub const PORT: u16 = 7824;
