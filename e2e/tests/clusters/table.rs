//! The table of failover: faults again and again under traffic, and how long each interrupted it. Not part of the usual
//! tests, as 200 trials take the better part of an hour: `cargo drills [FAULT]`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use carrick_e2e::carrick::NAMESPACE;
use carrick_e2e::cluster::Cluster;
use carrick_e2e::outages::{Outages, Trial};
use carrick_e2e::wait::wait_until;
use carrick_e2e::{Lab, probes};
use serde_json::{Value, json};

use crate::common::{
    SOON, check, figure, node_names, node_of, pod_network, processes, ready, rolled_out, text,
};
use crate::connections::Connections;
use crate::failover::{both_used, doubled, kill_gateway};
use crate::kill::{api_answers, kill_process, scale_dns};
use crate::quiet::{live, other_controllers, settled};
use crate::stream::{Stream, USUAL};
use crate::world::{Case, Outcome};

/// All faults.
pub const CASES: &[(&str, Case)] = &[
    ("table::gateway_killed", gateway_killed),
    ("table::gateways_node_loses_power", power),
    ("table::path_cut", |lab| path_cut(lab, true)),
    ("table::path_cut_one_way", |lab| path_cut(lab, false)),
    ("table::gateway_drained", gateway_drained),
    ("table::gateways_replaced", |lab| replaced(lab, "statefulset/carrick-gateway")),
    ("table::agents_replaced", |lab| replaced(lab, "daemonset/carrick-agent")),
    ("table::controllers_killed", controllers_killed),
    ("table::api_server_restarted", api_server_restarted),
    ("table::api_server_and_controllers_away", control_away),
    ("table::dns_away", dns_away),
];

/// How many trials of each fault, if not [`TRIALS`].
const TRIALS_VARIABLE: &str = "CARRICK_TRIALS";
const TRIALS: usize = 10;

/// Gaps are looked for so long after a fault, or after its end where it lasts.
const WINDOW: Duration = Duration::from_secs(4);

/// How long control plane or DNS stay away.
const AWAY: Duration = Duration::from_secs(10);

/// A node or a gateway is back within that.
const BACK: Duration = Duration::from_secs(180);

const PORTS: [u16; 2] = [9400, 9410];

/// A fault: makes it, and says what it hit and when it began. It has ended when this returns, or never does.
type Fault<'a> = &'a mut dyn FnMut(&Cluster, usize) -> Result<(String, Instant), String>;
/// Brings all back to how it was.
type Repair<'a> = &'a mut dyn FnMut(&Cluster) -> Outcome;

/// Makes all trials of a fault, in both clusters by turns, with traffic between their last nodes, and keeps what was
/// measured.
fn measure(lab: &Lab, name: &str, fault: Fault<'_>, repair: Repair<'_>) -> Result<Outages, String> {
    let (paris, osaka) = doubled(lab)?;
    measure_between(lab, (&paris, &osaka), name, fault, repair)
}

