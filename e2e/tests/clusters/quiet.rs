//! Quiet: what changes nothing changes nothing. Routes and handshakes are watched meanwhile.

use std::io::Read as _;
use std::process::{Child, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use carrick_e2e::cluster::{Cluster, Node};
use carrick_e2e::wait::wait_until;
use carrick_e2e::{Lab, carrick};
use serde_json::Value;

use crate::common::{
    ONE_GATEWAY, SOON, check, clusters, figure, node_names, peered, pod_network, rolled_out,
    target, text,
};
use crate::flow::Flow;
use crate::metrics::Metrics;
use crate::world::{Case, Outcome};

/// All cases, in order.
pub const CASES: &[(&str, Case)] = &[
    ("quiet::controllers_restart", controllers_restart),
    ("quiet::an_upgrade_with_equal_values", equal_upgrade),
    ("quiet::a_change_of_annotations", annotations),
];

/// What a change that comes late would need.
const LATE: Duration = Duration::from_secs(3);

/// WireGuard makes a new session by itself after so long.
const REKEY: Duration = Duration::from_secs(120);

/// What `ip monitor` says of a node's kernel.
struct Monitor {
    child: Child,
    lines: JoinHandle<String>,
    what: &'static str,
}

impl Monitor {
    fn start(
        node: &Node,
        program: &str,
        arguments: &[&str],
        what: &'static str,
    ) -> Result<Self, String> {
        let mut command = text(node.network_command(program))?;
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = text(command.spawn())?;
        let mut output = child.stdout.take().ok_or("no output")?;
        let lines = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            // It ends with the program, which is killed.
            let _ended = output.read_to_end(&mut bytes);
            String::from_utf8_lossy(&bytes).into_owned()
        });
        Ok(Self { child, lines, what })
    }

    /// Ends it and gives what is about us.
    fn stop(mut self) -> Result<Vec<String>, String> {
        text(self.child.kill())?;
        text(self.child.wait())?;
        let said = self.lines.join().unwrap_or_default();
        let ours = ["carrick0", "51820", "nexthop", "rule"];
        let about_us = |line: &&str| ours.iter().any(|word| line.contains(word));
        Ok(said.lines().filter(about_us).map(|line| format!("{}: {line}", self.what)).collect())
    }
}

fn monitors(node: &Node) -> Result<Vec<Monitor>, String> {
    let kinds = ["monitor", "link", "address", "route", "rule", "nexthop", "neigh"];
    Ok(vec![
        Monitor::start(node, "ip", &[&["-o"][..], &kinds].concat(), "ip monitor")?,
        Monitor::start(node, "bridge", &["monitor", "fdb"], "bridge monitor")?,
    ])
}

/// All that Carrick has in a node's kernel.
fn dump(node: &Node) -> Result<String, String> {
    let shows: [&[&str]; 6] = [
        &["ip", "-d", "link", "show", "dev", "carrick0"],
        &["ip", "route", "show", "table", "51820"],
        &["ip", "rule", "show"],
        &["ip", "nexthop", "show"],
        &["ip", "neighbour", "show", "dev", "carrick0"],
        &["bridge", "fdb", "show", "dev", "carrick0"],
    ];
    let mut all = String::new();
    for argv in shows {
        let mut command = text(node.network_command(argv[0]))?;
        all += &text(carrick_e2e::run::run(command.args(&argv[1..])))?;
    }
    let mut command = text(node.network_command("nft"))?;
    let listed = command.args(["--stateless", "list", "table", "inet", "carrick"]);
    all += &text(carrick_e2e::run::run(listed))?;
    Ok(all)
}

fn nodes(lab: &Lab) -> Vec<Node> {
    lab.clusters().iter().flat_map(Cluster::nodes).collect()
}

/// What the first gateway counts of this name, summed over its tunnels.
fn counted(cluster: &Cluster, metric: &str) -> Result<u64, String> {
    let namespace = carrick::NAMESPACE;
    let path = format!("/api/v1/namespaces/{namespace}/pods/carrick-gateway-0:7822/proxy/metrics");
    let said = text(cluster.kubectl(&["get", "--raw", &path]))?;
    let said = Metrics::of(said);
    check(said.samples(metric).next().is_some(), || format!("no {metric} in {said:?}"))?;
    Ok(said.total(metric))
}

fn handshakes(lab: &Lab) -> Result<Vec<u64>, String> {
    let all = lab.clusters();
    let metrics = ["carrick_gateway_tunnel_initiations_total", "carrick_gateway_links_made_total"];
    all.iter().flat_map(|cluster| metrics.map(|metric| counted(cluster, metric))).collect()
}

