//! Carrick in a lab's clusters, used as its users do: helm, `carrick invite`, kubectl, `carrick status`.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cluster::Cluster;
use crate::image::carrick_program;
use crate::parts::repository;
use crate::run::run;
use crate::wait::wait_until;
use crate::{Error, Result};

/// Where the chart is installed.
pub const NAMESPACE: &str = "carrick-system";

/// From `helm install` to an identity that can be given to others.
const IDENTITY: Duration = Duration::from_secs(60);

/// The chart's folder.
#[must_use]
pub fn chart() -> PathBuf {
    repository().join("charts/carrick")
}

/// Installs the chart with the images that are loaded. More values as `name=value`.
///
/// # Errors
/// When helm refuses, with what it said.
pub fn install(cluster: &Cluster, tag: &str, values: &[&str]) -> Result<()> {
    release(cluster, "install", &chart(), tag, values)
}

/// As [`install`], with `helm upgrade`.
///
/// # Errors
/// When helm refuses, with what it said.
pub fn upgrade(cluster: &Cluster, tag: &str, values: &[&str]) -> Result<()> {
    release(cluster, "upgrade", &chart(), tag, values)
}

/// `helm install` or `helm upgrade` (`verb`) from the chart in a folder, which may be another release's.
///
/// # Errors
/// When helm refuses, with what it said.
pub fn release(
    cluster: &Cluster,
    verb: &str,
    chart: &Path,
    tag: &str,
    values: &[&str],
) -> Result<()> {
    let id = format!("clusterID={}", cluster.plan().name);
    let services = format!("serviceRanges={{{}}}", cluster.plan().service_ranges());
    let tag = format!("image.tag={tag}");
    let mut arguments = vec![verb, "carrick"];
    let path = chart.to_string_lossy();
    arguments.extend([&*path, "--namespace", NAMESPACE]);
    if verb == "install" {
        arguments.push("--create-namespace");
    }
    for value in [id.as_str(), services.as_str(), tag.as_str()].iter().chain(values) {
        arguments.extend(["--set", value]);
    }
    cluster.helm(&arguments).map(drop)
}

/// Goes back to what was installed before the last upgrade.
///
/// # Errors
/// When helm refuses, with what it said.
pub fn rollback(cluster: &Cluster) -> Result<()> {
    cluster.helm(&["rollback", "carrick", "--namespace", NAMESPACE]).map(drop)
}

/// Removes the release; the hook takes Carrick off the nodes first.
///
/// # Errors
/// When helm or the hook fails.
pub fn uninstall(cluster: &Cluster) -> Result<()> {
    let arguments = ["uninstall", "carrick", "--namespace", NAMESPACE, "--wait"];
    cluster.helm(&arguments).map(drop)
}

/// Runs the `carrick` command as the cluster's administrator.
///
/// # Errors
/// When it ends with an error, with what it said.
pub fn command(cluster: &Cluster, arguments: &[&str]) -> Result<String> {
    run(cluster.command(carrick_program()?)?.args(arguments))
}

/// The `ClusterPeering` that this cluster offers to others, as soon as it is complete: with an endpoint.
///
/// # Errors
/// When there is none after a minute.
pub fn invitation(cluster: &Cluster) -> Result<String> {
    let name = &cluster.plan().name;
    wait_until(IDENTITY, &format!("an invitation of {name} with an endpoint"), || {
        let identity = cluster.kubectl_json(&["get", "clusteridentity", "self"]);
        let identity = identity.map_err(|error| error.to_string())?;
        match identity["status"]["clusterPeering"]["spec"]["endpoints"].as_array() {
            Some(endpoints) if !endpoints.is_empty() => Ok(()),
            _ => Err(format!("status is {}", identity["status"])),
        }
    })?;
    command(cluster, &["invite"])
}

/// Applies each cluster's invitation in the other and gives the time of the second.
///
/// # Errors
/// When an invitation is missing or refused.
pub fn peer(one: &Cluster, other: &Cluster) -> Result<Instant> {
    one.apply(&invitation(other)?)?;
    let yaml = invitation(one)?;
    let start = Instant::now();
    other.apply(&yaml)?;
    Ok(start)
}

/// Waits until the ClusterPeering for `peer` has `status` for `condition`.
///
/// # Errors
/// When it has not after `limit`; says what the condition was last.
pub fn wait_condition(
    cluster: &Cluster,
    peer: &str,
    condition: &str,
    status: &str,
    limit: Duration,
) -> Result<()> {
    let what = format!("{condition}={status} of ClusterPeering {peer} in {}", cluster.plan().name);
    wait_until(limit, &what, || {
        let now = conditions(cluster, peer).map_err(|error| error.to_string())?;
        let found = now.iter().find(|c| c["type"] == condition);
        match found {
            Some(found) if found["status"] == status => Ok(()),
            Some(found) => Err(found.to_string()),
            None => Err(format!("no such condition among {now:?}")),
        }
    })
}

/// The conditions of the ClusterPeering for `peer`.
///
/// # Errors
/// When it isn't there.
pub fn conditions(cluster: &Cluster, peer: &str) -> Result<Vec<Value>> {
    let object = cluster.kubectl_json(&["get", "clusterpeering", peer])?;
    object["status"]["conditions"].as_array().cloned().ok_or_else(|| Error::Format {
        what: format!("ClusterPeering {peer}"),
        reason: "it has no conditions yet".to_owned(),
    })
}