/// As [`measure`], on clusters that are as they should be.
fn measure_between(
    lab: &Lab,
    (paris, osaka): (&Cluster, &Cluster),
    name: &str,
    fault: Fault<'_>,
    repair: Repair<'_>,
) -> Result<Outages, String> {
    let trials = match std::env::var(TRIALS_VARIABLE) {
        Ok(count) => {
            text(count.parse().map_err(|error| format!("{TRIALS_VARIABLE}={count}: {error}")))?
        }
        Err(_) => TRIALS,
    };
    let ends = Ends::of(paris, osaka)?;
    let connections = ends.connect()?;
    let mut outages = Outages { fault: name.to_owned(), trials: Vec::new() };
    for number in 0..trials {
        let hit = if number % 2 == 0 { paris } else { osaka };
        both_used(lab, paris)?;
        both_used(lab, osaka)?;
        let (there, back) = (ends.stream(true)?, ends.stream(false)?);
        let before = connections.broken();
        let (target, at) = fault(hit, number / 2)?;
        let until = Instant::now() + WINDOW;
        std::thread::sleep(until.saturating_duration_since(Instant::now()));
        let gaps = [&there, &back].map(|stream| stream.longest_gap(at, until).as_secs_f64() * 1e3);
        let [out_ms, into_ms] = if number % 2 == 0 { gaps } else { [gaps[1], gaps[0]] };
        let counts = [there.end(), back.end()];
        let trial = Trial {
            target: format!("{target} of {}", hit.plan().name),
            out_ms,
            into_ms,
            sent: counts.iter().map(|count| count.sent).sum(),
            lost: counts.iter().map(|count| count.sent - count.arrived).sum(),
            broken: connections.broken() - before,
        };
        figure(&format!(
            "{:>3}/{trials} {name}: {}: out {out_ms:.0} ms, in {into_ms:.0} ms, lost {} of {}, TCP broken {}",
            number + 1,
            trial.target,
            trial.lost,
            trial.sent,
            trial.broken
        ));
        outages.trials.push(trial);
        keep(&outages)?;
        repair(hit)?;
        ready(paris, osaka)?;
    }
    for line in Outages::head().lines().chain([outages.row().as_str()]) {
        figure(line);
    }
    Ok(outages)
}

/// Writes what is known so far, so that a run that is broken off is not lost.
fn keep(outages: &Outages) -> Outcome {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).with_file_name("drills");
    text(std::fs::create_dir_all(&folder))?;
    let name = outages.fault.replace([' ', '\'', ','], "-");
    let json = text(serde_json::to_string_pretty(outages))?;
    text(std::fs::write(folder.join(format!("{name}.json")), json))?;
    text(std::fs::write(folder.join(format!("{name}.svg")), outages.svg()))
}

/// The pods between which traffic goes.
struct Ends {
    networks: [crate::flow::Network; 2],
    addresses: [Ipv4Addr; 2],
}

impl Ends {
    fn of(paris: &Cluster, osaka: &Cluster) -> Result<Self, String> {
        let last = |cluster: &Cluster| node_names(cluster).pop().ok_or("a cluster without nodes");
        let nodes = [last(paris)?, last(osaka)?];
        let address = |cluster: &Cluster, node: &str| match text(probes::address(cluster, node))? {
            IpAddr::V4(v4) => Ok(v4),
            IpAddr::V6(v6) => Err(format!("{v6} is no IPv4 address")),
        };
        Ok(Self {
            networks: [pod_network(paris, &nodes[0])?, pod_network(osaka, &nodes[1])?],
            addresses: [address(paris, &nodes[0])?, address(osaka, &nodes[1])?],
        })
    }

    fn stream(&self, there: bool) -> Result<Stream, String> {
        let (from, to) = if there { (0, 1) } else { (1, 0) };
        let target = SocketAddr::from((self.addresses[to], PORTS[0]));
        Stream::start(&self.networks[from], &self.networks[to], target, USUAL)
    }

    fn connect(&self) -> Result<Connections, String> {
        Connections::start(&self.networks[0], &self.networks[1], self.addresses[1], PORTS[1])
    }
}

fn nothing(_: &Cluster) -> Outcome {
    Ok(())
}

/// Fails when a connection broke: no fault of the table may do that.
fn unbroken(outages: &Outages) -> Outcome {
    let broken: u64 = outages.trials.iter().map(|trial| trial.broken).sum();
    check(broken == 0, || format!("{broken} TCP connections broke"))
}

fn gateway_killed(lab: &Lab) -> Outcome {
    let mut killed = String::new();
    let hit = std::cell::RefCell::new(&mut killed);
    let outages = measure(
        lab,
        "gateway killed",
        &mut |cluster, turn| {
            let pod = format!("carrick-gateway-{}", turn % 2);
            let at = kill_gateway(cluster, &pod)?;
            hit.borrow_mut().clone_from(&pod);
            Ok((pod, at))
        },
        &mut |cluster| {
            // Another pod instead: a kubelet waits ever longer before it starts a container anew.
            let pod = hit.borrow().clone();
            another_pod(cluster, &pod)
        },
    )?;
    unbroken(&outages)
}

