//! The chart: what it refuses, which rights it gives, and that it brings everything up.

use std::time::Instant;

use carrick_e2e::cluster::Cluster;
use carrick_e2e::wait::wait_until;
use carrick_e2e::{Lab, carrick};

use crate::common::{SOON, check, clusters, figure, installed, text};
use crate::world::{Case, Outcome};

/// All cases, in order.
pub const CASES: &[(&str, Case)] = &[
    ("install::the_chart_passes_lint", the_chart_passes_lint),
    ("install::bad_values_are_refused_by_name", bad_values_are_refused),
    ("install::rights_are_those_of_the_golden_file", rights_are_golden),
    ("install::carrick_comes_up", carrick_comes_up),
    ("install::gateways_and_agents_have_no_rights", members_have_no_rights),
    ("install::an_identity_appears_with_an_offer", an_identity_appears),
    ("install::without_peers_nothing_is_wrong", without_peers_nothing_is_wrong),
];

/// Renders the chart with these values.
fn render(cluster: &Cluster, values: &[&str], more: &[&str]) -> Result<String, String> {
    let chart = carrick::chart();
    let chart = chart.to_string_lossy();
    let mut arguments = vec!["template", "carrick", &chart, "--namespace", carrick::NAMESPACE];
    for value in values {
        arguments.extend(["--set", value]);
    }
    text(cluster.helm(&[&arguments, more].concat()))
}

fn the_chart_passes_lint(lab: &Lab) -> Outcome {
    let (paris, _) = clusters(lab)?;
    let chart = carrick::chart();
    let lint = ["lint", "--strict", &chart.to_string_lossy(), "--set", "clusterID=paris"];
    text(paris.helm(&lint)).map(drop)
}

fn bad_values_are_refused(lab: &Lab) -> Outcome {
    let (paris, _) = clusters(lab)?;
    render(&paris, &["clusterID=paris"], &[])?;
    let cases = [
        ("gateway.replicas=many", "gateway/replicas"),
        ("gateway.replicas=0", "gateway/replicas"),
        ("gateway.basePort=80", "gateway/basePort"),
        ("gateway.offloads.deviceTcp=many", "gateway/offloads/deviceTcp"),
        ("gateway.offloads.tso=false", "tso"),
        ("gateway.service.type=Magic", "gateway/service/type"),
        ("tunnel.mtu=100", "tunnel/mtu"),
        ("podRanges={10.1.0.0}", "podRanges/0"),
        ("podRanges={0.0.0.0/0}", "podRanges/0"),
        ("meshPrefix=240.0.0.0/8", "meshPrefix"),
        ("vxlan.vni=0", "vxlan/vni"),
        ("gatway.replicas=2", "gatway"),
        ("services.installCRDs=maybe", "services/installCRDs"),
        ("clusterID=Paris", "clusterID"),
    ];
    for (value, field) in cases {
        let refusal = match render(&paris, &["clusterID=paris", value], &[]) {
            Err(refusal) => refusal.replace('.', "/"),
            Ok(_) => return Err(format!("--set {value} was taken")),
        };
        check(refusal.contains(field), || {
            format!("--set {value} does not name {field}: {refusal}")
        })?;
    }
    let refusal = render(&paris, &[], &[]).err().unwrap_or_default();
    check(refusal.contains("clusterID"), || format!("without clusterID: {refusal:?}"))
}

fn rights_are_golden(lab: &Lab) -> Outcome {
    let (paris, _) = clusters(lab)?;
    let only = ["--show-only", "templates/controller/rbac.yaml"];
    let values = ["clusterID=paris", "services.enabled=true"];
    let rendered = render(&paris, &values, &only)?;
    let path = carrick::chart().join("tests/rbac.golden.yaml");
    let golden = text(std::fs::read_to_string(&path))?;
    let content = golden.find("---").map_or("", |at| &golden[at..]);
    check(rendered.trim() == content.trim(), || {
        format!("the chart's rights are not those of {}; they are:\n{rendered}", path.display())
    })?;
    // Who shares no services gives no rights for it.
    let without = render(&paris, &["clusterID=paris", "services.enabled=false"], &only)?;
    check(!without.contains("multicluster.x-k8s.io"), || without)
}

fn carrick_comes_up(lab: &Lab) -> Outcome {
    let start = Instant::now();
    let (paris, osaka) = installed(lab)?;
    figure(&format!("both clusters have Carrick after {:.1} s", start.elapsed().as_secs_f64()));
    for cluster in [&paris, &osaka] {
        let list = ["get", "pods", "--namespace", carrick::NAMESPACE];
        let pods = text(cluster.kubectl_json(&list))?;
        let pods = pods["items"].as_array().cloned().unwrap_or_default();
        let expected = 2 + 1 + cluster.plan().nodes.len();
        check(pods.len() == expected, || format!("{} pods instead of {expected}", pods.len()))?;
    }
    Ok(())
}

/// Every right that a service account has, a line each.
fn rights(cluster: &Cluster, namespace: &str, account: &str) -> Result<Vec<String>, String> {
    let who = format!("--as=system:serviceaccount:{namespace}:{account}");
    let list = ["auth", "can-i", "--list", "--no-headers", "--namespace", carrick::NAMESPACE, &who];
    let said = text(cluster.kubectl(&list))?;
    let mut lines: Vec<String> = said.lines().map(str::to_owned).collect();
    lines.sort();
    Ok(lines)
}

fn members_have_no_rights(lab: &Lab) -> Outcome {
    let (paris, _) = installed(lab)?;
    let nobody = rights(&paris, "default", "default")?;
    for account in ["carrick-gateway", "carrick-agent"] {
        let has = rights(&paris, carrick::NAMESPACE, account)?;
        check(has == nobody, || format!("{account} may {has:?}, anybody may {nobody:?}"))?;
    }
    // So that the comparison is none of two empty answers.
    let controller = rights(&paris, carrick::NAMESPACE, "carrick-controller")?;
    check(controller.len() > nobody.len(), || format!("the controller may {controller:?} only"))
}

fn an_identity_appears(lab: &Lab) -> Outcome {
    let (paris, osaka) = installed(lab)?;
    let mut keys = Vec::new();
    for cluster in [&paris, &osaka] {
        let offer = text(carrick::invitation(cluster))?;
        let name = &cluster.plan().name;
        let id = format!("clusterID: {name}");
        check(offer.contains(&id), || format!("no {id:?} in {offer}"))?;
        let range = cluster.plan().pods.to_string();
        let identity = text(cluster.kubectl_json(&["get", "clusteridentity", "self"]))?;
        let status = &identity["status"];
        let found = status["podRanges"].to_string();
        // The smallest prefix that holds the nodes' ranges lies in the cluster's.
        let inside = status["podRanges"].as_array().into_iter().flatten().all(|found| {
            let found = found.as_str().and_then(|found| found.parse::<ipnet::Ipv4Net>().ok());
            found.is_some_and(|found| cluster.plan().pods.contains(&found))
        });
        check(inside, || format!("pod ranges of {name} are {found}, not inside {range}"))?;
        keys.push(status["identities"].to_string());
    }
    check(keys[0] != keys[1], || format!("both clusters have the key {}", keys[0]))
}

fn without_peers_nothing_is_wrong(lab: &Lab) -> Outcome {
    let (paris, osaka) = installed(lab)?;
    for cluster in [&paris, &osaka] {
        text(wait_until(SOON, "a check that finds nothing", || {
            text(carrick::command(cluster, &["check"]))
        }))?;
    }
    Ok(())
}
