//! Two paths between the clusters, of which the one that is used gets worse: cut, lossy, slow or narrow.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use carrick_e2e::Lab;
use carrick_e2e::cluster::Cluster;
use carrick_e2e::wait::wait_until;
use carrick_wan::Conditions;
use carrick_wan::conditions::by_name;
use serde_json::{Value, json};

use crate::common::{GATEWAYS, node_names, pod_network, ready, restart, rolled_out, text};
use crate::failover::doubled;
use crate::quiet::live;
use crate::stream::{Shape, Trouble, USUAL};
use crate::world::Outcome;

use super::{BACK, Watching, measure_between};

/// A flow has left a lossy path when it lost nothing for so long: of the 125 packets a second of a flow a path that
/// loses 30 % would take some.
const QUIET: Duration = Duration::from_secs(1);

/// The same where a path loses a few in a row now and then: the last flow on it has seconds without a loss, as the path
/// goes from bad to good by packets, of which there are few then.
const LONG_QUIET: Duration = Duration::from_secs(20);

/// A path that failed again and again is tried after a minute at most.
const WELL: Duration = Duration::from_secs(120);

/// What fits into a datagram between pods when the WAN carries 1500 bytes.
const FULL: usize = 1420 - 28;

/// The two ways between the clusters, as sites of the WAN emulator.
const WAYS: [[&str; 2]; 2] = [["paris", "osaka"], ["paris-private", "osaka-private"]];

/// One of two paths is cut, the one that is used: both directions of it, or the one by which packets leave the cluster
/// that counts as hit.
pub fn cut(lab: &Lab, both: bool) -> Outcome {
    let name = if both { "path cut" } else { "path cut, one direction" };
    let worse = |now: Conditions| Conditions { cut: true, ..now };
    hit(lab, &Fault { name, both, ..Fault::new(&worse) })
}

/// One of two paths loses packets, both ways, each on its own.
pub fn loses_much(lab: &Lab) -> Outcome {
    let lossy = text(by_name("loses-30-percent"))?;
    let worse = |now: Conditions| Conditions { loss: lossy.loss, ..now };
    let window = Duration::from_secs(8);
    let quiet = Some((Trouble::Lost, QUIET));
    let watching = Watching { window, quiet, ..Watching::default() };
    hit(lab, &Fault { name: "path loses 30 %", watching, ..Fault::new(&worse) })
}

/// One of two paths loses packets, both ways, some in a row.
pub fn loses_little(lab: &Lab) -> Outcome {
    let lossy = text(by_name("loses-2-percent-in-bursts"))?;
    let worse = |now: Conditions| Conditions { burst: lossy.burst.clone(), ..now };
    // Longer than such a path counts as poor: traffic must not come back to it.
    let (window, quiet) = (Duration::from_secs(75), Some((Trouble::Lost, LONG_QUIET)));
    let watching = Watching { window, quiet, ..Watching::default() };
    hit(lab, &Fault { name: "path loses 2 % in bursts", watching, ..Fault::new(&worse) })
}

/// What leaves the cluster that counts as hit by one of two paths takes longer, and round trips do.
pub fn becomes_slow(lab: &Lab) -> Outcome {
    let worse = |now: Conditions| Conditions { delay_us: now.delay_us + 200_000, ..now };
    let quiet = Some((Trouble::Late, QUIET));
    let watching = Watching { quiet, ..Watching::default() };
    hit(lab, &Fault { name: "path gains 200 ms", both: false, watching, ..Fault::new(&worse) })
}

/// One of two paths no longer passes large packets, and tells nobody. Datagrams are of full size, and so are most of
/// TCP's segments.
pub fn becomes_narrow(lab: &Lab) -> Outcome {
    let narrow = text(by_name("small-packets-only"))?.drop_larger_than;
    let worse = |now: Conditions| Conditions { drop_larger_than: narrow, ..now };
    let shape = Shape { bytes: FULL, ..USUAL };
    let watching = Watching { shape, message: 2048, ..Watching::default() };
    hit(lab, &Fault { name: "path passes small packets only", watching, ..Fault::new(&worse) })
}

/// A path that gets worse.
#[derive(Clone, Copy)]
struct Fault<'a> {
    name: &'a str,
    watching: Watching,
    /// What becomes of the conditions of each direction that is hit.
    worse: &'a dyn Fn(Conditions) -> Conditions,
    /// Both directions are hit, or only the one out of the cluster that counts as hit.
    both: bool,
}

impl<'a> Fault<'a> {
    fn new(worse: &'a dyn Fn(Conditions) -> Conditions) -> Self {
        Self { name: "", watching: Watching::default(), worse, both: true }
    }
}

/// Makes all trials of a fault on clusters with two paths between them.
fn hit(lab: &Lab, fault: &Fault<'_>) -> Outcome {
    let (paris, osaka) = doubled(lab)?;
    let plain = [(&paris, &osaka), (&osaka, &paris)].map(|(own, peer)| endpoints(own, peer));
    let [in_paris, in_osaka] = plain;
    let (in_paris, in_osaka) = (in_paris?, in_osaka?);
    let outcome = with_two_paths(lab, &paris, &osaka, fault);
    set_endpoints(&paris, &osaka, &in_paris)?;
    set_endpoints(&osaka, &paris, &in_osaka)?;
    ready(&paris, &osaka)?;
    outcome
}

