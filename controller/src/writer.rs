//! Writes to the Kubernetes API on behalf of the engine, one object at a time. What waits is bounded
//! by the number of objects: a later write replaces an earlier one. Each object backs off by itself.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use carrick_crds::{
    ClusterIdentity, ClusterIdentityStatus, ClusterPeering, ClusterPeeringStatus, FailoverDrill,
    FailoverDrillStatus, IDENTITY_NAME,
};
use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use kube::Client;
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions,
};
use kube::runtime::events::{Event as KubeEvent, EventType, Recorder, Reporter};
use tokio::sync::Notify;
use tokio::sync::mpsc::Sender;
use tracing::{debug, warn};

use crate::brief::Brief;
use crate::event::Event;
use crate::identity::Record;
use crate::metrics::Metrics;

const FIRST_RETRY: Duration = Duration::from_millis(200);
const LAST_RETRY: Duration = Duration::from_secs(30);

/// How long one request may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Who writes, for server-side apply: one manager a usage.
const PEERING_MANAGER: &str = "carrick-controller/peering-status";
const DRILL_MANAGER: &str = "carrick-controller/drill-status";
const IDENTITY_MANAGER: &str = "carrick-controller/identity-status";

/// What is written.
#[derive(Debug, Clone)]
pub enum Write {
    /// A ClusterPeering's status.
    Peering {
        /// The object's UID: another object of the same name is not meant.
        uid: String,
        /// The status.
        status: Box<ClusterPeeringStatus>,
        /// What to tell as Events once it is written.
        news: Vec<News>,
    },
    /// A FailoverDrill's status.
    Drill {
        /// The object's UID: another object of the same name is not meant.
        uid: String,
        /// The status.
        status: Box<FailoverDrillStatus>,
        /// What to tell as Events once it is written.
        news: Vec<News>,
    },
    /// ClusterIdentity's status, and the record that is in it.
    Identity {
        /// The status.
        status: Box<ClusterIdentityStatus>,
        /// What the status remembers.
        record: Box<Record>,
    },
    /// The end of a gateway pod whose node is unreachable.
    Remove {
        /// The pod's UID: another pod of the same name is not meant.
        uid: String,
    },
}

/// A condition that changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News {
    /// It is good news.
    pub good: bool,
    /// The condition's type.
    pub condition: &'static str,
    /// Its reason.
    pub reason: String,
    /// Its message.
    pub message: String,
}

/// An object to write.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// A ClusterPeering, by name.
    Peering(String),
    /// A FailoverDrill, by name.
    Drill(String),
    /// The ClusterIdentity.
    Identity,
    /// A pod in our namespace, by name.
    Pod(String),
}

impl Target {
    fn what(&self) -> &'static str {
        match self {
            Self::Peering(_) => "clusterpeerings/status",
            Self::Drill(_) => "failoverdrills/status",
            Self::Identity => "clusteridentities/status",
            Self::Pod(_) => "pods",
        }
    }
}

/// Where writes are left. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Desk(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    waiting: Mutex<BTreeMap<Target, Waiting>>,
    notify: Notify,
}

#[derive(Debug)]
struct Waiting {
    write: Write,
    due: Instant,
    delay: Duration,
}

impl Desk {
    /// Leaves a write; it replaces an earlier one for the same object, but not its news.
    pub fn leave(&self, target: Target, mut write: Write, now: Instant) {
        let mut waiting = self.lock();
        let (mut due, mut delay) = (now, FIRST_RETRY);
        if let Some(held) = waiting.remove(&target) {
            // An object that backs off goes on doing so, whatever is to be written.
            (due, delay) = (held.due.max(now), held.delay);
            write.inherit(held.write);
        }
        waiting.insert(target, Waiting { write, due, delay });
        self.0.notify.notify_one();
    }

    /// Forgets what waits for an object that is gone.
    pub fn forget(&self, target: &Target) {
        self.lock().remove(target);
    }

    /// What is due now, or when something will be.
    fn take(&self, now: Instant) -> Result<(Target, Waiting), Option<Instant>> {
        let mut waiting = self.lock();
        let next = waiting.iter().min_by_key(|(_, w)| w.due).map(|(t, w)| (t.clone(), w.due));
        match next {
            Some((target, due)) if due <= now => match waiting.remove(&target) {
                Some(taken) => Ok((target, taken)),
                None => Err(None),
            },
            Some((_, due)) => Err(Some(due)),
            None => Err(None),
        }
    }

