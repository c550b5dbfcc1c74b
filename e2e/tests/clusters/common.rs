//! What the cases share: two clusters that are peered, and words for what is wrong.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use carrick_e2e::carrick::NAMESPACE;
use carrick_e2e::cluster::{CONTROL_PLANE_PROCESSES, Cluster};
use carrick_e2e::wait::wait_until;
use carrick_e2e::{Lab, carrick, probes};

use crate::flow::Network;
use crate::watch::{Wanted, Watch};
use crate::world::Outcome;

/// For what takes a moment on an idle machine.
pub const SOON: Duration = Duration::from_secs(30);

/// Most cases look at one gateway a cluster, and what two make of it has cases of its own.
pub const ONE_GATEWAY: &str = "gateway.replicas=1";

/// For pods that start, on a machine that does much else.
const PODS: Duration = Duration::from_secs(120);

/// From both ClusterPeerings to Ready, where that time is not what a case is about.
const READY: Duration = Duration::from_secs(30);

/// An error in words.
pub fn text<T, E: std::fmt::Display>(result: Result<T, E>) -> Result<T, String> {
    result.map_err(|error| error.to_string())
}

/// Fails with words unless it holds.
pub fn check(holds: bool, otherwise: impl FnOnce() -> String) -> Outcome {
    if holds { Ok(()) } else { Err(otherwise()) }
}

/// Undoes a fault, whatever happened meanwhile.
pub struct Fault<'a>(pub &'a dyn Fn() -> Outcome);

impl Drop for Fault<'_> {
    fn drop(&mut self) {
        if let Err(error) = (self.0)() {
            figure(&format!("a fault was not undone: {error}"));
        }
    }
}

/// The two clusters of every case.
pub fn clusters(lab: &Lab) -> Result<(Cluster, Cluster), String> {
    Ok((text(lab.cluster("paris"))?, text(lab.cluster("osaka"))?))
}

/// Both clusters with Carrick installed and its pods Ready.
pub fn installed(lab: &Lab) -> Result<(Cluster, Cluster), String> {
    let (paris, osaka) = clusters(lab)?;
    for cluster in [&paris, &osaka] {
        install(lab, cluster)?;
    }
    for cluster in [&paris, &osaka] {
        rolled_out(cluster)?;
    }
    Ok((paris, osaka))
}

/// Installs Carrick unless it is there, and does not wait for its pods.
pub fn install(lab: &Lab, cluster: &Cluster) -> Outcome {
    if is_installed(cluster) {
        return Ok(());
    }
    text(carrick::install(cluster, &text(lab.image_tag())?, &[ONE_GATEWAY]))
}

/// Whether there is a release of Carrick.
pub fn is_installed(cluster: &Cluster) -> bool {
    cluster.helm(&["status", "carrick", "--namespace", NAMESPACE]).is_ok()
}

/// The workload whose pods are a cluster's gateways.
pub const GATEWAYS: &str = "statefulset/carrick-gateway";

/// Begins to replace the pods of one of Carrick's workloads; [`rolled_out`] waits for the end.
pub fn restart(cluster: &Cluster, workload: &str) -> Outcome {
    let restart = ["rollout", "restart", workload, "--namespace", NAMESPACE];
    text(cluster.kubectl(&restart)).map(drop)
}

/// Waits until all of Carrick's pods are Ready.
pub fn rolled_out(cluster: &Cluster) -> Outcome {
    let parts = ["deployment/carrick-controller", GATEWAYS];
    for workload in parts.into_iter().chain(["daemonset/carrick-agent"]) {
        let look = ["rollout", "status", workload, "--timeout=5s", "--namespace", NAMESPACE];
        let rolled_out = || {
            supervise(cluster, &CONTROL_PLANE_PROCESSES)?;
            text(cluster.kubectl(&look))
        };
        text(wait_until(PODS, workload, rolled_out))?;
    }
    text(wait_until(PODS, "the end of earlier controllers", || none_terminates(cluster)))
}

