//! One attempt to reach an endpoint: names are resolved, addresses tried in turn.

use std::net::SocketAddr;
use std::time::Duration;

use carrick_exchange::transport::ConnectErrorKind;
use carrick_exchange::wire::Endpoint;
use carrick_exchange::{ConnectError, Exchange, Link, Pin, Protocol};

use super::dialling::Failed;

/// How many addresses of one name are tried.
const MAX_ADDRESSES: usize = 4;

/// How long a name may take to resolve.
const RESOLVING: Duration = Duration::from_secs(5);

/// Why an endpoint gave no link.
#[derive(Debug)]
pub struct DialFailure {
    /// The CamelCase reason.
    pub reason: String,
    /// For a person.
    pub message: String,
    /// For the next attempt.
    pub how: Failed,
    /// The address of a gateway that is the peer's and says that its cluster does not hold us.
    pub disowned: Option<SocketAddr>,
}

/// The words by which a gateway says that its cluster does not hold ours, as we are, in its
/// configuration: what it had with us is over.
const DISOWNED: [&str; 5] =
    ["UnknownIdentity", "WrongIdentity", "WrongCluster", "NotPostQuantum", "Withdrawn"];

/// Dials a peer's endpoint.
pub async fn dial(
    exchange: &Exchange,
    endpoint: &Endpoint,
    pin: &Pin,
) -> Result<Link, DialFailure> {
    let mut last = None;
    for address in resolve(endpoint).await? {
        match exchange.dial(Protocol::Peer, address, pin).await {
            Ok(link) => return Ok(link),
            Err(error) => last = Some(error),
        }
    }
    Err(match last {
        Some(error) => failure(endpoint, &error),
        None => unresolved(endpoint, "it has no address"),
    })
}

async fn resolve(endpoint: &Endpoint) -> Result<Vec<SocketAddr>, DialFailure> {
    let (name, port) = match endpoint {
        Endpoint::Address(address) => return Ok(vec![*address]),
        Endpoint::Name(name, port) => (name, *port),
    };
    let lookup = tokio::net::lookup_host((name.as_str(), port));
    match tokio::time::timeout(RESOLVING, lookup).await {
        Ok(Ok(addresses)) => Ok(addresses.take(MAX_ADDRESSES).collect()),
        Ok(Err(error)) => Err(unresolved(endpoint, &error.to_string())),
        Err(_) => Err(unresolved(endpoint, "DNS did not answer in time")),
    }
}

fn unresolved(endpoint: &Endpoint, why: &str) -> DialFailure {
    DialFailure {
        reason: "NameNotResolved".to_owned(),
        message: format!(
            "{endpoint}: the name does not resolve here ({why}); correct spec.endpoints of the \
             ClusterPeering, or the DNS that this gateway's pod uses"
        ),
        how: Failed::Silent,
        disowned: None,
    }
}

fn failure(endpoint: &Endpoint, error: &ConnectError) -> DialFailure {
    let how = match error.kind {
        ConnectErrorKind::Timeout { .. }
        | ConnectErrorKind::Unreachable(_)
        | ConnectErrorKind::NotJoined
        | ConnectErrorKind::Transport(_)
        | ConnectErrorKind::VersionMismatch { .. } => Failed::Silent,
        ConnectErrorKind::Trust(_)
        | ConnectErrorKind::Refused { .. }
        | ConnectErrorKind::Closed(_)
        | ConnectErrorKind::Busy => Failed::Answered,
    };
    let message = match endpoint {
        Endpoint::Address(_) => error.to_string(),
        Endpoint::Name(..) => format!("{endpoint}: {error}"),
    };
    // It could refuse us only after it had passed our own judgement.
    let disowned = match &error.kind {
        ConnectErrorKind::Refused { reason, .. } => DISOWNED.contains(&reason.as_str()),
        _ => false,
    };
    let disowned = disowned.then_some(error.remote);
    DialFailure { reason: error.reason().to_owned(), message, how, disowned }
}
