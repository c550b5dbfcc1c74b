//! `cargo endure`: two gateways under traffic that is checked byte by byte, for as long as it takes.
//!
//! [`world`] makes the two ends, [`gateway`] puts a gateway in each, [`traffic`] sends and checks,
//! [`watch`] looks at what the gateways use. [`interop`], [`soak`], [`flood`] and [`weather`] are the runs; each
//! gives a [`report::Report`], whose verdict names what fell short.

pub mod content;
pub mod flood;
pub mod gateway;
pub mod interop;
pub mod queues;
pub mod report;
pub mod run;
pub mod soak;
pub mod tally;
pub mod traffic;
pub mod watch;
pub mod weather;
pub mod world;
