//! What Carrick's daemons show of themselves: `/healthz`, `/readyz` and `/metrics` over HTTP, on an
//! address that only the node or the cluster reaches.
//!
//! [`Observed`] has the three routes, [`figures`] encodes numbers that are made at each scrape.

pub mod figures;

use std::fmt;
use std::future::IntoFuture as _;
use std::pin::Pin;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// How a process stands: a word when it is ready, else why it is not.
pub type Readiness = Result<&'static str, String>;

/// The word of a process of which there is nothing more to say.
pub const READY: &str = "ok";

type Wait = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What a process shows of itself.
#[derive(Clone)]
pub struct Observed {
    registry: Arc<Registry>,
    readiness: Arc<dyn Fn() -> Readiness + Send + Sync>,
    before_scrape: Option<Arc<dyn Fn() -> Wait + Send + Sync>>,
}

impl Observed {
    /// Shows these metrics. `readiness` is asked at each request, and must not wait.
    pub fn new(
        registry: Registry,
        readiness: impl Fn() -> Readiness + Send + Sync + 'static,
    ) -> Self {
        let (registry, readiness) = (Arc::new(registry), Arc::new(readiness));
        Self { registry, readiness, before_scrape: None }
    }

    /// Lets `refresh` run before each scrape, which waits for it: for what has to be read first.
    pub fn before_scrape<F>(mut self, refresh: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.before_scrape = Some(Arc::new(move || Box::pin(refresh())));
        self
    }

    /// The three routes.
    pub fn router(self) -> Router {
        Router::new()
            // Who answers here is alive: the daemons decide on the thread that serves this.
            .route("/healthz", get(|| async { "ok\n" }))
            .route("/readyz", get(ready))
            .route("/metrics", get(metrics))
            .with_state(self)
    }
}

impl fmt::Debug for Observed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observed").field("registry", &self.registry).finish_non_exhaustive()
    }
}

/// Serves until `stop`.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    stop: CancellationToken,
) -> std::io::Result<()> {
    axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).into_future().await
}

async fn ready(State(observed): State<Observed>) -> Response {
    match (observed.readiness)() {
        Ok(word) => format!("{word}\n").into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, why + "\n").into_response(),
    }
}

async fn metrics(State(observed): State<Observed>) -> Response {
    if let Some(refresh) = &observed.before_scrape {
        refresh().await;
    }
    let mut out = String::new();
    match text::encode(&mut out, &observed.registry) {
        Ok(()) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], out).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
