//! Emulates the wide-area links between sites: each site is a network namespace that gets
//! one TUN device, and every ordered pair of sites has conditions (delay, loss, rate, cuts …)
//! that can change at run time.
//!
//! [`link`] is the model: pure, seeded, driven by times that the caller passes. [`emulator`]
//! is the thin shell around it: one thread a site, which alone owns what leaves that site.

pub mod bench;
pub mod conditions;
pub mod config;
pub mod control;
pub mod emulator;
mod icmp;
pub mod link;
pub mod netns;
mod pool;
pub mod route;
mod site;
pub mod stats;
pub mod sys;

pub use conditions::{Conditions, NamedConditions};
pub use config::{Config, SiteConfig};
pub use control::Control;
pub use emulator::Emulator;
pub use stats::Stats;
