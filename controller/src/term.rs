//! One term of leadership: everything in here ends with it.

use std::convert::Infallible;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use carrick_crds::ClusterIdentityStatus;
use carrick_exchange::{ClusterIdentity, Credentials, Exchange, Limits, Rules, Trust};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Client;
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use tokio::sync::{mpsc, oneshot, watch as channel};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{error, info, warn};

use crate::book;
use crate::brief::Brief;
use crate::cluster::watch;
use crate::engine::{Engine, Parts};
use crate::event::QUEUE;
use crate::gate::Gate;
use crate::http::{Board, Standing};
use crate::identity::secret::{self, SecretError};
use crate::identity::{Record, installation, status, trust};
use crate::link::join::Registrar;
use crate::link::serve::serve;
use crate::metrics::Metrics;
use crate::options::{RunOptions, Settings};
use crate::services;
use crate::world::{Now, World};
use crate::writer::{Desk, Writer, write_identity};

const FIRST_RETRY: Duration = Duration::from_millis(500);
const LAST_RETRY: Duration = Duration::from_secs(10);

/// How long the steps of starting may take together.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long the port may be held by an earlier term, and how often that is looked at.
const LEAVE: Duration = Duration::from_secs(3);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// How often our own certificate is renewed.
const RENEWAL: Duration = Duration::from_secs(24 * 3600);

/// Names the EndpointSlice by which gateways and agents find the leader.
const SLICE: &str = "carrick-controller-leader";
const SERVICE: &str = "carrick-controller";
const SLICE_MANAGER: &str = "carrick-controller/leader";

/// What a term needs.
pub struct Term {
    /// The Kubernetes API.
    pub client: Client,
    /// The gate that `client` passes.
    pub gate: Gate,
    /// What the operator set.
    pub settings: Arc<Settings>,
    /// The flags.
    pub options: RunOptions,
    /// Counters.
    pub metrics: Metrics,
    /// Where the standing is shown.
    pub board: Board,
}

