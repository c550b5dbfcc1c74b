//! What is counted of a cluster: what its controller says of itself, what its API server was asked to write, how many objects
//! there are, and how much memory controllers ever had.

use carrick_e2e::cluster::Cluster;
use carrick_e2e::{Lab, carrick};
use serde_json::Value;

use super::client::Client;
use crate::common::{processes, text};
use crate::metrics::{Counts, Metrics, label};

/// The kinds that an import consists of.
pub const KINDS: [&str; 3] = [
    "/api/v1/namespaces/{}/services",
    "/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices",
    "/apis/multicluster.x-k8s.io/v1beta1/namespaces/{}/serviceimports",
];

/// The kinds that services across clusters are made of.
const RESOURCES: [&str; 4] = ["services", "endpointslices", "serviceimports", "serviceexports"];

/// A cluster that is looked at.
pub struct Side {
    pub cluster: Cluster,
    pub client: Client,
}

impl Side {
    /// A cluster of a lab.
    pub fn of(lab: &Lab, cluster: &Cluster) -> Result<Self, String> {
        Ok(Self { cluster: cluster.clone(), client: Client::of(lab, cluster)? })
    }

    /// What the controller that leads counts.
    pub fn metrics(&self) -> Result<Metrics, String> {
        let place = format!("/api/v1/namespaces/{}/pods", carrick::NAMESPACE);
        let selector = "labelSelector=app.kubernetes.io%2Fcomponent%3Dcontroller";
        let pods = self.client.json(&format!("{place}?{selector}"))?;
        for pod in pods["items"].as_array().into_iter().flatten() {
            let name = pod["metadata"]["name"].as_str().unwrap_or_default();
            // One that just ended or begins does not answer.
            let said = self.client.get(&format!("{place}/{name}:7821/proxy/metrics"));
            let metrics = said.map(Metrics::of).unwrap_or_default();
            if metrics.total("carrick_controller_leader") == 1 {
                return Ok(metrics);
            }
        }
        Err(format!("no controller leads in {}", self.cluster.plan().name))
    }

    /// How many objects there are of a kind of [`KINDS`] in a namespace.
    pub fn objects(&self, kind: &str, namespace: &str) -> Result<usize, String> {
        let list = self.client.json(&format!("{}?limit=1", kind.replace("{}", namespace)))?;
        let first = list["items"].as_array().map_or(0, Vec::len);
        let rest = list["metadata"]["remainingItemCount"].as_u64().unwrap_or_default();
        Ok(first + usize::try_from(rest).unwrap_or(usize::MAX))
    }

    /// The EndpointSlices of an import.
    pub fn slices(&self, namespace: &str, name: &str) -> Result<Vec<Value>, String> {
        let place = KINDS[1].replace("{}", namespace);
        let label = "multicluster.kubernetes.io%2Fservice-name";
        let list = self.client.json(&format!("{place}?labelSelector={label}%3D{name}"))?;
        Ok(list["items"].as_array().cloned().unwrap_or_default())
    }

    /// What the API server was asked to write of services, by kind and verb.
    pub fn api_writes(&self) -> Result<Counts, String> {
        let all = Metrics::of(self.client.get("/metrics")?);
        let mut writes = Counts::new();
        for (labels, value) in all.samples("apiserver_request_total") {
            let label = |name: &str| label(labels, name).unwrap_or_default();
            let (resource, verb) = (label("resource"), label("verb"));
            let reads = ["GET", "LIST", "WATCH", "CONNECT"].contains(&verb);
            if RESOURCES.contains(&resource) && !reads {
                let what = [verb, resource, label("subresource")].join(" ");
                *writes.entry(what.trim_end().to_owned()).or_default() += value;
            }
        }
        Ok(writes)
    }

    /// The most memory that a controller of the cluster ever had, in MiB.
    pub fn memory(&self) -> Result<f64, String> {
        let peaks = processes(&self.cluster, "controller")?.into_iter().map(peak);
        let peaks = peaks.collect::<Result<Vec<f64>, String>>()?;
        Ok(peaks.into_iter().fold(0.0, f64::max))
    }
}

fn peak(pid: i32) -> Result<f64, String> {
    let said = text(std::fs::read_to_string(format!("/proc/{pid}/status")))?;
    let line = said.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    Ok(kib.ok_or_else(|| format!("no VmHWM in {said}"))? / 1024.0)
}

/// What was counted since.
pub fn since(now: &Counts, before: &Counts) -> Counts {
    let of = |(what, value): (&String, &u64)| {
        let more = value.saturating_sub(before.get(what).copied().unwrap_or_default());
        (more > 0).then(|| (what.clone(), more))
    };
    now.iter().filter_map(of).collect()
}

/// All of it.
pub fn sum(counts: &Counts) -> u64 {
    counts.values().sum()
}

/// Bytes that the network between the clusters carried so far.
pub fn wan_bytes(lab: &Lab) -> Result<u64, String> {
    let stats = text(lab.wan().stats())?;
    let directions = stats.sites.iter().flat_map(|site| &site.directions);
    Ok(directions.map(|direction| direction.forwarded_bytes).sum())
}
