//! What a standalone gateway shows of itself.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use carrick_model::TunnelKey;
use carrick_observe::{Observed, READY};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::control::http::{encode_control, labels};
use crate::control::view::View;
use crate::dataplane::{Dataplane, TunnelId, figures};

type Table = BTreeMap<TunnelId, (TunnelKey, String)>;

/// Whose a tunnel is, by key and name.
#[derive(Debug, Clone, Default)]
pub(super) struct Names(Arc<Mutex<Table>>);

impl Names {
    pub fn replace(&self, table: Table) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = table;
    }

    fn table(&self) -> Table {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The tunnel of each key.
    pub fn ids(&self) -> BTreeMap<TunnelKey, TunnelId> {
        self.table().into_iter().map(|(id, (key, _))| (key, id)).collect()
    }
}

struct Figures {
    dataplane: Arc<Dataplane>,
    names: Names,
    view: Option<watch::Receiver<View>>,
}

impl fmt::Debug for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Figures").finish_non_exhaustive()
    }
}

impl Collector for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let names = self.names.table();
        let view = self.view.as_ref().map(|view| view.borrow().clone());
        if let Some(view) = &view {
            encode_control(&mut encoder, view)?;
        }
        figures::encode(&mut encoder, &self.dataplane.stats(), |tunnel| {
            let carrick = || view.as_ref()?.tunnels.get(&tunnel.id).map(labels);
            let plain = names.get(&tunnel.id).map(|(_, name)| vec![("peer", name.clone())]);
            plain.or_else(carrick)
        })
    }
}

/// Listens, and serves until the process ends.
pub(super) async fn serve(
    address: SocketAddr,
    dataplane: Arc<Dataplane>,
    names: Names,
    view: Option<watch::Receiver<View>>,
) -> anyhow::Result<()> {
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("metrics: cannot listen on {address}; choose another address"))?;
    let mut registry = Registry::default();
    let control = view.clone();
    registry.register_collector(Box::new(Figures { dataplane, names, view }));
    let observed = Observed::new(registry, move || {
        match control.as_ref().and_then(|view| view.borrow().not_ready.clone()) {
            None => Ok(READY),
            Some(why) => Err(why),
        }
    });
    tokio::spawn(async move {
        let stop = CancellationToken::new();
        if let Err(error) = carrick_observe::serve(listener, observed.router(), stop).await {
            tracing::error!(%error, "metrics are no longer served");
        }
    });
    Ok(())
}
