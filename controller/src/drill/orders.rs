//! What gateways, agents and peers are told of the drill that runs. All of it follows from what is in the
//! object's status, so that a controller that begins anew says the very same.

use std::time::Duration;

use carrick_crds::drill::{Direction, Fault, Phase, SERIES_LIMIT};
use carrick_exchange::message::drill::{FaultOrder, StreamOrder};
use jiff::Timestamp;

use super::guard::{Injector, Pair};
use super::run::{BASELINE, RECOVERING, Run};
use crate::plan::Plan;

/// Streams of one node at most, and their packets a second together.
const STREAMS: u32 = 16;
const PACKETS: u32 = 4000;
/// Connections of one node.
pub const CONNECTIONS: u32 = 4;
/// How much later than planned things may end.
const SLACK: Duration = Duration::from_secs(30);
/// How much later a fault may end by the wall clock, for clocks that differ.
const FAULT_SLACK: Duration = Duration::from_secs(5);
/// The shortest point of a series.
const POINT: Duration = Duration::from_millis(100);

/// Adds what the drill needs to what everybody is told.
pub fn add(plan: &mut Plan, run: &Run) {
    if run.end.is_some() {
        return;
    }
    // The controller itself is told by nobody, see `door`.
    if run.choice.injecting.iter().any(|one| matches!(one, Injector::Gateway(_))) {
        plan.gateway.drill = fault(run).map(Box::new);
    }
    for pair in &run.choice.pairs {
        let name = pair.node.parse().ok();
        if let Some(config) = name.and_then(|name| plan.agents.get_mut(&name)) {
            config.drill = streams(run, pair).map(Box::new);
        }
    }
    if run.phase != Phase::Injecting {
        return;
    }
    for (cluster, snapshot) in &mut plan.snapshots {
        if *cluster == run.choice.cluster || run.drill.fault.hits_all_peers() {
            snapshot.drill = notice(run);
        }
    }
}

/// What gateways or an agent inject. It stays ordered after its end, so that they go on reporting what it did.
fn fault(run: &Run) -> Option<FaultOrder> {
    let at = run.began(Phase::Injecting)?;
    let mut order = FaultOrder {
        id: run.uid.clone(),
        gateway: run.choice.gateway.as_ref().map(|g| g.uid.clone()).unwrap_or_default(),
        cluster: run.choice.cluster.to_string(),
        endpoint: run.drill.endpoint.map(|endpoint| endpoint.to_string()).unwrap_or_default(),
        length_milliseconds: milliseconds(run.drill.duration),
        not_after: seconds(at, run.drill.duration + FAULT_SLACK),
        ..FaultOrder::default()
    };
    match run.drill.fault {
        Fault::GatewayCrash => order.silence = true,
        Fault::GatewayDrain => order.drain = true,
        Fault::AgentLinkLost => order.unlink = true,
        Fault::ApiServerUnreachable => {}
        Fault::Partition => {
            (order.outbound, order.inbound, order.loss_permille) = (true, true, 1000);
        }
        Fault::Path { direction, loss, latency, jitter } => {
            order.outbound = direction != Direction::Inbound;
            order.inbound = direction != Direction::Outbound;
            order.loss_permille = loss;
            (order.delay_milliseconds, order.jitter_milliseconds) = (latency, jitter);
        }
    }
    Some(order)
}

fn streams(run: &Run, pair: &Pair) -> Option<StreamOrder> {
    let at = run.began(Phase::Baseline)?;
    let length = BASELINE + run.drill.duration + RECOVERING;
    let hit = run.choice.injecting.contains(&Injector::Agent(pair.node.clone()));
    Some(StreamOrder {
        id: run.uid.clone(),
        target: pair.target.octets().to_vec(),
        streams: (PACKETS / run.drill.rate).clamp(1, STREAMS),
        rate: run.drill.rate,
        size: run.drill.size,
        phase: run.counting(),
        point_milliseconds: milliseconds(point(run)),
        not_after: seconds(at, length + SLACK),
        connections: CONNECTIONS,
        fault: if hit { fault(run).map(Box::new) } else { None },
    })
}

/// How long a point of the series is: all phases fit into the series, with some room.
pub fn point(run: &Run) -> Duration {
    let length = BASELINE + Duration::from_secs(2) + run.drill.duration + RECOVERING;
    let points = u32::try_from(SERIES_LIMIT).unwrap_or(1);
    // Whole tenths of a second.
    let exact = length.div_f64(f64::from(points)).max(POINT);
    POINT * u32::try_from(exact.as_millis().div_ceil(POINT.as_millis())).unwrap_or(1)
}

/// What peers are told whose traffic is hit.
fn notice(run: &Run) -> String {
    let kind = match run.drill.fault {
        Fault::GatewayCrash => "one gateway is silent",
        Fault::GatewayDrain => "one gateway leaves and comes back",
        Fault::Partition => "all paths are cut",
        Fault::Path { .. } if run.drill.endpoint.is_some() => "a path of one gateway is bad",
        Fault::Path { .. } => "the paths of one gateway are bad",
        Fault::AgentLinkLost => "one agent has no link to its controller",
        Fault::ApiServerUnreachable => "the controller cannot reach the API server",
    };
    let at = run.began(Phase::Injecting).unwrap_or_default();
    let seconds = run.drill.duration.as_secs();
    format!("failover drill {}: {kind} for {seconds} s from {at:.0} on", run.name)
}

fn milliseconds(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}

fn seconds(at: Timestamp, later: Duration) -> u64 {
    u64::try_from(at.as_second()).unwrap_or_default() + later.as_secs()
}
