//! `cargo bench-tunnel`: userspace WireGuard gateways side by side, in the same rounds on the same
//! machine, between two network namespaces.
//!
//! [`plan`] says what is measured, [`world`] makes the two ends, [`contestant`] puts a gateway in
//! each, [`measure`] sends traffic, and [`report`] says what came out. Figures are medians over
//! rounds; ratios are taken inside a round, between contestants that ran minutes apart.

pub mod apart;
pub mod contestant;
pub mod control;
pub mod ledger;
pub mod machine;
pub mod measure;
pub mod metric;
pub mod plan;
pub mod process;
pub mod programs;
pub mod report;
pub mod rounds;
pub mod statistics;
pub mod world;
