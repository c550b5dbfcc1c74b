//! Carrick's gateway: carries packets between clusters through userspace WireGuard.
//!
//! [`dataplane`] moves the packets, [`pod`] sets up the devices inside a gateway's pod, [`standalone`]
//! runs a gateway from a file and without Kubernetes.

pub mod dataplane;
pub mod pod;
pub mod standalone;
