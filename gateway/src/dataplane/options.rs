//! What the data plane is started with, once.

use carrick_gateway_core::SecretKey;

/// What the data plane is started with.
#[derive(Debug)]
pub struct DataplaneOptions {
    /// One a lane, by index.
    pub lanes: Vec<LaneOptions>,
    /// Where the inner packets are.
    pub device: DeviceOptions,
}

/// One lane.
#[derive(Debug, Default)]
pub struct LaneOptions {
    /// The UDP port to listen on, on all addresses of both families; 0 lets the kernel choose.
    pub port: u16,
    /// Its key; a random one when there is none.
    pub secret: Option<SecretKey>,
}

/// Which kind of device carries the inner packets. It vanishes with the data plane.
#[derive(Debug, Clone)]
pub enum DeviceOptions {
    /// Ethernet frames; the gateway is the router (in a pod, bridged with a VXLAN).
    Tap {
        /// Its name, 1–15 bytes.
        name: String,
    },
    /// IP packets; the kernel is the router (standalone).
    Tun {
        /// Its name, 1–15 bytes.
        name: String,
    },
}