/// Why a step of starting failed. Each is tried again.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("the Kubernetes API did not answer within {} s", PATIENCE.as_secs())]
    Silence,
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error("{what}: {}", Brief(error))]
    Api { what: &'static str, error: Box<kube::Error> },
    #[error("UDP port {port} (--exchange-port): {error}")]
    Socket { port: u16, error: std::io::Error },
    #[error("own certificate: {0}")]
    Certificate(#[from] carrick_exchange::certificate::CertificateError),
}

fn api(what: &'static str) -> impl FnOnce(kube::Error) -> StartError {
    move |error| StartError::Api { what, error: Box::new(error) }
}

/// What a term has found before it can begin.
struct Start {
    identity: Arc<ClusterIdentity>,
    own: (ClusterIdentityStatus, Option<i64>),
    record: Record,
    installation: Option<String>,
    exchange: Exchange,
    credentials: Credentials,
}

impl Term {
    /// Leads, until it is dropped.
    pub async fn serve(&self) -> Infallible {
        let mut delay = FIRST_RETRY;
        loop {
            let started = tokio::time::timeout(PATIENCE, self.start()).await;
            match started.unwrap_or(Err(StartError::Silence)) {
                Ok(start) => self.lead(start).await,
                Err(error) => {
                    error!(%error, retry = ?delay, "cannot begin to lead");
                    self.board.set(Standing::Hindered(error.to_string()));
                    if let StartError::Secret(error) = &error {
                        self.report_unreadable(error).await;
                    }
                    tokio::time::sleep(delay).await;
                    delay = (delay * 2).min(LAST_RETRY);
                    continue;
                }
            }
            delay = FIRST_RETRY;
            self.board.set(Standing::Starting);
            tokio::time::sleep(delay).await;
        }
    }

    async fn start(&self) -> Result<Start, StartError> {
        let (client, settings) = (&self.client, &self.settings);
        let namespace = &settings.namespace;
        let identity = Arc::new(secret::ensure(client, namespace).await?);
        let keys = [identity.public()];
        let written = trust::ensure(client, namespace, &settings.cluster, &keys)
            .await
            .map_err(api("ConfigMap carrick-trust"))?;
        if written {
            info!(identity = %identity.public(), "told members whom to trust");
        }
        let object = self.own_object().await.map_err(api("ClusterIdentity self"))?;
        let installation = installation::read(Path::new(installation::TOKEN)).await;
        let record = Record::read(&object, installation.as_deref());
        let own = (object.status.unwrap_or_default(), object.metadata.generation);
        let exchange = self.exchange(&identity).await?;
        self.announce().await.map_err(api("EndpointSlice carrick-controller-leader"))?;
        let credentials = self.credentials(&identity)?;
        Ok(Start { identity, own, record, installation, exchange, credentials })
    }

    async fn lead(&self, start: Start) {
        let Start { identity, own, record, installation, exchange, credentials } = start;
        let (events, queue) = mpsc::channel(QUEUE);
        let (on_synced, synced) = oneshot::channel();
        let namespace = self.settings.namespace.as_str();
        let desk = Desk::default();
        let mut tasks: JoinSet<()> = JoinSet::new();
        let agents = &self.settings.agents;
        watch::spawn(&self.client, namespace, agents, &self.metrics, &events, &mut tasks);
        let pod = &self.options.pod.pod_name;
        let (client, metrics) = (self.client.clone(), self.metrics.clone());
        let writer = Writer::new(client, namespace, pod, desk.clone(), events.clone(), metrics);
        tasks.spawn(writer.run());
        tasks.spawn(self.keep_certified(exchange.clone(), identity.clone()));
        let shared = self.share_services(&mut tasks);
        let registrar = Registrar::new(
            self.client.clone(),
            namespace,
            &self.settings.cluster,
            identity.clone(),
            self.metrics.clone(),
        );
        let trust = exchange.trust().clone();
        let metrics = self.metrics.clone();
        let settings = &self.settings;
        let (cluster, key) = (&settings.cluster, identity.clone());
        let books = book::start(cluster, namespace, key, shared, &events, &metrics, &mut tasks);
        let serving =
            serve(exchange, credentials, synced, registrar, books.books, events.clone(), metrics);
        tasks.spawn(serving);
        let engine = Engine::new(Parts {
            world: World::new(self.settings.clone(), identity.public(), record),
            identity,
            installation,
            own,
            trust,
            desk,
            gate: self.gate.clone(),
            metrics: self.metrics.clone(),
            on_synced,
            sight: books.sight,
        });
        self.board.set(Standing::Leading(events));
        until_one_ends(engine.run(queue), &mut tasks).await;
    }

    /// Starts what makes exports and imports of services, if it is wanted.
    fn share_services(&self, tasks: &mut JoinSet<()>) -> Option<book::Ends> {
        if !self.options.services {
            return None;
        }
        let (remotes, heard) = channel::channel(None);
        let (told, exports) = channel::channel(None);
        let (free, room) = channel::channel(None);
        let parts = services::task::Parts {
            client: self.client.clone(),
            cluster: self.settings.cluster.clone(),
            remotes: heard,
            exports: told,
            room: free,
            service_ranges: self.settings.service_ranges.clone(),
            metrics: self.metrics.clone(),
        };
        tasks.spawn(services::task::run(parts));
        Some(book::Ends { exports, room, remotes })
    }

    /// ClusterIdentity `self`, made if there is none.
    async fn own_object(&self) -> Result<carrick_crds::ClusterIdentity, kube::Error> {
        let name = carrick_crds::IDENTITY_NAME;
        let kind = kube::api::ApiResource::erase::<carrick_crds::ClusterIdentity>(&());
        let untyped = Api::<DynamicObject>::all_with(self.client.clone(), &kind);
        if let Some(object) = untyped.get_opt(name).await? {
            return Ok(watch::readable(object));
        }
        let api = Api::<carrick_crds::ClusterIdentity>::all(self.client.clone());
        let object = carrick_crds::ClusterIdentity::new(name, Default::default());
        match api.create(&PostParams::default(), &object).await {
            Err(kube::Error::Api(status)) if status.is_already_exists() => api.get(name).await,
            done => done,
        }
    }

    /// Says in ClusterIdentity's status what is wrong with the key, as far as that can be written.
    async fn report_unreadable(&self, error: &SecretError) {
        if !error.needs_a_person() {
            return;
        }
        let report = async {
            let object = self.own_object().await?;
            let before = object.status.unwrap_or_default();
            let why = error.to_string();
            let generation = object.metadata.generation;
            let new = status::unreadable(&before, &why, generation, Now::read());
            if new == before { Ok(()) } else { write_identity(&self.client, &new).await }
        };
        if let Err(error) = report.await {
            let error = Brief(&error);
            warn!(%error, "cannot write the status of ClusterIdentity self");
        }
    }

    async fn exchange(&self, identity: &ClusterIdentity) -> Result<Exchange, StartError> {
        let port = self.options.exchange_port;
        let failed = |error| StartError::Socket { port, error };
        let any = match self.options.pod.pod_ip {
            IpAddr::V4(_) => SocketAddr::from(([0, 0, 0, 0], port)),
            IpAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)),
        };
        let socket = bind(any).await.map_err(failed)?;
        let cluster = self.settings.cluster.clone();
        let trust = Trust::new(cluster, vec![identity.public()], Rules::default());
        Exchange::bind(socket, None, trust, Limits::default()).map_err(failed)
    }

    fn credentials(&self, identity: &ClusterIdentity) -> Result<Credentials, StartError> {
        let (cluster, name) = (self.settings.cluster.clone(), self.options.pod.pod_uid.clone());
        Ok(Credentials::for_controller(identity, cluster, name, SystemTime::now())?)
    }

    fn keep_certified(
        &self,
        exchange: Exchange,
        identity: Arc<ClusterIdentity>,
    ) -> impl Future<Output = ()> + Send + 'static {
        let cluster = self.settings.cluster.clone();
        let name = self.options.pod.pod_uid.clone();
        async move {
            let mut renewal = tokio::time::interval(RENEWAL);
            renewal.tick().await;
            loop {
                renewal.tick().await;
                let now = SystemTime::now();
                let made =
                    Credentials::for_controller(&identity, cluster.clone(), name.clone(), now);
                let renewed = made
                    .map_err(|error| error.to_string())
                    .and_then(|new| exchange.set_credentials(new).map_err(|e| e.to_string()));
                if let Err(error) = renewed {
                    error!(error, "cannot renew the controller's own certificate");
                }
            }
        }
    }

    /// Tells gateways and agents where the leader is. The Service has no selector, so that they never
    /// reach a replica that stands by.
    async fn announce(&self) -> Result<(), kube::Error> {
        let pod = &self.options.pod;
        let family = if pod.pod_ip.is_ipv4() { "IPv4" } else { "IPv6" };
        let slice: serde_json::Value = serde_json::json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": SLICE,
                "namespace": pod.pod_namespace,
                "labels": {
                    "kubernetes.io/service-name": SERVICE,
                    "endpointslice.kubernetes.io/managed-by": "carrick.dev",
                },
            },
            "addressType": family,
            "endpoints": [{
                "addresses": [pod.pod_ip.to_string()],
                "conditions": { "ready": true },
                "targetRef": {
                    "kind": "Pod", "namespace": pod.pod_namespace,
                    "name": pod.pod_name, "uid": pod.pod_uid.to_string(),
                },
            }],
            "ports": [{
                "name": "exchange", "protocol": "UDP", "port": self.options.exchange_port,
            }],
        });
        let api = Api::<EndpointSlice>::namespaced(self.client.clone(), &pod.pod_namespace);
        let params = PatchParams::apply(SLICE_MANAGER).force();
        api.patch(SLICE, &params, &Patch::Apply(slice)).await.map(drop)
    }
}

