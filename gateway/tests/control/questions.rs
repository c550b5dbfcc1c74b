//! Questions about exported services, from one cluster's controller to the other's.

use std::net::UdpSocket;
use std::time::Duration;

use carrick_exchange::message::member::{FromController, FromMember};
use carrick_exchange::message::service::{Answer, Ask, AskHead, Unchanged, answer, ask};
use carrick_exchange::{
    Arrival, Call, Exchange, Limits, Link, Pin, Protocol, Receiver, Rules, Sender,
};
use carrick_model::Role;
use prost::Message as _;

use crate::site::{Cluster, PATIENCE, Site, peered};

/// A controller, as far as questions need one.
struct Controller {
    link: Link,
    _ends: (Exchange, Exchange),
    _channel: (Sender<FromController>, Receiver<FromMember>),
    _member: (Sender<FromMember>, Receiver<FromController>),
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("in time")
}

impl Controller {
    /// Linked with its gateway.
    async fn start(cluster: &Cluster, site: &Site) -> Self {
        let socket = || UdpSocket::bind("127.0.0.1:0").expect("socket");
        let member = Pin::new(cluster.id.clone(), vec![cluster.identity.public()], Role::Gateway);
        let rules = Rules { member: vec![member], ..Rules::default() };
        let credentials = cluster.credentials(Role::Controller, "controller-0");
        let trust = cluster.trust(rules);
        let own = Exchange::bind(socket(), Some(credentials), trust, Limits::default());
        let own = own.expect("exchange");
        let credentials = cluster.credentials(Role::Gateway, &cluster.gateway());
        let trust = cluster.trust(Rules::default());
        let gateways = Exchange::client(socket(), Some(credentials), trust).expect("exchange");
        let address = own.local_address().expect("address");
        let pin = cluster.trusted().controller();
        let dial = gateways.dial(Protocol::Member, address, &pin);
        let (theirs, incoming) = soon(async { tokio::join!(dial, own.accept()) }).await;
        let Ok(Arrival::Link(link)) = incoming.result else { panic!("a link") };
        let theirs = theirs.expect("dialled");
        let channels = soon(async { tokio::join!(link.channel(), theirs.channel()) }).await;
        link.take_calls(4);
        site.link_controller(theirs);
        Self {
            link,
            _ends: (own, gateways),
            _channel: channels.0.expect("channel"),
            _member: channels.1.expect("channel"),
        }
    }

    async fn ask(&self, cluster: &str, way: u32) -> Answer {
        let head = AskHead { generation: 7, ..AskHead::default() };
        let ask = Ask { cluster: cluster.to_owned(), way, kind: Some(ask::Kind::Head(head)) };
        let answer = soon(self.link.call(&ask.encode_to_vec())).await.expect("answered");
        Answer::decode(answer.as_slice()).expect("an answer")
    }

    async fn asked(&self) -> (Ask, carrick_exchange::Reply) {
        let call: Call = soon(self.link.called()).await.expect("a question");
        let (question, reply) = soon(call.read()).await.expect("read");
        (Ask::decode(question.as_slice()).expect("a question"), reply)
    }
}

/// Why nothing was said.
fn refused(answer: Answer) -> String {
    match answer.kind {
        Some(answer::Kind::Refused(why)) => why,
        other => panic!("refused: {other:?}"),
    }
}

fn unchanged() -> Answer {
    Answer { kind: Some(answer::Kind::Unchanged(Unchanged {})) }
}

#[tokio::test]
async fn questions_go_from_controller_to_controller_in_the_name_of_who_asks() {
    let (paris, osaka) = (Cluster::new("paris", 1), Cluster::new("osaka", 2));
    let (a, b) = peered(&paris, &osaka).await;
    let (here, there) = (Controller::start(&paris, &a).await, Controller::start(&osaka, &b).await);
    for (asker, answerer, name, own) in
        [(&here, &there, "osaka", "paris"), (&there, &here, "paris", "osaka")]
    {
        // There is one link, whichever way is wanted.
        for way in [0, 7] {
            let answering = async {
                let (ask, reply) = answerer.asked().await;
                assert_eq!(ask.cluster, own, "who asks is who the certificate says");
                let Some(ask::Kind::Head(head)) = ask.kind else { panic!("as it was asked") };
                assert_eq!(head.generation, 7);
                reply.answer(&unchanged().encode_to_vec()).await.expect("answered");
            };
            let (answer, ()) = tokio::join!(asker.ask(name, way), answering);
            assert_eq!(answer, unchanged());
        }
        let why = refused(asker.ask("lima", 0).await);
        assert!(why.contains("no link to that cluster"), "{why}");
    }
    a.stop().await;
    b.stop().await;
}

#[tokio::test]
async fn a_question_ends_where_the_way_ends() {
    let (paris, osaka) = (Cluster::new("paris", 1), Cluster::new("osaka", 2));
    let (a, b) = peered(&paris, &osaka).await;
    let here = Controller::start(&paris, &a).await;
    let why = refused(here.ask("osaka", 0).await);
    assert!(why.contains("no link to its controller"), "{why}");

    let there = Controller::start(&osaka, &b).await;
    // The link comes to the gateway a moment later.
    let call = soon(async {
        loop {
            let asking = here.ask("osaka", 0);
            let asked = tokio::time::timeout(Duration::from_millis(200), there.asked());
            if let (_, Ok(asked)) =
                tokio::join!(tokio::time::timeout(Duration::from_millis(300), asking), asked)
            {
                return asked;
            }
        }
    })
    .await;
    let (_, mut reply) = call;
    soon(reply.given_up()).await;

    drop(there);
    let why = refused(here.ask("osaka", 0).await);
    assert!(why.contains("broke") || why.contains("no link to its controller"), "{why}");
    a.stop().await;
    b.stop().await;
}
