//! Who is refused, and that both ends learn why.

use std::time::{Duration, SystemTime};

use crate::support::{Cluster, address, attempt, peering, reasons, soon};
use carrick_exchange::{ConnectError, Link, Protocol, Rules};
use carrick_model::Role;

type Both = (Result<Link, ConnectError>, Result<Link, ConnectError>);

/// Paris dials Osaka with a certificate that claims `uri`, signed by `signer` at `now`.
async fn dial_as(signer: &Cluster, uri: &str, now: SystemTime, paris: &Cluster) -> Both {
    let osaka = Cluster::new("osaka");
    let a = paris.exchange(signer.issue(uri, now), peering(&[&osaka]));
    let b = osaka.gateway("b", &[paris]);
    attempt(&a, &b, &osaka.pin(Role::Gateway)).await
}

fn refusal(both: Both) -> (String, ConnectError) {
    let (dialled, accepted) = both;
    let (dialled, accepted) = (dialled.expect_err("refused"), accepted.expect_err("refused"));
    assert_eq!(dialled.reason(), accepted.reason(), "the dialler learns the acceptor's reason");
    (dialled.to_string(), accepted)
}

#[tokio::test]
async fn wrong_identity_is_refused() {
    let (paris, thief) = (Cluster::new("paris"), Cluster::new("thief"));
    let uri = "carrick://paris/gateway/a";
    let (_, error) = refusal(dial_as(&thief, uri, SystemTime::now(), &paris).await);
    assert_eq!(error.reason(), "WrongIdentity");
    assert!(error.to_string().contains(&paris.identity.public().to_string()), "{error}");
}

#[tokio::test]
async fn unknown_identity_is_refused() {
    let (paris, lima) = (Cluster::new("paris"), Cluster::new("lima"));
    let uri = "carrick://lima/gateway/a";
    let (_, error) = refusal(dial_as(&lima, uri, SystemTime::now(), &paris).await);
    assert_eq!(error.claimed, Some(lima.id.clone()));
    assert_eq!(error.reason(), "UnknownIdentity");
    assert!(error.to_string().contains("lima"), "{error}");
}

#[tokio::test]
async fn other_cluster_id_than_the_pinned_one_is_refused() {
    let paris = Cluster::new("paris");
    let uri = "carrick://lyon/gateway/a";
    let (_, error) = refusal(dial_as(&paris, uri, SystemTime::now(), &paris).await);
    assert_eq!(error.reason(), "WrongCluster");
    let text = error.to_string();
    assert!(text.contains("paris") && text.contains("lyon"), "{text}");
}

#[tokio::test]
async fn certificate_that_names_our_own_cluster_is_refused() {
    let paris = Cluster::new("paris");
    let uri = "carrick://osaka/gateway/a";
    let (_, error) = refusal(dial_as(&paris, uri, SystemTime::now(), &paris).await);
    assert_eq!(error.reason(), "WrongCluster");
}

#[tokio::test]
async fn own_identity_is_refused() {
    let osaka = Cluster::new("osaka");
    // Somebody pinned Osaka's own key under another name.
    let mut pin = osaka.pin(Role::Gateway);
    pin.cluster = "paris".parse().expect("cluster ID");
    let rules = Rules { peer: vec![pin], ..Rules::default() };
    let uri = "carrick://paris/gateway/a";
    let a = Cluster::new("x").exchange(osaka.issue(uri, SystemTime::now()), peering(&[&osaka]));
    let b = osaka.exchange(osaka.member("gateway", "b"), rules);
    let (here, there) = reasons(&a, &b, &osaka.pin(Role::Gateway)).await;
    assert_eq!((here.as_str(), there.as_str()), ("OwnIdentity", "OwnIdentity"));
}

#[tokio::test]
async fn other_roles_than_gateway_are_refused() {
    for role in ["agent", "controller"] {
        let paris = Cluster::new("paris");
        let uri = format!("carrick://paris/{role}/a");
        let (_, error) = refusal(dial_as(&paris, &uri, SystemTime::now(), &paris).await);
        assert_eq!(error.reason(), "WrongRole");
        assert!(error.to_string().contains("gateway"), "{error}");
    }
}

#[tokio::test]
async fn expired_certificate_is_refused_with_both_times() {
    let paris = Cluster::new("paris");
    let now = SystemTime::now() - Duration::from_secs(8 * 24 * 3600);
    let (text, error) = refusal(dial_as(&paris, "carrick://paris/gateway/a", now, &paris).await);
    assert_eq!(error.reason(), "CertificateExpired");
    assert_eq!(text.matches("Z").count(), 2, "both times: {text}");
    assert!(text.contains("NTP"), "{text}");
}

