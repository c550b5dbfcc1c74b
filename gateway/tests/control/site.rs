//! A cluster with one gateway.

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use carrick_exchange::certificate::issue;
use carrick_exchange::member::{MemberEvent, Trusted};
use carrick_exchange::message::WireEndpoint;
use carrick_exchange::message::member::{
    GatewayConfig, GatewayState, LocalNode, PeerState, PeeringConfig, Vxlan, from_controller,
    from_member,
};
use carrick_exchange::message::snapshot::{ClusterSnapshot, GatewayEntry, SignedSnapshot};
use carrick_exchange::peer::Lane;
use carrick_exchange::{
    ClusterIdentity, Credentials, Exchange, Limits, Link, MemberKey, Rules, Trust,
};
use carrick_gateway::control::actor::{Control, Outlets, Parts};
use carrick_gateway::control::cache::Cache;
use carrick_gateway::control::plane::{Plane, PlaneError, Setup};
use carrick_gateway::control::relay::Relay;
use carrick_gateway::control::view::View;
use carrick_gateway::dataplane::{
    DataplaneStats, Fault, PathReport, PathState, Standing, TunnelStats,
};
use carrick_model::{ClusterId, MemberId, Prefix, Role, TunnelKey};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// How long anything may take.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A packet path that remembers. Its tunnels are up as soon as they are there.
pub struct FakePlane {
    lanes: Vec<Lane>,
    pub applied: Mutex<Vec<Setup>>,
    pub refuse: Mutex<Option<String>>,
    pub injected: Mutex<Vec<Option<Fault>>>,
    /// Packets that each tunnel has carried.
    pub carried: AtomicU64,
    changes: watch::Sender<u64>,
    failure: watch::Sender<Option<String>>,
}

impl FakePlane {
    fn new(key: [u8; 32], lanes: u8) -> Self {
        let lane = |index: u8| {
            let mut key = key;
            key[31] = index;
            let (index, port) = (index.into(), 40_000 + u16::from(index));
            Lane { index, key: TunnelKey::from_bytes(key), port }
        };
        Self {
            lanes: (0..lanes).map(lane).collect(),
            applied: Mutex::default(),
            refuse: Mutex::default(),
            injected: Mutex::default(),
            carried: AtomicU64::new(0),
            changes: watch::Sender::new(0),
            failure: watch::Sender::new(None),
        }
    }

    pub fn last(&self) -> Option<Setup> {
        self.applied.lock().expect("plane").last().cloned()
    }

    /// Waits until the newest set-up fulfils `condition`.
    pub async fn sets_up(&self, what: &str, condition: impl Fn(&Setup) -> bool) {
        let mut changes = self.changes.subscribe();
        let done = changes.wait_for(|_| self.last().as_ref().is_some_and(&condition));
        if tokio::time::timeout(PATIENCE, done).await.is_err() {
            panic!("{what}: {:#?}", self.last());
        }
    }

    pub fn count(&self) -> usize {
        self.applied.lock().expect("plane").len()
    }
}

impl Plane for FakePlane {
    fn lanes(&self) -> Vec<Lane> {
        self.lanes.clone()
    }

    async fn apply(&self, setup: &Setup) -> Result<(), PlaneError> {
        if let Some(why) = self.refuse.lock().expect("plane").clone() {
            return Err(PlaneError(why));
        }
        self.applied.lock().expect("plane").push(setup.clone());
        self.changes.send_modify(|n| *n += 1);
        Ok(())
    }

    fn inject(&self, fault: Option<Fault>) {
        let mut injected = self.injected.lock().expect("plane");
        if injected.last().unwrap_or(&None) != &fault {
            injected.push(fault);
        }
    }

    fn stats(&self) -> DataplaneStats {
        let tunnels = self.last().map(|setup| setup.forwarding.tunnels).unwrap_or_default();
        let up = |id| TunnelStats {
            id,
            endpoint: None,
            up: true,
            last_handshake: Some(SystemTime::now()),
            sessions: 1,
            initiations: 1,
            rx_packets: 0,
            rx_bytes: 0,
            tx_packets: self.carried.load(Ordering::Relaxed),
            tx_bytes: 0,
            path: PathReport { mtu: None, state: PathState::Searching },
            mtu: None,
            health: Vec::new(),
            fitness: None,
            nodes: None,
            standing: Standing::Even,
        };
        let tunnels = tunnels.into_iter().map(|tunnel| up(tunnel.id)).collect();
        DataplaneStats { tunnels, ..Default::default() }
    }

