//! `/metrics`, `/healthz` and `/readyz`, on the node's loopback address.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::metrics::Figures;
use crate::view::View;

#[derive(Clone)]
struct Shared {
    view: watch::Receiver<View>,
    registry: Arc<Registry>,
}

/// Serves until `stop`.
pub async fn serve(
    listener: TcpListener,
    view: watch::Receiver<View>,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Figures(view.clone())));
    let shared = Shared { view, registry: Arc::new(registry) };
    let router = Router::new()
        // The agent has one thread: who answers here is alive.
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
