//! Watches of what exports and imports are made of, as events. What users write is watched untyped: an object that
//! cannot be read never stops a watch.

use std::fmt::Debug;

use carrick_crds::{ServiceExport, ServiceImport};
use carrick_model::{Prefix, ServiceName};
use futures::TryStreamExt as _;
use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use kube::api::{Api, ApiResource, DynamicObject};
use kube::core::ObjectMeta;
use kube::runtime::watcher;
use kube::{Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc::Sender;
use tokio::task::JoinSet;
use tracing::{debug, info, warn};

use super::facts::{ExportFacts, SLICE_MANAGER_LABEL, ServiceFacts, SliceFacts, label};
use super::names::{SLICE_MANAGER, made_for};
use super::plan::{Held, Kind};
use crate::cluster::watch::stream;
use crate::event::{Change, Listing};
use crate::metrics::Metrics;

/// A collection changed. Keys are `namespace/name`.
#[derive(Debug)]
pub enum Seen {
    /// ServiceExports.
    Exports(Change<ExportFacts>),
    /// ServiceImports.
    Imports(Change<(ServiceName, Held)>),
    /// Services.
    Services(Change<SeenService>),
    /// EndpointSlices.
    Slices(Change<SeenSlice>),
    /// Namespaces that are not about to go; the key is the name.
    Namespaces(Change<()>),
    /// ServiceCIDRs: where Services have their addresses.
    Ranges(Change<Vec<Prefix>>),
    /// The definition of this kind is not there.
    Missing(Missing),
}

/// A definition that may not be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// ServiceExport's.
    Exports,
    /// ServiceImport's.
    Imports,
    /// ServiceCIDR's, or it may not be looked at.
    Ranges,
}

impl Missing {
    /// What follows from that, for a person.
    fn explained(self) -> &'static str {
        match self {
            Self::Exports | Self::Imports => {
                "this cluster has no such kind (multicluster.x-k8s.io/v1beta1): no service is shared; the chart installs it \
                 (services.installCRDs)"
            }
            Self::Ranges => {
                "cannot see where Services have their addresses: how many may be imported from a peer follows from the chart's \
                 serviceRanges"
            }
        }
    }
}

/// A Service.
#[derive(Debug)]
pub enum SeenService {
    /// One that may be exported.
    Theirs(ServiceFacts),
    /// One that we derived from an import.
    Ours(ServiceName, Box<Held>),
}

/// An EndpointSlice.
#[derive(Debug)]
pub enum SeenSlice {
    /// One that may be exported.
    Theirs(SliceFacts),
    /// One that we made for an import.
    Ours(ServiceName, Box<Held>),
}

/// Starts all watches in `tasks`.
pub fn spawn(client: &Client, metrics: &Metrics, seen: &Sender<Seen>, tasks: &mut JoinSet<()>) {
    let feed = Feed { metrics: metrics.clone(), seen: seen.clone() };
    let exports = untyped::<ServiceExport>(client);
    let read = |object: DynamicObject| Some(ExportFacts::read(&object));
    let missing = Some(Missing::Exports);
    tasks.spawn(feed.clone().run("serviceexports", missing, exports, read, Seen::Exports));
    let imports = untyped::<ServiceImport>(client);
    let read = |object: DynamicObject| Held::read(&object, Kind::Import);
    let missing = Some(Missing::Imports);
    tasks.spawn(feed.clone().run("serviceimports", missing, imports, read, Seen::Imports));
    let services = Api::<Service>::all(client.clone());
    tasks.spawn(feed.clone().run("all services", None, services, service, Seen::Services));
    let slices = Api::<EndpointSlice>::all(client.clone());
    tasks.spawn(feed.clone().run("all endpointslices", None, slices, slice, Seen::Slices));
    let ranges = Api::<ServiceCIDR>::all(client.clone());
    let missing = Some(Missing::Ranges);
    tasks.spawn(feed.clone().run("servicecidrs", missing, ranges, range, Seen::Ranges));
    let namespaces = Api::<Namespace>::all(client.clone());
    let read = |namespace: Namespace| {
        let phase = namespace.status.and_then(|status| status.phase);
        let stays = namespace.metadata.deletion_timestamp.is_none();
        (stays && phase.as_deref() != Some("Terminating")).then_some(())
    };
    tasks.spawn(feed.run("namespaces", None, namespaces, read, Seen::Namespaces));
}