    async fn foreign_packets(&self) -> Option<u64> {
        Some(7)
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn failure(&self) -> watch::Receiver<Option<String>> {
        self.failure.subscribe()
    }
}

/// A cluster's identity and numbers.
pub struct Cluster {
    pub id: ClusterId,
    pub identity: ClusterIdentity,
    number: u8,
}

impl Cluster {
    pub fn new(id: &str, number: u8) -> Self {
        let identity = ClusterIdentity::generate().expect("identity");
        Self { id: id.parse().expect("cluster ID"), identity, number }
    }

    pub fn credentials(&self, role: Role, name: &str) -> Credentials {
        let key = MemberKey::generate().expect("key");
        let name = name.parse().expect("name");
        let member = MemberId { cluster: self.id.clone(), role, name };
        let csr = key.csr().expect("request");
        let der = issue(&self.identity, &csr, &member, SystemTime::now()).expect("certificate");
        key.into_credentials(der).expect("credentials")
    }

    pub fn trusted(&self) -> Trusted {
        Trusted { cluster: self.id.clone(), identities: vec![self.identity.public()] }
    }

    pub fn trust(&self, rules: Rules) -> Trust {
        Trust::new(self.id.clone(), vec![self.identity.public()], rules)
    }

    pub fn pods(&self) -> Prefix {
        format!("10.{}.0.0/16", self.number).parse().expect("prefix")
    }

    pub fn mesh(&self) -> Prefix {
        format!("240.{}.16.0/20", self.number).parse().expect("prefix")
    }

    /// What this cluster says to another.
    pub fn snapshot(&self, audience: &Cluster, generation: u64) -> ClusterSnapshot {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        ClusterSnapshot {
            cluster: self.id.to_string(),
            audience: audience.id.to_string(),
            epoch: 1,
            generation,
            issued_at: now,
            expires_at: now + 600,
            gateways: vec![GatewayEntry { name: self.gateway(), endpoints: Vec::new() }],
            pod_prefixes: vec![self.pods().into()],
            mesh_prefix: Some(self.mesh().into()),
            nodes: Vec::new(),
            consents: true,
            ..ClusterSnapshot::default()
        }
    }

    pub fn sign(&self, snapshot: &ClusterSnapshot) -> SignedSnapshot {
        self.identity.sign_snapshot(snapshot).expect("signature")
    }

    pub fn gateway(&self) -> String {
        format!("gateway-of-{}", self.id)
    }

    /// How this cluster's controller describes a peering with `peer`, reachable at `endpoints`.
    pub fn peering(&self, peer: &Cluster, endpoints: &[SocketAddr]) -> PeeringConfig {
        let wire =
            |a: &SocketAddr| WireEndpoint { host: a.ip().to_string(), port: a.port().into() };
        PeeringConfig {
            cluster: peer.id.to_string(),
            identities: vec![peer.identity.public().as_bytes().to_vec()],
            endpoints: endpoints.iter().map(wire).collect(),
            accept: vec![peer.pods().into()],
            max_prefixes: 16,
            snapshot: Some(self.sign(&self.snapshot(peer, 1))),
            // What a ClusterPeering has when nobody chose.
            keepalive_seconds: 25,
            post_quantum_required: false,
            ..PeeringConfig::default()
        }
    }

