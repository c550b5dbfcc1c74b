//! Control without devices: whole gateways of several clusters in one process, on loopback, with a
//! packet path that only remembers what it was told.

mod drills;
mod peers;
mod questions;
mod refusals;
mod site;
