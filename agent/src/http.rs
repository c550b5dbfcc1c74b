//! What the agent shows of itself, on the node's loopback address.

use carrick_observe::{Observed, READY};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::metrics::Figures;
use crate::view::View;

/// Serves until `stop`.
pub async fn serve(
    listener: TcpListener,
    view: watch::Receiver<View>,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Figures(view.clone())));
    let readiness = move || match view.borrow().not_ready.clone() {
        None => Ok(READY),
        Some(why) => Err(why),
    };
    carrick_observe::serve(listener, Observed::new(registry, readiness).router(), stop).await
}