    pub fn config(&self, generation: u64, peerings: Vec<PeeringConfig>) -> GatewayConfig {
        let node = LocalNode {
            name: "node-1".to_owned(),
            address: vec![192, 0, 2, self.number],
            mesh_address: vec![240, self.number, 16, 2],
            prefixes: vec![self.pods().into()],
        };
        GatewayConfig {
            generation,
            vxlan: Some(Vxlan { vni: 51_746, port: 7789 }),
            nodes: vec![node],
            peerings,
            own_ranges: vec![self.pods().into()],
            mesh_prefix: Some(self.mesh().into()),
            mtu: 1420,
            drill: None,
        }
    }
}

/// What a gateway reports.
pub type Report = Option<from_member::Kind>;

/// As its controller reads it.
pub fn read(report: &Report) -> Option<&GatewayState> {
    match report {
        Some(from_member::Kind::Gateway(state)) => Some(state),
        _ => None,
    }
}

/// A gateway at work.
pub struct Site {
    pub plane: Arc<FakePlane>,
    pub state: watch::Receiver<Report>,
    pub view: watch::Receiver<View>,
    pub address: SocketAddr,
    pub exchange: Exchange,
    controller: mpsc::Sender<MemberEvent>,
    links: watch::Sender<Option<Link>>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Site {
    pub fn start(cluster: &Cluster) -> Self {
        Self::start_in(cluster, None)
    }

    /// With a folder for the last configuration.
    pub fn start_in(cluster: &Cluster, folder: Option<&Path>) -> Self {
        Self::start_with(cluster, folder, 1)
    }

    /// As above, with so many lanes.
    pub fn start_with(cluster: &Cluster, folder: Option<&Path>, lanes: u8) -> Self {
        let mut key = [cluster.number; 32];
        key[..8].copy_from_slice(&rand::random::<u64>().to_be_bytes());
        let plane = Arc::new(FakePlane::new(key, lanes));
        let socket = UdpSocket::bind("127.0.0.1:0").expect("socket");
        let credentials = cluster.credentials(Role::Gateway, &cluster.gateway());
        let trust = cluster.trust(Rules::default());
        let exchange =
            Exchange::bind(socket, Some(credentials), trust, Limits::default()).expect("exchange");
        let address = exchange.local_address().expect("address");
        let (controller, events) = mpsc::channel(16);
        let (state, states) = watch::channel(None);
        let (view, views) = watch::channel(View::default());
        let parts = Parts {
            plane: plane.clone(),
            exchange: exchange.clone(),
            trusted: cluster.trusted(),
            name: Some("gw".parse().expect("name")),
            base_port: address.port(),
            ordinal: Some(0),
            cache: folder.map(Cache::in_folder),
            drain: Some(PATIENCE),
            relay: Relay::default(),
        };
        let (links, linked) = watch::channel(None);
        tokio::spawn(parts.relay.clone().serve_controller(linked));
        let control = Control::new(parts, Outlets { state, view });
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            control.run(events, stopped).await.expect("the packet path works");
        });
        Self { plane, state: states, view: views, address, exchange, controller, links, stop, task }
    }

    pub async fn configure(&self, config: GatewayConfig) {
        let event = MemberEvent::Said(from_controller::Kind::Gateway(config));
        self.controller.send(event).await.expect("control runs");
    }

    /// Its link to its controller is up.
    pub fn link_controller(&self, link: Link) {
        self.links.send_replace(Some(link));
    }

    /// Waits until the report fulfils `condition`.
    pub async fn reports(&mut self, what: &str, condition: impl Fn(&GatewayState) -> bool) {
        let fulfilled = self.state.wait_for(|report| read(report).is_some_and(&condition));
        if tokio::time::timeout(PATIENCE, fulfilled).await.is_err() {
            panic!("{what}: {:#?}", self.state.borrow());
        }
    }

    /// Waits until what is reported of `peer` fulfils `condition`. (A report made before the
    /// configuration came names no peer.)
    pub async fn peer_reports(
        &mut self,
        peer: &Cluster,
        what: &str,
        condition: impl Fn(&PeerState) -> bool,
    ) {
        let id = peer.id.as_str();
        self.reports(what, |state| state.peers.iter().any(|p| p.cluster == id && condition(p)))
            .await;
    }

    /// Waits until there is a tunnel with `peer` that is up.
    pub async fn connected(&mut self, peer: &Cluster) {
        let id = peer.id.to_string();
        self.reports("connected", |state| tunnels_up(state, &id) > 0).await;
    }

    pub async fn disconnected(&mut self, peer: &Cluster) {
        let id = peer.id.to_string();
        self.reports("disconnected", |state| tunnels_up(state, &id) == 0).await;
    }

    /// What is reported of `peer` now.
    pub fn peer(&self, peer: &Cluster) -> Option<PeerState> {
        let state = self.state.borrow();
        let mut peers = read(&state).into_iter().flat_map(|state| &state.peers);
        peers.find(|state| state.cluster == peer.id.as_str()).cloned()
    }

    /// Tells it to end, and does not wait.
    pub fn tell_to_end(&self) {
        self.stop.cancel();
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        self.task.is_finished()
    }

    pub async fn stop(self) {
        self.stop.cancel();
        tokio::time::timeout(PATIENCE, self.task).await.expect("in time").expect("no panic");
        self.exchange.drain().await;
    }
}

fn tunnels_up(state: &GatewayState, cluster: &str) -> usize {
    let peers = state.peers.iter().filter(|peer| peer.cluster == cluster);
    let tunnels = peers.flat_map(|p| &p.connections).flat_map(|c| &c.tunnels);
    tunnels.filter(|tunnel| tunnel.up).count()
}

/// Two gateways that are peered; the first dials, if it may.
pub async fn peered(a: &Cluster, b: &Cluster) -> (Site, Site) {
    let (mut here, mut there) = (Site::start(a), Site::start(b));
    here.configure(a.config(1, vec![a.peering(b, &[there.address])])).await;
    there.configure(b.config(1, vec![b.peering(a, &[here.address])])).await;
    here.connected(b).await;
    there.connected(a).await;
    (here, there)
}
