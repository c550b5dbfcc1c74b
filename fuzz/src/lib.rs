//! What is fuzzed: everything that takes bytes from outside.

pub mod targets;
