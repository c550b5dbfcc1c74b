//! Test pods: `carrick-probe` on each node, as web server and as client.

use std::net::IpAddr;

use serde_json::Value;

use crate::cluster::Cluster;
use crate::{Error, Result};

/// The port of the pods' web server. TCP echo is on the next one, UDP echo on the one after.
pub const PORT: u16 = 8080;

/// Starts one pod a node, `probe-NODE` in namespace `default`, and a NodePort Service over them, and
/// waits until they are Ready.
///
/// # Errors
/// When the API server refuses, or a pod isn't Ready after a minute.
pub fn start(cluster: &Cluster, tag: &str) -> Result<()> {
    let pods = cluster.plan().nodes.iter().map(|node| {
        format!(
            "apiVersion: v1\nkind: Pod\n\
             metadata: {{name: probe-{0}, namespace: default, labels: {{app: probe}}}}\n\
             spec:\n  nodeSelector: {{kubernetes.io/hostname: {0}}}\n  \
             tolerations: [{{operator: Exists}}]\n  terminationGracePeriodSeconds: 0\n  \
             containers: [{{name: probe, image: \"carrick-probe:{tag}\", args: [serve]}}]\n---\n",
            node.name
        )
    });
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: probe, namespace: default}\n\
        spec:\n  type: NodePort\n  selector: {app: probe}\n  \
        ports: [{port: 8080, nodePort: 30080}]\n";
    cluster.apply(&pods.chain([service.to_owned()]).collect::<String>())?;
    let ready = ["wait", "--for=condition=Ready", "--timeout=60s", "pods", "--selector=app=probe"];
    cluster.kubectl(&ready).map(drop)
}

/// The address of the pod on `node`.
///
/// # Errors
/// When the pod is missing or has no address yet.
pub fn address(cluster: &Cluster, node: &str) -> Result<IpAddr> {
    let pod = cluster.kubectl_json(&["get", "pod", &format!("probe-{node}")])?;
    let text = pod["status"]["podIP"].as_str().unwrap_or_default();
    text.parse().map_err(|_| Error::Format {
        what: format!("the address of pod probe-{node}"),
        reason: format!("{text:?} is no address"),
    })
}

/// Runs a task of `carrick-probe` in the pod on `node`.
///
/// # Errors
/// When the task fails, with what it said.
pub fn run(cluster: &Cluster, node: &str, arguments: &[&str]) -> Result<String> {
    let pod = format!("probe-{node}");
    cluster.kubectl(&[&["exec", &pod, "--", "/carrick-probe"], arguments].concat())
}

/// What a server told its client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The address that the server saw the client at.
    pub client: String,
    /// The pod that served.
    pub server: String,
}

/// Fetches the page of the pod at `target` from the pod on `node`.
///
/// # Errors
/// When nothing answers within `timeout_ms`.
pub fn fetch(cluster: &Cluster, node: &str, target: IpAddr, timeout_ms: u32) -> Result<Page> {
    let (target, timeout) = (format!("{target}:{PORT}"), timeout_ms.to_string());
    page(&run(cluster, node, &["fetch", &target, "--timeout-ms", &timeout])?)
}

/// The page that the task `fetch` printed.
///
/// # Errors
/// When it isn't one.
pub fn page(said: &str) -> Result<Page> {
    let value: Value = serde_json::from_str(said)
        .map_err(|e| Error::Format { what: "the page".into(), reason: format!("{e}: {said:?}") })?;
    let field = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
    Ok(Page { client: field("client"), server: field("server") })
}
