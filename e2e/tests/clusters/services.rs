//! Services across clusters (KEP-1645): what is exported is there to be used, and goes with its last export.

use std::time::{Duration, Instant};

use carrick_e2e::cluster::Cluster;
use carrick_e2e::wait::wait_until;
use carrick_e2e::{Lab, carrick, probes};
use serde_json::Value;

use crate::common::{
    ONE_GATEWAY, change_peering, check, figure, node_names, peered, restart, rolled_out, text,
};
use crate::world::{Case, Outcome};

pub mod endpoints;
mod figures;
pub mod follow;
pub mod knock;
pub mod lost;
pub mod names;
pub mod policy;
pub mod refused;
pub mod remains;
pub mod sctp;

/// All cases, in order.
pub const CASES: &[(&str, Case)] = &[
    ("services::an_exported_service_has_a_clusterset_address", an_export_has_an_address),
    ("services::a_service_of_another_cluster_is_used_by_its_address", another_clusters_service),
    ("services::what_others_change_or_delete_is_restored", what_others_change_is_restored),
    ("services::what_is_in_the_way_is_left_alone", what_is_in_the_way_stays),
    ("services::what_cannot_be_exported_says_so", what_cannot_be_exported_says_so),
];

/// How long an import, a condition or a deletion may take.
pub const SOON: Duration = Duration::from_secs(20);

/// Where the cases have their Services.
const DEFAULT: &str = "default";

/// A namespace with a Service of the test pods' kind, as the suite's own are in `default`.
const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: hello, namespace: default}\n\
    spec:\n  selector: {app: probe}\n  sessionAffinity: ClientIP\n  \
    sessionAffinityConfig: {clientIP: {timeoutSeconds: 10}}\n  ports:\n  \
    - {name: web, port: 80, targetPort: 8080, appProtocol: http}\n  \
    - {name: echo, port: 82, targetPort: 8082, protocol: UDP}\n";

/// The spec of a Service with the test pods behind it, as YAML.
pub const PROBES: &str =
    "{selector: {app: probe}, ports: [{name: web, port: 80, targetPort: 8080}]}";

pub fn service(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: default}}\nspec: {spec}\n"
    )
}

pub fn export(name: &str) -> String {
    format!(
        "apiVersion: multicluster.x-k8s.io/v1beta1\nkind: ServiceExport\n\
         metadata: {{name: {name}, namespace: default}}\n\
         spec: {{exportedLabels: {{team: a}}, exportedAnnotations: {{note: b}}}}\n"
    )
}

/// Both clusters, peered, with services shared, and nothing exported.
pub fn sharing(lab: &Lab) -> Result<(Cluster, Cluster), String> {
    let (paris, osaka) = peered(lab)?;
    share(lab, &[&paris, &osaka])?;
    Ok((paris, osaka))
}

/// Has clusters share services, and nothing exported.
pub fn share(lab: &Lab, clusters: &[&Cluster]) -> Outcome {
    let tag = text(lab.image_tag())?;
    for cluster in clusters {
        text(carrick::upgrade(cluster, &tag, &[ONE_GATEWAY, "services.enabled=true"]))?;
    }
    for cluster in clusters {
        rolled_out(cluster)?;
        for kind in ["serviceexports", "serviceimports"] {
            text(cluster.kubectl(&["delete", kind, "--all", "--ignore-not-found"]))?;
        }
        let delete = ["delete", "services", "--ignore-not-found", "hello", "nothing", "outside"];
        text(cluster.kubectl(&delete))?;
    }
    Ok(())
}

/// Waits until whatever is made next is younger than this object: the API knows seconds.
pub fn is_older(object: &Value) -> Outcome {
    let made = object["metadata"]["creationTimestamp"].as_str().unwrap_or_default();
    let made: jiff::Timestamp = text(made.parse())?;
    text(wait_until(SOON, "the next second", || {
        let now = jiff::Timestamp::now();
        check(now.as_second() > made.as_second(), || format!("{now}, and {made}"))
    }))
}

/// An object of a kind in `default`; null when it is not there.
fn object(cluster: &Cluster, kind: &str, name: &str) -> Result<Value, String> {
    object_in(cluster, DEFAULT, kind, name)
}

