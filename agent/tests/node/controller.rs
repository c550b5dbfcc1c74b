//! The whole agent against a controller: joining, orders, reports, certificates, restarts.

use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use crate::support::{Namespace, Side};
use carrick_agent::options::RunOptions;
use carrick_exchange::message::drill::{FaultOrder, StreamOrder};
use carrick_exchange::message::member::{
    AgentConfig, AgentState, FromController, FromMember, from_controller, from_member,
};
use carrick_exchange::{
    Arrival, ClusterIdentity, Credentials, Exchange, Limits, Link, Pin, Rules, Trust, certificate,
};
use carrick_model::{ClusterId, MemberId, MemberName, Role};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::sync::CancellationToken;

const TOKEN: &str = "a token of node-1";
const LIMIT: Duration = Duration::from_secs(15);

/// The files that a pod has mounted.
struct Mounts {
    folder: tempfile::TempDir,
    identity: ClusterIdentity,
}

impl Mounts {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let identity = ClusterIdentity::generate().expect("identity");
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().expect("parent")).expect("made");
            std::fs::write(path, text).expect("written");
        };
        write("trust/cluster-id", "cluster-1\n");
        write("trust/identities", &format!("{}\n", identity.public()));
        write("token", TOKEN);
        write("state/empty", "");
        Self { folder, identity }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn options(&self, controller: SocketAddr) -> RunOptions {
        RunOptions {
            shortcuts: true,
            controller: controller.to_string(),
            node_name: "node-1".parse().expect("name"),
            http_address: "127.0.0.1:7823".parse().expect("address"),
            trust: self.path("trust"),
            token: self.path("token"),
            state: self.path("state"),
        }
    }
}

/// Runs `test` as the controller, in the node's namespace.
fn as_controller<F>(namespace: &Namespace, test: impl FnOnce() -> F + Send + 'static)
where
    F: Future<Output = ()>,
{
    namespace.within(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let test = async { tokio::time::timeout(LIMIT, test()).await.expect("in time") };
        runtime.expect("runtime").block_on(test);
    });
}

struct Agent {
    stop: CancellationToken,
    thread: JoinHandle<anyhow::Result<()>>,
}

impl Agent {
    /// On a thread of the caller's namespace.
    fn start(options: RunOptions) -> Self {
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("runtime").block_on(carrick_agent::run::run(options, stopped))
        });
        Self { stop, thread }
    }

    async fn end(self) {
        self.stop.cancel();
        let ended = tokio::task::spawn_blocking(|| self.thread.join()).await.expect("joined");
        ended.expect("no panic").expect("no error");
    }
}

struct Controller {
    exchange: Exchange,
    identity: ClusterIdentity,
}

impl Controller {
    fn start(identity: &ClusterIdentity) -> Self {
        let cluster: ClusterId = "cluster-1".parse().expect("ID");
        let name: MemberName = "controller".parse().expect("name");
        let credentials =
            Credentials::for_controller(identity, cluster.clone(), name, SystemTime::now());
        let agents = Pin::new(cluster.clone(), vec![identity.public()], Role::Agent);
        let rules = Rules { join: true, member: vec![agents], peer: Vec::new() };
        let trust = Trust::new(cluster, vec![identity.public()], rules);
        let socket = UdpSocket::bind("127.0.0.1:0").expect("bound");
        let credentials = Some(credentials.expect("credentials"));
        let exchange = Exchange::bind(socket, credentials, trust, Limits::default());
        let identity = ClusterIdentity::from_pem(&identity.to_pem()).expect("identity");
        Self { exchange: exchange.expect("exchange"), identity }
    }

    fn address(&self) -> SocketAddr {
        self.exchange.local_address().expect("address")
    }

    fn issue(&self, csr: &[u8]) -> Vec<u8> {
        let member = MemberId {
            cluster: "cluster-1".parse().expect("ID"),
            role: Role::Agent,
            name: "node-1".parse().expect("name"),
        };
        certificate::issue(&self.identity, csr, &member, SystemTime::now()).expect("certificate")
    }

    /// Admits whoever joins until an agent links; the link, and how many joined.
    async fn linked(&self) -> (Link, usize) {
        let mut joined = 0;
        loop {
            match self.exchange.accept().await.result.expect("a good attempt") {
                Arrival::Join(attempt) => {
                    assert_eq!(attempt.token, TOKEN);
                    joined += 1;
                    let certificate = self.issue(&attempt.csr);
                    attempt.admit(certificate).await.expect("admitted");
                }
                Arrival::Link(link) => return (link, joined),
            }
        }
    }
}

/// The controller's end of a link's channel.
struct Channel {
    link: Link,
    sender: carrick_exchange::Sender<FromController>,
    receiver: carrick_exchange::Receiver<FromMember>,
}

impl Channel {
    async fn open(link: Link) -> Self {
        let (sender, receiver) = link.channel().await.expect("channel");
        Self { link, sender, receiver }
    }

    async fn order(&mut self, order: AgentConfig) {
        let kind = Some(from_controller::Kind::Agent(order));
        self.sender.send(&FromController { kind }).await.expect("sent");
    }

    /// Reports, until one is as wanted.
    async fn report(&mut self, wanted: impl Fn(&AgentState) -> bool) -> AgentState {
        loop {
            let frame = self.receiver.receive().await.expect("frame").expect("open");
            if let Some(from_member::Kind::Agent(state)) = frame.kind
                && wanted(&state)
            {
                return state;
            }
        }
    }
}

