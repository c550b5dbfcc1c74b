//! `carrick-controller run`: stands by, leads, and stands by again.

use std::sync::Arc;

use anyhow::Context as _;
use kube::client::ClientBuilder;
use kube::{Client, Config};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::gate::Gate;
use crate::http::{Board, Standing, router};
use crate::leader::Elector;
use crate::metrics::Metrics;
use crate::options::{RunOptions, Settings, reserved_addresses};
use crate::term::Term;

const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Runs until SIGTERM or SIGINT.
pub async fn run(options: RunOptions) -> anyhow::Result<()> {
    // Reserved addresses are a safety net; a pod without resolv.conf has no DNS to protect.
    let resolv_conf = tokio::fs::read_to_string(RESOLV_CONF).await.unwrap_or_default();
    let api_server = std::env::var("KUBERNETES_SERVICE_HOST").ok();
    let reserved = reserved_addresses(&resolv_conf, api_server.as_deref());
    let settings = Arc::new(Settings::check(&options, &reserved)?);
    let gate = Gate::default();
    let client = client(&gate).await.context("cannot find the Kubernetes API")?;

    let metrics = Metrics::default();
    let mut registry = Registry::with_prefix("carrick_controller");
    metrics.register(&mut registry);
    let board = Board::default();
    let address = options.http_address;
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on TCP {address} (--http-address)"))?;
    let http = tokio::spawn(axum::serve(listener, router(board.clone(), registry)).into_future());

    let stop = CancellationToken::new();
    tokio::spawn(stop_on_signal(stop.clone())?);
    info!(cluster = %settings.cluster, version = env!("CARGO_PKG_VERSION"), "started");
    let holder = format!("{}_{}", options.pod.pod_name, options.pod.pod_uid);
    let mut elector = Elector::new(&client, &settings.namespace, holder);
    let (shown, counted) = (board.clone(), metrics.clone());
    let term = Term { client, gate, settings, options, metrics: counted, board: shown };
    let ended = stop.run_until_cancelled(terms(&term, &mut elector, &board, &metrics)).await;
    if ended.is_none() {
        info!("stopping");
        elector.release().await;
    }
    http.abort();
    Ok(())
}

/// A client whose requests pass `gate`.
async fn client(gate: &Gate) -> anyhow::Result<Client> {
    let config = Config::infer().await?;
    Ok(ClientBuilder::try_from(config)?.with_layer(gate).build())
}

async fn terms(term: &Term, elector: &mut Elector, board: &Board, metrics: &Metrics) {
    loop {
        elector.acquire(|| board.set(Standing::StandingBy)).await;
        metrics.set_leader(true);
        tokio::select! {
            () = elector.keep() => warn!("the term is over"),
            never = term.serve() => match never {},
        }
        metrics.set_leader(false);
        board.set(Standing::Starting);
    }
}

/// A future that ends, and cancels `stop`, at the first SIGTERM or SIGINT.
fn stop_on_signal(
    stop: CancellationToken,
) -> anyhow::Result<impl Future<Output = ()> + Send + 'static> {
    let mut term = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.cancel();
    })
}
