//! The rules of one connection between gateways of two clusters, without any input or output.
//!
//! Each side says [`Hello`] first. From the two Hellos both sides compute the same: which protocol
//! version holds, and for each lane whether the tunnel that both hold goes on untouched or both
//! derive a new preshared key from the connection. Then snapshots and reports flow.

pub mod dial;
mod session;
mod tunnels;

pub use dial::{DialRole, dial_role};
pub use session::{Established, Event, Session, SessionError};
pub use tunnels::{Agreed, Held, Incarnation, Lane, Psk, derive};
