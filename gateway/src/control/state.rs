//! What we report to the controller.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant, UNIX_EPOCH};

use carrick_exchange::message::member::{
    ConnectionState, DropCount, GatewayState, OffloadState, PathHealth, PeerState, TunnelState,
};
use carrick_gateway_core::path::HealthReport;
use carrick_model::ClusterId;
use prost::Message as _;

use super::peer::{Gateway, Known, Peer};
use crate::dataplane::{DataplaneStats, Offloads};

/// Changes within this time go into one report.
pub const COALESCE: Duration = Duration::from_millis(100);

/// A report is sent after this time although nothing changed, for its counters.
pub const REPEAT: Duration = Duration::from_secs(10);
/// While a drill is ordered: its report plots how paths are.
pub const DRILL_REPEAT: Duration = Duration::from_millis(500);

/// The largest report in bytes: below the largest frame, with room for what is said of what had to be
/// left out.
const MOST: usize = 3 << 20;

/// What is reported apart from peers and counters.
#[derive(Debug, Clone, Default)]
pub struct Own {
    /// The configuration's generation that is applied.
    pub applied: u64,
    /// The exchange's port.
    pub base_port: u16,
    /// Where nodes' probes are answered.
    pub mesh_address: Option<Ipv4Addr>,
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
    let offloads = stats.offloads.iter().flat_map(Offloads::iter);
    let mut state = GatewayState {
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
        offloads: offloads
            .map(|(name, used)| OffloadState { name: name.to_owned(), used })
            .collect(),
        mesh_address: own.mesh_address.map_or_else(Vec::new, |address| address.octets().to_vec()),
        drill: None,
    };
    fit(&mut state, MOST);
    state
}

