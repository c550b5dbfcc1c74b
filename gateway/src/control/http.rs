//! `/metrics`, `/healthz` and `/readyz`, on an address that only the cluster reaches.

use std::fmt::{self, Debug, Formatter};
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::view::{TunnelName, View};
use crate::dataplane::{DataplaneStats, TunnelStats};

/// Where the figures of the packet path come from.
pub type StatsSource = Arc<dyn Fn() -> DataplaneStats + Send + Sync>;

#[derive(Clone)]
struct Shared {
    view: watch::Receiver<View>,
    registry: Arc<Registry>,
}

/// Serves until `stop`.
pub async fn serve(
    address: SocketAddr,
    view: watch::Receiver<View>,
    stats: StatsSource,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Figures { view: view.clone(), stats }));
    let shared = Shared { view, registry: Arc::new(registry) };
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(shared);
    axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await
}

async fn ready(State(shared): State<Shared>) -> Response {
    match shared.view.borrow().not_ready.clone() {
        None => "ok\n".into_response(),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, why + "\n").into_response(),
    }
}

async fn metrics(State(shared): State<Shared>) -> Response {
    let mut out = String::new();
    match text::encode(&mut out, &shared.registry) {
        Ok(()) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], out).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// The metrics, made at each scrape from what is published.
struct Figures {
    view: watch::Receiver<View>,
    stats: StatsSource,
}

impl Debug for Figures {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Figures").finish_non_exhaustive()
    }
}

type Labels = Vec<(&'static str, String)>;

/// One of a tunnel's figures.
type Figure = fn(&TunnelStats) -> u64;

impl Collector for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let view = self.view.borrow().clone();
        let stats = (self.stats)();
        encode_control(&mut encoder, &view)?;
        let drops = stats
            .drops
            .iter()
            .map(|(reason, packets)| (vec![("reason", reason.label().to_owned())], *packets));
        counters(
            &mut encoder,
            "carrick_gateway_dropped_packets",
            "Packets dropped, by reason",
            drops,
        )?;
        encode_tunnels(&mut encoder, &view, &stats)
    }
}

fn encode_control(encoder: &mut DescriptorEncoder<'_>, view: &View) -> Result<(), fmt::Error> {
    let one = |value: u64| [(Vec::new(), value)];
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

fn encode_tunnels(
    encoder: &mut DescriptorEncoder<'_>,
    view: &View,
    stats: &DataplaneStats,
) -> Result<(), fmt::Error> {
    let named: Vec<(Labels, &TunnelStats)> = stats
        .tunnels
        .iter()
        .filter_map(|tunnel| Some((labels(view.tunnels.get(&tunnel.id)?), tunnel)))
        .collect();
    let values =
        |value: Figure| named.iter().map(move |(labels, tunnel)| (labels.clone(), value(tunnel)));
    let help = "1 while a session stands and something authentic came within 15 s";
    gauges(encoder, "carrick_gateway_tunnel_up", help, values(|t| u64::from(t.up)))?;
    let all: [(&str, &str, Figure); 6] = [
        ("carrick_gateway_tunnel_sessions", "WireGuard sessions established", |t| t.sessions),
        ("carrick_gateway_tunnel_initiations", "WireGuard handshakes begun", |t| t.initiations),
        ("carrick_gateway_tunnel_sent_bytes", "Inner bytes sent", |t| t.tx_bytes),
        ("carrick_gateway_tunnel_received_bytes", "Inner bytes received", |t| t.rx_bytes),
        ("carrick_gateway_tunnel_sent_packets", "Inner packets sent", |t| t.tx_packets),
        ("carrick_gateway_tunnel_received_packets", "Inner packets received", |t| t.rx_packets),
    ];
    for (name, help, value) in all {
        counters(encoder, name, help, values(value))?;
    }
    Ok(())
}

fn labels(name: &TunnelName) -> Labels {
    vec![
        ("cluster", name.cluster.to_string()),
        ("gateway", name.gateway.to_string()),
        ("lane", name.lane.to_string()),
    ]
}

fn counters(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    values: impl IntoIterator<Item = (Labels, u64)>,
) -> Result<(), fmt::Error> {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (labels, value) in values {
        family.encode_family(&labels)?.encode_counter::<NoLabelSet, u64, f64>(&value, None)?;
    }
    Ok(())
}

fn gauges(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    values: impl IntoIterator<Item = (Labels, u64)>,
) -> Result<(), fmt::Error> {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, value) in values {
        family.encode_family(&labels)?.encode_gauge(&value)?;
    }
    Ok(())
}
