//! Services across clusters, as KEP-1645 says: ServiceExports out, ServiceImports in.
//!
//! Data flows one way. [`watch`] turns what the Kubernetes API says into [`facts`]; [`discover`] makes an export of them;
//! [`merge`] makes one import of the exports of all clusters; [`choice`] says which of them serve it here, [`render`] says which objects that takes, [`plan`] which of
//! them differ, [`conditions`] what people are told; [`queue`] and [`write`](mod@write) bring it into the API. Only
//! [`task`] waits for anything. What other clusters export comes in by a channel, what this one exports goes out by one,
//! and which part of both a peer has to do with says [`consent`].

pub mod choice;
pub mod conditions;
pub mod consent;
pub mod discover;
pub mod facts;
pub mod merge;
pub mod misnamed;
pub mod names;
pub mod plan;
pub mod queue;
pub mod remove;
pub mod render;
pub mod room;
pub mod state;
pub mod task;
pub mod watch;
pub mod wish;
pub mod write;

use std::collections::BTreeMap;
use std::sync::Arc;

use carrick_model::{ClusterId, ExportedService, ServiceName};

/// Exported services by name.
pub type Services = BTreeMap<ServiceName, Arc<ExportedService>>;

/// What another cluster exports to us.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RemoteServices {
    /// All that it exports and we take; `None` before anything was heard of it, as after a start of this controller: what
    /// was imported from it earlier then stays as it is.
    pub services: Option<Arc<Services>>,
    /// Whether packets get there.
    pub access: Access,
}

/// Whether new connections may be led to a cluster.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Access {
    /// No: its data path is declared down.
    #[default]
    Lost,
    /// Packets get there again, not for long, or no longer, since a moment: only where no other cluster serves, for the
    /// alternative is a refusal.
    LastResort,
    /// Yes.
    Full,
}

/// What all other clusters export, by cluster. One that is not in it is no peer any more. `None` before it is known
/// who the peers are: nothing is changed until then.
pub type Remotes = Option<BTreeMap<ClusterId, RemoteServices>>;

/// What this cluster exports to anybody; `None` before that is known, which peers must not take for nothing.
pub type Exports = Option<Services>;
