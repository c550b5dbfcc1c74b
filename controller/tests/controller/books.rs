//! Services from controller to controller, by a gateway that carries questions.

use std::sync::Arc;

use carrick_controller::book::{Desk, Heard, Hearing, publish, subscribe};
use carrick_controller::metrics::Metrics;
use carrick_crds::peering::ServicesSpec;
use carrick_exchange::ClusterIdentity;
use carrick_exchange::book::publisher::Exports;
use carrick_exchange::message::member::{AgentState, GatewayState, from_member};
use carrick_exchange::message::service::{Answer, Ask, AskHead, answer, ask};
use carrick_model::service::{Endpoint, EndpointGroup, ServiceKind};
use carrick_model::{ClusterId, ExportedService, Family, ServiceName};
use prost::Message as _;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::link::{Member, connected, peering};
use crate::rig::{PATIENCE, Rig};

fn service(namespace: &str, address: [u8; 4]) -> ExportedService {
    let endpoint = Endpoint::ready(address.into());
    ExportedService {
        families: vec![Family::V4],
        groups: vec![EndpointGroup {
            family: Family::V4,
            ports: Vec::new(),
            endpoints: vec![endpoint],
        }],
        ..ExportedService::bare(
            ServiceName::new(namespace, "hello").expect("name"),
            1,
            ServiceKind::Headless,
        )
    }
}

fn exports(services: impl IntoIterator<Item = ExportedService>) -> Exports {
    services.into_iter().map(|service| (service.name.clone(), Arc::new(service))).collect()
}

fn id(text: &str) -> ClusterId {
    text.parse().expect("cluster ID")
}

/// Paris with a gateway that is linked to osaka and carries questions to osaka's desk.
struct World {
    rig: Rig,
    osaka: Desk,
    gateway: Member,
    exported: watch::Sender<carrick_controller::services::Exports>,
    heard: watch::Receiver<Heard>,
    tasks: JoinSet<()>,
    _agent: Member,
}

impl World {
    async fn start(services: Option<ServicesSpec>) -> Self {
        let rig = Rig::start().await;
        let identity = Arc::new(ClusterIdentity::generate().expect("identity"));
        let mut object = peering(&identity, false);
        if let Ok(spec) = &mut object.spec {
            spec.services = services;
        }
        rig.apply(object).await;
        let mut gateway = Member::start(&rig, "token-of-gw-0").await;
        gateway.say(from_member::Kind::Gateway(linked(&identity))).await;
        let mut agent = Member::start(&rig, "token-of-ag-0").await;
        agent.say(from_member::Kind::Agent(AgentState::default())).await;
        let osaka = Desk::new(&id("osaka"), identity, Metrics::default());
        let (exported, exports) = watch::channel(None);
        let (hearing, heard) = watch::channel(Heard::new());
        let mut tasks = JoinSet::new();
        let books = rig.books.clone();
        tasks.spawn(publish(books.desk, rig.sight.clone(), exports));
        let namespace = "carrick-system".to_owned();
        let sight = rig.sight.clone();
        tasks.spawn(subscribe(
            id("paris"),
            namespace,
            sight,
            books.gateways,
            hearing,
            Metrics::default(),
        ));
        let (link, desk) = (gateway.link.clone(), osaka.clone());
        tasks.spawn(async move {
            let answer = |call: carrick_exchange::Call| {
                let desk = desk.clone();
                async move {
                    let (question, reply) = call.read().await.expect("read");
                    let asked = Ask::decode(question.as_slice()).expect("a question");
                    assert_eq!(asked.cluster, "osaka");
                    let asked = Ask { cluster: "paris".to_owned(), ..asked };
                    let answer = desk.answer(&asked.encode_to_vec()).await;
                    let _gone = reply.answer(&answer.encode_to_vec()).await;
                }
            };
            link.serve_calls(8, answer).await;
        });
        Self { rig, osaka, gateway, exported, heard, tasks, _agent: agent }
    }

    fn osaka_exports(&self, services: impl IntoIterator<Item = ExportedService>) {
        self.osaka.set([(&id("paris"), &exports(services))].into());
    }