    /// Puts back what failed, unless something newer waits.
    fn put_back(&self, target: Target, failed: Waiting, now: Instant) {
        let due = now + failed.delay;
        let delay = (failed.delay * 2).min(LAST_RETRY);
        let mut waiting = self.lock();
        match waiting.get_mut(&target) {
            Some(newer) => {
                newer.write.inherit(failed.write);
                (newer.due, newer.delay) = (due, delay);
            }
            None => {
                waiting.insert(target, Waiting { write: failed.write, due, delay });
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Target, Waiting>> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write {
    /// News that were not told yet go before ours, if they are about the same object.
    fn inherit(&mut self, earlier: Self) {
        let pair = match (self, earlier) {
            (Self::Peering { uid, news, .. }, Self::Peering { uid: old, news: untold, .. })
            | (Self::Drill { uid, news, .. }, Self::Drill { uid: old, news: untold, .. }) => {
                (*uid == old).then_some((news, untold))
            }
            _ => None,
        };
        if let Some((news, untold)) = pair {
            news.splice(0..0, untold);
            let surplus = news.len().saturating_sub(16);
            news.drain(..surplus);
        }
    }
}

/// Writes what is left at the desk.
pub struct Writer {
    client: Client,
    namespace: String,
    recorder: Recorder,
    desk: Desk,
    events: Sender<Event>,
    metrics: Metrics,
}

impl Writer {
    /// For objects of `namespace` and those of no namespace.
    pub fn new(
        client: Client,
        namespace: &str,
        pod: &str,
        desk: Desk,
        events: Sender<Event>,
        metrics: Metrics,
    ) -> Self {
        let reporter = Reporter {
            controller: "carrick-controller".to_owned(),
            instance: Some(pod.to_owned()),
        };
        let recorder = Recorder::new(client.clone(), reporter);
        Self { client, namespace: namespace.to_owned(), recorder, desk, events, metrics }
    }

    /// Writes until it is dropped.
    pub async fn run(self) {
        loop {
            match self.desk.take(Instant::now()) {
                Ok((target, waiting)) => self.attempt(target, waiting).await,
                Err(Some(due)) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(due.into()) => {}
                        () = self.desk.0.notify.notified() => {}
                    }
                }
                Err(None) => self.desk.0.notify.notified().await,
            }
        }
    }

    async fn attempt(&self, target: Target, waiting: Waiting) {
        let done = tokio::time::timeout(PATIENCE, self.write(&target, &waiting.write)).await;
        let error = match done {
            Ok(Ok(())) => {
                self.metrics.written(target.what());
                return self.written(&target, waiting.write).await;
            }
            Ok(Err(kube::Error::Api(status))) if status.is_not_found() => {
                debug!(?target, "gone before it was written");
                return;
            }
            // The UID is another object's by now. ClusterIdentity has none demanded of it, so there a
            // conflict is another writer's, and passes.
            Ok(Err(kube::Error::Api(status)))
                if status.is_conflict() && target != Target::Identity =>
            {
                debug!(?target, "replaced before it was written");
                return;
            }
            Ok(Err(error)) => Brief(&error).to_string(),
            Err(_) => format!("no answer within {} s", PATIENCE.as_secs()),
        };
        self.metrics.api_error(target.what());
        warn!(?target, error, retry = ?waiting.delay, "write failed");
        self.desk.put_back(target, waiting, Instant::now());
    }

    /// Writes the status of the object of this name, if it still is the one with this UID.
    async fn write_status<K>(
        &self,
        name: &str,
        uid: &str,
        status: &impl serde::Serialize,
        manager: &str,
    ) -> Result<(), kube::Error>
    where
        K: kube::Resource<DynamicType = ()>,
    {
        let meta = serde_json::json!({ "name": name, "uid": uid });
        let patch = Patch::Apply(apply::<K>(meta, status));
        let params = PatchParams::apply(manager).force();
        untyped::<K>(&self.client).patch_status(name, &params, &patch).await.map(drop)
    }

    async fn write(&self, target: &Target, write: &Write) -> Result<(), kube::Error> {
        match (target, write) {
            (Target::Peering(name), Write::Peering { uid, status, .. }) => {
                self.write_status::<ClusterPeering>(name, uid, status, PEERING_MANAGER).await
            }
            (Target::Drill(name), Write::Drill { uid, status, .. }) => {
                self.write_status::<FailoverDrill>(name, uid, status, DRILL_MANAGER).await
            }
            (Target::Identity, Write::Identity { status, .. }) => {
                write_identity(&self.client, status).await
            }
            (Target::Pod(name), Write::Remove { uid }) => {
                let api = Api::<Pod>::namespaced(self.client.clone(), &self.namespace);
                let only = Preconditions { uid: Some(uid.clone()), resource_version: None };
                // Nothing on the node can end the pod in an orderly way.
                let params = DeleteParams { preconditions: Some(only), ..DeleteParams::default() };
                api.delete(name, &params.grace_period(0)).await.map(drop)
            }
            // The engine leaves no other pairs.
            _ => Ok(()),
        }
    }

    async fn written(&self, target: &Target, write: Write) {
        match write {
            Write::Identity { record, .. } => {
                // The engine is gone only when this replica no longer leads.
                let _gone = self.events.send(Event::Recorded(record)).await;
            }
            Write::Peering { uid, news, .. } => {
                let Target::Peering(name) = target else { return };
                for one in news {
                    self.tell::<ClusterPeering>(name, &uid, one).await;
                }
            }
            Write::Drill { uid, news, .. } => {
                let Target::Drill(name) = target else { return };
                for one in news {
                    self.tell::<FailoverDrill>(name, &uid, one).await;
                }
            }
            Write::Remove { .. } => {
                warn!(?target, "removed a gateway pod from an unreachable node")
            }
        }
    }

    /// Events are a courtesy: one that fails is not repeated.
    async fn tell<K>(&self, name: &str, uid: &str, news: News)
    where
        K: kube::Resource<DynamicType = ()>,
    {
        let reference = ObjectReference {
            api_version: Some(K::api_version(&()).into_owned()),
            kind: Some(K::kind(&()).into_owned()),
            name: Some(name.to_owned()),
            uid: Some(uid.to_owned()),
            ..ObjectReference::default()
        };
        let event = KubeEvent {
            type_: if news.good { EventType::Normal } else { EventType::Warning },
            reason: news.reason,
            note: Some(news.message.chars().take(1000).collect()),
            action: news.condition.to_owned(),
            secondary: None,
        };
        let told = self.recorder.publish(&event, &reference);
        match tokio::time::timeout(PATIENCE, told).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                self.metrics.api_error("events");
                debug!(name, error = %Brief(&error), "event not told");
            }
            Err(_) => self.metrics.api_error("events"),
        }
    }
}