/// An object of a kind in a namespace; null when it is not there.
pub fn object_in(cluster: &Cluster, place: &str, kind: &str, name: &str) -> Result<Value, String> {
    let place = format!("--namespace={place}");
    let get = ["get", kind, name, &place, "--ignore-not-found", "--output=json"];
    let said = text(cluster.kubectl(&get))?;
    if said.trim().is_empty() { Ok(Value::Null) } else { text(serde_json::from_str(&said)) }
}

/// The EndpointSlices of an import.
fn slices(cluster: &Cluster, name: &str) -> Result<Vec<Value>, String> {
    of_import(cluster, DEFAULT, "endpointslices", name)
}

/// The objects of a kind that belong to the import of this name in a namespace.
pub fn of_import(
    cluster: &Cluster,
    place: &str,
    kind: &str,
    name: &str,
) -> Result<Vec<Value>, String> {
    let selector = format!("--selector=multicluster.kubernetes.io/service-name={name}");
    let place = format!("--namespace={place}");
    let list = text(cluster.kubectl_json(&["get", kind, &selector, &place]))?;
    Ok(list["items"].as_array().cloned().unwrap_or_default())
}

/// Waits for a condition of a ServiceExport or ServiceImport.
fn wait_condition(cluster: &Cluster, kind: &str, name: &str, wanted: [&str; 3]) -> Outcome {
    wait_condition_in(cluster, [DEFAULT, kind, name], wanted)
}

/// Waits for a condition of a ServiceExport or ServiceImport (namespace, kind and name): type, status, and one of its reasons.
pub fn wait_condition_in(
    cluster: &Cluster,
    [place, kind, name]: [&str; 3],
    [type_, status, reason]: [&str; 3],
) -> Outcome {
    let whose = format!("{kind} {place}/{name} in {}", cluster.plan().name);
    text(wait_until(SOON, &format!("{type_}={status} ({reason}) of {whose}"), || {
        let object = object_in(cluster, place, kind, name)?;
        let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let gives = |held: &Value| {
            let reasons = held["reason"].as_str().unwrap_or_default();
            reasons.split(',').any(|one| one == reason)
        };
        let held = conditions
            .iter()
            .any(|held| held["type"] == type_ && held["status"] == status && gives(held));
        check(held, || format!("{conditions:?}"))
    }))
}

/// The import, once it is ready, and its address.
pub fn imported(cluster: &Cluster, name: &str) -> Result<(Value, String), String> {
    wait_condition(cluster, "serviceimport", name, ["Ready", "True", "Ready"])?;
    let import = object(cluster, "serviceimport", name)?;
    let address = import["spec"]["ips"][0].as_str().unwrap_or_default().to_owned();
    check(!address.is_empty(), || format!("no address in {import}"))?;
    Ok((import, address))
}

/// The derived Service of an import.
fn derived(cluster: &Cluster, name: &str) -> Result<Value, String> {
    Ok(of_import(cluster, DEFAULT, "services", name)?.into_iter().next().unwrap_or_default())
}

/// Waits until nothing of an import is left.
pub fn gone(cluster: &Cluster, name: &str) -> Outcome {
    gone_in(cluster, DEFAULT, name)
}

/// Waits until nothing of an import is left in a namespace.
pub fn gone_in(cluster: &Cluster, place: &str, name: &str) -> Outcome {
    text(wait_until(SOON, &format!("the end of {place}/{name} in {}", cluster.plan().name), || {
        let import = object_in(cluster, place, "serviceimport", name)?;
        let of = |kind| of_import(cluster, place, kind, name);
        let rest = [of("services")?, of("endpointslices")?].concat();
        check(import.is_null() && rest.is_empty(), || format!("{import}, {rest:?}"))
    }))
}

/// Takes back the exports of `hello` in these clusters, and waits until nothing of the import is left.
pub fn unexported(exporters: &[&Cluster], paris: &Cluster, osaka: &Cluster) -> Outcome {
    for cluster in exporters {
        text(cluster.kubectl(&["delete", "serviceexport", "hello"]))?;
    }
    gone(paris, "hello")?;
    gone(osaka, "hello")
}

