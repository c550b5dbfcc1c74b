//! Two lanes, or a lane and an attacker, joined in memory, with real handshakes.

mod bad_input;
mod faults;
mod health;
mod host;
mod network;
mod nodes;
mod offload;
mod paths;
mod sessions;
mod several;
mod source_routes;