/// A rollout counts as done while what it replaces goes on: a kubelet that was without its API server sees only after
/// up to a minute which pods are to end, and a controller leads until it is told to stop.
fn none_terminates(cluster: &Cluster) -> Outcome {
    let selector = "--selector=app.kubernetes.io/component=controller";
    let list = text(cluster.kubectl_json(&["get", "pods", selector, "--namespace", NAMESPACE]))?;
    let pods = list["items"].as_array().cloned().unwrap_or_default();
    let ending = pods.iter().filter(|pod| !pod["metadata"]["deletionTimestamp"].is_null());
    let names: Vec<_> = ending.map(|pod| pod["metadata"]["name"].to_string()).collect();
    check(names.is_empty(), || format!("{} still end", names.join(", ")))
}

/// Starts again what has ended of these parts of a control plane, as a supervisor would: a kube-scheduler ends by itself
/// when it cannot explain what it missed while the API server was away, and then nothing else starts any pod.
pub fn supervise(cluster: &Cluster, parts: &[&str]) -> Outcome {
    for name in parts {
        let part = cluster.control_plane_process(name);
        if !text(part.running())? {
            figure(&format!("{name} ended: {}", part.log_tail(3)));
            text(part.start())?;
        }
    }
    Ok(())
}

/// Both clusters, peered and Ready.
pub fn peered(lab: &Lab) -> Result<(Cluster, Cluster), String> {
    let (paris, osaka) = installed(lab)?;
    text(carrick::peer(&paris, &osaka))?;
    ready(&paris, &osaka)?;
    Ok((paris, osaka))
}

/// Waits until both ClusterPeerings of two clusters are Ready.
pub fn ready(one: &Cluster, other: &Cluster) -> Outcome {
    text(carrick::wait_condition(one, &other.plan().name, "Ready", "True", READY))?;
    text(carrick::wait_condition(other, &one.plan().name, "Ready", "True", READY))
}

/// Merges a change into the ClusterPeering for a peer.
pub fn change_peering(cluster: &Cluster, peer: &str, change: &str) -> Outcome {
    let patch = ["patch", "clusterpeering", peer, "--type=merge", "--patch", change];
    text(cluster.kubectl(&patch)).map(drop)
}

/// Whether an object's status has a condition with a status.
pub fn holds(object: &serde_json::Value, type_: &str, status: &str) -> bool {
    let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    conditions.into_iter().any(|held| held["type"] == type_ && held["status"] == status)
}

/// Lets nothing pass between the two clusters.
pub fn cut_apart(lab: &Lab) -> Outcome {
    text(lab.wan().cut("paris", "osaka"))?;
    text(lab.wan().cut("osaka", "paris"))
}

/// Undoes that.
pub fn join_again(lab: &Lab) -> Outcome {
    text(lab.wan().restore("paris", "osaka"))?;
    text(lab.wan().restore("osaka", "paris"))
}

/// Both watches, from now on.
pub fn watches(paris: &Cluster, osaka: &Cluster) -> Result<(Watch, Watch), String> {
    Ok((Watch::start(paris)?, Watch::start(osaka)?))
}

/// Waits until `Ready` is `status` on both sides after `since`; gives the later of the two times and
/// what was said in paris.
pub fn both(
    watches: &(Watch, Watch),
    status: &str,
    since: Instant,
    limit: Duration,
) -> Result<(Duration, String), String> {
    let (one, said) = watches.0.wait(&Wanted::ready("osaka", status), since, limit)?;
    let (other, _) = watches.1.wait(&Wanted::ready("paris", status), since, limit)?;
    Ok((one.max(other) - since, said))
}

/// The network of the test pod on a node.
pub fn pod_network(cluster: &Cluster, node: &str) -> Result<Network, String> {
    let pids = text(text(cluster.node(node))?.pids_of_container(
        "default",
        &format!("probe-{node}"),
        "probe",
    ))?;
    let pid = pids.first().ok_or_else(|| format!("probe-{node} has no process"))?;
    Ok(Network::of(*pid))
}

