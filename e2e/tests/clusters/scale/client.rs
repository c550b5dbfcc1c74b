//! An API server by a client of this process's own, in the cluster's network: many requests, a bounded number at a time.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use carrick_e2e::Lab;
use carrick_e2e::cluster::Cluster;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{GroupVersionKind, TypeMeta};
use serde_json::Value;
use tokio::task::JoinSet;

use crate::common::{figure, node_network, text};
use crate::flow::Network;
use crate::world::Outcome;

/// A request takes longer only where something is broken.
const PATIENCE: Duration = Duration::from_secs(120);

/// Between two words about how far it is.
const TELL: Duration = Duration::from_secs(5);

/// A request about one object, which names its kind, its namespace and itself.
#[derive(Clone, Debug)]
pub enum Do {
    /// Makes it.
    Create(Value),
    /// Merges this into it.
    Merge(Value),
    /// Merges this into its status.
    Status(Value),
    /// Deletes it.
    Delete(Value),
}

/// What is to be done for each number, in order.
type Work = dyn Fn(usize) -> Vec<Do> + Send + Sync;

/// The client of one cluster.
pub struct Client {
    network: Network,
    kubeconfig: PathBuf,
}

impl Client {
    /// A cluster's, as its administrator.
    pub fn of(lab: &Lab, cluster: &Cluster) -> Result<Self, String> {
        let network = node_network(lab, &cluster.plan().control_plane_name())?;
        Ok(Self { network, kubeconfig: cluster.kubeconfig() })
    }

    /// What a path says.
    pub fn get(&self, path: &str) -> Result<String, String> {
        self.run(async |client| {
            let request = text(http::Request::get(path).body(Vec::new()))?;
            client.request_text(request).await.map_err(|error| format!("GET {path}: {error}"))
        })
    }

    /// As [`get`](Self::get), parsed.
    pub fn json(&self, path: &str) -> Result<Value, String> {
        text(serde_json::from_str(&self.get(path)?))
    }

    /// Does one thing.
    pub fn act(&self, one: Do) -> Outcome {
        self.run(async |client| act(&client, one).await)
    }

    /// Does for each number below `count` what `work` says, for so many numbers at a time, tells how far it is where that
    /// takes long, and gives how long it took.
    pub fn all(
        &self,
        what: &str,
        count: usize,
        at_once: usize,
        work: impl Fn(usize) -> Vec<Do> + Send + Sync + 'static,
    ) -> Result<Duration, String> {
        let work: Arc<Work> = Arc::new(work);
        let next = Arc::new(AtomicUsize::new(0));
        self.run(async |client| {
            let began = Instant::now();
            let mut workers = JoinSet::new();
            for _ in 0..at_once {
                workers.spawn(go_through(client.clone(), next.clone(), count, work.clone()));
            }
            let mut tick = tokio::time::interval(TELL);
            tick.tick().await;
            loop {
                tokio::select! {
                    ended = workers.join_next() => match ended {
                        Some(ended) => text(ended)??,
                        None => return Ok(began.elapsed()),
                    },
                    _ = tick.tick() => {
                        let done = next.load(Ordering::Relaxed).min(count);
                        figure(&format!("{what}: {done} of {count}"));
                    }
                }
            }
        })
    }

    /// Runs what a client is needed for, on one thread in the cluster's network.
    fn run<T: Send>(
        &self,
        work: impl AsyncFnOnce(kube::Client) -> Result<T, String> + Send,
    ) -> Result<T, String> {
        self.network.inside_async(async || {
            let file = text(Kubeconfig::read_from(&self.kubeconfig))?;
            let options = KubeConfigOptions::default();
            let config = kube::Config::from_custom_kubeconfig(file, &options).await;
            work(text(kube::Client::try_from(text(config)?))?).await
        })
    }
}

async fn go_through(
    client: kube::Client,
    next: Arc<AtomicUsize>,
    count: usize,
    work: Arc<Work>,
) -> Outcome {
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= count {
            return Ok(());
        }
        for one in work(number) {
            act(&client, one).await?;
        }
    }
}

async fn act(client: &kube::Client, one: Do) -> Outcome {
    let object = match &one {
        Do::Create(object) | Do::Merge(object) | Do::Status(object) | Do::Delete(object) => object,
    };
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
    let types: TypeMeta = text(serde_json::from_value(object.clone()))?;
    let kind = text(GroupVersionKind::try_from(&types))?;
    let api: Api<DynamicObject> =
        Api::namespaced_with(client.clone(), namespace, &ApiResource::from_gvk(&kind));
    let merge = PatchParams::default();
    let done = async {
        match &one {
            Do::Create(object) => {
                let object = text(serde_json::from_value(object.clone()))?;
                text(api.create(&PostParams::default(), &object).await.map(drop))
            }
            Do::Merge(object) => {
                text(api.patch(name, &merge, &Patch::Merge(object)).await.map(drop))
            }
            Do::Status(object) => {
                text(api.patch_status(name, &merge, &Patch::Merge(object)).await.map(drop))
            }
            Do::Delete(_) => text(api.delete(name, &DeleteParams::default()).await.map(drop)),
        }
    };
    let what = || format!("{} {namespace}/{name}", kind.kind);
    match tokio::time::timeout(PATIENCE, done).await {
        Ok(done) => done.map_err(|error| format!("{}: {error}", what())),
        Err(_) => Err(format!("{}: no answer within {} s", what(), PATIENCE.as_secs())),
    }
}
