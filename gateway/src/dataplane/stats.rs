//! Figures of the data plane, as lanes publish them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use carrick_gateway_core::path::{Fitness, Grade, HealthReport, HealthState, Standing};
use carrick_gateway_core::{
    DropReason, Drops, FaultFigures, Lane, PathReport, TunnelId, TunnelReport,
};

use super::options::Offloads;

/// Lines that are logged at a time, when many tunnels change at once.
const MOST_LINES: usize = 8;

/// What one lane publishes.
#[derive(Debug, Default)]
pub(super) struct LaneStats {
    pub tunnels: Vec<TunnelStats>,
    pub drops: Drops,
    /// Which offloads are in use; `None` before the lane runs.
    pub offloads: Option<Offloads>,
    /// What the newest fault did.
    pub fault: FaultFigures,
    /// How many nodes hear the gateway, by any lane's word; `None` for one without nodes.
    pub nodes: Option<u16>,
}

/// The whole data plane's figures.
#[derive(Debug, Clone, Default)]
pub struct DataplaneStats {
    /// All tunnels, by lane.
    pub tunnels: Vec<TunnelStats>,
    /// Packets dropped since start, every reason, zeros included.
    pub drops: Vec<(DropReason, u64)>,
    /// Which offloads are in use on all lanes: a lane falls back where the kernel fails it.
    pub offloads: Option<Offloads>,
    /// What the newest fault of a drill did.
    pub fault: FaultFigures,
    /// How many nodes hear the gateway; `None` for one without nodes.
    pub nodes: Option<u16>,
}

/// One tunnel's figures. Counters begin at zero with the tunnel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TunnelStats {
    /// Which.
    pub id: TunnelId,
    /// Where its packets go now.
    pub endpoint: Option<SocketAddr>,
    /// A session stands, and something authentic came within the last 15 s.
    pub up: bool,
    /// When the newest session was established.
    pub last_handshake: Option<SystemTime>,
    /// How many sessions were established.
    pub sessions: u64,
    /// How many handshakes were begun by us.
    pub initiations: u64,
    /// Inner packets received.
    pub rx_packets: u64,
    /// Inner bytes received.
    pub rx_bytes: u64,
    /// Inner packets sent.
    pub tx_packets: u64,
    /// Inner bytes sent.
    pub tx_bytes: u64,
    /// What is known of the path.
    pub path: PathReport,
    /// The largest inner packet that the path carries, in bytes; `None` while nobody knows.
    pub mtu: Option<usize>,
    /// How its paths are.
    pub health: Vec<HealthReport>,
    /// How fit it is to carry traffic; `None` where the peer sends no heartbeats.
    pub fitness: Option<Fitness>,
    /// How many nodes of its cluster hear the other gateway, by its own word.
    pub nodes: Option<u16>,
    /// How it stands with that among those of its cluster.
    pub standing: Standing,
}

/// What a change of is worth waking somebody, of a tunnel and of each of its paths.
type State = (TunnelId, bool, u64, Option<SocketAddr>, PathReport, Option<usize>, Choice);
type Choice = (Option<Fitness>, Standing);
type PathState = (u8, SocketAddr, HealthState, Grade, bool);

impl TunnelStats {
    fn new(report: TunnelReport, now: Instant, clock: SystemTime) -> Self {
        let ago = |at: Instant| clock - now.saturating_duration_since(at);
        Self {
            id: report.id,
            endpoint: report.endpoint,
            up: report.up,
            last_handshake: report.established.map(ago),
            sessions: report.sessions,
            initiations: report.initiations,
            rx_packets: report.rx.packets,
            rx_bytes: report.rx.bytes,
            tx_packets: report.tx.packets,
            tx_bytes: report.tx.bytes,
            path: report.path,
            mtu: report.mtu,
            health: report.health,
            fitness: report.fitness,
            nodes: report.nodes,
            standing: report.standing,
        }
    }

    /// A tunnel of which nothing is known yet, to build tests' tunnels on.
    #[cfg(test)]
    pub(crate) fn unknown(id: u64) -> Self {
        Self {
            id: TunnelId(id),
            endpoint: None,
            up: false,
            last_handshake: None,
            sessions: 0,
            initiations: 0,
            rx_packets: 0,
            rx_bytes: 0,
            tx_packets: 0,
            tx_bytes: 0,
            path: PathReport { mtu: None, state: carrick_gateway_core::PathState::Searching },
            mtu: None,
            health: Vec::new(),
            fitness: None,
            nodes: None,
            standing: Standing::Even,
        }
    }

