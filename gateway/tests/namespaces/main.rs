//! Gateways at work between network namespaces that the tests make. They need root.

mod pod;
mod process;
mod standalone;
mod support;
