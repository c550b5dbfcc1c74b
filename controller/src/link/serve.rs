//! Takes what comes in on the exchange's port.

use carrick_crds::Reason;
use carrick_exchange::{Arrival, Credentials, Exchange, Incoming};
use tokio::sync::mpsc::Sender;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tracing::{debug, error};

use super::join::Registrar;
use super::session;
use crate::book::Books;
use crate::event::Event;
use crate::metrics::Metrics;

/// A reason as a metric's label: words that the other side chose are not repeated.
fn label(reason: &str) -> &'static str {
    reason.parse().map_or("Other", Reason::as_str)
}

/// Serves joiners and members until it is dropped; sessions end with it. What it holds is bounded by
/// the exchange's own limits.
///
/// It begins once `synced` says who the members are: until then `exchange`, which must have no
/// credentials yet, stays silent, because it would refuse everybody.
pub async fn serve(
    exchange: Exchange,
    credentials: Credentials,
    synced: oneshot::Receiver<()>,
    registrar: Registrar,
    books: Books,
    events: Sender<Event>,
    metrics: Metrics,
) {
    if synced.await.is_err() {
        return;
    }
    if let Err(error) = exchange.set_credentials(credentials) {
        error!(%error, "cannot serve gateways and agents");
        return;
    }
    let mut tasks: JoinSet<()> = JoinSet::new();
    loop {
        let Incoming { remote, result } = tokio::select! {
            incoming = exchange.accept() => incoming,
            Some(_) = tasks.join_next() => continue,
        };
        match result {
            Ok(Arrival::Join(attempt)) => {
                let registrar = registrar.clone();
                tasks.spawn(async move { registrar.answer(attempt).await });
            }
            Ok(Arrival::Link(link)) => {
                tasks.spawn(session::run(link, registrar.clone(), books.clone(), events.clone()));
            }
            Err(error) => {
                metrics.refused_link(label(error.reason()));
                debug!(%remote, reason = error.reason(), %error, "connection refused");
            }
        }
    }
}
