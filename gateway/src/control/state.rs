//! What we report to the controller.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, UNIX_EPOCH};

use carrick_exchange::message::member::{
    ConnectionState, DropCount, GatewayState, PeerState, TunnelState,
};
use carrick_model::ClusterId;

use super::peer::{Gateway, Known, Peer};
use crate::dataplane::DataplaneStats;

/// Changes within this time go into one report.
pub const COALESCE: Duration = Duration::from_millis(100);

/// A report is sent after this time although nothing changed, for its counters.
pub const REPEAT: Duration = Duration::from_secs(10);

/// What is reported apart from peers and counters.
#[derive(Debug, Clone, Default)]
pub struct Own {
    /// The configuration's generation that is applied.
    pub applied: u64,
    /// The exchange's port.
    pub base_port: u16,
    /// What could not be applied.
    pub errors: Vec<String>,
    /// We leave.
    pub draining: bool,
}

/// The whole report.
pub fn report(
    own: &Own,
    peers: &BTreeMap<ClusterId, Peer>,
    stats: &DataplaneStats,
) -> GatewayState {
    let drops = stats.drops.iter().filter(|(_, packets)| *packets > 0);
    GatewayState {
        release: env!("CARGO_PKG_VERSION").to_owned(),
        applied: own.applied,
        base_port: own.base_port.into(),
        peers: peers.iter().map(|(cluster, peer)| peer_state(cluster, peer, stats)).collect(),
        drops: drops
            .map(|(reason, packets)| DropCount {
                reason: reason.label().to_owned(),
                packets: *packets,
            })
            .collect(),
        errors: own.errors.clone(),
        draining: own.draining,
    }
}

fn peer_state(cluster: &ClusterId, peer: &Peer, stats: &DataplaneStats) -> PeerState {
    let connections = peer.gateways.iter().filter_map(|(name, gateway)| {
        let known = gateway.known.as_ref()?;
        Some(connection(name.to_string(), gateway, known, stats))
    });
    PeerState {
        cluster: cluster.to_string(),
        connections: connections.collect(),
        failures: peer.failures.list(),
        snapshot: peer.snapshot.as_ref().map(|(_, signed)| signed.clone()),
        report: peer.report.clone(),
    }
}

/// A gateway whose link just broke stays in the report as long as its tunnels are held: they still
/// carry packets.
fn connection(
    gateway: String,
    state: &Gateway,
    known: &Known,
    stats: &DataplaneStats,
) -> ConnectionState {
    let rtt = state.link.as_ref().map(|held| held.link.rtt()).unwrap_or_default();
    ConnectionState {
        gateway,
        remote: known.remote.to_string(),
        release: known.established.release.clone(),
        version: known.established.version,
        rtt_micros: u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX),
        tunnels: state
            .tunnels
            .iter()
            .map(|(lane, tunnel)| {
                let figures = stats.tunnel(tunnel.id);
                let last = figures.and_then(|figures| figures.last_handshake);
                let last = last.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
                let endpoint = figures.and_then(|figures| figures.endpoint);
                TunnelState {
                    lane: *lane,
                    endpoint: endpoint.unwrap_or(tunnel.endpoint).to_string(),
                    up: figures.is_some_and(|figures| figures.up),
                    last_handshake: last.unwrap_or_default().as_secs(),
                    tx_bytes: figures.map_or(0, |figures| figures.tx_bytes),
                    rx_bytes: figures.map_or(0, |figures| figures.rx_bytes),
                }
            })
            .collect(),
    }
}

/// Decides when a report goes out.
#[derive(Debug, Default)]
pub struct Pace {
    last: Option<(GatewayState, Instant)>,
}

impl Pace {
    /// Whether `state` is to be sent now; if not, when to ask again.
    pub fn due(&mut self, state: &GatewayState, now: Instant) -> Result<(), Instant> {
        let essence = essence(state);
        if let Some((last, at)) = &self.last {
            let wait = if *last == essence { REPEAT } else { COALESCE };
            if now < *at + wait {
                return Err(*at + wait);
            }
        }
        self.last = Some((essence, now));
        Ok(())
    }
}

/// A report without what changes by itself.
fn essence(state: &GatewayState) -> GatewayState {
    let mut essence = state.clone();
    essence.drops.clear();
    for peer in &mut essence.peers {
        peer.failures.iter_mut().for_each(|failure| failure.at = 0);
        for connection in &mut peer.connections {
            connection.rtt_micros = 0;
            for tunnel in &mut connection.tunnels {
                (tunnel.last_handshake, tunnel.tx_bytes, tunnel.rx_bytes) = (0, 0, 0);
            }
        }
    }
    essence
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_go_out_on_change_coalesced_and_now_and_then() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        let mut state = GatewayState::default();
        assert_eq!(pace.due(&state, now), Ok(()));
        state.drops.push(DropCount { reason: "no_route".to_owned(), packets: 1 });
        assert_eq!(pace.due(&state, now), Err(now + REPEAT), "counters alone wait");
        state.draining = true;
        assert_eq!(pace.due(&state, now), Err(now + COALESCE));
        assert_eq!(pace.due(&state, now + COALESCE), Ok(()));
        assert_eq!(pace.due(&state, now + COALESCE + REPEAT), Ok(()));
    }
}
