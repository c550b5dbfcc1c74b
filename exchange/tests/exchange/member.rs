//! The link to the controller, with a controller of a few lines.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use carrick_exchange::certificate::issue;
use carrick_exchange::member::{Away, MemberEvent, MemberOptions, run};
use carrick_exchange::message::member::{
    FromController, FromMember, GatewayConfig, GatewayState, from_controller, from_member,
};
use carrick_exchange::{Arrival, Credentials, Exchange, Link, Receiver, Rules, Sender};
use carrick_model::{MemberId, Role};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::support::{Cluster, address, soon};

struct Controller<'a> {
    cluster: &'a Cluster,
    exchange: Exchange,
}

impl<'a> Controller<'a> {
    fn start(cluster: &'a Cluster) -> Self {
        let member = vec![cluster.pin(Role::Gateway)];
        let rules = Rules { join: true, member, peer: Vec::new() };
        let exchange = cluster.exchange(cluster.member("controller", "c"), rules);
        Self { cluster, exchange }
    }

    fn address(&self) -> SocketAddr {
        address(&self.exchange)
    }

    async fn next(&self) -> Arrival {
        soon(self.exchange.accept()).await.result.expect("arrival")
    }

    /// Admits the next joiner; returns its token.
    async fn admit(&self, uri: &str) -> String {
        let Arrival::Join(attempt) = self.next().await else { panic!("a joiner") };
        let (token, member) = (attempt.token.clone(), uri.parse::<MemberId>().expect("member"));
        let identity = &self.cluster.identity;
        let der = issue(identity, &attempt.csr, &member, SystemTime::now()).expect("issued");
        attempt.admit(der).await.expect("answered");
        token
    }

    async fn linked(&self) -> (Link, Sender<FromController>, Receiver<FromMember>) {
        let Arrival::Link(link) = self.next().await else { panic!("a link") };
        let (sender, receiver) = soon(link.channel()).await.expect("channel");
        (link, sender, receiver)
    }
}

struct Gateway {
    events: mpsc::Receiver<MemberEvent>,
    state: watch::Sender<Option<from_member::Kind>>,
    away: watch::Sender<Option<Instant>>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

fn gateway(cluster: &Cluster, controller: SocketAddr, folder: &Path) -> Gateway {
    let write = |name: &str, text: &str| {
        std::fs::write(folder.join(name), text).expect("written");
    };
    write("cluster-id", cluster.id.as_str());
    write("identities", &format!("{}\n", cluster.identity.public()));
    write("token", "a token\n");
    let options = MemberOptions {
        controller: controller.to_string(),
        trust: folder.to_owned(),
        token: folder.join("token"),
        state: folder.to_owned(),
        name: "uid-1".parse().expect("name"),
    };
    let held = Credentials::load(folder).expect("readable");
    let (sender, events) = mpsc::channel(16);
    let (state, states) = watch::channel(None);
    let stop = CancellationToken::new();
    let (away, until) = watch::channel(None);
    let task = tokio::spawn(run(options, held, sender, states, Away::new(until), stop.clone()));
    Gateway { events, state, away, stop, task }
}

impl Gateway {
    fn report(&self, state: GatewayState) {
        self.state.send_replace(Some(from_member::Kind::Gateway(state)));
    }

    async fn event(&mut self) -> MemberEvent {
        soon(self.events.recv()).await.expect("the task runs")
    }

