//! Two lanes joined by an emulated network, in virtual time.
//!
//! The lanes are the gateway's own. Time is ours: what a lane is told and what boringtun reads from its
//! mock clock (which is the thread's own) are moved together, so that a day passes in seconds. Chance
//! comes from a seed. The only randomness that is not ours is in keys and sealed bytes, which no
//! decision depends on.

pub mod clusters;
mod ledger;
mod packet;
mod random;
mod weather;
mod world;

pub use ledger::Ledger;
pub use packet::{MOST_IN_TRAIN, TRAIN_PAYLOAD};
pub use random::Random;
pub use weather::Weather;
pub use world::{LEFT, RIGHT, World};