#[tokio::test]
async fn certificate_of_tomorrow_is_refused_with_both_times() {
    let paris = Cluster::new("paris");
    let now = SystemTime::now() + Duration::from_secs(24 * 3600);
    let (text, error) = refusal(dial_as(&paris, "carrick://paris/gateway/a", now, &paris).await);
    assert_eq!(error.reason(), "CertificateNotYetValid");
    assert_eq!(text.matches("Z").count(), 2, "both times: {text}");
}

#[tokio::test]
async fn dialler_refuses_a_wrong_answerer_and_the_answerer_learns_it() {
    let (paris, osaka) = (Cluster::new("paris"), Cluster::new("osaka"));
    let thief = Cluster::new("thief");
    let a = paris.gateway("a", &[&osaka]);
    let answer = thief.issue("carrick://osaka/gateway/b", SystemTime::now());
    let b = osaka.exchange(answer, peering(&[&paris]));
    let (here, there) = reasons(&a, &b, &osaka.pin(Role::Gateway)).await;
    assert_eq!((here.as_str(), there.as_str()), ("WrongIdentity", "WrongIdentity"));
}

#[tokio::test]
async fn another_cluster_that_answers_is_named_with_the_one_that_was_meant() {
    let (paris, osaka) = (Cluster::new("paris"), Cluster::new("osaka"));
    let lima = Cluster::new("lima");
    let a = paris.gateway("a", &[&osaka, &lima]);
    let b = osaka.gateway("b", &[&paris]);
    let (text, error) = refusal(attempt(&a, &b, &lima.pin(Role::Gateway)).await);
    assert_eq!(error.reason(), "WrongCluster");
    assert_eq!(error.claimed, Some(paris.id.clone()), "who refuses us is known by now");
    let pinned = lima.identity.public().to_string();
    for said in [text, error.to_string()] {
        for word in ["cluster lima was to answer", "is osaka", &pinned, "spec.clusterID"] {
            assert!(said.contains(word), "{word}: {said}");
        }
        assert!(!said.contains("apply a ClusterPeering"), "{said}");
    }
}

#[tokio::test]
async fn nobody_without_a_certificate_speaks_as_a_peer_or_member() {
    let osaka = Cluster::new("osaka");
    let b = osaka.gateway("b", &[]);
    let trust = osaka.trust(Rules::default());
    let a =
        carrick_exchange::Exchange::client(crate::support::socket(), None, trust).expect("client");
    for protocol in [Protocol::Peer, Protocol::Member] {
        let pin = osaka.pin(Role::Gateway);
        let error = soon(a.dial(protocol, address(&b), &pin)).await.expect_err("no certificate");
        assert_eq!(error.reason(), "NotJoined");
    }
}

#[tokio::test]
async fn peer_may_not_speak_as_a_member() {
    let (paris, osaka) = (Cluster::new("paris"), Cluster::new("osaka"));
    let a = paris.gateway("a", &[&osaka]);
    let b = osaka.gateway("b", &[&paris]);
    let pin = osaka.pin(Role::Gateway);
    let (dialled, incoming) =
        soon(async { tokio::join!(a.dial(Protocol::Member, address(&b), &pin), b.accept()) }).await;
    assert_eq!(incoming.result.expect_err("not a member").reason(), "UnknownIdentity");
    assert_eq!(dialled.expect_err("not a member").reason(), "UnknownIdentity");
}

#[tokio::test]
async fn joining_is_refused_where_nobody_joins() {
    let osaka = Cluster::new("osaka");
    let b = osaka.gateway("b", &[]);
    let trust = osaka.trust(Rules::default());
    let a =
        carrick_exchange::Exchange::client(crate::support::socket(), None, trust).expect("client");
    let pin = osaka.pin(Role::Gateway);
    let (dialled, incoming) =
        soon(async { tokio::join!(a.dial(Protocol::Join, address(&b), &pin), b.accept()) }).await;
    assert_eq!(dialled.expect_err("refused").reason(), "NotServed");
    assert!(incoming.result.is_err());
}

#[tokio::test]
async fn second_identity_of_a_rotation_is_taken() {
    let (paris, osaka) = (Cluster::new("paris"), Cluster::new("osaka"));
    let next = Cluster::new("paris");
    let mut pin = paris.pin(Role::Gateway);
    pin.identities.push(next.identity.public());
    let rules = Rules { peer: vec![pin], ..Rules::default() };
    let b = osaka.exchange(osaka.member("gateway", "b"), rules);
    for signer in [&paris, &next] {
        let a = signer.gateway("a", &[&osaka]);
        let (ours, theirs) = attempt(&a, &b, &osaka.pin(Role::Gateway)).await;
        assert!(ours.is_ok());
        assert_eq!(theirs.expect("accepted").identity(), &signer.identity.public());
    }
}
