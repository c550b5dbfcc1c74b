//! Which clusters serve an imported service: those that packets reach, and of them those that its policy wants.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use carrick_e2e::Lab;
use carrick_e2e::cluster::Cluster;
use carrick_e2e::wait::wait_until;

use super::{
    PROBES, SOON, consent, export, fetch, gone, imported, object, service, sharing, slices,
    unexported, wait_condition,
};
use crate::common::{Fault, check, cut_apart, figure, join_again, node_names, rolled_out, text};
use crate::kill::api_answers;
use crate::quiet::settled;
use crate::world::{Case, Outcome};

/// All cases, in order.
pub const CASES: &[(&str, Case)] = &[
    ("services::a_lost_cluster_leaves_the_slices_and_returns", a_lost_cluster_leaves),
    ("services::a_policy_says_which_clusters_serve", a_policy_chooses),
];

/// A lost cluster is out of the slices within that: a second is promised, and kubectl takes its time as well.
const OUT: Duration = Duration::from_secs(2);

/// Until a cluster that is reached again serves.
pub const BACK: Duration = Duration::from_secs(60);

/// The label that says of which cluster a slice is.
pub const SOURCE: &str = "multicluster.kubernetes.io/source-cluster";

/// For so long a cluster whose API server is away has to stay.
const STAYS: Duration = Duration::from_secs(12);

/// Both clusters export `hello` to each other.
pub fn both_export(lab: &Lab, policy: &str) -> Result<(Cluster, Cluster), String> {
    let (paris, osaka) = sharing(lab)?;
    consent(&paris, &osaka)?;
    let export = format!(
        "apiVersion: multicluster.x-k8s.io/v1beta1\nkind: ServiceExport\n\
         metadata: {{name: hello, namespace: default, annotations: {{carrick.dev/service-policy: {policy:?}}}}}\n"
    );
    for cluster in [&paris, &osaka] {
        text(cluster.apply(&format!("{}---\n{export}", service("hello", PROBES))))?;
    }
    for cluster in [&paris, &osaka] {
        let accepted = ["carrick.dev/PolicyAccepted", "True", "Accepted"];
        wait_condition(cluster, "serviceexport", "hello", accepted)?;
    }
    Ok((paris, osaka))
}

/// Says by which policy this cluster wants its import to be served.
pub fn wish(cluster: &Cluster, policy: &str) -> Outcome {
    let note = format!("carrick.dev/service-policy={policy}");
    text(cluster.kubectl(&["annotate", "serviceimport", "hello", "--overwrite", &note])).map(drop)
}

/// The clusters whose pods are in the slices of an import in `default`.
fn sources(cluster: &Cluster, name: &str) -> Result<BTreeSet<String>, String> {
    Ok(sources_of(&slices(cluster, name)?))
}

/// The clusters that slices of an import are from.
pub fn sources_of(slices: &[serde_json::Value]) -> BTreeSet<String> {
    let source = |slice: &serde_json::Value| {
        slice["metadata"]["labels"][SOURCE].as_str().unwrap_or_default().to_owned()
    };
    slices.iter().map(source).collect()
}

/// Waits until these clusters serve, and gives how long that took.
pub fn served_by(
    cluster: &Cluster,
    name: &str,
    wanted: &[&str],
    limit: Duration,
) -> Result<Duration, String> {
    let start = Instant::now();
    let what = format!("slices of {wanted:?} in {}", cluster.plan().name);
    text(wait_until(limit, &what, || {
        let found = sources(cluster, name)?;
        check(found.iter().map(String::as_str).eq(wanted.iter().copied()), || format!("{found:?}"))
    }))?;
    Ok(start.elapsed())
}

/// All connections by the service's address end in `server`'s pods, from every node.
fn all_served(cluster: &Cluster, address: &str, server: &str) -> Outcome {
    for node in node_names(cluster) {
        for _ in 0..5 {
            // kube-proxy follows the slices a moment later.
            let page = text(wait_until(SOON, &format!("a page of {server}"), || {
                let page = fetch(cluster, &node, address)?;
                let right = page.server.starts_with(&format!("probe-{server}"));
                check(right, || page.server.clone()).map(|()| page)
            }))?;
            drop(page);
        }
    }
    Ok(())
}

