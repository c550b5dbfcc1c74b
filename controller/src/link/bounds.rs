//! What members say, cut to what is kept: a gateway is not trusted with our memory. Frames are bounded
//! already; here is what of them lasts, and what ends up in a status or in logs.

use carrick_crds::drill::SERIES_LIMIT;
use carrick_exchange::message::member::{
    AgentState, ConnectionState, GatewayState, PeerState, ProbeState,
};
use carrick_exchange::snapshot::{MAX_BYTES, MAX_PREFIXES};
use carrick_model::mesh::MESH_GATEWAYS;

/// The most peers, claims and probed clusters in one report.
const LIST_LIMIT: usize = 4096;
/// The most connections to one peer, and tunnels of one connection.
const CONNECTIONS_LIMIT: usize = 256;
/// The most errors, failures and probe targets.
const ERRORS_LIMIT: usize = 16;
/// The most gateways that an agent tells of: as many as have a mesh address.
const GATEWAYS_LIMIT: usize = MESH_GATEWAYS as usize;
/// The most offloads.
const OFFLOADS_LIMIT: usize = 16;
/// The most characters of a name, an address or a reason.
const WORD_LIMIT: usize = 256;
/// The most characters of a text for a person.
const TEXT_LIMIT: usize = 1024;

/// What is kept of a gateway's report.
pub fn gateway(mut state: GatewayState) -> GatewayState {
    cut(&mut state.release, WORD_LIMIT);
    state.peers.truncate(LIST_LIMIT);
    state.peers.iter_mut().for_each(peer);
    state.drops.truncate(WORD_LIMIT);
    state.drops.iter_mut().for_each(|drops| cut(&mut drops.reason, WORD_LIMIT));
    errors(&mut state.errors);
    state.offloads.retain(|offload| is_word(&offload.name));
    state.offloads.truncate(OFFLOADS_LIMIT);
    state.mesh_address.truncate(16);
    if let Some(drill) = &mut state.drill {
        cut(&mut drill.id, WORD_LIMIT);
        cut(&mut drill.error, TEXT_LIMIT);
    }
    state
}

/// What is kept of an agent's report.
pub fn agent(mut state: AgentState) -> AgentState {
    cut(&mut state.release, WORD_LIMIT);
    state.claims.truncate(LIST_LIMIT);
    state.probes.truncate(LIST_LIMIT);
    state.probes.iter_mut().for_each(probe);
    state.gateways.truncate(GATEWAYS_LIMIT);
    for gateway in &mut state.gateways {
        cut(&mut gateway.gateway, WORD_LIMIT);
        cut(&mut gateway.state, WORD_LIMIT);
    }
    if !matches!(state.outer_address.len(), 4 | 16) {
        state.outer_address.clear();
    }
    errors(&mut state.errors);
    if let Some(drill) = &mut state.drill {
        cut(&mut drill.id, WORD_LIMIT);
        cut(&mut drill.error, TEXT_LIMIT);
        drill.points.truncate(SERIES_LIMIT);
    }
    state
}

fn peer(peer: &mut PeerState) {
    cut(&mut peer.cluster, WORD_LIMIT);
    peer.connections.truncate(CONNECTIONS_LIMIT);
    peer.connections.iter_mut().for_each(connection);
    peer.failures.truncate(ERRORS_LIMIT);
    for failure in &mut peer.failures {
        cut(&mut failure.endpoint, WORD_LIMIT);
        cut(&mut failure.reason, WORD_LIMIT);
        cut(&mut failure.message, TEXT_LIMIT);
    }
    // Nothing as large as this can be verified.
    let fits = |len: usize, most: usize| len <= most;
    peer.snapshot.take_if(|signed| {
        !(fits(signed.payload.len(), MAX_BYTES)
            && fits(signed.key.len(), WORD_LIMIT)
            && fits(signed.signature.len(), WORD_LIMIT))
    });
    if let Some(report) = &mut peer.report {
        cut(&mut report.error, TEXT_LIMIT);
        report.refused.truncate(MAX_PREFIXES);
        report.refused.iter_mut().for_each(|refusal| cut(&mut refusal.reason, WORD_LIMIT));
    }
}

