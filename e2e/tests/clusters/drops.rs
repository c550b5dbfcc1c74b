//! What gateways and nodes count as dropped, to be told beside losses.

use std::collections::BTreeMap;

use carrick_e2e::carrick::NAMESPACE;
use carrick_e2e::cluster::Cluster;
use carrick_e2e::run::run;
use serde_json::Value;

use crate::common::node_names;
use crate::metrics::Metrics;

const COUNTER: &str = "carrick_gateway_dropped_packets_total";

/// Where nodes count what they drop.
const NODE: [&str; 6] = ["-j", "list", "counters", "table", "inet", "carrick"];

/// Counters of drops, by pod or node and reason.
#[derive(Debug, Default)]
pub struct Drops(BTreeMap<String, u64>);

impl Drops {
    /// As they stand now in these clusters. A pod that comes or goes meanwhile is left out.
    pub fn read(clusters: &[&Cluster]) -> Self {
        let counts = clusters.iter().flat_map(|cluster| {
            let mut counts = of_gateways(cluster);
            counts.extend(of_nodes(cluster));
            counts
        });
        Self(counts.collect())
    }

    /// What has grown since, a line each.
    pub fn grown(&self, since: &Self) -> Vec<String> {
        let grown = |(name, now): (&String, &u64)| {
            let before = since.0.get(name).copied().unwrap_or(0);
            (*now > before).then(|| format!("{name}: {}", now - before))
        };
        self.0.iter().filter_map(grown).collect()
    }
}

fn of_gateways(cluster: &Cluster) -> Vec<(String, u64)> {
    let get = ["get", "pods", "--namespace", NAMESPACE, "--output=name"];
    let pods = cluster.kubectl(&get).unwrap_or_default();
    let gateways = pods.lines().filter_map(|line| line.strip_prefix("pod/"));
    let mut all = Vec::new();
    for pod in gateways.filter(|pod| pod.starts_with("carrick-gateway-")) {
        let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/{pod}:7822/proxy/metrics");
        let said = Metrics::of(cluster.kubectl(&["get", "--raw", &path]).unwrap_or_default());
        let name = &cluster.plan().name;
        let drops = said.samples(COUNTER);
        all.extend(drops.map(|(labels, value)| (format!("{name} {pod} {labels}"), value)));
    }
    all
}

fn of_nodes(cluster: &Cluster) -> Vec<(String, u64)> {
    let mut all = Vec::new();
    for name in node_names(cluster) {
        let said = cluster.node(&name).ok().and_then(|node| node.network_command("nft").ok());
        let said = said.and_then(|mut command| run(command.args(NODE)).ok());
        let Some(Ok(said)) = said.map(|said| serde_json::from_str::<Value>(&said)) else {
            continue;
        };
        let items = said["nftables"].as_array().cloned().unwrap_or_default();
        all.extend(items.iter().filter_map(|item| {
            let counter = &item["counter"];
            let (of, packets) = (counter["name"].as_str()?, counter["packets"].as_u64()?);
            Some((format!("node {name} {of}"), packets))
        }));
    }
    all
}
