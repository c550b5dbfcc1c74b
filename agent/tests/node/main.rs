//! The agent on nodes of its own: network namespaces that each test makes. Needs root.

mod controller;
mod gateways;
mod kernel;
mod mesh;
mod running;
mod support;
