//! Watches of the Kubernetes API, as events. An object that cannot be read never stops a watch: those
//! whose text users write are watched untyped.

use std::fmt::Debug;

use carrick_crds::{ClusterIdentity, ClusterPeering, FailoverDrill, IDENTITY_NAME};
use futures::{Stream, TryStreamExt as _};
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, DynamicObject};
use kube::runtime::watcher::{self, Event as Watched};
use kube::runtime::{WatchStreamExt as _, watcher as start};
use kube::{Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc::Sender;
use tokio::task::JoinSet;
use tracing::warn;

use super::pauses::Pauses;
use super::{AgentScheduling, NodeFacts, PodFacts, ServiceFacts, api_server};
use crate::drill::DrillObject;
use crate::event::{Change, Event, Listing};
use crate::metrics::Metrics;
use crate::peering::PeeringObject;

/// Starts all watches in `tasks`; `agents` says where agents are wanted.
pub fn spawn(
    client: &Client,
    namespace: &str,
    agents: &AgentScheduling,
    metrics: &Metrics,
    events: &Sender<Event>,
    tasks: &mut JoinSet<()>,
) {
    let resource = kube::api::ApiResource::erase::<ClusterPeering>(&());
    let services = Api::<Service>::namespaced(client.clone(), namespace);
    let agents = agents.clone();
    let nodes = move |node: Node| (node.name_any(), Some(NodeFacts::read(&node, &agents)));
    let pods = |pod: Pod| (pod.uid().unwrap_or_default(), PodFacts::read(&pod));
    let services_of = |service: Service| (service.name_any(), Some(ServiceFacts::from(&service)));
    let peerings = |object: DynamicObject| (object.name_any(), Some(PeeringObject::from(object)));

    let feed = Feed { metrics: metrics.clone(), events: events.clone() };
    let all_nodes = stream(Api::<Node>::all(client.clone()));
    tasks.spawn(feed.clone().run("nodes", all_nodes, nodes, Event::Nodes));
    let all_pods = stream(Api::<Pod>::all(client.clone()));
    tasks.spawn(feed.clone().run("pods", all_pods, pods, Event::Pods));
    let ours = stream(services);
    tasks.spawn(feed.clone().run("services", ours, services_of, Event::Services));
    let slices = Api::<EndpointSlice>::namespaced(client.clone(), api_server::NAMESPACE);
    let slices = stream_of(slices, config().labels(api_server::SELECTOR));
    let addresses = |slice: EndpointSlice| (slice.name_any(), Some(api_server::addresses(&slice)));
    tasks.spawn(feed.clone().run("endpointslices", slices, addresses, Event::ApiServer));
    let objects = Api::<DynamicObject>::all_with(client.clone(), &resource);
    tasks.spawn(feed.clone().run("clusterpeerings", stream(objects), peerings, |change| {
        Event::Peerings(Box::new(change))
    }));
    let resource = kube::api::ApiResource::erase::<FailoverDrill>(&());
    let objects = Api::<DynamicObject>::all_with(client.clone(), &resource);
    let drills = |object: DynamicObject| (object.name_any(), Some(DrillObject::from(object)));
    let wrap = |change| Event::Drills(Box::new(change));
    tasks.spawn(feed.clone().run("failoverdrills", stream(objects), drills, wrap));
    tasks.spawn(feed.identity(client.clone()));
}

/// How long one watch request lasts, in seconds. A connection that died silently is noticed when it
/// should have ended.
const WATCH_SECONDS: u32 = 60;

fn config() -> watcher::Config {
    watcher::Config::default().timeout(WATCH_SECONDS)
}

/// A watch that begins anew by itself, with pauses.
pub fn stream<K>(api: Api<K>) -> impl Stream<Item = Result<Watched<K>, watcher::Error>> + Send
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    stream_of(api, config())
}

/// As [`stream`], of some objects of a kind.
fn stream_of<K>(
    api: Api<K>,
    config: watcher::Config,
) -> impl Stream<Item = Result<Watched<K>, watcher::Error>> + Send
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    start(api, config).backoff(Pauses::default())
}

#[derive(Clone)]
struct Feed {
    metrics: Metrics,
    events: Sender<Event>,
}

impl Feed {
    async fn run<K, T>(
        self,
        what: &'static str,
        stream: impl Stream<Item = Result<Watched<K>, watcher::Error>> + Send,
        read: impl Fn(K) -> (String, Option<T>),
        wrap: impl Fn(Change<T>) -> Event,
    ) {
        let mut stream = Box::pin(stream);
        let mut listing = Listing::default();
        loop {
            let change = match stream.try_next().await {
                Ok(Some(watched)) => match listing.take(watched, &read) {
                    Some(change) => change,
                    None => continue,
                },
                Ok(None) => return,
                Err(error) => {
                    // The stream backs off by itself before it goes on.
                    self.metrics.api_error(what);
                    warn!(what, %error, "watch failed; it will be tried again");
                    continue;
                }
            };
            if self.events.send(wrap(change)).await.is_err() {
                return;
            }
        }
    }

    /// The one ClusterIdentity. Its text is ours, but an operator may have edited it.
    async fn identity(self, client: Client) {
        let resource = kube::api::ApiResource::erase::<ClusterIdentity>(&());
        let api = Api::<DynamicObject>::all_with(client, &resource);
        let config = config().fields(&format!("metadata.name={IDENTITY_NAME}"));
        let read = |object: DynamicObject| (object.name_any(), Some(readable(object)));
        let wrap = |change: Change<ClusterIdentity>| match change {
            Change::All(all) => Event::Identity(all.into_iter().next().map(|(_, i)| Box::new(i))),
            Change::Set(_, identity) => Event::Identity(Some(Box::new(identity))),
            Change::Gone(_) => Event::Identity(None),
        };
        self.run("clusteridentities", stream_of(api, config), read, wrap).await;
    }
}

/// The object, without its status if that cannot be read: it is then written anew.
pub fn readable(object: DynamicObject) -> ClusterIdentity {
    let status = object.data.get("status").cloned().unwrap_or_default();
    let mut identity = ClusterIdentity::new(IDENTITY_NAME, Default::default());
    identity.metadata = object.metadata;
    identity.status = serde_json::from_value(status).unwrap_or_default();
    identity
}
