//! What control needs of the packet path: a trait, so that control runs without devices in tests.

use carrick_exchange::peer::Lane;
use carrick_gateway_core::ForwardingConfig;
use tokio::sync::watch;

use super::config::Vxlan;
use crate::dataplane::{DataplaneStats, Fault};

/// All that the packet path is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setup {
    /// The VXLAN to our nodes, who are in `forwarding`; `None` where there are none.
    pub vxlan: Option<Vxlan>,
    /// Tunnels, peers and nodes.
    pub forwarding: ForwardingConfig,
}

/// Why a set-up could not be applied, for a person.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PlaneError(pub String);

/// The packet path.
pub trait Plane: Send + Sync + 'static {
    /// Our lanes, as peers are told.
    fn lanes(&self) -> Vec<Lane>;

    /// Makes it so. An equal set-up touches nothing; tunnels with equal keys keep their sessions.
    fn apply(&self, setup: &Setup) -> impl Future<Output = Result<(), PlaneError>> + Send;

    /// Injects a drill's fault, in place of the one before; `None` ends it. It ends by itself at its time in
    /// any case.
    fn inject(&self, fault: Option<Fault>);

    /// The newest figures.
    fn stats(&self) -> DataplaneStats;

    /// VXLAN packets dropped so far because they came from elsewhere than a node; `None` when that
    /// cannot be read now.
    fn foreign_packets(&self) -> impl Future<Output = Option<u64>> + Send;

    /// Changes whenever a tunnel's state does.
    fn changes(&self) -> watch::Receiver<u64>;

    /// Becomes `Some` when the packet path has stopped by itself.
    fn failure(&self) -> watch::Receiver<Option<String>>;
}
