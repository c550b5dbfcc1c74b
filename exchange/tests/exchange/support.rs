//! Clusters of one process each, on loopback.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, SystemTime};

use carrick_exchange::certificate::issue;
use carrick_exchange::message::snapshot::{ClusterSnapshot, SignedSnapshot};
use carrick_exchange::{
    Arrival, ClusterIdentity, ConnectError, Credentials, Exchange, Limits, Link, MemberKey, Pin,
    Protocol, Rules, Trust,
};
use carrick_model::{ClusterId, MemberId, Role};

/// A cluster with an identity.
pub struct Cluster {
    pub id: ClusterId,
    pub identity: ClusterIdentity,
}

impl Cluster {
    pub fn new(id: &str) -> Self {
        let identity = ClusterIdentity::generate().expect("identity");
        Self { id: id.parse().expect("cluster ID"), identity }
    }

    /// Credentials as this cluster's controller would issue at `now`, claiming `uri`.
    pub fn issue(&self, uri: &str, now: SystemTime) -> Credentials {
        let member: MemberId = uri.parse().expect("member");
        let key = MemberKey::generate().expect("key");
        let csr = key.csr().expect("request");
        let der = issue(&self.identity, &csr, &member, now).expect("certificate");
        key.into_credentials(der).expect("credentials")
    }

    pub fn member(&self, role: &str, name: &str) -> Credentials {
        self.issue(&format!("carrick://{}/{role}/{name}", self.id), SystemTime::now())
    }

    pub fn pin(&self, role: Role) -> Pin {
        Pin::new(self.id.clone(), vec![self.identity.public()], role)
    }

    pub fn trust(&self, rules: Rules) -> Trust {
        Trust::new(self.id.clone(), vec![self.identity.public()], rules)
    }

    /// A gateway that is peered with `peers`.
    pub fn gateway(&self, name: &str, peers: &[&Cluster]) -> Exchange {
        self.exchange(self.member("gateway", name), peering(peers))
    }

    pub fn exchange(&self, credentials: Credentials, rules: Rules) -> Exchange {
        self.limited(credentials, rules, Limits::default())
    }

    pub fn limited(&self, credentials: Credentials, rules: Rules, limits: Limits) -> Exchange {
        Exchange::bind(socket(), Some(credentials), self.trust(rules), limits).expect("exchange")
    }

    pub fn sign(&self, snapshot: &ClusterSnapshot) -> SignedSnapshot {
        self.identity.sign_snapshot(snapshot).expect("signature")
    }
}

pub fn peering(peers: &[&Cluster]) -> Rules {
    let peer = peers.iter().map(|peer| peer.pin(Role::Gateway)).collect();
    Rules { peer, ..Rules::default() }
}

pub fn socket() -> UdpSocket {
    UdpSocket::bind("127.0.0.1:0").expect("socket")
}

pub fn address(exchange: &Exchange) -> SocketAddr {
    exchange.local_address().expect("address")
}

/// Bounds a test's wait.
pub async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("in time")
}

/// One attempt, as both ends see it.
pub async fn attempt(
    dialler: &Exchange,
    acceptor: &Exchange,
    pin: &Pin,
) -> (Result<Link, ConnectError>, Result<Link, ConnectError>) {
    let dial = dialler.dial(Protocol::Peer, address(acceptor), pin);
    let (dialled, incoming) = soon(async { tokio::join!(dial, acceptor.accept()) }).await;
    let accepted = incoming.result.map(|arrival| match arrival {
        Arrival::Link(link) => link,
        Arrival::Join(_) => panic!("nobody joins here"),
    });
    (dialled, accepted)
}

/// A link between gateways of two clusters.
pub async fn linked(dialler: &Exchange, acceptor: &Exchange, pin: &Pin) -> (Link, Link) {
    let (dialled, accepted) = attempt(dialler, acceptor, pin).await;
    (dialled.expect("dialled"), accepted.expect("accepted"))
}

/// The reasons that the two ends give for a refusal.
pub async fn reasons(dialler: &Exchange, acceptor: &Exchange, pin: &Pin) -> (String, String) {
    let (dialled, accepted) = attempt(dialler, acceptor, pin).await;
    let (dialled, accepted) = (dialled.expect_err("refused"), accepted.expect_err("refused"));
    (dialled.reason().to_owned(), accepted.reason().to_owned())
}