/// Does something that must change nothing, on a new session of WireGuard.
fn undisturbed(lab: &Lab, name: &str, act: &dyn Fn() -> Outcome) -> Outcome {
    let (paris, osaka) = clusters(lab)?;
    // A fresh tunnel, so that its own rekeying is far away.
    for (cluster, peer) in [(&paris, "osaka"), (&osaka, "paris")] {
        text(cluster.kubectl(&["delete", "clusterpeering", peer, "--ignore-not-found"]))?;
    }
    peered(lab)?;
    let start = Instant::now();
    let (from, to) = (&node_names(&paris)[0], &node_names(&osaka)[1]);
    let flow = Flow::start(&pod_network(&paris, from)?, target(&osaka, to, 2)?)?;
    let dumps = || nodes(lab).iter().map(dump).collect::<Result<Vec<_>, _>>();
    let (before, hands) = (dumps()?, handshakes(lab)?);
    let watched: Vec<Monitor> = nodes(lab)
        .iter()
        .map(monitors)
        .collect::<Result<Vec<_>, _>>()?
        .into_iter()
        .flatten()
        .collect();
    act()?;
    flow.run_until(Instant::now(), LATE);
    let mut changes = Vec::new();
    for monitor in watched {
        changes.extend(monitor.stop()?);
    }
    let (after, now) = (dumps()?, handshakes(lab)?);
    let record = flow.stop();
    let took = start.elapsed();
    check(took < REKEY, || format!("it took {took:?}: too long to tell rekeying from noise"))?;
    check(changes.is_empty(), || format!("the kernels were changed: {changes:#?}"))?;
    check(before == after, || {
        format!("before:\n{}\nafter:\n{}", before.join("\n"), after.join("\n"))
    })?;
    check(hands == now, || format!("handshakes and links were {hands:?} and are {now:?}"))?;
    figure(&format!("{name}: no change, {}", record.summary()));
    check(record.lost() == 0, || record.summary())
}

/// What the controller that leads shows at /status.
pub fn live(cluster: &Cluster) -> Result<Value, String> {
    let get = ["get", "pods", "--namespace", carrick::NAMESPACE, "--output=name"];
    let said = text(cluster.kubectl(&get))?;
    for pod in said.lines().filter_map(|line| line.strip_prefix("pod/carrick-controller-")) {
        let path = format!(
            "/api/v1/namespaces/{}/pods/carrick-controller-{pod}:7821/proxy/status",
            carrick::NAMESPACE
        );
        let status = cluster.kubectl(&["get", "--raw", &path]).ok();
        let status = status.and_then(|said| serde_json::from_str::<Value>(&said).ok());
        if let Some(status) = status.filter(|status| status["leader"] == true) {
            return Ok(status);
        }
    }
    Err("no controller leads".to_owned())
}

/// Waits until a controller leads, and every gateway and agent has told it that it is as ordered.
pub fn settled(cluster: &Cluster) -> Outcome {
    text(wait_until(SOON, "a controller that knows all", || {
        let status = live(cluster)?;
        let members = |kind: &str| status[kind].as_array().cloned().unwrap_or_default();
        let (gateways, agents) = (members("gateways"), members("agents"));
        let well = |member: &Value| {
            member["linked"] == true && member["told"] == member["state"]["applied"]
        };
        let all = agents.len() == cluster.plan().nodes.len() && !gateways.is_empty();
        match all && gateways.iter().chain(&agents).all(well) {
            true => Ok(()),
            false => Err(status.to_string()),
        }
    }))
}

/// Deletes the controllers' pods, and waits until others are there.
pub fn other_controllers(cluster: &Cluster) -> Outcome {
    let selector = "--selector=app.kubernetes.io/component=controller";
    text(cluster.kubectl(&["delete", "pods", selector, "--namespace", carrick::NAMESPACE]))?;
    rolled_out(cluster)
}

fn controllers_restart(lab: &Lab) -> Outcome {
    let (paris, _) = peered(lab)?;
    undisturbed(lab, "controllers restarted", &|| {
        other_controllers(&paris)?;
        settled(&paris)
    })
}

fn equal_upgrade(lab: &Lab) -> Outcome {
    let (paris, _) = peered(lab)?;
    let tag = text(lab.image_tag())?;
    // A lab that was kept may have been given other images since.
    text(carrick::upgrade(&paris, &tag, &[ONE_GATEWAY]))?;
    rolled_out(&paris)?;
    undisturbed(lab, "helm upgrade with equal values", &|| {
        text(carrick::upgrade(&paris, &tag, &[ONE_GATEWAY]))?;
        rolled_out(&paris)?;
        settled(&paris)
    })
}

fn annotations(lab: &Lab) -> Outcome {
    let (paris, osaka) = peered(lab)?;
    undisturbed(lab, "annotations changed", &|| {
        for (cluster, peer) in [(&paris, "osaka"), (&osaka, "paris")] {
            let stamp = format!("example.org/stamp={:?}", Instant::now());
            for object in [format!("clusterpeering/{peer}"), "clusteridentity/self".to_owned()] {
                text(cluster.kubectl(&["annotate", "--overwrite", &object, &stamp]))?;
            }
            settled(cluster)?;
        }
        Ok(())
    })
}
