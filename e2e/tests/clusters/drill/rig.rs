//! Two clusters that may drill, and drills as people run them.

use std::collections::BTreeSet;

use carrick_e2e::cluster::Cluster;
use carrick_e2e::image::carrick_program;
use carrick_e2e::wait::wait_until;
use carrick_e2e::{Lab, carrick};
use serde_json::Value;

use crate::common::{GATEWAYS, SOON, check, peered, ready, rolled_out, text};
use crate::failover::both_used;
use crate::world::Outcome;

/// Lets osaka consent to paris' drills, or not.
pub fn consent((paris, osaka): (&Cluster, &Cluster), word: &str) -> Outcome {
    let offer = text(carrick::invitation(paris))?;
    let other = if word == "Allow" { "Deny" } else { "Allow" };
    let offer = offer.replace(&format!("drills: {other}"), &format!("drills: {word}"));
    check(offer.contains(&format!("drills: {word}")), || format!("no drills in {offer}"))?;
    text(osaka.apply(&offer)).map(drop)
}

/// Both clusters peered; osaka consents, and paris has so many gateways and makes no pause between drills.
pub fn willing(lab: &Lab, gateways: usize) -> Result<(Cluster, Cluster), String> {
    let (paris, osaka) = peered(lab)?;
    consent((&paris, &osaka), "Allow")?;
    ready(&paris, &osaka)?;
    let get = |what| text(paris.kubectl_json(&["get", what, "--namespace", carrick::NAMESPACE]));
    let hurried = get("deployment/carrick-controller")?;
    let hurried = hurried.to_string().contains("--drill-cool-down-seconds=0");
    let replicas = &get(GATEWAYS)?["spec"]["replicas"];
    if !hurried || *replicas != gateways {
        upgrade(lab, (&paris, &osaka), gateways)?;
    }
    Ok((paris, osaka))
}

/// Gives paris so many gateways, and no pause between drills.
pub fn upgrade(lab: &Lab, (paris, osaka): (&Cluster, &Cluster), gateways: usize) -> Outcome {
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
    }))?;
    if gateways > 1 { both_used(lab, paris) } else { Ok(()) }
}

/// Runs `carrick drill run` with these flags: its exit code and the object in the end.
pub fn run(paris: &Cluster, name: &str, flags: &[&str]) -> Result<(i32, Value), String> {
    remove(paris, name);
    let mut command = text(paris.command(text(carrick_program())?))?;
    command.args(["drill", "run", "--peering=osaka", "--output=json", "--name", name]);
    let done = text(command.args(flags).output())?;
    let (said, complained) =
        (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    let object = serde_json::from_str(&said).map_err(|e| format!("{e}: {said} {complained}"))?;
    Ok((done.status.code().unwrap_or(-1), object))
}

/// Makes a drill by `kubectl apply`; what the API server said when it refuses. `spec` is one of YAML's `{…}`.
pub fn apply(paris: &Cluster, name: &str, spec: &str) -> Outcome {
    remove(paris, name);
    let yaml = format!(
        "apiVersion: carrick.dev/v1alpha1\nkind: FailoverDrill\nmetadata: {{name: {name}}}\nspec: {spec}\n"
    );
    text(paris.apply(&yaml)).map(drop)
}

/// Deletes a drill, if there is one.
pub fn remove(paris: &Cluster, name: &str) {
    let _gone = paris.kubectl(&["delete", "failoverdrill", name, "--ignore-not-found"]);
}

/// Waits until something holds of a drill's status.
pub fn until(
    paris: &Cluster,
    name: &str,
    what: &str,
    holds: impl Fn(&Value) -> bool,
) -> Result<Value, String> {
    text(wait_until(2 * SOON, what, || {
        let object = text(paris.kubectl_json(&["get", "failoverdrill", name]))?;
        if holds(&object["status"]) { Ok(object) } else { Err(object["status"].to_string()) }
    }))
}

/// What a drill found, in a line.
pub fn brief(object: &Value) -> String {
    let status = &object["status"];
    format!(
        "{} ({}), {} % lost, recovery {} ms",
        status["verdict"], status["reasons"], status["lossPercent"], status["recoveryMilliseconds"]
    )
}
