//! From `FailoverDrill.spec` to values that are known to be good. The API server's schema refuses most
//! mistakes before; here is what counts.

use std::net::SocketAddr;
use std::time::Duration;

use super::spec::{
    BoundsSpec, DURATION_LIMIT, FailoverDrillSpec, FaultSpec, LATENCY_LIMIT, RATE_RANGE,
    RECOVERY_LIMIT, SIZE_RANGE,
};

/// So many of a thousand packets lost, or so many milliseconds of delay, ruin a path.
const RUINOUS_LOSS: u32 = 200;
const RUINOUS_DELAY: u32 = 1000;

/// A `FailoverDrill.spec` that is known to be good by itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Drill {
    /// The ClusterPeering's name.
    pub peering: String,
    /// What is injected.
    pub fault: Fault,
    /// The pod of the gateway that is to be hit, if not any.
    pub gateway: Option<String>,
    /// The far end of the one path that is to be hit, if not all.
    pub endpoint: Option<SocketAddr>,
    /// The node whose agent is to be hit, if not any.
    pub node: Option<String>,
    /// How long, 1–3600 s.
    pub duration: Duration,
    /// Packets a second of each stream, 10–1000.
    pub rate: u32,
    /// Bytes of each IP packet, 128–1400.
    pub size: u32,
    /// What makes a pass.
    pub bounds: Bounds,
    /// It may leave no path.
    pub allow_outage: bool,
}

/// What is injected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A gateway falls silent.
    GatewayCrash,
    /// A gateway announces that it leaves, and comes back.
    GatewayDrain,
    /// A gateway's paths to the peer are bad.
    Path {
        /// Which direction is hit.
        direction: Direction,
        /// How many of a thousand are lost.
        loss: u32,
        /// By how many milliseconds the others are late.
        latency: u32,
        /// By how many that varies.
        jitter: u32,
    },
    /// All paths to the peer are cut.
    Partition,
    /// An agent has no link to the controller.
    AgentLinkLost,
    /// The controller cannot reach the API server.
    ApiServerUnreachable,
}

impl Fault {
    /// Whether a path that it hits carries nothing any more.
    pub fn cuts(self) -> bool {
        match self {
            Self::GatewayCrash | Self::Partition => true,
            Self::GatewayDrain | Self::AgentLinkLost | Self::ApiServerUnreachable => false,
            Self::Path { loss, .. } => loss >= 1000,
        }
    }

    /// Whether a path that it hits is as good as lost to users: it carries nothing, or so little or so late that Carrick
    /// leaves it where another one is there.
    pub fn ruins(self) -> bool {
        match self {
            Self::Path { loss, latency, jitter, .. } => {
                loss >= RUINOUS_LOSS || latency + jitter >= RUINOUS_DELAY
            }
            other => other.cuts(),
        }
    }

    /// Whether packets are dropped or delayed by it; else it may have traffic move at most.
    pub fn hits_packets(self) -> bool {
        matches!(self, Self::GatewayCrash | Self::Path { .. } | Self::Partition)
    }

    /// Whether one gateway is hit.
    pub fn hits_one_gateway(self) -> bool {
        matches!(self, Self::GatewayCrash | Self::GatewayDrain | Self::Path { .. })
    }

    /// Whether a gateway is hit for all its peers.
    pub fn hits_all_peers(self) -> bool {
        matches!(self, Self::GatewayCrash | Self::GatewayDrain)
    }
}

/// Which direction is hit, as seen from this cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Both.
    Both,
    /// What this cluster sends.
    Outbound,
    /// What the peer sends.
    Inbound,
}

/// What makes a pass; at least one is set.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Bounds {
    /// How many of a hundred packets may be lost.
    pub loss_percent: Option<f64>,
    /// How long recovery may take.
    pub recovery: Option<Duration>,
    /// No connection may break.
    pub connections_survive: bool,
}

/// What is wrong in a spec.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("spec.{field}: {why}")]
pub struct DrillFieldError {
    /// The field's path below `spec`.
    pub field: &'static str,
    /// What is wrong with it, and what to do.
    pub why: String,
}

fn wrong<T>(field: &'static str, why: impl Into<String>) -> Result<T, DrillFieldError> {
    Err(DrillFieldError { field, why: why.into() })
}

fn within(
    field: &'static str,
    value: i32,
    (low, high): (i32, i32),
) -> Result<u32, DrillFieldError> {
    match u32::try_from(value) {
        Ok(number) if (low..=high).contains(&value) => Ok(number),
        _ => wrong(field, format!("{value} must be {low}–{high}")),
    }
}

impl Drill {
    /// Reads a spec; the first thing that is wrong with it.
    pub fn parse(spec: &FailoverDrillSpec) -> Result<Self, DrillFieldError> {
        let fault = fault(&spec.fault)?;
        let seconds = within("durationSeconds", spec.duration_seconds, (1, DURATION_LIMIT))?;
        let duration = Duration::from_secs(seconds.into());
        let bounds = bounds(&spec.bounds)?;
        let partition = fault == Fault::Partition;
        if partition && spec.fault.gateway.is_some() {
            return wrong("fault.gateway", "a partition hits all gateways; leave it out");
        }
        if partition && !spec.allow_outage {
            return wrong("allowOutage", "a partition cuts every path: set allowOutage: true");
        }
        match bounds.recovery {
            Some(recovery) if partition && recovery <= duration => wrong(
                "bounds.maxRecoveryMilliseconds",
                "nothing recovers from a partition before its end; it must be more than \
                 durationSeconds",
            ),
            Some(recovery) if !partition && recovery >= duration => wrong(
                "bounds.maxRecoveryMilliseconds",
                "the fault ends before that, so that nothing would be proved; make durationSeconds \
                 longer or the bound smaller",
            ),
            _ => Ok(Self {
                peering: spec.peering.clone(),
                fault,
                gateway: spec.fault.gateway.clone(),
                endpoint: endpoint(&spec.fault)?,
                node: spec.fault.node.clone(),
                duration,
                rate: within("load.packetsPerSecond", spec.load.packets_per_second, RATE_RANGE)?,
                size: within("load.sizeBytes", spec.load.size_bytes, SIZE_RANGE)?,
                bounds,
                allow_outage: spec.allow_outage,
            }),
        }
    }
}