/// Writes ClusterIdentity's status; makes the object first if somebody deleted it.
pub async fn write_identity(
    client: &Client,
    status: &ClusterIdentityStatus,
) -> Result<(), kube::Error> {
    let api = untyped::<ClusterIdentity>(client);
    let params = PatchParams::apply(IDENTITY_MANAGER).force();
    let meta = serde_json::json!({ "name": IDENTITY_NAME });
    let patch = Patch::Apply(apply::<ClusterIdentity>(meta, status));
    match api.patch_status(IDENTITY_NAME, &params, &patch).await {
        Err(kube::Error::Api(error)) if error.is_not_found() => {
            let identity = ClusterIdentity::new(IDENTITY_NAME, Default::default());
            let api = Api::<ClusterIdentity>::all(client.clone());
            match api.create(&PostParams::default(), &identity).await {
                Ok(_) => {}
                Err(kube::Error::Api(error)) if error.is_already_exists() => {}
                Err(error) => return Err(error),
            }
            api.patch_status(IDENTITY_NAME, &params, &patch).await.map(drop)
        }
        done => done.map(drop),
    }
}

/// What comes back need not be readable as its type: an object whose spec is malformed has a status
/// all the more.
fn untyped<K>(client: &Client) -> Api<DynamicObject>
where
    K: kube::Resource<DynamicType = ()>,
{
    Api::all_with(client.clone(), &ApiResource::erase::<K>(&()))
}

fn apply<K>(metadata: serde_json::Value, status: &impl serde::Serialize) -> serde_json::Value
where
    K: kube::Resource<DynamicType = ()>,
{
    serde_json::json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": metadata,
        "status": status,
    })
}
