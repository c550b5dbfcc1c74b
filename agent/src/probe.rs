//! Whether full-size packets really cross to remote nodes and back, with the source they left with.
//!
//! [`prober`] is the machine: time and answers in, packets and verdicts out. [`packet`] is what goes
//! over the wire, [`responder`] decides what is answered, [`shell`] has the sockets.

pub mod packet;
pub mod prober;
pub mod responder;
pub mod shell;

/// UDP port, on mesh addresses only.
pub const PORT: u16 = 7824;