fn endpoint(spec: &FaultSpec) -> Result<Option<SocketAddr>, DrillFieldError> {
    let Some(text) = &spec.endpoint else { return Ok(None) };
    match text.parse() {
        Ok(endpoint) => Ok(Some(endpoint)),
        Err(_) => wrong("fault.endpoint", "must be an address and a port, as in 192.0.2.7:31821"),
    }
}

fn fault(spec: &FaultSpec) -> Result<Fault, DrillFieldError> {
    let elsewhere = matches!(spec.kind.as_str(), "AgentLinkLost" | "APIServerUnreachable");
    if elsewhere && spec.gateway.is_some() {
        return wrong("fault.gateway", "no gateway is hit by this fault; leave it out");
    }
    if spec.node.is_some() && spec.kind != "AgentLinkLost" {
        return wrong("fault.node", "it belongs to AgentLinkLost");
    }
    let weather = spec.direction.is_some()
        || spec.endpoint.is_some()
        || spec.loss_percent.is_some()
        || spec.latency_milliseconds.is_some()
        || spec.jitter_milliseconds.is_some();
    let late = spec.latency_milliseconds.is_some() || spec.jitter_milliseconds.is_some();
    match spec.kind.as_str() {
        "GatewayCrash"
        | "GatewayDrain"
        | "Partition"
        | "AgentLinkLost"
        | "APIServerUnreachable"
            if weather =>
        {
            wrong(
                "fault",
                "endpoint, direction, loss, latency and jitter belong to PathLoss and PathDegraded",
            )
        }
        "AgentLinkLost" => Ok(Fault::AgentLinkLost),
        "APIServerUnreachable" => Ok(Fault::ApiServerUnreachable),
        "GatewayCrash" => Ok(Fault::GatewayCrash),
        "GatewayDrain" => Ok(Fault::GatewayDrain),
        "Partition" => Ok(Fault::Partition),
        "PathLoss" if spec.loss_percent.is_none() => {
            wrong("fault.lossPercent", "PathLoss needs it")
        }
        "PathLoss" if late => {
            wrong("fault", "latencyMilliseconds and jitterMilliseconds belong to PathDegraded")
        }
        "PathDegraded" if spec.loss_percent.is_none() && !late => wrong(
            "fault",
            "PathDegraded needs lossPercent, latencyMilliseconds or jitterMilliseconds",
        ),
        "PathLoss" | "PathDegraded" => path(spec),
        other => {
            let other: String = other.chars().take(64).collect();
            wrong("fault.type", format!("{other:?} is no fault that this release can inject"))
        }
    }
}

fn path(spec: &FaultSpec) -> Result<Fault, DrillFieldError> {
    let direction = match spec.direction.as_deref() {
        None | Some("Both") => Direction::Both,
        Some("Outbound") => Direction::Outbound,
        Some("Inbound") => Direction::Inbound,
        Some(_) => return wrong("fault.direction", "must be Both, Outbound or Inbound"),
    };
    let loss = match spec.loss_percent {
        None => 0,
        // Thousandths are exact enough, and fit.
        Some(percent) if (0.1..=100.0).contains(&percent) => (percent * 10.0).round() as u32,
        Some(percent) => return wrong("fault.lossPercent", format!("{percent} must be 0.1–100")),
    };
    let milliseconds = |field, value: Option<i32>| {
        value.map_or(Ok(0), |value| within(field, value, (1, LATENCY_LIMIT)))
    };
    let latency = milliseconds("fault.latencyMilliseconds", spec.latency_milliseconds)?;
    let jitter = milliseconds("fault.jitterMilliseconds", spec.jitter_milliseconds)?;
    if jitter > latency {
        return wrong("fault.jitterMilliseconds", "must not be more than latencyMilliseconds");
    }
    Ok(Fault::Path { direction, loss, latency, jitter })
}

fn bounds(spec: &BoundsSpec) -> Result<Bounds, DrillFieldError> {
    if spec.max_loss_percent.is_none()
        && spec.max_recovery_milliseconds.is_none()
        && spec.connections_survive != Some(true)
    {
        return wrong("bounds", "at least one bound is needed, or nothing would be proved");
    }
    if spec.max_loss_percent.is_some_and(|percent| !(0.0..=100.0).contains(&percent)) {
        return wrong("bounds.maxLossPercent", "must be 0–100");
    }
    let recovery = |value| within("bounds.maxRecoveryMilliseconds", value, (1, RECOVERY_LIMIT));
    let recovery = spec.max_recovery_milliseconds.map(recovery).transpose()?;
    Ok(Bounds {
        loss_percent: spec.max_loss_percent,
        recovery: recovery.map(|milliseconds| Duration::from_millis(milliseconds.into())),
        connections_survive: spec.connections_survive == Some(true),
    })
}
