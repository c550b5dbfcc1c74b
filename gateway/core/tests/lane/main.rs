//! Two lanes, or a lane and an attacker, joined in memory, with real handshakes.

mod bad_input;
mod host;
mod network;
mod offload;
mod paths;
mod sessions;
mod source_routes;
