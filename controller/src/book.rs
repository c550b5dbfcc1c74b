//! What we export to other clusters, and what they export to us, from controller to controller.
//!
//! The [`Desk`] answers what other clusters ask of ours, and [`subscribe`] asks theirs; both by way of our
//! gateways, whose links are in [`Gateways`]. Who the peers are and how they are reached is the engine's
//! [`Sight`]. Nothing is stored: a controller that begins asks again.

mod connect;
mod desk;
mod gateways;
mod path;
mod publish;
mod reach;
mod sight;
mod start;
mod subscribe;
mod tell;

use std::collections::BTreeMap;
use std::sync::Arc;

use carrick_exchange::book::Imports;
use carrick_exchange::message::service::{Answer, answer};
use carrick_model::ClusterId;

pub use desk::Desk;
pub use gateways::Gateways;
pub use publish::publish;
pub use reach::{Reach, Word};
pub use sight::{PeerSight, Sight, sight};
pub use start::{Ends, Started, start};
pub use subscribe::subscribe;
pub use tell::{Shared, Told, tell};

/// What all our links to gateways need for questions about services.
#[derive(Debug, Clone)]
pub struct Books {
    /// Answers what others ask.
    pub desk: Desk,
    /// Whom we can ask.
    pub gateways: Gateways,
}

/// What has been heard of each cluster from which something is imported.
pub type Heard = BTreeMap<ClusterId, Hearing>;

/// What has been heard of one cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hearing {
    /// What it exports, as far as it is believed; `None` before the first came.
    pub imports: Option<Arc<Imports>>,
    /// Why nothing newer is known: a CamelCase reason, and a text for a person.
    pub error: Option<(&'static str, String)>,
}

/// What an answer is, for counters.
fn word(answer: &Answer) -> &'static str {
    match answer.kind {
        Some(answer::Kind::Head(_)) => "head",
        Some(answer::Kind::Unchanged(_)) => "unchanged",
        Some(answer::Kind::Pieces(_)) => "pieces",
        Some(answer::Kind::Refused(_)) => "refused",
        None => "unknown",
    }
}
