//! The targets: each takes an input and panics if something that must hold does not.

pub mod config;
pub mod datagram;
pub mod device;
pub mod exchange;
pub mod handshake;
mod input;
mod pair;

/// Takes one input.
pub type Target = fn(&[u8]);

/// All of them, by name.
pub const ALL: &[(&str, Target)] = &[
    ("device", device::run),
    ("datagram", datagram::run),
    ("handshake", handshake::run),
    ("exchange", exchange::run),
    ("config", config::run),
];