/// A node's own network.
pub fn node_network(lab: &Lab, name: &str) -> Result<Network, String> {
    let state = text(lab.state())?;
    let holder = state.machines.get(name).and_then(|machine| machine.holder.as_ref());
    holder.map(|holder| Network::of(holder.pid)).ok_or_else(|| format!("{name} has no power"))
}

/// The network of a gateway's pod.
pub fn gateway_network(cluster: &Cluster) -> Result<Network, String> {
    let pids = gateway_pids(cluster)?;
    Ok(Network::of(*pids.first().ok_or("the gateway has no process")?))
}

/// The host's process numbers of the first gateway.
pub fn gateway_pids(cluster: &Cluster) -> Result<Vec<i32>, String> {
    let node = text(cluster.node(&node_of(cluster, "carrick-gateway-0")?))?;
    text(node.pids_of_container(carrick::NAMESPACE, "carrick-gateway-0", "gateway"))
}

fn pods_of(cluster: &Cluster, component: &str) -> Result<Vec<(String, String)>, String> {
    let selector = format!("--selector=app.kubernetes.io/component={component}");
    let list = ["get", "pods", "--namespace", carrick::NAMESPACE, &selector];
    let list = text(cluster.kubectl_json(&list))?;
    let word = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let pods = list["items"].as_array().into_iter().flatten();
    Ok(pods.map(|pod| (word(&pod["metadata"]["name"]), word(&pod["spec"]["nodeName"]))).collect())
}

/// The host's number of the main process of each pod of a part of Carrick.
pub fn processes(cluster: &Cluster, component: &str) -> Result<Vec<i32>, String> {
    let mut all = Vec::new();
    for (pod, node) in pods_of(cluster, component)? {
        let node = text(cluster.node(&node))?;
        let pids = text(node.pids_of_container(carrick::NAMESPACE, &pod, component))?;
        all.extend(pids.first());
    }
    check(!all.is_empty(), || format!("no process of a {component}"))?;
    Ok(all)
}

/// The node of one of Carrick's pods.
pub fn node_of(cluster: &Cluster, pod: &str) -> Result<String, String> {
    let get = ["get", "pod", pod, "--namespace", NAMESPACE];
    let object = text(cluster.kubectl_json(&get))?;
    let node = object["spec"]["nodeName"].as_str();
    node.map(str::to_owned).ok_or_else(|| format!("{pod} is on no node"))
}

/// The IPv4 address of the test pod on a node.
pub fn address_v4(cluster: &Cluster, node: &str) -> Result<Ipv4Addr, String> {
    match text(probes::address(cluster, node))? {
        IpAddr::V4(v4) => Ok(v4),
        IpAddr::V6(v6) => Err(format!("{v6} is no IPv4 address")),
    }
}

/// A port of the test pod on a node: 0 the page, 1 TCP echo, 2 UDP echo.
pub fn target(cluster: &Cluster, node: &str, offset: u16) -> Result<std::net::SocketAddr, String> {
    Ok((text(probes::address(cluster, node))?, probes::PORT + offset).into())
}

/// A page can be fetched from the pod on `from` by its own address.
pub fn fetches(client: (&Cluster, &str), server: (&Cluster, &str), timeout_ms: u32) -> Outcome {
    let own = text(probes::address(client.0, client.1))?;
    let address = text(probes::address(server.0, server.1))?;
    let page = text(probes::fetch(client.0, client.1, address, timeout_ms))?;
    let expected = (own.to_string(), format!("probe-{}", server.1));
    let seen = (page.client, page.server);
    check(seen == expected, || format!("{} saw {seen:?} instead of {expected:?}", server.1))
}

/// The names of a cluster's nodes.
pub fn node_names(cluster: &Cluster) -> Vec<String> {
    cluster.plan().nodes.iter().map(|node| node.name.clone()).collect()
}

/// Prints one figure of a case.
pub fn figure(words: &str) {
    println!("    {words}");
}
