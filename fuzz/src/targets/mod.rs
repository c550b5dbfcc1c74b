//! The targets: each takes an input and panics if something that must hold does not.

pub mod datagram;
pub mod device;
pub mod handshake;
mod input;
mod pair;

/// All of them, by name.
pub const ALL: &[(&str, fn(&[u8]))] =
    &[("device", device::run), ("datagram", datagram::run), ("handshake", handshake::run)];
