//! Consent: traffic flows only while both sides want it, and what may not flow goes nowhere.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use carrick_e2e::cluster::{Capture, Cluster};
use carrick_e2e::wait::wait_until;
use carrick_e2e::{Lab, carrick};

use crate::common::{
    change_peering, check, clusters, figure, node_names, node_network, peered, pod_network, ready,
    target, text,
};
use crate::flow::{Flow, Network};
use crate::world::{Case, Outcome};

/// All cases, in order.
pub const CASES: &[(&str, Case)] = &[
    ("consent::suspending_here_stops_traffic", |lab| withdrawn(lab, Side::Here, suspend, resume)),
    ("consent::suspending_there_stops_traffic", |lab| withdrawn(lab, Side::There, suspend, resume)),
    ("consent::deleting_here_stops_traffic", |lab| withdrawn(lab, Side::Here, delete, apply)),
    ("consent::deleting_there_stops_traffic", |lab| withdrawn(lab, Side::There, delete, apply)),
];

/// From the API server's answer to the last packet.
const LIMIT: Duration = Duration::from_secs(1);

/// Every node hears of it within that.
const NODES: Duration = Duration::from_secs(5);

/// A refusal that takes longer has waited for a timeout.
const AT_ONCE: Duration = Duration::from_millis(500);

#[derive(Clone, Copy, PartialEq)]
enum Side {
    Here,
    There,
}

/// Does something to a cluster's peering for the other.
type Change = fn(&Cluster, &Cluster) -> Outcome;

fn suspend(cluster: &Cluster, peer: &Cluster) -> Outcome {
    change_peering(cluster, &peer.plan().name, "{\"spec\":{\"suspended\":true}}")
}

fn resume(cluster: &Cluster, peer: &Cluster) -> Outcome {
    change_peering(cluster, &peer.plan().name, "{\"spec\":{\"suspended\":false}}")
}

fn delete(cluster: &Cluster, peer: &Cluster) -> Outcome {
    text(cluster.kubectl(&["delete", "clusterpeering", &peer.plan().name])).map(drop)
}

fn apply(cluster: &Cluster, peer: &Cluster) -> Outcome {
    text(cluster.apply(&text(carrick::invitation(peer))?)).map(drop)
}

/// What passes the cables of a cluster's nodes with an address of the other's pods.
fn captures(cluster: &Cluster, peer: &Cluster) -> Result<Vec<Capture>, String> {
    let filter = format!("net {}", peer.plan().pods);
    cluster.nodes().iter().map(|node| text(node.capture(&filter))).collect()
}

fn withdrawn(lab: &Lab, side: Side, stop: Change, start: Change) -> Outcome {
    let (paris, osaka) = peered(lab)?;
    let (one, other) = (&node_names(&paris)[0], &node_names(&osaka)[1]);
    let there = Flow::start(&pod_network(&paris, one)?, target(&osaka, other, 2)?)?;
    let back = Flow::start(&pod_network(&osaka, other)?, target(&paris, one, 2)?)?;
    let leaks = [text(paris.leaked_packets())?, text(osaka.leaked_packets())?];
    let captured = [captures(&paris, &osaka)?, captures(&osaka, &paris)?];
    let (cluster, peer) = if side == Side::Here { (&paris, &osaka) } else { (&osaka, &paris) };
    stop(cluster, peer)?;
    let stopped = Instant::now();
    there.run_until(stopped, 2 * LIMIT);
    let (there, back) = (there.stop(), back.stop());
    let refused = refusals(lab, &[one, other]);
    start(cluster, peer)?;
    refused?;
    let late = [there, back].iter().filter_map(|record| record.last_answer()).max();
    let late = late.map(|at| at.saturating_duration_since(stopped)).unwrap_or_default();
    figure(&format!("the last packet crossed {} ms after the API's answer", late.as_millis()));
    check(late <= LIMIT, || format!("traffic went on for {late:?}"))?;
    for capture in captured.into_iter().flatten() {
        let lines = text(capture.stop())?;
        check(lines.is_empty(), || format!("in clear: {lines:?}"))?;
    }
    let now = [text(paris.leaked_packets())?, text(osaka.leaked_packets())?];
    check(now == leaks, || format!("leaks were {leaks:?} and are {now:?}"))?;
    ready(&paris, &osaka)?;
    Flow::start(&pod_network(&paris, one)?, target(&osaka, other, 2)?).map(drop)
}

/// Every node on both sides refuses at once, itself and its pods; not those that `sent`, because a
/// node's word to one address is rationed by the kernel.
fn refusals(lab: &Lab, sent: &[&String]) -> Outcome {
    let (paris, osaka) = clusters(lab)?;
    for (clients, servers) in [(&paris, &osaka), (&osaka, &paris)] {
        let to = target(servers, &node_names(servers)[0], 0)?;
        for node in node_names(clients) {
            let own = node_network(lab, &node)?;
            let what = format!("a refusal on {node} for {to}");
            text(wait_until(NODES, &what, || refused(&own, to)))?;
            if !sent.contains(&&node) {
                let refusal = refused(&pod_network(clients, &node)?, to);
                refusal.map_err(|error| format!("a pod on {node}: {error}"))?;
            }
        }
    }
    Ok(())
}

fn refused(network: &Network, to: SocketAddr) -> Outcome {
    let (result, took) = network.inside(|| {
        let began = Instant::now();
        (TcpStream::connect_timeout(&to, AT_ONCE), began.elapsed())
    })?;
    match result {
        Ok(_) => Err(format!("connected to {to}")),
        Err(error) => match error.kind() {
            ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable if took < AT_ONCE => Ok(()),
            _ => Err(format!("after {took:?}: {error}")),
        },
    }
}
