//! Two gateways as Kubernetes runs them: the real program with its devices, each with a controller of
//! a few lines in its namespace.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use carrick_exchange::certificate::issue;
use carrick_exchange::message::WireEndpoint;
use carrick_exchange::message::member::{
    FromController, FromMember, GatewayConfig, GatewayState, LocalNode, PeeringConfig, TunnelState,
    Vxlan, from_controller, from_member,
};
use carrick_exchange::message::snapshot::{ClusterSnapshot, GatewayEntry};
use carrick_exchange::{
    Arrival, ClusterIdentity, Credentials, Exchange, Limits, Link, Pin, Rules, Trust,
};
use carrick_model::{ClusterId, IdentityKey, MemberId, Prefix, Role};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::sync::{oneshot, watch};

use crate::support::Namespace;

const PATIENCE: Duration = Duration::from_secs(15);

/// Joins whoever asks, tells the newest configuration, and hands on what is reported.
async fn control(
    exchange: Exchange,
    identity: ClusterIdentity,
    config: watch::Receiver<GatewayConfig>,
    states: mpsc::Sender<GatewayState>,
) {
    loop {
        match exchange.accept().await.result {
            Ok(Arrival::Join(attempt)) => {
                let member: MemberId = attempt.token.parse().expect("the token is the name");
                let der = issue(&identity, &attempt.csr, &member, SystemTime::now());
                // A joiner that went away meanwhile asks again.
                let _ = attempt.admit(der.expect("issued")).await;
            }
            Ok(Arrival::Link(link)) => {
                tokio::spawn(serve(link, config.clone(), states.clone()));
            }
            Err(error) => panic!("{error}"),
        }
    }
}

async fn serve(
    link: Link,
    mut config: watch::Receiver<GatewayConfig>,
    states: mpsc::Sender<GatewayState>,
) {
    let channel = link.channel::<FromController, FromMember>().await;
    let (mut sender, mut receiver) = channel.expect("channel");
    config.mark_changed();
    loop {
        tokio::select! {
            Ok(()) = config.changed() => {
                let newest = config.borrow_and_update().clone();
                let kind = Some(from_controller::Kind::Gateway(newest));
                if sender.send(&FromController { kind }).await.is_err() {
                    return;
                }
            }
            frame = receiver.receive() => {
                let Ok(Some(FromMember { kind: Some(from_member::Kind::Gateway(state)) })) = frame
                else { return };
                if states.send(state).is_err() {
                    return;
                }
            }
        }
    }
}

/// Another cluster or site, as a cluster's controller knows it.
pub struct Known {
    pub id: ClusterId,
    pub identity: IdentityKey,
    /// Where its exchange listens, if it can be dialled.
    pub wan: Option<SocketAddr>,
    pub pods: Prefix,
}

/// A cluster: a pod's namespace with the gateway's process, and its controller.
pub struct Cluster {
    number: u8,
    id: ClusterId,
    pem: String,
    pod: Namespace,
    folder: tempfile::TempDir,
    config: watch::Sender<GatewayConfig>,
    states: mpsc::Receiver<GatewayState>,
    pub seen: GatewayState,
    stop: Option<oneshot::Sender<()>>,
    process: Option<Child>,
}