async fn http(path: &str) -> (u16, String) {
    let mut stream = tokio::net::TcpStream::connect("127.0.0.1:7823").await.expect("connected");
    let request = format!("GET {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("answer");
    let code = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("status");
    (code, answer)
}

fn stage() -> (Namespace, Namespace) {
    let (node, pods) = (Namespace::new("node"), Namespace::new("pods"));
    Side(1).build(&node, &pods);
    (node, pods)
}

#[test]
fn an_agent_joins_follows_reports_and_comes_back() {
    let (node, _pods) = stage();
    let mounts = Mounts::new();
    as_controller(&node, || async move {
        let controller = Controller::start(&mounts.identity);
        let agent = Agent::start(mounts.options(controller.address()));
        let (link, joined) = controller.linked().await;
        assert_eq!(
            (joined, link.peer().to_string().as_str()),
            (1, "carrick://cluster-1/agent/node-1")
        );
        let mut channel = Channel::open(link).await;
        let (code, answer) = http("/readyz").await;
        assert_eq!(code, 503, "{answer}");
        assert!(answer.contains("the controller has not said"), "{answer}");

        channel.order(Side(1).order(5)).await;
        let state = channel.report(|state| state.applied == 5).await;
        assert_eq!(state.claims, crate::support::prefixes(&["10.1.0.0/24"]));
        assert_eq!(state.errors, [] as [String; 0]);
        let state = channel.report(|state| !state.probes.is_empty()).await;
        assert!(!state.probes[0].targets[0].ok, "there is nobody");
        assert_eq!(http("/readyz").await.0, 200, "peers do not count");
        assert!(http("/metrics").await.1.contains("carrick_agent_config_generation 5"));

        // A broken link: it comes back with the certificate that it has.
        channel.link.close(&carrick_exchange::CloseReason::Draining);
        let (link, joined) = controller.linked().await;
        assert_eq!(joined, 0);
        let mut channel = Channel::open(link).await;
        channel.report(|state| state.applied == 5).await;

        // A restart while the controller says nothing: from what it kept.
        agent.end().await;
        let agent = Agent::start(mounts.options(controller.address()));
        let (link, joined) = controller.linked().await;
        assert_eq!(joined, 0, "the certificate was kept");
        let mut channel = Channel::open(link).await;
        channel.report(|state| state.applied == 5).await;

        channel
            .order(AgentConfig { generation: 6, withdraw: true, ..AgentConfig::default() })
            .await;
        channel.report(|state| state.withdrawn && state.applied == 6).await;
        agent.end().await;
    });
    assert!(!node.ip("link").contains("carrick0"));
}

#[test]
fn a_drill_has_an_agent_without_its_link_for_a_while_and_the_node_stays_as_it_is() {
    let (node, _pods) = stage();
    let mounts = Mounts::new();
    as_controller(&node, || async move {
        let controller = Controller::start(&mounts.identity);
        let agent = Agent::start(mounts.options(controller.address()));
        let mut channel = Channel::open(controller.linked().await.0).await;
        let length = Duration::from_millis(700);
        let fault = FaultOrder {
            id: "d".to_owned(),
            unlink: true,
            length_milliseconds: 700,
            not_after: u32::MAX.into(),
            ..FaultOrder::default()
        };
        let drill = StreamOrder { fault: Some(Box::new(fault)), ..StreamOrder::default() };
        let order = AgentConfig { drill: Some(Box::new(drill)), ..Side(1).order(5) };
        channel.order(order.clone()).await;
        while channel.receiver.receive().await.is_ok_and(|frame| frame.is_some()) {}
        let begun = Instant::now();
        assert_eq!(http("/readyz").await.0, 200, "it works without");
        let mut channel = Channel::open(controller.linked().await.0).await;
        assert!(begun.elapsed() > length / 2, "{:?}", begun.elapsed());
        let state = channel.report(|state| state.applied == 5 && state.fault.is_some()).await;
        let fault = *state.fault.expect("reported");
        assert_eq!((fault.id.as_str(), fault.error.as_str()), ("d", ""));
        assert!(fault.to - fault.from >= 700, "{fault:?}");
        // The order stays, and is not begun again.
        channel.order(AgentConfig { generation: 6, ..order }).await;
        channel.report(|state| state.applied == 6).await;
        channel.order(Side(1).order(7)).await;
        channel.report(|state| state.applied == 7 && state.fault.is_none()).await;
        agent.end().await;
    });
}

#[test]
fn a_controller_of_another_identity_is_not_obeyed() {
    let (node, _pods) = stage();
    let mounts = Mounts::new();
    as_controller(&node, || async move {
        let impostor = Controller::start(&ClusterIdentity::generate().expect("identity"));
        let agent = Agent::start(mounts.options(impostor.address()));
        let refused = impostor.exchange.accept().await.result.expect_err("refused by the agent");
        assert_eq!(refused.reason(), "WrongIdentity", "{refused}");
        assert_eq!(http("/readyz").await.0, 503);
        agent.end().await;
    });
}

#[test]
fn a_certificate_that_is_no_longer_taken_is_asked_for_anew() {
    let (node, _pods) = stage();
    let mounts = Mounts::new();
    as_controller(&node, || async move {
        let controller = Controller::start(&mounts.identity);
        let agent = Agent::start(mounts.options(controller.address()));
        let (link, _) = controller.linked().await;
        // From now on this node's name is unknown.
        let trust = controller.exchange.trust();
        let known = trust.rules();
        let mut strict = known.clone();
        strict.member[0].members = Some(std::collections::BTreeSet::new());
        trust.set(strict);
        link.closed().await;
        let refused = controller.exchange.accept().await.result.expect_err("withdrawn");
        assert_eq!(refused.reason(), "Withdrawn", "{refused}");
        trust.set(known);
        let (_link, joined) = controller.linked().await;
        assert_eq!(joined, 1, "with a new certificate");
        agent.end().await;
    });
}
