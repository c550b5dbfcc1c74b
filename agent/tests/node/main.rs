//! The agent on nodes of its own: network namespaces that each test makes. Needs root.

mod controller;
mod kernel;
mod mesh;
mod support;