impl Cluster {
    pub fn new(number: u8, identity: ClusterIdentity) -> Self {
        let id: ClusterId = format!("cluster-{number}").parse().expect("cluster ID");
        let pod = Namespace::new();
        let folder = tempfile::tempdir().expect("folder");
        let write = |name: &str, text: String| {
            std::fs::write(folder.path().join(name), text).expect("written");
        };
        write("cluster-id", id.to_string());
        write("identities", identity.public().to_string());
        write("token", format!("carrick://{id}/gateway/uid-{number}"));
        let (config, configs) = watch::channel(GatewayConfig::default());
        let (sender, states) = mpsc::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let pem = identity.to_pem();
        let (of, socket) = (id.clone(), pod.inside(|| UdpSocket::bind("127.0.0.1:7820")));
        let socket = socket.expect("socket");
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("runtime").block_on(async {
                let exchange = controller(socket, &of, &identity);
                tokio::select! {
                    () = control(exchange, identity, configs, sender) => {}
                    _ = stopped => {}
                }
            });
        });
        Self {
            number,
            id,
            pem,
            pod,
            folder,
            config,
            states,
            seen: GatewayState::default(),
            stop: Some(stop),
            process: None,
        }
    }

    pub fn pod(&self) -> &Namespace {
        &self.pod
    }

    pub fn identity(&self) -> ClusterIdentity {
        ClusterIdentity::from_pem(&self.pem).expect("identity")
    }

    pub fn start(&mut self) {
        let path = |name: &str| self.folder.path().join(name).display().to_string();
        let process = self
            .pod
            .command(env!("CARGO_BIN_EXE_carrick-gateway"))
            .args(["pod", "--controller=127.0.0.1:7820", "--http-address=127.0.0.1:7822"])
            .arg(format!("--trust-dir={}", path("")))
            .arg(format!("--token-file={}", path("token")))
            .arg(format!("--state-dir={}", path("")))
            .env("POD_NAME", "carrick-gateway-0")
            .env("POD_UID", format!("uid-{}", self.number))
            .env("POD_IP", "127.0.0.1")
            .stdin(Stdio::null())
            .spawn();
        self.process = Some(process.expect("the gateway starts"));
    }

    fn wan(&self) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, self.number], 31_820))
    }

    fn pods(&self) -> Prefix {
        format!("10.{}.0.0/16", self.number).parse().expect("prefix")
    }

    pub fn configure(&self, generation: u64, peers: &[&Self]) {
        let known = |peer: &&Self| Known {
            id: peer.id.clone(),
            identity: peer.identity().public(),
            wan: Some(peer.wan()),
            pods: peer.pods(),
        };
        self.configure_for(generation, &peers.iter().map(known).collect::<Vec<_>>());
    }

    pub fn configure_for(&self, generation: u64, peers: &[Known]) {
        let mesh: Prefix = format!("240.{}.0.0/20", self.number).parse().expect("prefix");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        let peering = |peer: &Known| {
            let endpoint = |wan: SocketAddr| WireEndpoint {
                host: wan.ip().to_string(),
                port: wan.port().into(),
            };
            let gateway = GatewayEntry {
                name: format!("uid-{}", self.number),
                endpoints: vec![endpoint(self.wan())],
            };
            let snapshot = ClusterSnapshot {
                cluster: self.id.to_string(),
                audience: peer.id.to_string(),
                epoch: 1,
                generation,
                issued_at: now,
                expires_at: now + 600,
                gateways: vec![gateway],
                pod_prefixes: vec![self.pods().into()],
                mesh_prefix: Some(mesh.into()),
                nodes: Vec::new(),
                consents: true,
                ..ClusterSnapshot::default()
            };
            PeeringConfig {
                cluster: peer.id.to_string(),
                identities: vec![peer.identity.as_bytes().to_vec()],
                endpoints: peer.wan.map(endpoint).into_iter().collect(),
                accept: vec![peer.pods.into()],
                max_prefixes: 4,
                snapshot: Some(self.identity().sign_snapshot(&snapshot).expect("signed")),
                keepalive_seconds: 5,
                post_quantum_required: true,
                ..PeeringConfig::default()
            }
        };
        let node = LocalNode {
            name: "node".to_owned(),
            address: vec![10, 100, 0, 1],
            mesh_address: vec![240, self.number, 0, 2],
            prefixes: vec![self.pods().into()],
        };
        self.config.send_replace(GatewayConfig {
            generation,
            vxlan: Some(Vxlan { vni: 51_746, port: 7789 }),
            nodes: vec![node],
            peerings: peers.iter().map(peering).collect(),
            own_ranges: vec![self.pods().into()],
            mesh_prefix: Some(mesh.into()),
            mtu: 1420,
            drill: None,
        });
    }

    /// Waits for a report that fulfils `condition`.
    pub fn reports(&mut self, what: &str, condition: impl Fn(&GatewayState) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !condition(&self.seen) {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.states.recv_timeout(left) {
                Ok(state) => self.seen = state,
                Err(error) => panic!("{what}: {error}: {:?}", self.summary()),
            }
        }
    }

    fn summary(&self) -> BTreeMap<String, (usize, Vec<String>)> {
        let peers = self.seen.peers.iter().map(|peer| {
            let failures = peer.failures.iter().map(|f| f.message.clone()).collect();
            (peer.cluster.clone(), (peer.connections.len(), failures))
        });
        peers.chain([("errors".to_owned(), (0, self.seen.errors.clone()))]).collect()
    }

    pub fn get(&self, path: &str) -> String {
        self.pod.inside(|| {
            let mut stream = TcpStream::connect("127.0.0.1:7822").expect("HTTP");
            write!(stream, "GET {path} HTTP/1.0\r\nConnection: close\r\n\r\n").expect("asked");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).expect("answered");
            answer
        })
    }

    /// SIGTERM; waits until it is gone, and says whether it left in peace.
    fn terminate(&mut self) -> bool {
        let Some(mut process) = self.process.take() else { return false };
        let pid = Pid::from_raw(i32::try_from(process.id()).expect("a pid"));
        kill(pid, Signal::SIGTERM).expect("it runs");
        let status = process.wait().expect("it ends");
        status.success() && status.signal().is_none()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            // An error here would hide the test's own.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

fn controller(socket: UdpSocket, id: &ClusterId, identity: &ClusterIdentity) -> Exchange {
    let name = "controller".parse().expect("name");
    let credentials = Credentials::for_controller(identity, id.clone(), name, SystemTime::now());
    let gateways = Pin::new(id.clone(), vec![identity.public()], Role::Gateway);
    let rules = Rules { join: true, member: vec![gateways], peer: Vec::new() };
    let trust = Trust::new(id.clone(), vec![identity.public()], rules);
    let credentials = Some(credentials.expect("credentials"));
    Exchange::bind(socket, credentials, trust, Limits::default()).expect("exchange")
}

pub fn up(state: &GatewayState) -> Option<&TunnelState> {
    let connections = state.peers.iter().flat_map(|peer| &peer.connections);
    let live = connections.filter(|connection| connection.rtt_micros > 0);
    live.flat_map(|connection| &connection.tunnels).find(|tunnel| tunnel.up)
}

/// The second of the newest handshake, once it is past, so that a later one can be told from it.
fn handshake_is_over(cluster: &Cluster) -> u64 {
    let last = up(&cluster.seen).expect("up").last_handshake;
    let seconds = || SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    crate::support::eventually("the second is over", || seconds() > last);
    last
}

/// Two clusters with a tunnel; the first has the lower identity and dials.
fn two() -> (Cluster, Cluster) {
    let mut identities = [(); 2].map(|()| ClusterIdentity::generate().expect("identity"));
    identities.sort_by_key(ClusterIdentity::public);
    let [lower, higher] = identities;
    let (mut one, mut two) = (Cluster::new(1, lower), Cluster::new(2, higher));
    one.pod.cable(("wan0", "192.0.2.1/24"), &two.pod, ("wan0", "192.0.2.2/24"));
    one.configure(1, &[&two]);
    two.configure(1, &[&one]);
    one.start();
    two.start();
    one.reports("a tunnel", |state| up(state).is_some());
    two.reports("a tunnel", |state| up(state).is_some());
    (one, two)
}

#[test]
fn two_gateways_join_link_and_shake_hands() {
    let (mut one, mut two) = two();
    let tunnel = up(&one.seen).expect("up").clone();
    assert_eq!(tunnel.endpoint, "192.0.2.2:31821");
    assert!(tunnel.last_handshake > 0);
    assert_eq!(one.seen.errors, [] as [String; 0]);
    assert!(one.get("/readyz").starts_with("HTTP/1.0 200"), "{}", one.get("/readyz"));
    let metrics = one.get("/metrics");
    let labels = "{cluster=\"cluster-2\",gateway=\"uid-2\",lane=\"0\"}";
    assert!(metrics.contains(&format!("carrick_gateway_tunnel_up{labels} 1")), "{metrics}");
    assert!(metrics.contains("carrick_gateway_dropped_packets_total{reason=\"no_route\"} 0"));

    // Withdrawn on one side, gone on both within a second.
    let began = Instant::now();
    one.configure(2, &[]);
    two.reports("withdrawn", |state| up(state).is_none());
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    one.reports("withdrawn", |state| state.peers.is_empty());
    let began = Instant::now();
    one.configure(3, &[&two]);
    two.reports("restored", |state| up(state).is_some());
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

#[test]
fn terminated_gateway_leaves_in_peace_and_comes_back_without_its_controller() {
    let (mut one, mut two) = two();
    let before = handshake_is_over(&one);
    assert!(two.terminate(), "it exits with success");
    two.reports("draining", |state| state.draining);
    one.reports("its link is gone", |state| up(state).is_none());

    // The controller goes; certificate and configuration are in the state folder.
    drop(two.stop.take());
    two.start();
    one.reports("back", |state| up(state).is_some_and(|t| t.last_handshake > before));
    let drops = two.get("/metrics");
    assert!(drops.contains("carrick_gateway_links{cluster=\"cluster-1\"} 1"), "{drops}");
}

#[test]
fn killed_gateway_is_back_soon_whichever_side_dials() {
    let (one, two) = two();
    let (one, two) = kill_and_restart(one, two);
    kill_and_restart(two, one);
}

/// Kills the second one's gateway and starts it again: the new process has a session soon.
fn kill_and_restart(one: Cluster, mut two: Cluster) -> (Cluster, Cluster) {
    let mut process = two.process.take().expect("it runs");
    process.kill().expect("killed");
    process.wait().expect("gone");
    // What the old process said last must not count for the new one.
    two.seen = GatewayState::default();
    while two.states.try_recv().is_ok() {}
    let began = Instant::now();
    two.start();
    two.reports("back", |state| up(state).is_some());
    let took = began.elapsed();
    assert!(took < Duration::from_secs(4), "{took:?}: {:?}", two.summary());
    (one, two)
}