/// The node on which no traffic ends loses power, with a gateway.
fn power(lab: &Lab) -> Outcome {
    let first = |cluster: &Cluster| {
        node_names(cluster).into_iter().next().ok_or_else(|| "a cluster without nodes".to_owned())
    };
    let outages = measure(
        lab,
        "gateway's node loses power",
        &mut |cluster, _| {
            let name = first(cluster)?;
            let hosts: Result<Vec<String>, String> =
                (0..2).map(|i| node_of(cluster, &format!("carrick-gateway-{i}"))).collect();
            check(hosts?.contains(&name), || format!("no gateway runs on {name}"))?;
            let at = Instant::now();
            text(text(cluster.node(&name))?.power_cut())?;
            Ok((name, at))
        },
        &mut |cluster| {
            text(text(cluster.node(&first(cluster)?))?.power_on())?;
            text(cluster.wait_nodes())?;
            rolled_out(cluster)?;
            spread(cluster)
        },
    )?;
    unbroken(&outages)
}

/// Deletes a pod, and waits until another is there.
fn another_pod(cluster: &Cluster, pod: &str) -> Outcome {
    text(cluster.kubectl(&["delete", "pod", pod, "--namespace", NAMESPACE, "--wait=true"]))?;
    rolled_out(cluster)
}

/// Has one gateway on each node again.
fn spread(cluster: &Cluster) -> Outcome {
    text(wait_until(BACK, "a gateway on each of two nodes", || {
        let one = node_of(cluster, "carrick-gateway-0")?;
        if one != node_of(cluster, "carrick-gateway-1")? {
            return Ok(());
        }
        another_pod(cluster, "carrick-gateway-1")?;
        Err(format!("both on {one}"))
    }))
}

fn gateway_drained(lab: &Lab) -> Outcome {
    let outages = measure(
        lab,
        "gateway's pod deleted",
        &mut |cluster, turn| {
            let (pod, at) = (format!("carrick-gateway-{}", turn % 2), Instant::now());
            another_pod(cluster, &pod)?;
            both_used(lab, cluster)?;
            Ok((pod, at))
        },
        &mut nothing,
    )?;
    unbroken(&outages)
}

fn replaced(lab: &Lab, workload: &str) -> Outcome {
    let outages = measure(
        lab,
        &format!("{} replaced", workload.rsplit('-').next().unwrap_or(workload)),
        &mut |cluster, _| {
            let at = Instant::now();
            let restart = ["rollout", "restart", workload, "--namespace", NAMESPACE];
            text(cluster.kubectl(&restart))?;
            rolled_out(cluster)?;
            both_used(lab, cluster)?;
            Ok((workload.to_owned(), at))
        },
        &mut nothing,
    )?;
    unbroken(&outages)
}

fn controllers_killed(lab: &Lab) -> Outcome {
    let outages = measure(
        lab,
        "controllers killed",
        &mut |cluster, _| {
            let at = Instant::now();
            for pid in processes(cluster, "controller")? {
                kill_process(pid)?;
            }
            Ok(("both controllers".to_owned(), at))
        },
        &mut |cluster| {
            other_controllers(cluster)?;
            settled(cluster)
        },
    )?;
    unbroken(&outages)
}

fn api_server_restarted(lab: &Lab) -> Outcome {
    let outages = measure(
        lab,
        "API server restarted",
        &mut |cluster, _| {
            let server = cluster.control_plane_process("kube-apiserver");
            let at = Instant::now();
            text(server.kill())?;
            text(server.start())?;
            api_answers(cluster)?;
            Ok(("kube-apiserver".to_owned(), at))
        },
        &mut |cluster| text(wait_until(2 * SOON, "a controller", || settled(cluster))),
    )?;
    unbroken(&outages)
}