fn untyped<K: Resource<DynamicType = ()>>(client: &Client) -> Api<DynamicObject> {
    Api::all_with(client.clone(), &ApiResource::erase::<K>(&()))
}

fn range(range: ServiceCIDR) -> Option<Vec<Prefix>> {
    let ranges = range.spec.into_iter().flat_map(|spec| spec.cidrs.unwrap_or_default());
    Some(ranges.filter_map(|text| text.parse().ok()).collect())
}

fn service(service: Service) -> Option<SeenService> {
    let facts = ServiceFacts::from(&service);
    let object = made_for(&service.metadata).and_then(|_| dynamic(service));
    match object.and_then(|object| Held::read(&object, Kind::Derived)) {
        Some((name, held)) => Some(SeenService::Ours(name, Box::new(held))),
        None => Some(SeenService::Theirs(facts)),
    }
}

fn slice(slice: EndpointSlice) -> Option<SeenSlice> {
    if label(&slice.metadata, SLICE_MANAGER_LABEL) != Some(SLICE_MANAGER) {
        return SliceFacts::read(&slice).map(SeenSlice::Theirs);
    }
    let object = dynamic(slice)?;
    Held::read(&object, Kind::Slice).map(|(name, held)| SeenSlice::Ours(name, Box::new(held)))
}

/// A typed object of ours untyped.
fn dynamic<K>(object: K) -> Option<DynamicObject>
where
    K: serde::Serialize,
{
    serde_json::to_value(object).and_then(serde_json::from_value).ok()
}

/// The key of an object.
pub fn key(metadata: &ObjectMeta) -> String {
    let name = metadata.name.as_deref().unwrap_or_default();
    match metadata.namespace.as_deref() {
        Some(namespace) => format!("{namespace}/{name}"),
        None => name.to_owned(),
    }
}

#[derive(Clone)]
struct Feed {
    metrics: Metrics,
    seen: Sender<Seen>,
}

impl Feed {
    async fn run<K, T>(
        self,
        what: &'static str,
        missing: Option<Missing>,
        api: Api<K>,
        read: impl Fn(K) -> Option<T>,
        wrap: impl Fn(Change<T>) -> Seen,
    ) where
        K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    {
        let mut stream = Box::pin(stream(api));
        let mut listing = Listing::default();
        let mut told = false;
        let seen = |object: K| {
            let key = key(object.meta());
            (key, read(object))
        };
        loop {
            let change = match stream.try_next().await {
                Ok(Some(watched)) => match listing.take(watched, seen) {
                    Some(change) => {
                        if matches!(change, Change::All(_)) && std::mem::take(&mut told) {
                            info!(what, "is there now");
                        }
                        wrap(change)
                    }
                    None => continue,
                },
                Ok(None) => return,
                Err(error) => match missing.filter(|what| is_missing(&error, *what)) {
                    Some(missing) => {
                        if !std::mem::replace(&mut told, true) {
                            warn!(what, "{}", missing.explained());
                        }
                        Seen::Missing(missing)
                    }
                    None => {
                        // The stream backs off by itself before it goes on.
                        self.metrics.api_error(what);
                        warn!(what, %error, "watch failed; it will be tried again");
                        continue;
                    }
                },
            };
            if self.seen.send(change).await.is_err() {
                debug!(what, "nobody looks any more");
                return;
            }
        }
    }
}

/// Whether the API server knows no such kind, or keeps the ranges to itself.
fn is_missing(error: &watcher::Error, what: Missing) -> bool {
    use watcher::Error::{InitialListFailed, WatchFailed, WatchStartFailed};
    match error {
        InitialListFailed(kube::Error::Api(status))
        | WatchStartFailed(kube::Error::Api(status))
        | WatchFailed(kube::Error::Api(status)) => {
            status.is_not_found() || status.is_forbidden() && what == Missing::Ranges
        }
        _ => false,
    }
}