    /// Where its packets go, by its health.
    fn active(&self) -> Option<SocketAddr> {
        self.health.iter().find(|path| path.active).map(|path| path.end)
    }

    fn state(&self) -> (State, Vec<PathState>) {
        let paths = self.health.iter();
        let paths = paths.map(|p| (p.number, p.end, p.state, p.grade, p.active)).collect();
        let (endpoint, choice) = (self.endpoint, (self.fitness, self.standing));
        ((self.id, self.up, self.sessions, endpoint, self.path, self.mtu, choice), paths)
    }
}

impl LaneStats {
    pub fn of(lane: &Lane, offloads: Offloads, now: Instant) -> Self {
        let clock = SystemTime::now();
        let tunnels = lane.tunnels(now);
        Self {
            tunnels: tunnels.into_iter().map(|t| TunnelStats::new(t, now, clock)).collect(),
            drops: *lane.drops(),
            offloads: Some(offloads),
            fault: lane.fault_figures(),
            nodes: lane.nodes_heard(),
        }
    }

    /// Logs which tunnels have become fitter or sicker since `before`, take another path, or lead to a gateway that has lost
    /// nodes or has them again; at most so many at a time.
    pub fn log_health(&self, before: &Self) {
        let then = |id| before.tunnels.iter().find(|tunnel| tunnel.id == id);
        let changed = self.tunnels.iter().filter(|tunnel| {
            let health = |tunnel: &TunnelStats| (tunnel.fitness, tunnel.active(), tunnel.standing);
            tunnel.fitness.is_some() && then(tunnel.id).map(health) != Some(health(tunnel))
        });
        for tunnel in changed.take(MOST_LINES) {
            let (id, fitness, path) = (tunnel.id.0, tunnel.fitness, tunnel.active());
            let (nodes, standing) = (tunnel.nodes, tunnel.standing.label());
            tracing::info!(
                tunnel = id,
                ?fitness,
                ?path,
                ?nodes,
                standing,
                "a tunnel's health has changed"
            );
        }
    }

    /// Logs how many nodes hear the gateway, if that has changed since `before`.
    pub fn log_nodes(&self, before: &Self) {
        if let (Some(now), Some(before)) = (self.nodes, before.nodes)
            && now != before
        {
            tracing::debug!(now, before, "nodes that hear this gateway");
        }
    }

    /// Whether a tunnel's state differs, mere counters aside.
    pub fn differs(&self, other: &Self) -> bool {
        let states =
            |stats: &Self| stats.tunnels.iter().map(TunnelStats::state).collect::<Vec<_>>();
        states(self) != states(other) || self.fault.active != other.fault.active
    }
}

impl DataplaneStats {
    pub(super) fn of(lanes: impl Iterator<Item = Arc<LaneStats>>) -> Self {
        let (mut tunnels, mut drops, mut nodes) = (Vec::new(), Drops::default(), None);
        let mut offloads: Option<Offloads> = None;
        let mut fault = FaultFigures::default();
        for lane in lanes {
            offloads = match (offloads, lane.offloads) {
                (Some(all), Some(one)) => Some(all.common(one)),
                (all, one) => all.or(one),
            };
            tunnels.extend(lane.tunnels.iter().cloned());
            drops.add(&lane.drops);
            fault.add(&lane.fault);
            nodes = nodes.max(lane.nodes);
        }
        Self { tunnels, drops: drops.iter().collect(), offloads, fault, nodes }
    }

    /// Packets of users that tunnels have carried, both ways. A tunnel that ends takes its own along.
    pub fn carried(&self) -> u64 {
        self.tunnels.iter().map(|tunnel| tunnel.rx_packets + tunnel.tx_packets).sum()
    }

    /// The tunnel of this name.
    pub fn tunnel(&self, id: TunnelId) -> Option<&TunnelStats> {
        self.tunnels.iter().find(|tunnel| tunnel.id == id)
    }
}