/// Leaves out what the loquacious peers say, the largest first, until the report has at most `most`
/// bytes: no peer may come between us and our controller.
fn fit(state: &mut GatewayState, most: usize) {
    let said = |peer: &PeerState| {
        peer.snapshot.as_ref().map_or(0, prost::Message::encoded_len)
            + peer.report.as_ref().map_or(0, prost::Message::encoded_len)
    };
    let mut excess = state.encoded_len().saturating_sub(most);
    while excess > 0 {
        let Some(largest) = state.peers.iter_mut().max_by_key(|peer| said(peer)) else { return };
        let bytes = said(largest);
        if bytes == 0 {
            return;
        }
        (largest.snapshot, largest.report) = (None, None);
        state.errors.push(format!(
            "cluster {}: its snapshot and report ({bytes} bytes) are left out of what the \
             controller is told, as all peers' together are too large; peer with fewer clusters, or \
             have them announce fewer prefixes and nodes",
            largest.cluster
        ));
        excess = excess.saturating_sub(bytes);
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
    let rtt = state.link.as_ref().map_or(0, |held| held.link.rtt().as_micros().max(1));
    ConnectionState {
        gateway,
        remote: known.remote.to_string(),
        release: known.established.release.clone(),
        version: known.established.version,
        rtt_micros: u64::try_from(rtt).unwrap_or(u64::MAX),
        tunnels: state
            .tunnels
            .iter()
            .map(|(lane, tunnel)| {
                let figures = stats.tunnel(tunnel.id);
                let last = figures.and_then(|figures| figures.last_handshake);
                let last = last.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
                let endpoint = figures.and_then(|figures| figures.endpoint);
                let path = figures.map(|figures| figures.path);
                let mtu = figures.and_then(|figures| figures.mtu);
                TunnelState {
                    lane: *lane,
                    endpoint: endpoint.unwrap_or(tunnel.endpoint).to_string(),
                    up: figures.is_some_and(|figures| figures.up),
                    last_handshake: last.unwrap_or_default().as_secs(),
                    tx_bytes: figures.map_or(0, |figures| figures.tx_bytes),
                    rx_bytes: figures.map_or(0, |figures| figures.rx_bytes),
                    path_mtu: path.and_then(|path| path.mtu).map_or(0, u32::from),
                    mtu: mtu.and_then(|mtu| u32::try_from(mtu).ok()).unwrap_or_default(),
                    path_state: path.map_or("", |path| path.state.label()).to_owned(),
                    paths: figures.iter().flat_map(|f| &f.health).map(path_health).collect(),
                }
            })
            .collect(),
    }
}

fn path_health(path: &HealthReport) -> PathHealth {
    let micros = |time: Option<Duration>| {
        u64::try_from(time.unwrap_or_default().as_micros()).unwrap_or(u64::MAX)
    };
    PathHealth {
        endpoint: path.end.to_string(),
        state: path.state.label().to_owned(),
        grade: path.grade.label().to_owned(),
        active: path.active,
        cost: path.cost.into(),
        rtt_micros: micros(path.rtt),
        jitter_micros: micros(path.jitter),
        loss_out: path.loss_out.into(),
        loss_in: path.loss_in.into(),
    }
}

/// Decides when a report goes out.
#[derive(Debug, Default)]
pub struct Pace {
    last: Option<(GatewayState, Instant)>,
}

impl Pace {
    /// Whether `state` is to be sent now, as it is each `repeat` at least; if not, when to ask again.
    pub fn due(
        &mut self,
        state: &GatewayState,
        repeat: Duration,
        now: Instant,
    ) -> Result<(), Instant> {
        let essence = essence(state);
        if let Some((last, at)) = &self.last {
            let wait = if *last == essence { repeat } else { COALESCE };
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
    if let Some(drill) = &mut essence.drill {
        (drill.dropped, drill.delayed) = (0, 0);
    }
    for peer in &mut essence.peers {
        peer.failures.iter_mut().for_each(|failure| failure.at = 0);
        for connection in &mut peer.connections {
            // 0 says that there is no link, and that is news.
            connection.rtt_micros = connection.rtt_micros.min(1);
            for tunnel in &mut connection.tunnels {
                (tunnel.last_handshake, tunnel.tx_bytes, tunnel.rx_bytes) = (0, 0, 0);
                for path in &mut tunnel.paths {
                    // 0 says that nothing came back by it yet.
                    (path.rtt_micros, path.jitter_micros) = (path.rtt_micros.min(1), 0);
                    (path.loss_out, path.loss_in) = (0, 0);
                }
            }
        }
    }
    essence
}

#[cfg(test)]
mod tests {
    use carrick_exchange::message::snapshot::SignedSnapshot;

    use super::*;

    #[test]
    fn peers_that_say_too_much_are_left_out_of_the_report_and_named() {
        let peer = |name: &str, bytes| PeerState {
            cluster: name.to_owned(),
            snapshot: Some(SignedSnapshot { payload: vec![0; bytes], ..Default::default() }),
            ..Default::default()
        };
        let peers = vec![peer("large", 900), peer("small", 100), peer("larger", 1000)];
        let mut state = GatewayState { peers, ..Default::default() };
        fit(&mut state, 2500);
        assert_eq!(state.errors, [] as [String; 0]);
        fit(&mut state, 1500);
        assert!(state.peers[0].snapshot.is_some() && state.peers[1].snapshot.is_some());
        assert_eq!(state.peers[2].snapshot, None);
        assert!(state.errors[0].contains("cluster larger: "), "{:?}", state.errors);
        fit(&mut state, 10);
        assert!(state.peers.iter().all(|peer| peer.snapshot.is_none()), "and it ends");
    }

    #[test]
    fn a_fallback_is_reported_and_is_news() {
        let mut stats = DataplaneStats::default();
        let offloads =
            |stats: &DataplaneStats| report(&Own::default(), &BTreeMap::new(), stats).offloads;
        assert_eq!(offloads(&stats), [], "no lane runs yet");
        let mut last = Vec::new();
        for used in [true, false] {
            stats.offloads = Some(Offloads { socket_send: used, ..Offloads::default() });
            let now = offloads(&stats);
            assert!(now.contains(&OffloadState { name: "socket_send".to_owned(), used }));
            let state =
                |offloads: &[_]| GatewayState { offloads: offloads.into(), ..Default::default() };
            assert_ne!(essence(&state(&last)), essence(&state(&now)));
            last = now;
        }
    }

    #[test]
    fn reports_go_out_on_change_coalesced_and_now_and_then() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        let mut state = GatewayState::default();
        assert_eq!(pace.due(&state, REPEAT, now), Ok(()));
        state.drops.push(DropCount { reason: "no_route".to_owned(), packets: 1 });
        assert_eq!(pace.due(&state, REPEAT, now), Err(now + REPEAT), "counters alone wait");
        state.draining = true;
        assert_eq!(pace.due(&state, REPEAT, now), Err(now + COALESCE));
        assert_eq!(pace.due(&state, REPEAT, now + COALESCE), Ok(()));
        assert_eq!(pace.due(&state, REPEAT, now + COALESCE + REPEAT), Ok(()));
    }

    #[test]
    fn link_that_comes_or_goes_is_news_and_another_round_trip_time_is_none() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        let state = |rtt_micros| GatewayState {
            peers: vec![PeerState {
                connections: vec![ConnectionState { rtt_micros, ..Default::default() }],
                ..Default::default()
            }],
            ..Default::default()
        };
        assert_eq!(pace.due(&state(0), REPEAT, now), Ok(()));
        let (linked, later) = (now + COALESCE, now + 2 * COALESCE);
        assert_eq!(pace.due(&state(800), REPEAT, linked), Ok(()), "the link is back");
        assert_eq!(pace.due(&state(900), REPEAT, later), Err(linked + REPEAT));
        assert_eq!(pace.due(&state(0), REPEAT, later), Ok(()), "the link is gone");
    }

    #[test]
    fn first_round_trip_of_a_path_is_news_and_another_is_none() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        let state = |rtt_micros| {
            let path = PathHealth { rtt_micros, ..Default::default() };
            let tunnel = TunnelState { paths: vec![path], ..Default::default() };
            let connection = ConnectionState { tunnels: vec![tunnel], ..Default::default() };
            let peer = PeerState { connections: vec![connection], ..Default::default() };
            GatewayState { peers: vec![peer], ..Default::default() }
        };
        assert_eq!(pace.due(&state(0), REPEAT, now), Ok(()));
        let (first, later) = (now + COALESCE, now + 2 * COALESCE);
        assert_eq!(pace.due(&state(20_000), REPEAT, first), Ok(()), "something came back");
        assert_eq!(pace.due(&state(21_000), REPEAT, later), Err(first + REPEAT));
    }
}
