//! What happens to the world: one queue of typed events, drained by the engine.

use std::net::IpAddr;
use std::sync::Arc;

use carrick_crds::ClusterIdentity;
use carrick_exchange::message::member::{AgentState, FromController, GatewayState};
use carrick_model::{MemberName, Role};
use tokio::sync::{oneshot, watch};

use crate::book::Shared;
use crate::cluster::{NodeFacts, PodFacts, ServiceFacts};
use crate::drill::DrillObject;
use crate::identity::Record;
use crate::peering::PeeringObject;

/// How many events may wait. Whoever has one more waits until there is room.
pub const QUEUE: usize = 1024;

/// A change of a watched collection.
#[derive(Debug)]
pub enum Change<T> {
    /// All there is, by key: at the start, and after a watch had to begin anew.
    All(Vec<(String, T)>),
    /// This one is so now.
    Set(String, T),
    /// This one is gone.
    Gone(String),
}

/// Something happened.
#[derive(Debug)]
pub enum Event {
    /// Nodes changed.
    Nodes(Change<NodeFacts>),
    /// Pods changed.
    Pods(Change<PodFacts>),
    /// Services of our namespace changed.
    Services(Change<ServiceFacts>),
    /// The API server's own addresses changed, by EndpointSlice.
    ApiServer(Change<Vec<IpAddr>>),
    /// ClusterPeerings changed.
    Peerings(Box<Change<PeeringObject>>),
    /// FailoverDrills changed.
    Drills(Box<Change<DrillObject>>),
    /// ClusterIdentity `self` changed; `None` is gone.
    Identity(Option<Box<ClusterIdentity>>),
    /// How services are shared with peers changed.
    Shared(Box<Shared>),
    /// This record is in the API now.
    Recorded(Box<Record>),
    /// A member's link is up.
    Linked {
        /// Who.
        member: MemberKey,
        /// Which link.
        link: usize,
        /// Where its configuration goes; the newest replaces what was not yet sent.
        outgoing: Outgoing,
    },
    /// A member reported.
    Reported {
        /// Who.
        member: MemberKey,
        /// By which link.
        link: usize,
        /// What.
        report: Report,
    },
    /// A member's link broke.
    Unlinked {
        /// Who.
        member: MemberKey,
        /// Which link.
        link: usize,
    },
    /// Somebody wants to see the live state.
    Show(oneshot::Sender<serde_json::Value>),
}

/// Where a member's configuration goes.
pub type Outgoing = watch::Sender<Option<Arc<FromController>>>;

/// A member of our own cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct MemberKey {
    /// Gateway or agent.
    pub role: Role,
    /// Its name.
    pub name: MemberName,
}

/// What a member reported.
#[derive(Debug, Clone, PartialEq)]
pub enum Report {
    /// A gateway.
    Gateway(Box<GatewayState>),
    /// An agent.
    Agent(Box<AgentState>),
}