fn a_lost_cluster_leaves(lab: &Lab) -> Outcome {
    let (paris, osaka) = both_export(lab, "Balanced")?;
    text(osaka.apply(&format!("{}---\n{}", service("alone", PROBES), export("alone"))))?;
    let (_, address) = imported(&paris, "hello")?;
    served_by(&paris, "hello", &["osaka", "paris"], SOON)?;
    served_by(&paris, "alone", &["osaka"], SOON)?;
    let restore = || join_again(lab);
    cut_apart(lab)?;
    let fault = Fault(&restore);
    let out = served_by(&paris, "hello", &["paris"], SOON)?;
    served_by(&paris, "alone", &[], SOON)?;
    figure(&format!("a lost cluster is out of the slices after {} ms", out.as_millis()));
    check(out <= OUT, || format!("only after {out:?}"))?;
    all_served(&paris, &address, "paris")?;
    drop(fault);
    let resort = served_by(&paris, "alone", &["osaka"], BACK)?;
    let found = sources(&paris, "hello")?;
    check(!found.contains("osaka"), || "it is trusted at once where others serve".to_owned())?;
    let back = resort + served_by(&paris, "hello", &["osaka", "paris"], BACK)?;
    figure(&format!(
        "after its return it serves alone after {:.1} s, and beside others after {:.1} s",
        resort.as_secs_f64(),
        back.as_secs_f64()
    ));
    text(osaka.kubectl(&["delete", "serviceexport/alone", "service/alone"]))?;
    gone(&paris, "alone")?;

    // While the other API server is away its pods go on serving.
    let api = osaka.control_plane_process("kube-apiserver");
    let start = || text(api.start());
    // Not told to end: it would take itself out of what kube-proxy knows, which looks again late.
    text(api.kill())?;
    let fault = Fault(&start);
    let until = Instant::now() + STAYS;
    while Instant::now() < until {
        let found = sources(&paris, "hello")?;
        check(found.contains("osaka"), || format!("{found:?}"))?;
    }
    drop(fault);
    api_answers(&osaka)?;
    rolled_out(&osaka)?;
    text(wait_until(BACK, "a controller", || settled(&osaka)))?;
    unexported(&[&paris, &osaka], &paris, &osaka)
}

fn a_policy_chooses(lab: &Lab) -> Outcome {
    let (paris, osaka) = both_export(lab, "PreferLocal")?;
    let (_, address) = imported(&paris, "hello")?;
    served_by(&paris, "hello", &["paris"], SOON)?;
    served_by(&osaka, "hello", &["osaka"], SOON)?;
    all_served(&paris, &address, "paris")?;
    // Without a pod of its own the other one serves.
    let select = |app: &str| {
        let patch = format!(r#"{{"spec":{{"selector":{{"app":"{app}"}}}}}}"#);
        text(paris.kubectl(&["patch", "service", "hello", "--type=merge", "--patch", &patch]))
    };
    select("nobody")?;
    served_by(&paris, "hello", &["osaka"], SOON)?;
    all_served(&paris, &address, "osaka")?;
    select("probe")?;
    served_by(&paris, "hello", &["paris"], SOON)?;

    // What this cluster wants counts more than what the exports want.
    wish(&paris, "Failover: osaka, paris")?;
    served_by(&paris, "hello", &["osaka"], SOON)?;
    served_by(&osaka, "hello", &["osaka"], SOON)?;
    let wan = lab.wan();
    let restore = || text(wan.restore("paris", "osaka"));
    text(wan.cut("paris", "osaka"))?;
    let fault = Fault(&restore);
    let over = served_by(&paris, "hello", &["paris"], SOON)?;
    figure(&format!("the next in order serves after {} ms", over.as_millis()));
    all_served(&paris, &address, "paris")?;
    drop(fault);
    served_by(&paris, "hello", &["osaka"], BACK)?;
    // It outlasts a change of the import.
    let labels = r#"{"spec":{"exportedLabels":{"team":"b"}}}"#;
    for cluster in [&paris, &osaka] {
        let patch = ["patch", "serviceexport", "hello", "--type=merge", "--patch", labels];
        text(cluster.kubectl(&patch))?;
    }
    text(wait_until(SOON, "the label on the import", || {
        let import = object(&paris, "serviceimport", "hello")?;
        let metadata = &import["metadata"];
        check(metadata["labels"]["team"] == "b", || metadata["labels"].to_string())?;
        let kept = &metadata["annotations"]["carrick.dev/service-policy"];
        check(*kept == "Failover: osaka, paris", || kept.to_string())
    }))?;
    wish(&paris, "Nearest")?;
    let refused = ["carrick.dev/PolicyAccepted", "False", "InvalidPolicy"];
    wait_condition(&paris, "serviceimport", "hello", refused)?;
    served_by(&paris, "hello", &["osaka", "paris"], SOON)?;
    unexported(&[&paris, &osaka], &paris, &osaka)
}