fn an_export_has_an_address(lab: &Lab) -> Outcome {
    let (paris, _) = sharing(lab)?;
    text(paris.apply(&format!("{SERVICE}---\n{}", export("hello"))))?;
    wait_condition(&paris, "serviceexport", "hello", ["Valid", "True", "Valid"])?;
    wait_condition(&paris, "serviceexport", "hello", ["Ready", "True", "Exported"])?;
    wait_condition(&paris, "serviceexport", "hello", ["Conflict", "False", "NoConflicts"])?;
    let (import, address) = imported(&paris, "hello")?;
    let spec = &import["spec"];
    check(spec["type"] == "ClusterSetIP", || format!("{spec}"))?;
    check(spec["ports"].as_array().is_some_and(|ports| ports.len() == 2), || format!("{spec}"))?;
    let affinity = &spec["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"];
    check(*affinity == 10, || format!("{spec}"))?;
    let metadata = &import["metadata"];
    let carried = metadata["labels"]["team"] == "a" && metadata["annotations"]["note"] == "b";
    check(carried, || format!("{metadata}"))?;
    let clusters = &import["status"]["clusters"];
    check(clusters[0]["cluster"] == "paris", || format!("{clusters}"))?;
    let endpoints = |slices: &[Value]| -> usize {
        slices.iter().filter_map(|slice| slice["endpoints"].as_array()).map(Vec::len).sum()
    };
    let nodes = node_names(&paris);
    text(wait_until(SOON, "slices with both pods", || {
        let slices = slices(&paris, "hello")?;
        let labels = |slice: &Value| slice["metadata"]["labels"].clone();
        let source = slices
            .iter()
            .all(|slice| labels(slice)["multicluster.kubernetes.io/source-cluster"] == "paris");
        check(source && endpoints(&slices) == nodes.len(), || format!("{slices:?}"))
    }))?;
    text(wait_until(SOON, "a page by the clusterset address", || {
        fetch(&paris, &nodes[0], &address).map(drop)
    }))?;
    text(paris.kubectl(&["delete", "serviceexport", "hello"]))?;
    gone(&paris, "hello")
}

/// Lets both clusters share the namespace `default`.
pub fn consent(paris: &Cluster, osaka: &Cluster) -> Outcome {
    let shared = r#"{"spec":{"services":{"export":["default"],"import":["default"]}}}"#;
    change_peering(paris, "osaka", shared)?;
    change_peering(osaka, "paris", shared)
}

fn another_clusters_service(lab: &Lab) -> Outcome {
    let (paris, osaka) = sharing(lab)?;
    // Not exported before somebody agrees, and not even then where the namespace is not named.
    text(osaka.apply(&format!("{SERVICE}---\n{}", export("hello"))))?;
    imported(&osaka, "hello")?;
    consent(&paris, &osaka)?;
    let start = Instant::now();
    let (import, address) = imported(&paris, "hello")?;
    figure(&format!("imported {:.1} s after consent", start.elapsed().as_secs_f64()));
    let clusters = &import["status"]["clusters"];
    check(clusters[0]["cluster"] == "osaka", || format!("{clusters}"))?;
    for node in node_names(&paris) {
        let own = text(probes::address(&paris, &node))?.to_string();
        let page = text(wait_until(SOON, "a page of the other cluster", || {
            fetch(&paris, &node, &address)
        }))?;
        let right = page.server.starts_with("probe-osaka") && page.client == own;
        check(right, || format!("{} served {} as {}", page.server, own, page.client))?;
    }
    let start = Instant::now();
    text(osaka.kubectl(&["delete", "serviceexport", "hello"]))?;
    gone(&paris, "hello")?;
    figure(&format!("gone {:.1} s after its export", start.elapsed().as_secs_f64()));
    // A node's proxy follows the API within a second or so.
    text(wait_until(SOON, &format!("the end of {address}"), || {
        let page = fetch(&paris, &node_names(&paris)[0], &address);
        check(page.is_err(), || format!("{address} still answers"))
    }))
}

/// Fetches a page by a clusterset address from the pod on `node`.
fn fetch(cluster: &Cluster, node: &str, address: &str) -> Result<probes::Page, String> {
    let target = format!("{address}:80");
    let said = text(probes::run(cluster, node, &["fetch", &target, "--timeout-ms", "2000"]))?;
    text(probes::page(&said))
}

