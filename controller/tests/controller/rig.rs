//! A controller's engine on a loopback port, in front of a fake Kubernetes API.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use carrick_controller::book::{Books, Desk as BookDesk, Gateways, Sight};
use carrick_controller::cluster::{AgentScheduling, NodeFacts, PodFacts};
use carrick_controller::engine::{Engine, Parts};
use carrick_controller::event::{Change, Event, QUEUE};
use carrick_controller::gate::Gate;
use carrick_controller::identity::Record;
use carrick_controller::link::join::Registrar;
use carrick_controller::link::serve::serve;
use carrick_controller::metrics::Metrics;
use carrick_controller::options::{DrillLimits, Settings};
use carrick_controller::peering::PeeringObject;
use carrick_controller::world::World;
use carrick_controller::writer::{Desk, Writer};
use carrick_exchange::{ClusterIdentity, Credentials, Exchange, Limits, Pin, Rules, Trust};
use carrick_model::Role;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use crate::api::FakeApi;

/// How long anything may take.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// A controller's engine of cluster `paris`.
pub struct Rig {
    pub api: FakeApi,
    pub identity: Arc<ClusterIdentity>,
    pub address: SocketAddr,
    pub events: mpsc::Sender<Event>,
    pub books: Books,
    pub sight: watch::Receiver<Option<Sight>>,
    _tasks: JoinSet<()>,
}

impl Rig {
    /// Starts with one node, its agent's pod and one gateway pod.
    pub async fn start() -> Self {
        let api = FakeApi::default();
        let identity = Arc::new(ClusterIdentity::generate().expect("identity"));
        let settings = Arc::new(settings());
        let socket = UdpSocket::bind("127.0.0.1:0").expect("socket");
        let trust = Trust::new(settings.cluster.clone(), vec![identity.public()], Rules::default());
        let now = std::time::SystemTime::now();
        let controller = "c0".parse().expect("name");
        let credentials =
            Credentials::for_controller(&identity, settings.cluster.clone(), controller, now);
        let credentials = credentials.expect("credentials");
        let exchange =
            Exchange::bind(socket, None, trust.clone(), Limits::default()).expect("exchange");
        let address = exchange.local_address().expect("address");

        let (events, queue) = mpsc::channel(QUEUE);
        let (on_synced, synced) = oneshot::channel();
        let (desk, metrics, client) = (Desk::default(), Metrics::default(), api.client());
        let namespace = &settings.namespace;
        let writer = Writer::new(
            client.clone(),
            namespace,
            "c-0",
            desk.clone(),
            events.clone(),
            metrics.clone(),
        );
        let registrar =
            Registrar::new(client, namespace, &settings.cluster, identity.clone(), metrics.clone());
        let (sight, seen) = watch::channel(None);
        let engine = Engine::new(Parts {
            world: World::new(settings.clone(), identity.public(), Record::default()),
            identity: identity.clone(),
            installation: None,
            own: Default::default(),
            trust,
            desk,
            gate: Gate::default(),
            metrics: metrics.clone(),
            on_synced,
            sight,
        });
        let desk = BookDesk::new(&settings.cluster, identity.clone(), metrics.clone());
        let books = Books { desk, gateways: Gateways::default() };
        let mut tasks = JoinSet::new();
        tasks.spawn(writer.run());
        tasks.spawn(engine.run(queue));
        let served =
            serve(exchange, credentials, synced, registrar, books.clone(), events.clone(), metrics);
        tasks.spawn(served);
        let rig = Self { api, identity, address, events, books, sight: seen, _tasks: tasks };
        rig.populate().await;
        rig
    }

