//! FailoverDrill: a fault that is injected on purpose, and the proof of what traffic made of it.

pub mod parse;
mod spec;
mod status;

pub use parse::{Bounds, Direction, Drill, DrillFieldError, Fault};
pub use spec::*;
pub use status::*;