    /// Waits until what was heard of osaka fulfils `condition`.
    async fn hears(&mut self, what: &str, condition: impl Fn(&Hearing) -> bool) -> Hearing {
        let fulfilled = |heard: &Heard| heard.get(&id("osaka")).is_some_and(&condition);
        let heard = tokio::time::timeout(PATIENCE, self.heard.wait_for(fulfilled)).await;
        let heard = heard.map(|heard| heard.expect("it runs")[&id("osaka")].clone());
        heard.unwrap_or_else(|_| panic!("{what}: {:?}", self.heard.borrow()))
    }
}

fn linked(osaka: &ClusterIdentity) -> GatewayState {
    let mut state = connected(osaka);
    state.peers[0].connections[0].rtt_micros = 700;
    state
}

fn names(hearing: &Hearing) -> Vec<String> {
    let imports = hearing.imports.iter().flat_map(|imports| imports.services.keys());
    imports.map(ToString::to_string).collect()
}

fn sharing(export: &[&str], import: &[&str]) -> Option<ServicesSpec> {
    let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
    Some(ServicesSpec { export: texts(export), import: texts(import), max_imports: None })
}

#[tokio::test]
async fn what_osaka_exports_is_heard_and_what_is_not_its_own_left_out() {
    let mut world = World::start(sharing(&[], &["*"])).await;
    let refused = world.hears("refused", |hearing| hearing.error.is_some()).await;
    let (reason, text) = refused.error.expect("an error");
    assert_eq!(reason, "Refused");
    assert!(text.contains("has just begun"), "{text}");
    assert_eq!(refused.imports, None, "nothing is known, which is not the same as nothing");

    world.osaka_exports([service("shop", [10, 2, 0, 7])]);
    let heard = world.hears("a service", |hearing| !names(hearing).is_empty()).await;
    assert_eq!((names(&heard), heard.error), (vec!["shop/hello".to_owned()], None));

    world.osaka_exports([
        service("shop", [10, 2, 0, 8]),
        service("other", [10, 9, 0, 1]),
        service("kube-system", [10, 2, 0, 9]),
    ]);
    let heard = world.hears("two services", |hearing| names(hearing).len() == 2).await;
    let imports = heard.imports.expect("heard");
    let reasons: Vec<&str> = imports.told.iter().map(|(_, why)| why.reason()).collect();
    assert_eq!(reasons, ["SystemNamespace", "OutsideAccept"]);
    let shop = &imports.services[&ServiceName::new("shop", "hello").expect("name")];
    assert_eq!(shop.groups[0].endpoints[0].address.to_string(), "10.2.0.8");

    // Without the gateway what is known stays.
    world.gateway.link.close(&carrick_exchange::CloseReason::Done);
    world.tasks.spawn(std::future::pending());
    let rig = &world.rig;
    let gone = rig.books.gateways.watch().wait_for(|links| links.is_empty()).await.is_ok();
    assert!(gone);
    assert_eq!(names(&world.heard.borrow()[&id("osaka")]).len(), 2);
}

#[tokio::test]
async fn a_peer_is_told_what_its_peering_shares_and_strangers_nothing() {
    let world = World::start(sharing(&["shop"], &[])).await;
    let ask = async |cluster: &str| {
        let kind = Some(ask::Kind::Head(AskHead::default()));
        let ask = Ask { cluster: cluster.to_owned(), way: 0, kind };
        let question = ask.encode_to_vec();
        let answer = world.gateway.link.call(&question);
        let answer = tokio::time::timeout(PATIENCE, answer).await.expect("in time");
        let answer = Answer::decode(answer.expect("answered").as_slice()).expect("an answer");
        match answer.kind.expect("an answer") {
            answer::Kind::Head(news) => {
                let payload = news.head.expect("a head").payload;
                let head = carrick_exchange::message::service::BookHead::decode(payload.as_slice());
                Ok(head.expect("a head").entries)
            }
            answer::Kind::Refused(why) => Err(why),
            other => panic!("a head: {other:?}"),
        }
    };
    let shared = exports([service("shop", [10, 1, 0, 7]), service("secret", [10, 1, 0, 8])]);
    world.exported.send_replace(Some(shared));
    let told = async {
        loop {
            match ask("osaka").await {
                Ok(entries) => return entries,
                // The controller has not taken it over yet.
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    assert_eq!(tokio::time::timeout(PATIENCE, told).await.expect("told"), 1);
    assert!(ask("lima").await.expect_err("a stranger").contains("no ClusterPeering for lima"));
    assert!(ask("").await.expect_err("nobody").contains("who asks"));
    assert!(world.heard.borrow().is_empty(), "nothing may be imported, and nothing is asked");
}
