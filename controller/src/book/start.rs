//! Starts what carries services between clusters, for one term of leadership.

use std::sync::Arc;

use carrick_exchange::ClusterIdentity;
use carrick_model::ClusterId;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::connect::connect;
use super::{Books, Desk, Gateways, Heard, Sight, publish, subscribe, tell};
use crate::event::Event;
use crate::metrics::Metrics;
use crate::services::{Exports, Remotes};

/// What makes exports and imports of this cluster's services.
#[derive(Debug)]
pub struct Ends {
    /// What we export.
    pub exports: watch::Receiver<Exports>,
    /// How many services of one peer there is room for.
    pub room: watch::Receiver<Option<usize>>,
    /// Where it is said what other clusters export.
    pub remotes: watch::Sender<Remotes>,
}

/// What is connected with the rest.
#[derive(Debug)]
pub struct Started {
    /// For links to gateways.
    pub books: Books,
    /// Who the peers are goes in here.
    pub sight: watch::Sender<Option<Sight>>,
}

/// Starts it, in `tasks`. `own` is our cluster, `namespace` Carrick's own. Without `ends` no services are shared: who
/// asks is refused, and nobody is asked. How they are shared is told by `events`.
pub fn start(
    own: &ClusterId,
    namespace: &str,
    identity: Arc<ClusterIdentity>,
    ends: Option<Ends>,
    events: &mpsc::Sender<Event>,
    metrics: &Metrics,
    tasks: &mut JoinSet<()>,
) -> Started {
    let (desk, gateways) = (Desk::new(own, identity, metrics.clone()), Gateways::default());
    let (sight, sights) = watch::channel(None);
    if let Some(Ends { exports, room, remotes }) = ends {
        let (hearing, heard) = watch::channel(Heard::new());
        let (own, namespace) = (own.clone(), namespace.to_owned());
        tasks.spawn(publish(desk.clone(), sights.clone(), exports));
        tasks.spawn(connect(
            namespace.clone(),
            sights.clone(),
            heard.clone(),
            room.clone(),
            remotes,
        ));
        tasks.spawn(tell(desk.clone(), heard, room, events.clone()));
        tasks.spawn(subscribe(own, namespace, sights, gateways.clone(), hearing, metrics.clone()));
    }
    Started { books: Books { desk, gateways }, sight }
}