fn with_two_paths(lab: &Lab, paris: &Cluster, osaka: &Cluster, fault: &Fault<'_>) -> Outcome {
    for (own, peer) in [(paris, osaka), (osaka, paris)] {
        let nodes = &peer.plan().nodes;
        let of = |address: Ipv4Addr, cost: u32| {
            [31_820, 31_828].map(|port| json!({"address": address, "port": port, "cost": cost}))
        };
        let all: Vec<Value> = nodes
            .iter()
            .flat_map(|node| of(node.address, 0).into_iter().chain(of(node.private, 10)))
            .collect();
        set_endpoints(own, peer, &Value::Array(all))?;
    }
    ready(paris, osaka)?;
    let wan = lab.wan();
    let mended = || -> Outcome {
        text(wan.reset())?;
        with_other_gateways([paris, osaka])?;
        [paris, osaka].into_iter().try_for_each(forgets_what_it_was_told)
    };
    mended()?;
    // Whose use of a way is hit: each cluster chooses the one that its packets leave by.
    let way_of = |hit: &Cluster| used_way(if fault.both { paris } else { hit });
    let outcome = measure_between(
        lab,
        (paris, osaka),
        fault.name,
        fault.watching,
        &mut |cluster, _| {
            let way = way_of(cluster)?;
            let [one, other] = WAYS[way];
            let out = if std::ptr::eq(cluster, paris) { (one, other) } else { (other, one) };
            let hit = if fault.both { vec![out, (out.1, out.0)] } else { vec![out] };
            let at = Instant::now();
            for (from, to) in hit {
                let now = text(wan.get(from, to))?;
                text(wan.set(from, to, &(fault.worse)(now)))?;
            }
            Ok((format!("the way {one} – {other}"), at))
        },
        &mut |_| mended(),
    );
    text(wan.reset())?;
    outcome
}

fn endpoints(own: &Cluster, peer: &Cluster) -> Result<Value, String> {
    let get = ["get", "clusterpeering", peer.plan().name.as_str()];
    Ok(text(own.kubectl_json(&get))?["spec"]["endpoints"].take())
}

/// As who applied the ClusterPeering at first, so that it can be applied again.
fn set_endpoints(own: &Cluster, peer: &Cluster, endpoints: &Value) -> Outcome {
    let name = peer.plan().name.as_str();
    let mut object = text(own.kubectl_json(&["get", "clusterpeering", name]))?;
    object["spec"]["endpoints"].clone_from(endpoints);
    let manifest = json!({
        "apiVersion": object["apiVersion"],
        "kind": object["kind"],
        "metadata": {"name": name},
        "spec": object["spec"],
    });
    text(own.apply(&manifest.to_string())).map(drop)
}

/// What each tunnel of a cluster's gateways says of each of its paths: where it leads, whether it is used, and its
/// state.
fn paths(cluster: &Cluster) -> Result<Vec<Vec<Value>>, String> {
    let status = live(cluster)?;
    let list = |value: &Value, name: &str| value[name].as_array().cloned().unwrap_or_default();
    let peers = list(&status, "gateways").into_iter().flat_map(|one| list(&one["state"], "peers"));
    let connections = peers.flat_map(|peer| list(&peer, "connections"));
    let tunnels = connections.flat_map(|connection| list(&connection, "tunnels"));
    Ok(tunnels.map(|tunnel| list(&tunnel, "paths")).collect())
}

fn is_private(path: &Value) -> bool {
    path["endpoint"].as_str().is_some_and(|endpoint| endpoint.starts_with("172.30."))
}

/// Which way all tunnels of a cluster use.
fn used_way(cluster: &Cluster) -> Result<usize, String> {
    text(wait_until(BACK, "tunnels that all use one way", || {
        let tunnels = paths(cluster)?;
        let used: Vec<bool> = tunnels
            .iter()
            .flatten()
            .filter(|path| path["active"] == true)
            .map(is_private)
            .collect();
        match used.first() {
            Some(first) if used.iter().all(|way| way == first) => Ok(usize::from(*first)),
            _ => Err(format!("{tunnels:?}")),
        }
    }))
}

/// Replaces all gateways, and waits until every tunnel has good paths only, one on each way, and uses the cheaper one. A
/// gateway remembers for minutes that a path was bad, and longer each time: trials would measure each other, or wait.
fn with_other_gateways(clusters: [&Cluster; 2]) -> Outcome {
    clusters.into_iter().try_for_each(|cluster| restart(cluster, GATEWAYS))?;
    clusters.into_iter().try_for_each(rolled_out)?;
    let well = |path: &Value| {
        path["state"] == "up" && path["grade"] == "good" && path["active"] != is_private(path)
    };
    clusters.into_iter().try_for_each(|cluster| both_ways(cluster, well))
}

/// Waits until every tunnel of a cluster has a path of this kind on each way.
fn both_ways(cluster: &Cluster, kind: impl Fn(&Value) -> bool) -> Outcome {
    text(wait_until(WELL, "two paths that are as they should be", || {
        let tunnels = paths(cluster)?;
        let both = |tunnel: &Vec<Value>| {
            let found = tunnel.iter().filter(|path| kind(path));
            let ways: Vec<bool> = found.map(is_private).collect();
            ways.contains(&true) && ways.contains(&false)
        };
        let all = tunnels.len() >= 4 && tunnels.iter().all(both);
        if all { Ok(()) } else { Err(format!("{tunnels:?}")) }
    }))
}

/// Linux believes for ten minutes what it was told of a smaller path (RFC 1191, section 6.3).
fn forgets_what_it_was_told(cluster: &Cluster) -> Outcome {
    for name in node_names(cluster) {
        pod_network(cluster, &name)?.run(&["ip", "route", "flush", "cache"])?;
    }
    Ok(())
}
