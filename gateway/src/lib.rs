//! Carrick's gateway: carries packets between clusters through userspace WireGuard.
//!
//! [`control`] talks with the controller and other gateways, [`dataplane`] moves the packets, [`pod`] sets up the devices inside a gateway's pod, [`standalone`]
//! runs a gateway from a file and without Kubernetes, [`ways`] asks the kernel about the underlay.

pub mod control;
pub mod dataplane;
pub mod pod;
pub mod standalone;
pub mod ways;