fn control_away(lab: &Lab) -> Outcome {
    let outages = measure(
        lab,
        "API server and controllers away",
        &mut |cluster, _| {
            let controllers = processes(cluster, "controller")?;
            let at = Instant::now();
            text(cluster.control_plane_process("kube-apiserver").kill())?;
            for pid in controllers {
                kill_process(pid)?;
            }
            std::thread::sleep(AWAY);
            Ok(("control plane".to_owned(), at))
        },
        &mut |cluster| {
            text(cluster.control_plane_process("kube-apiserver").start())?;
            api_answers(cluster)?;
            other_controllers(cluster)?;
            text(wait_until(2 * SOON, "a controller", || settled(cluster)))
        },
    )?;
    unbroken(&outages)
}

fn dns_away(lab: &Lab) -> Outcome {
    let outages = measure(
        lab,
        "DNS away",
        &mut |cluster, _| {
            let at = Instant::now();
            scale_dns(cluster, 0)?;
            std::thread::sleep(AWAY);
            Ok(("coredns".to_owned(), at))
        },
        &mut |cluster| {
            scale_dns(cluster, 2)?;
            text(cluster.wait_dns())
        },
    )?;
    unbroken(&outages)
}

/// The two ways between the clusters, as sites of the WAN emulator.
const WAYS: [[&str; 2]; 2] = [["paris", "osaka"], ["paris-private", "osaka-private"]];

/// One of two paths is cut, by turns, and with it whichever is used: both directions of it, or the one out of the
/// cluster that counts as hit.
fn path_cut(lab: &Lab, both: bool) -> Outcome {
    let (paris, osaka) = doubled(lab)?;
    let plain = [(&paris, &osaka), (&osaka, &paris)].map(|(own, peer)| endpoints(own, peer));
    let [in_paris, in_osaka] = plain;
    let (in_paris, in_osaka) = (in_paris?, in_osaka?);
    let outcome = with_two_paths(lab, &paris, &osaka, both);
    set_endpoints(&paris, &osaka, &in_paris)?;
    set_endpoints(&osaka, &paris, &in_osaka)?;
    ready(&paris, &osaka)?;
    outcome
}

fn with_two_paths(lab: &Lab, paris: &Cluster, osaka: &Cluster, both: bool) -> Outcome {
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
    let name = if both { "path cut" } else { "path cut, one direction" };
    let outages = measure_between(
        lab,
        (paris, osaka),
        name,
        &mut |cluster, _| {
            let way = used_way(paris)?;
            let [one, other] = WAYS[way];
            let at = Instant::now();
            let out = if std::ptr::eq(cluster, paris) { (one, other) } else { (other, one) };
            text(wan.cut(out.0, out.1))?;
            if both {
                text(wan.cut(out.1, out.0))?;
            }
            Ok((format!("the way {one} – {other}"), at))
        },
        &mut |_| {
            text(wan.reset())?;
            both_ways_work(paris)?;
            both_ways_work(osaka)
        },
    );
    text(wan.reset())?;
    unbroken(&outages?)
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

/// Waits until every tunnel of a cluster has a path on each way that works.
fn both_ways_work(cluster: &Cluster) -> Outcome {
    text(wait_until(BACK, "two paths that work", || {
        let tunnels = paths(cluster)?;
        let works = |path: &&Value| ["up", "held"].iter().any(|state| path["state"] == **state);
        let both = |tunnel: &Vec<Value>| {
            let ways: Vec<bool> = tunnel.iter().filter(works).map(is_private).collect();
            ways.contains(&true) && ways.contains(&false)
        };
        let all = tunnels.len() >= 4 && tunnels.iter().all(both);
        if all { Ok(()) } else { Err(format!("{tunnels:?}")) }
    }))
}
