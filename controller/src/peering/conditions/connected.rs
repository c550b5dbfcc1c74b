//! `Connected`: a gateway of ours has a live tunnel to a gateway of the peer, and both sides want it.

use carrick_crds::Reason;
use carrick_crds::condition::{PeeringCondition, Verdict};
use carrick_crds::peering::Peering;
use carrick_exchange::message::member::{ConnectFailure, GatewayState, PeerState};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::{Evidence, held_before, listed};
use crate::plan::PeeringPlan;

/// Which failure is named first: what an operator must correct, before what may pass by itself.
const TELLING: &[Reason] = &[
    Reason::WrongIdentity,
    Reason::WrongCluster,
    Reason::OwnIdentity,
    Reason::OwnCluster,
    Reason::WrongRole,
    Reason::CertificateExpired,
    Reason::CertificateNotYetValid,
    Reason::VersionMismatch,
    Reason::NotPostQuantum,
    Reason::BadCertificate,
    Reason::NoCertificate,
    Reason::Withdrawn,
    Reason::UnknownIdentity,
    Reason::Refused,
    Reason::NameNotResolved,
    Reason::Unreachable,
    Reason::Timeout,
];

pub(super) fn judge(
    evidence: Evidence<'_>,
    peering: &Peering,
    planned: &PeeringPlan,
    before: &[Condition],
) -> Verdict {
    if peering.suspended {
        return Verdict::no(Reason::Suspended, "spec.suspended is true");
    }
    if evidence.world.record.withdraw {
        return Verdict::no(Reason::Withdrawing, "Carrick is being removed from this cluster");
    }
    let gateways: Vec<&GatewayState> = live_gateways(evidence);
    if gateways.is_empty() {
        return Verdict::no(Reason::NoLocalGateway, "no gateway of this cluster is in service");
    }
    let peers: Vec<&PeerState> = gateways
        .iter()
        .flat_map(|state| &state.peers)
        .filter(|peer| peer.cluster == peering.cluster.as_str())
        .collect();
    let consents = evidence.world.remotes.snapshot(&peering.cluster).map(|s| s.consents);
    if consents == Some(false) {
        let text = format!("cluster {} has suspended its ClusterPeering for us", peering.cluster);
        return Verdict::no(Reason::Withdrawn, text);
    }
    if !planned.gateways.is_empty() {
        let text = match planned.gateways.len() {
            1 => "1 of our gateways has a live tunnel".to_owned(),
            count => format!("{count} of our gateways have a live tunnel"),
        };
        return Verdict::yes(Reason::Connected, text);
    }
    unconnected(peering, &peers, before)
}

fn live_gateways(evidence: Evidence<'_>) -> Vec<&GatewayState> {
    let now = evidence.now.instant;
    let in_service = |name| evidence.plan.members.gateways.contains(name);
    let members = evidence.world.gateways.iter().filter(|(name, _)| in_service(*name));
    members.filter_map(|(_, member)| member.live(now)).collect()
}

fn unconnected(peering: &Peering, peers: &[&PeerState], before: &[Condition]) -> Verdict {
    let connections: Vec<_> = peers.iter().flat_map(|peer| &peer.connections).collect();
    if !connections.is_empty() {
        let tunnels = connections.iter().flat_map(|connection| &connection.tunnels);
        let lanes = listed(tunnels.map(|tunnel| tunnel.endpoint.clone()));
        let text = format!("connected, but no handshake on any lane yet (tried: {lanes})");
        return Verdict::no(Reason::NoTunnel, text);
    }
    let failures: Vec<&ConnectFailure> = peers.iter().flat_map(|peer| &peer.failures).collect();
    if let Some(verdict) = failed(&failures) {
        return verdict;
    }
    if held_before(before, PeeringCondition::Connected) {
        return Verdict::no(Reason::Disconnected, "all connections broke off");
    }
    if peering.endpoints.is_empty() {
        let text = "spec.endpoints is empty, and the peer has not dialled";
        return Verdict::no(Reason::NoEndpoint, text);
    }
    let tried = listed(peering.endpoints.iter().map(ToString::to_string));
    Verdict::no(Reason::Connecting, format!("dialling {tried}"))
}

fn failed(failures: &[&ConnectFailure]) -> Option<Verdict> {
    let rank = |failure: &ConnectFailure| {
        let reason = reason_of(failure);
        TELLING.iter().position(|known| *known == reason).unwrap_or(TELLING.len())
    };
    let mut sorted: Vec<&&ConnectFailure> = failures.iter().collect();
    sorted.sort_by_key(|failure| (rank(failure), failure.endpoint.clone()));
    let first = sorted.first()?;
    let text = listed(sorted.iter().map(|failure| describe(failure)));
    Some(Verdict::no(reason_of(first), text))
}

/// The message names its endpoint most often by itself.
fn describe(failure: &ConnectFailure) -> String {
    if failure.message.contains(&failure.endpoint) {
        failure.message.clone()
    } else {
        format!("{}: {}", failure.endpoint, failure.message)
    }
}

/// A gateway of another release may use words that we don't know; refusals they are all the same.
fn reason_of(failure: &ConnectFailure) -> Reason {
    failure.reason.parse().unwrap_or(Reason::Refused)
}
