//! What happens to the world: one queue of typed events, drained by the engine.

use std::net::IpAddr;
use std::sync::Arc;

use carrick_crds::ClusterIdentity;
use carrick_exchange::message::member::{AgentState, FromController, GatewayState};
use carrick_model::{MemberName, Role};
use kube::runtime::watcher::Event as Watched;
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

/// What a watch lists before all of it counts at once.
#[derive(Debug)]
pub struct Listing<T>(Vec<(String, T)>);

impl<T> Default for Listing<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Listing<T> {
    /// The change that this is of a watch, if it is one by itself. `read` gives an object's key, and what is to be known of
    /// it, if anything is.
    pub fn take<K>(
        &mut self,
        watched: Watched<K>,
        read: impl Fn(K) -> (String, Option<T>),
    ) -> Option<Change<T>> {
        match watched {
            Watched::Init => {
                self.0.clear();
                None
            }
            Watched::InitApply(object) => {
                let (key, value) = read(object);
                self.0.extend(value.map(|value| (key, value)));
                None
            }
            Watched::InitDone => Some(Change::All(std::mem::take(&mut self.0))),
            Watched::Apply(object) => Some(match read(object) {
                (key, Some(value)) => Change::Set(key, value),
                (key, None) => Change::Gone(key),
            }),
            Watched::Delete(object) => Some(Change::Gone(read(object).0)),
        }
    }
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
