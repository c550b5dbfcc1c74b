//! Joining: tokens in, certificates out.

use std::time::SystemTime;

use crate::support::{Cluster, address, soon};
use carrick_exchange::certificate::{issue, renew};
use carrick_exchange::join::{Attempt, JoinError, join};
use carrick_exchange::{Arrival, Credentials, Exchange, Pin, Protocol, Rules};
use carrick_model::{MemberId, Role};

fn controller(cluster: &Cluster) -> Exchange {
    let rules = Rules {
        join: true,
        member: vec![cluster.pin(Role::Gateway), cluster.pin(Role::Agent)],
        peer: Vec::new(),
    };
    cluster.exchange(cluster.member("controller", "c"), rules)
}

fn joiner(cluster: &Cluster) -> Exchange {
    let trust = cluster.trust(Rules::default());
    Exchange::client(crate::support::socket(), None, trust).expect("client")
}

async fn attempt(controller: &Exchange) -> Attempt {
    match controller.accept().await.result.expect("arrival") {
        Arrival::Join(attempt) => attempt,
        Arrival::Link(link) => panic!("not a joiner: {link:?}"),
    }
}

/// Admits the next joiner as `uri`.
async fn admit(controller: &Exchange, signer: &Cluster, uri: &str) -> String {
    let attempt = attempt(controller).await;
    let token = attempt.token.clone();
    let member: MemberId = uri.parse().expect("member");
    let der = issue(&signer.identity, &attempt.csr, &member, SystemTime::now()).expect("issued");
    attempt.admit(der).await.expect("answered");
    token
}

async fn joined(controller: &Exchange, cluster: &Cluster, joiner: &Exchange) -> Credentials {
    let pin = cluster.pin(Role::Controller);
    let (credentials, token) = soon(async {
        tokio::join!(
            join(joiner, address(controller), &pin, "token-1"),
            admit(controller, cluster, "carrick://paris/agent/node-1")
        )
    })
    .await;
    assert_eq!(token, "token-1");
    credentials.expect("joined")
}

#[tokio::test]
async fn joiner_gets_a_certificate_and_links_as_a_member() {
    let paris = Cluster::new("paris");
    let (controller, agent) = (controller(&paris), joiner(&paris));
    let credentials = joined(&controller, &paris, &agent).await;
    assert_eq!(credentials.member().to_string(), "carrick://paris/agent/node-1");

    agent.set_credentials(credentials).expect("credentials");
    let pin = paris.pin(Role::Controller);
    let dial = agent.dial(Protocol::Member, address(&controller), &pin);
    let (dialled, incoming) = soon(async { tokio::join!(dial, controller.accept()) }).await;
    assert_eq!(dialled.expect("dialled").peer().role, Role::Controller);
    let Ok(Arrival::Link(link)) = incoming.result else { panic!("a link") };
    assert_eq!(link.peer().name.as_str(), "node-1");
}

#[tokio::test]
async fn refusal_says_why() {
    let paris = Cluster::new("paris");
    let (controller, agent) = (controller(&paris), joiner(&paris));
    let pin = paris.pin(Role::Controller);
    let (result, ()) = soon(async {
        tokio::join!(join(&agent, address(&controller), &pin, "stale"), async {
            attempt(&controller).await.refuse("the pod is gone").await.expect("answered");
        })
    })
    .await;
    let Err(JoinError::Refused { message, .. }) = result else { panic!("refused: {result:?}") };
    assert_eq!(message, "the pod is gone");
}

#[tokio::test]
async fn joiner_gives_its_token_to_the_pinned_controller_only() {
    let (paris, thief) = (Cluster::new("paris"), Cluster::new("paris"));
    let (controller, agent) = (controller(&thief), joiner(&paris));
    let pin = paris.pin(Role::Controller);
    let (result, incoming) = soon(async {
        tokio::join!(join(&agent, address(&controller), &pin, "secret"), controller.accept())
    })
    .await;
    let Err(JoinError::Connect(error)) = result else { panic!("not connected: {result:?}") };
    assert_eq!(error.reason(), "WrongIdentity");
    assert!(incoming.result.is_err(), "no token was read");

    let gateway = Pin { role: Role::Gateway, ..thief.pin(Role::Controller) };
    let refused = soon(join(&agent, address(&controller), &gateway, "secret")).await;
    let Err(JoinError::Connect(error)) = refused else { panic!("not connected: {refused:?}") };
    assert_eq!(error.reason(), "WrongRole");
}

#[tokio::test]
async fn certificate_of_another_signer_is_not_taken() {
    let (paris, thief) = (Cluster::new("paris"), Cluster::new("paris"));
    let (controller, agent) = (controller(&paris), joiner(&paris));
    let pin = paris.pin(Role::Controller);
    let (result, _) = soon(async {
        tokio::join!(
            join(&agent, address(&controller), &pin, "t"),
            admit(&controller, &thief, "carrick://paris/agent/node-1")
        )
    })
    .await;
    assert!(matches!(result, Err(JoinError::Certificate(_))), "{result:?}");
}

#[tokio::test]
async fn credentials_survive_a_restart_and_a_renewal() {
    let paris = Cluster::new("paris");
    let (controller, agent) = (controller(&paris), joiner(&paris));
    let credentials = joined(&controller, &paris, &agent).await;
    let folder = tempfile::tempdir().expect("folder");
    assert!(Credentials::load(folder.path()).expect("nothing yet").is_none());
    credentials.save(folder.path()).expect("saved");
    let loaded = Credentials::load(folder.path()).expect("loaded").expect("there");
    assert_eq!(loaded.member(), credentials.member());

    let held = std::fs::read(folder.path().join("certificate.der")).expect("certificate");
    let der = renew(&paris.identity, &held, SystemTime::now()).expect("renewed");
    let renewed = loaded.renewed(der).expect("the same key");
    assert!(renewed.not_after() >= loaded.not_after());
    assert_eq!(renewed.member(), loaded.member());
    let stranger = Cluster::new("paris");
    assert!(renew(&stranger.identity, &held, SystemTime::now()).is_err(), "not its certificate");

    std::fs::write(folder.path().join("certificate.der"), b"broken").expect("written");
    let error = Credentials::load(folder.path()).expect_err("broken").to_string();
    assert!(error.contains("certificate"), "{error}");
}

#[tokio::test]
async fn requests_that_are_no_requests_get_nothing() {
    let paris = Cluster::new("paris");
    let member: MemberId = "carrick://paris/agent/n".parse().expect("member");
    let now = SystemTime::now();
    for bad in [&[][..], b"junk", &[0x30; 500]] {
        assert!(issue(&paris.identity, bad, &member, now).is_err());
    }
    let key = carrick_exchange::MemberKey::generate().expect("key");
    let mut csr = key.csr().expect("request");
    let last = csr.len() - 1;
    csr[last] ^= 1;
    let error = issue(&paris.identity, &csr, &member, now).expect_err("wrong signature");
    assert!(error.to_string().contains("signature"), "{error}");
}