fn what_others_change_is_restored(lab: &Lab) -> Outcome {
    let (paris, _) = sharing(lab)?;
    text(paris.apply(&format!("{SERVICE}---\n{}", export("hello"))))?;
    let (_, address) = imported(&paris, "hello")?;
    let name =
        derived(&paris, "hello")?["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let port = r#"{"spec":{"ports":[{"name":"web","port":81},{"name":"more","port":90}]}}"#;
    text(paris.kubectl(&["patch", "service", &name, "--type=merge", "--patch", port]))?;
    let slice = slices(&paris, "hello")?;
    let slice = slice.first().and_then(|slice| slice["metadata"]["name"].as_str());
    text(paris.kubectl(&["delete", "endpointslice", slice.ok_or("no slice")?]))?;
    let type_ = r#"{"spec":{"type":"Headless"}}"#;
    text(paris.kubectl(&["patch", "serviceimport", "hello", "--type=merge", "--patch", type_]))?;
    text(wait_until(SOON, "all as before", || {
        let service = object(&paris, "service", &name)?;
        let ports = service["spec"]["ports"].as_array().cloned().unwrap_or_default();
        let numbers: Vec<_> = ports.iter().map(|port| port["port"].as_u64()).collect();
        check(numbers == [Some(80), Some(82)], || format!("{ports:?}"))?;
        check(!slices(&paris, "hello")?.is_empty(), || "no slice".to_owned())?;
        let import = object(&paris, "serviceimport", "hello")?;
        check(import["spec"]["type"] == "ClusterSetIP", || import["spec"].to_string())
    }))?;
    let (_, after) = imported(&paris, "hello")?;
    check(after == address, || format!("{address} became {after}"))?;
    // A controller that begins anew finds all as it should be.
    restart(&paris, "deployment/carrick-controller")?;
    rolled_out(&paris)?;
    let (_, after) = imported(&paris, "hello")?;
    check(after == address, || format!("{address} became {after} by a restart"))?;
    text(paris.kubectl(&["delete", "serviceexport", "hello"]))?;
    gone(&paris, "hello")
}

fn what_is_in_the_way_stays(lab: &Lab) -> Outcome {
    let (paris, _) = sharing(lab)?;
    let theirs = "apiVersion: multicluster.x-k8s.io/v1beta1\nkind: ServiceImport\n\
        metadata: {name: hello, namespace: default}\nspec: {type: Headless, ports: [{port: 7}]}\n";
    text(paris.apply(theirs))?;
    text(paris.apply(&format!("{SERVICE}---\n{}", export("hello"))))?;
    wait_condition(&paris, "serviceexport", "hello", ["Ready", "False", "Failed"])?;
    let import = object(&paris, "serviceimport", "hello")?;
    check(import["spec"]["ports"][0]["port"] == 7, || format!("{import}"))?;
    check(derived(&paris, "hello")?.is_null(), || "a Service was made for it".to_owned())?;
    text(paris.kubectl(&["delete", "serviceimport", "hello"]))?;
    wait_condition(&paris, "serviceexport", "hello", ["Ready", "True", "Exported"])?;
    imported(&paris, "hello")?;
    text(paris.kubectl(&["delete", "serviceexport", "hello"]))?;
    gone(&paris, "hello")
}

fn what_cannot_be_exported_says_so(lab: &Lab) -> Outcome {
    let (paris, _) = sharing(lab)?;
    let external = "apiVersion: v1\nkind: Service\nmetadata: {name: outside, namespace: default}\n\
        spec: {type: ExternalName, externalName: example.org}\n";
    let exports = [export("outside"), export("nothing")].join("---\n");
    text(paris.apply(&format!("{external}---\n{exports}")))?;
    let invalid = ["Valid", "False", "InvalidServiceType"];
    wait_condition(&paris, "serviceexport", "outside", invalid)?;
    wait_condition(&paris, "serviceexport", "nothing", ["Valid", "False", "NoService"])?;
    for name in ["outside", "nothing"] {
        let import = object(&paris, "serviceimport", name)?;
        check(import.is_null(), || format!("{import}"))?;
    }
    // The Service comes after its export.
    text(paris.apply(&SERVICE.replace("name: hello", "name: nothing")))?;
    wait_condition(&paris, "serviceexport", "nothing", ["Valid", "True", "Valid"])?;
    imported(&paris, "nothing")?;
    text(paris.kubectl(&["delete", "serviceexports", "--all"]))?;
    gone(&paris, "nothing")
}
