//! What the gateway shows of itself, on an address that only the cluster reaches.

use std::fmt::{self, Debug, Formatter};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use carrick_observe::figures::{Labels, counters, gauges, one};
use carrick_observe::{Observed, READY};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::plane::Plane;
use super::view::{TunnelName, View};
use crate::dataplane::{TunnelStats, figures};

/// Serves until `stop`.
pub async fn serve<P: Plane>(
    address: SocketAddr,
    view: watch::Receiver<View>,
    plane: Arc<P>,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    let foreign = Arc::new(AtomicU64::new(0));
    let figures = Figures { view: view.clone(), plane: plane.clone(), foreign: foreign.clone() };
    let mut registry = Registry::default();
    registry.register_collector(Box::new(figures));
    let readiness = move || match view.borrow().not_ready.clone() {
        None => Ok(READY),
        Some(why) => Err(why),
    };
    let observed = Observed::new(registry, readiness).before_scrape(move || {
        let (plane, foreign) = (plane.clone(), foreign.clone());
        async move {
            if let Some(packets) = plane.foreign_packets().await {
                foreign.store(packets, Ordering::Relaxed);
            }
        }
    });
    carrick_observe::serve(listener, observed.router(), stop).await
}

/// The metrics, made at each scrape from what is published.
struct Figures<P> {
    view: watch::Receiver<View>,
    plane: Arc<P>,
    foreign: Arc<AtomicU64>,
}

impl<P> Debug for Figures<P> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Figures").finish_non_exhaustive()
    }
}

impl<P: Plane> Collector for Figures<P> {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let view = self.view.borrow().clone();
        let stats = self.plane.stats();
        encode_control(&mut encoder, &view)?;
        let foreign = self.foreign.load(Ordering::Relaxed);
        let help = "VXLAN packets dropped because they came from elsewhere than a node";
        counters(&mut encoder, "carrick_gateway_foreign_vxlan_packets", help, one(foreign))?;
        let name = |tunnel: &TunnelStats| Some(labels(view.tunnels.get(&tunnel.id)?));
        figures::encode(&mut encoder, &stats, name)
    }
}

/// What control says of itself.
pub(crate) fn encode_control(
    encoder: &mut DescriptorEncoder<'_>,
    view: &View,
) -> Result<(), fmt::Error> {
    let ready = u64::from(view.not_ready.is_none());
    gauges(encoder, "carrick_gateway_ready", "1 when ready", one(ready))?;
    let help = "Generation of the configuration that is applied";
    gauges(encoder, "carrick_gateway_config_generation", help, one(view.applied))?;
    let links = view.links.iter();
    let links = links.map(|(cluster, count)| (vec![("cluster", cluster.clone())], *count));
    gauges(encoder, "carrick_gateway_links", "Live links to gateways of a peer", links)?;
    let counts = &view.counts;
    for (name, help, value) in [
        ("carrick_gateway_configs", "Configurations that the controller sent", counts.configs),
        ("carrick_gateway_applies", "Changes given to the packet path", counts.applies),
        ("carrick_gateway_reports", "Reports sent to the controller", counts.reports),
        ("carrick_gateway_links_made", "Links with remote gateways that came about", counts.links),
    ] {
        counters(encoder, name, help, one(value))?;
    }
    let failures = counts.failures.iter();
    let failures = failures.map(|(reason, count)| (vec![("reason", reason.clone())], *count));
    let help = "Attempts to link that failed, by reason";
    counters(encoder, "carrick_gateway_connect_failures", help, failures)
}

pub(crate) fn labels(name: &TunnelName) -> Labels {
    vec![
        ("cluster", name.cluster.to_string()),
        ("gateway", name.gateway.to_string()),
        ("lane", name.lane.to_string()),
    ]
}
