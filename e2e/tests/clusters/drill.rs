//! Failover drills, by `carrick drill` as a person runs them, and checked by an independent stream.

use std::collections::BTreeSet;
use std::time::Duration;

use carrick_e2e::cluster::Cluster;
use carrick_e2e::image::carrick_program;
use carrick_e2e::wait::wait_until;
use carrick_e2e::{Lab, carrick};
use serde_json::Value;

use crate::common::{
    SOON, check, figure, node_names, peered, pod_network, ready, rolled_out, target, text,
};
use crate::flow::{Flow, Record};
use crate::world::{Case, Outcome};

/// All cases, in order.
pub const CASES: &[(&str, Case)] = &[
    ("drill::without_the_peers_consent_it_is_refused", refused),
    ("drill::a_partition_is_measured_as_others_measure_it", partition),
];

/// How exactly a drill must agree with others on a gap.
const EXACT: Duration = Duration::from_millis(50);

/// Lets osaka consent to paris' drills, or not.
fn consent((paris, osaka): (&Cluster, &Cluster), word: &str) -> Outcome {
    let offer = text(carrick::invitation(paris))?;
    let other = if word == "Allow" { "Deny" } else { "Allow" };
    let offer = offer.replace(&format!("drills: {other}"), &format!("drills: {word}"));
    check(offer.contains(&format!("drills: {word}")), || format!("no drills in {offer}"))?;
    text(osaka.apply(&offer)).map(drop)
}

/// Both clusters peered; osaka consents, and paris knows.
fn willing(lab: &Lab) -> Result<(Cluster, Cluster), String> {
    let (paris, osaka) = peered(lab)?;
    consent((&paris, &osaka), "Allow")?;
    ready(&paris, &osaka)?;
    // The controller's pause after the drill before is not what these cases are about.
    let wanted = "--drill-cool-down-seconds=0";
    let deployment = ["get", "deployment/carrick-controller", "--namespace", carrick::NAMESPACE];
    let object = text(paris.kubectl_json(&deployment))?;
    if !object.to_string().contains(wanted) {
        upgrade(lab, (&paris, &osaka), 1)?;
    }
    Ok((paris, osaka))
}

/// Gives paris so many gateways, and no pause between drills.
fn upgrade(lab: &Lab, (paris, osaka): (&Cluster, &Cluster), gateways: usize) -> Outcome {
    let replicas = format!("gateway.replicas={gateways}");
    let values = ["drills.coolDownSeconds=0", &replicas];
    text(carrick::upgrade(paris, &text(lab.image_tag())?, &values))?;
    rolled_out(paris)?;
    ready(paris, osaka)?;
    text(wait_until(2 * SOON, "tunnels of all gateways", || {
        let object = text(paris.kubectl_json(&["get", "clusterpeering", "osaka"]))?;
        let tunnels = object["status"]["tunnels"].as_array().cloned().unwrap_or_default();
        let here: BTreeSet<&str> = tunnels.iter().filter_map(|t| t["gateway"].as_str()).collect();
        check(here.len() == gateways, || format!("{here:?}"))
    }))
}

/// Runs `carrick drill run` with these flags: its exit code and the object in the end.
fn drill(paris: &Cluster, name: &str, flags: &[&str]) -> Result<(i32, Value), String> {
    let _gone = paris.kubectl(&["delete", "failoverdrill", name, "--ignore-not-found"]);
    let mut command = text(paris.command(text(carrick_program())?))?;
    command.args(["drill", "run", "--peering=osaka", "--output=json", "--name", name]);
    let done = text(command.args(flags).output())?;
    let (said, complained) =
        (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    let object = serde_json::from_str(&said).map_err(|e| format!("{e}: {said} {complained}"))?;
    Ok((done.status.code().unwrap_or(-1), object))
}

/// The same under an independent stream between pods.
fn measured(
    (paris, osaka): (&Cluster, &Cluster),
    name: &str,
    flags: &[&str],
) -> Result<(i32, Value, Record), String> {
    let (one, other) = (node_names(paris).pop(), node_names(osaka).pop());
    let (one, other) = (one.unwrap_or_default(), other.unwrap_or_default());
    let flow = Flow::start(&pod_network(paris, &one)?, target(osaka, &other, 2)?)?;
    let (code, object) = drill(paris, name, flags)?;
    let record = flow.stop();
    figure(&format!("{name}: {}; independently: {}", brief(&object), record.summary()));
    Ok((code, object, record))
}

fn brief(object: &Value) -> String {
    let status = &object["status"];
    format!(
        "{} ({}), {} % lost, recovery {} ms",
        status["verdict"], status["reasons"], status["lossPercent"], status["recoveryMilliseconds"]
    )
}

fn refused(lab: &Lab) -> Outcome {
    let (paris, osaka) = peered(lab)?;
    consent((&paris, &osaka), "Deny")?;
    ready(&paris, &osaka)?;
    let flags = ["--fault=partition", "--allow-outage", "--duration=2", "--max-loss=90"];
    let (code, object) = drill(&paris, "refused", &flags)?;
    let said = brief(&object);
    check(code == 2 && said.contains("Refused") && said.contains("does not allow drills"), || {
        format!("ended with {code}: {said}")
    })
}

fn partition(lab: &Lab) -> Outcome {
    let (paris, osaka) = willing(lab)?;
    let flags = [
        "--fault=partition",
        "--allow-outage",
        "--duration=2",
        "--max-recovery=4000",
        "--connections-survive",
    ];
    let (code, object, record) = measured((&paris, &osaka), "partition", &flags)?;
    check(code == 0, || format!("ended with {code}: {}", brief(&object)))?;
    let found = object["status"]["recoveryMilliseconds"].as_u64().unwrap_or_default();
    let off = record.longest_gap().abs_diff(Duration::from_millis(found));
    check(off <= EXACT, || {
        format!("the drill says {found} ms, the stream {:?}", record.longest_gap())
    })?;
    let news = ["get", "events", "--all-namespaces", "--field-selector=reason=PeerDrillBegan"];
    text(wait_until(SOON, "an Event in osaka", || {
        let list = text(osaka.kubectl_json(&news))?;
        let count = list["items"].as_array().map_or(0, Vec::len);
        check(count > 0, || list.to_string())
    }))?;
    let report = carrick::command(&paris, &["drill", "report", "partition"]);
    let report = text(report)?;
    check(report.contains("<svg") && report.contains("verdict Passed"), || report)
}