    async fn populate(&self) {
        let node: k8s_openapi::api::core::v1::Node = serde_json::from_value(json!({
            "metadata": {"name": "n0"},
            "spec": {"podCIDRs": ["10.1.0.0/24"]},
            "status": {
                "addresses": [{"type": "InternalIP", "address": "172.20.0.10"}],
                "conditions": [{"type": "Ready", "status": "True"}],
            },
        }))
        .expect("node");
        self.send(Event::Nodes(Change::All(vec![(
            "n0".to_owned(),
            NodeFacts::read(&node, &AgentScheduling::default()),
        )])))
        .await;
        let mut facts = Vec::new();
        for (name, uid, account, address) in [
            ("carrick-gateway-0", "gw-0", "carrick-gateway", "10.1.0.5"),
            ("carrick-agent-a", "ag-0", "carrick-agent", "172.20.0.10"),
        ] {
            let pod = pod(name, uid, account, address);
            self.api.object(&format!("/api/v1/namespaces/carrick-system/pods/{name}"), pod.clone());
            let pod: k8s_openapi::api::core::v1::Pod = serde_json::from_value(pod).expect("pod");
            facts.push((uid.to_owned(), PodFacts::read(&pod).expect("alive")));
            self.api.token(&format!("token-of-{uid}"), review(account, name, uid));
        }
        self.send(Event::Pods(Change::All(facts))).await;
        self.send(Event::Services(Change::All(Vec::new()))).await;
        let api_server = ("kubernetes".to_owned(), vec!["172.20.0.9".parse().expect("address")]);
        self.send(Event::ApiServer(Change::All(vec![api_server]))).await;
        self.send(Event::Peerings(Box::new(Change::All(Vec::new())))).await;
        self.send(Event::Drills(Box::new(Change::All(Vec::new())))).await;
    }

    pub async fn send(&self, event: Event) {
        self.events.send(event).await.expect("the engine runs");
    }

    pub async fn apply(&self, peering: PeeringObject) {
        self.send(Event::Peerings(Box::new(Change::Set(peering.name.clone(), peering)))).await;
    }

    pub fn pin(&self) -> Pin {
        let cluster = "paris".parse().expect("id");
        Pin::new(cluster, vec![self.identity.public()], Role::Controller)
    }

    /// The newest status written for a ClusterPeering.
    pub fn status(&self, peering: &str) -> Option<Value> {
        let writes = self.api.writes(&format!("/clusterpeerings/{peering}/status"));
        writes.last().map(|body| body["status"].clone())
    }
}

/// A member's end: it dials only.
pub fn member(credentials: Option<Credentials>) -> Exchange {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("socket");
    let trust = Trust::new("paris".parse().expect("id"), Vec::new(), Rules::default());
    Exchange::client(socket, credentials, trust).expect("client")
}

/// What a TokenReview says of a good token.
pub fn review(account: &str, pod: &str, uid: &str) -> Value {
    json!({
        "authenticated": true,
        "audiences": ["carrick.dev"],
        "user": {
            "username": format!("system:serviceaccount:carrick-system:{account}"),
            "extra": {
                "authentication.kubernetes.io/pod-name": [pod],
                "authentication.kubernetes.io/pod-uid": [uid],
            },
        },
    })
}

pub fn pod(name: &str, uid: &str, account: &str, address: &str) -> Value {
    json!({
        "metadata": {"name": name, "uid": uid, "namespace": "carrick-system"},
        "spec": {"nodeName": "n0", "serviceAccountName": account, "containers": []},
        "status": {"phase": "Running", "podIP": address},
    })
}

fn settings() -> Settings {
    Settings {
        cluster: "paris".parse().expect("id"),
        pod_ranges: Vec::new(),
        service_ranges: Vec::new(),
        reserved: Vec::new(),
        mesh: None,
        vni: 51746,
        vxlan_port: 7789,
        gateway_base_port: 31820,
        gateway_port_stride: 8,
        gateway_addresses: Vec::new(),
        tunnel_mtu: 1420,
        agents: AgentScheduling::default(),
        drills: DrillLimits::default(),
        namespace: "carrick-system".to_owned(),
    }
}

/// Waits until `check` gives something.
pub async fn until<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(Instant::now() < deadline, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
