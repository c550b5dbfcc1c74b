//! Gateways at work between network namespaces that the tests make. They need root.

mod bad_files;
mod capture;
mod carrick;
mod lanes;
mod mtu;
mod pod;
mod process;
mod standalone;
mod support;