    async fn credentials(&mut self) -> Credentials {
        match self.event().await {
            MemberEvent::Credentials(credentials) => credentials,
            other => panic!("credentials: {other:?}"),
        }
    }
}

async fn reported(receiver: &mut Receiver<FromMember>) -> GatewayState {
    match soon(receiver.receive()).await.expect("frame").expect("not the end").kind {
        Some(from_member::Kind::Gateway(state)) => state,
        other => panic!("a gateway's state: {other:?}"),
    }
}

const URI: &str = "carrick://paris/gateway/uid-1";

#[tokio::test]
async fn gateway_joins_takes_configurations_and_reports() {
    let paris = Cluster::new("paris");
    let controller = Controller::start(&paris);
    let folder = tempfile::tempdir().expect("folder");
    let mut gateway = gateway(&paris, controller.address(), folder.path());
    assert_eq!(controller.admit(URI).await, "a token");
    assert_eq!(gateway.credentials().await.member().to_string(), URI);
    let (_link, mut sender, mut receiver) = controller.linked().await;

    let config = GatewayConfig { generation: 5, ..GatewayConfig::default() };
    let kind = Some(from_controller::Kind::Gateway(config.clone()));
    sender.send(&FromController { kind }).await.expect("sent");
    let MemberEvent::Said(said) = gateway.event().await else { panic!("a configuration") };
    assert_eq!(said, from_controller::Kind::Gateway(config));

    gateway.report(GatewayState { applied: 5, ..GatewayState::default() });
    assert_eq!(reported(&mut receiver).await.applied, 5);

    let last = GatewayState { applied: 5, draining: true, ..GatewayState::default() };
    gateway.report(last);
    gateway.stop.cancel();
    assert!(reported(&mut receiver).await.draining, "the last word still goes out");
    soon(gateway.task).await.expect("no panic");
}

#[tokio::test]
async fn a_drill_has_the_link_given_up_for_its_time() {
    let paris = Cluster::new("paris");
    let controller = Controller::start(&paris);
    let folder = tempfile::tempdir().expect("folder");
    let mut gateway = gateway(&paris, controller.address(), folder.path());
    controller.admit(URI).await;
    gateway.credentials().await;
    let (_link, _sender, mut receiver) = controller.linked().await;
    gateway.report(GatewayState { applied: 1, ..GatewayState::default() });
    assert_eq!(reported(&mut receiver).await.applied, 1);

    let until = Instant::now() + Duration::from_millis(600);
    gateway.away.send_replace(Some(until));
    soon(receiver.receive()).await.expect_err("the link is gone");
    gateway.report(GatewayState { applied: 2, ..GatewayState::default() });
    let (_link, _sender, mut receiver) = controller.linked().await;
    assert!(Instant::now() >= until, "not before its time");
    assert_eq!(reported(&mut receiver).await.applied, 2, "what happened meanwhile is told");
}

#[tokio::test]
async fn gateway_comes_back_with_the_certificate_that_it_has() {
    let paris = Cluster::new("paris");
    let controller = Controller::start(&paris);
    let folder = tempfile::tempdir().expect("folder");
    let mut first = gateway(&paris, controller.address(), folder.path());
    controller.admit(URI).await;
    first.credentials().await;
    let (link, _sender, _receiver) = controller.linked().await;
    first.stop.cancel();
    assert_eq!(link.peer().to_string(), URI);
    let again = gateway(&paris, controller.address(), folder.path());
    // It links without joining.
    let (link, ..) = controller.linked().await;
    assert_eq!(link.peer().to_string(), URI);
    drop(again);
}

#[tokio::test]
async fn gateway_links_again_when_the_controller_went_and_takes_renewals() {
    let paris = Cluster::new("paris");
    let controller = Controller::start(&paris);
    let folder = tempfile::tempdir().expect("folder");
    let mut gateway = gateway(&paris, controller.address(), folder.path());
    controller.admit(URI).await;
    gateway.credentials().await;
    let (link, ..) = controller.linked().await;
    link.close(&carrick_exchange::CloseReason::Draining);

    let (link, mut sender, _receiver) = controller.linked().await;
    let renewed = carrick_exchange::certificate::renew(
        &paris.identity,
        link.certificate(),
        SystemTime::now(),
    );
    let kind = Some(from_controller::Kind::Certificate(renewed.expect("renewed")));
    sender.send(&FromController { kind }).await.expect("sent");
    assert_eq!(gateway.credentials().await.member().to_string(), URI);
}
