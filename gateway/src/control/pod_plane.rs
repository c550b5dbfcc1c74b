//! The packet path of a gateway in its pod: the data plane with a TAP, and the devices around it.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, TryLockError};

use carrick_exchange::peer::Lane;
use carrick_netlink::Netlink;
use tokio::sync::watch;

use super::plane::{Plane, PlaneError, Setup};
use crate::dataplane::{
    Dataplane, DataplaneOptions, DataplaneStats, DeviceOptions, Fault, LaneOptions, Offloads,
    StartError,
};
use crate::pod::{PodConfig, PodError, PodNetwork, TAP};
use crate::ways;

/// The packet path in a pod.
#[derive(Debug)]
pub struct PodPlane {
    dataplane: Arc<Dataplane>,
    network: Arc<Mutex<PodNetwork>>,
    address: IpAddr,
}

/// Why the packet path did not start.
#[derive(Debug, thiserror::Error)]
pub enum PodPlaneError {
    /// Lanes or the TAP.
    #[error(transparent)]
    Dataplane(#[from] StartError),
    /// The way to the kernel.
    #[error(transparent)]
    Network(#[from] PodError),
}

impl PodPlane {
    /// Opens the TAP and `lanes` lanes from UDP port `first_port` on, in the pod with this address. Needs a
    /// tokio runtime.
    pub fn start(
        lanes: u16,
        first_port: u16,
        address: IpAddr,
        offloads: Offloads,
    ) -> Result<Self, PodPlaneError> {
        let network = Arc::new(Mutex::new(PodNetwork::open()?));
        let ports = first_port..first_port.saturating_add(lanes);
        let lanes = ports.map(|port| LaneOptions { port, secret: None }).collect();
        let device = DeviceOptions::Tap { name: TAP.to_owned() };
        let dataplane = Dataplane::start(DataplaneOptions { lanes, device, offloads })?;
        let dataplane = Arc::new(dataplane);
        tokio::spawn(ways::watch(dataplane.clone(), Netlink::open().map_err(PodError::from)?));
        Ok(Self { dataplane, network, address })
    }

    fn pod_config(&self, setup: &Setup) -> Option<PodConfig> {
        let vxlan = setup.vxlan?;
        Some(PodConfig {
            vni: vxlan.vni,
            port: vxlan.port,
            address: self.address,
            mtu: setup.forwarding.mtu,
            nodes: setup.forwarding.nodes.clone(),
        })
    }
}

impl Plane for PodPlane {
    fn lanes(&self) -> Vec<Lane> {
        let lanes = self.dataplane.lanes().iter();
        lanes.map(|l| Lane { index: l.index, key: l.public_key, port: l.port }).collect()
    }

    async fn apply(&self, setup: &Setup) -> Result<(), PlaneError> {
        // The data plane first: a withdrawal counts even while the devices cannot be set up.
        let refused = self.dataplane.apply(setup.forwarding.clone()).err();
        let Some(config) = self.pod_config(setup) else {
            return Err(PlaneError("the configuration names no VXLAN".to_owned()));
        };
        let network = self.network.clone();
        let devices = tokio::task::spawn_blocking(move || {
            network.lock().unwrap_or_else(PoisonError::into_inner).apply(&config)
        });
        let failed = match devices.await {
            Ok(Ok(writes)) => {
                tracing::debug!(writes, "the pod's devices are as they should be");
                None
            }
            Ok(Err(error)) => Some(error.to_string()),
            Err(error) => Some(error.to_string()),
        };
        match refused.map(|error| error.to_string()).or(failed) {
            None => Ok(()),
            Some(error) => Err(PlaneError(error)),
        }
    }

    fn inject(&self, fault: Option<Fault>) {
        self.dataplane.inject(fault);
    }

    fn stats(&self) -> DataplaneStats {
        self.dataplane.stats()
    }

    async fn foreign_packets(&self) -> Option<u64> {
        let network = self.network.clone();
        let read = tokio::task::spawn_blocking(move || {
            // One at a time: who finds it busy has the figure of whoever reads it now.
            let mut network = match network.try_lock() {
                Ok(network) => network,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => return Ok(None),
            };
            network.refresh().map(|()| Some(network.foreign_packets()))
        });
        match read.await {
            Ok(Ok(packets)) => packets,
            Ok(Err(error)) => {
                tracing::warn!(%error, "the pod's packet filter cannot be read");
                None
            }
            Err(error) => {
                tracing::error!(%error, "reading the pod's packet filter broke off");
                None
            }
        }
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.dataplane.changes()
    }

    fn failure(&self) -> watch::Receiver<Option<String>> {
        self.dataplane.failure()
    }
}