/// Binds a socket, which an earlier term may hold for a moment: its links take leave after its end.
async fn bind(address: SocketAddr) -> std::io::Result<UdpSocket> {
    let until = Instant::now() + LEAVE;
    loop {
        match UdpSocket::bind(address) {
            Err(error) if error.kind() == ErrorKind::AddrInUse && Instant::now() < until => {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            done => return done,
        }
    }
}

/// Runs the engine and its tasks. None of them ends by itself while the others live, so the first end
/// is a fault, and what is left would only look alive.
async fn until_one_ends(engine: impl Future<Output = ()>, tasks: &mut JoinSet<()>) {
    tokio::select! {
        () = engine => error!("the engine ended; the term begins again"),
        ended = tasks.join_next() => match ended {
            Some(Err(error)) => error!(%error, "a task failed; the term begins again"),
            Some(Ok(())) | None => error!("a task ended; the term begins again"),
        },
    }
    tasks.shutdown().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_end_of_any_task_ends_the_term() {
        for panics in [true, false] {
            let mut tasks = JoinSet::new();
            tasks.spawn(std::future::pending());
            tasks.spawn(async move { assert!(!panics, "one that fails on purpose") });
            let ended = until_one_ends(std::future::pending(), &mut tasks);
            tokio::time::timeout(Duration::from_secs(1), ended).await.expect("noticed");
            assert!(tasks.is_empty(), "the others end as well");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_port_that_an_earlier_term_still_holds_is_waited_for() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let held = UdpSocket::bind(any).expect("a port");
        let address = held.local_addr().expect("address");
        let refused = bind(address).await.expect_err("held for good");
        assert_eq!(refused.kind(), ErrorKind::AddrInUse);
        let began = Instant::now();
        let leave = async {
            tokio::time::sleep(LEAVE / 2).await;
            drop(held);
        };
        let (bound, ()) = tokio::join!(bind(address), leave);
        assert_eq!(bound.expect("free").local_addr().expect("address"), address);
        assert!(began.elapsed() <= LEAVE / 2 + LOOK_AGAIN);
    }
}