fn connection(connection: &mut ConnectionState) {
    cut(&mut connection.gateway, WORD_LIMIT);
    cut(&mut connection.remote, WORD_LIMIT);
    cut(&mut connection.release, WORD_LIMIT);
    connection.tunnels.truncate(CONNECTIONS_LIMIT);
    connection.tunnels.iter_mut().for_each(|tunnel| cut(&mut tunnel.endpoint, WORD_LIMIT));
}

fn probe(probe: &mut ProbeState) {
    cut(&mut probe.cluster, WORD_LIMIT);
    probe.targets.truncate(ERRORS_LIMIT);
    for target in &mut probe.targets {
        target.address.truncate(16);
        cut(&mut target.reason, WORD_LIMIT);
        cut(&mut target.detail, TEXT_LIMIT);
    }
}

fn errors(errors: &mut Vec<String>) {
    errors.truncate(ERRORS_LIMIT);
    errors.iter_mut().for_each(|error| cut(error, TEXT_LIMIT));
}

/// Whether a text is a name as metrics have them, fit for a status.
fn is_word(name: &str) -> bool {
    matches!(name.len(), 1..=32) && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
}

fn cut(text: &mut String, most: usize) {
    if let Some((end, _)) = text.char_indices().nth(most) {
        text.truncate(end);
        text.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use carrick_exchange::message::member::{
        ConnectFailure, GatewayProbe, OffloadState, ProbeTarget, TunnelState,
    };
    use carrick_exchange::message::peer::{Refusal, Report};
    use carrick_exchange::message::snapshot::SignedSnapshot;
    use prost::Message as _;

    use super::*;

    fn long() -> String {
        "ä".repeat(100_000)
    }

    #[test]
    fn a_gateway_that_says_too_much_is_cut_short() {
        let tunnel = TunnelState { endpoint: long(), ..Default::default() };
        let connection = ConnectionState {
            gateway: long(),
            remote: long(),
            release: long(),
            tunnels: vec![tunnel; 1000],
            ..Default::default()
        };
        let failure =
            ConnectFailure { endpoint: long(), reason: long(), message: long(), at: u64::MAX };
        let report = Report {
            error: long(),
            refused: vec![Refusal { prefix: None, reason: long() }; 20],
            ..Default::default()
        };
        let large = SignedSnapshot { payload: vec![0; MAX_BYTES + 1], ..Default::default() };
        let peer = PeerState {
            cluster: long(),
            connections: vec![connection],
            failures: vec![failure; 100],
            snapshot: Some(large),
            report: Some(report),
        };
        let offload = |name: &str| OffloadState { name: name.to_owned(), used: true };
        let offloads =
            [vec![offload("a b"), offload(&long())], vec![offload("socket_send"); 1000]].concat();
        let peers = vec![peer];
        let said = GatewayState { release: long(), peers, offloads, ..Default::default() };
        let kept = gateway(said);
        assert_eq!(kept.offloads, vec![offload("socket_send"); OFFLOADS_LIMIT]);
        assert!(kept.peers[0].snapshot.is_none());
        assert_eq!(kept.peers[0].connections[0].tunnels.len(), CONNECTIONS_LIMIT);
        assert!(kept.encoded_len() < 300_000, "{}", kept.encoded_len());
        assert_eq!(gateway(kept.clone()), kept);
    }

    #[test]
    fn an_agent_that_says_too_much_is_cut_short() {
        let target = ProbeTarget {
            address: vec![1; 1000],
            reason: long(),
            detail: long(),
            ..Default::default()
        };
        let probe = ProbeState { cluster: long(), targets: vec![target; 100] };
        let gateway =
            GatewayProbe { gateway: long(), state: long(), rtt_micros: 1, shortcut: None };
        let gateways = vec![gateway; 1000];
        let said =
            AgentState { release: long(), probes: vec![probe], gateways, ..Default::default() };
        let kept = agent(said);
        assert_eq!(kept.gateways.len(), GATEWAYS_LIMIT);
        assert!(kept.encoded_len() < 150_000, "{}", kept.encoded_len());
    }
}
