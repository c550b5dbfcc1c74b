//! Two ClusterPeerings: how soon they are Ready, and that every pod then reaches every pod.

use std::time::{Duration, Instant};

use carrick_e2e::cluster::Cluster;
use carrick_e2e::{Lab, carrick};
use serde_json::Value;

use crate::common::{
    SOON, both, check, fetches, figure, installed, node_names, peered, pod_network, target, text,
    watches,
};
use crate::flow::Flow;
use crate::world::{Case, Outcome};

/// All cases, in order.
pub const CASES: &[(&str, Case)] = &[
    ("peering::ready_soon_after_the_second_peering", ready_soon),
    ("peering::every_pod_reaches_every_pod_as_itself", every_pod_reaches_every_pod),
    ("peering::status_and_check_say_that_all_is_well", status_and_check),
];

/// The goal.
const GOAL: Duration = Duration::from_secs(3);

/// What even a machine that does much else must keep.
const LIMIT: Duration = Duration::from_secs(10);

/// How often, when the environment does not say.
const RUNS: usize = 5;

/// Deletes both ClusterPeerings and waits until they are gone, and so is the path.
fn part(paris: &Cluster, osaka: &Cluster) -> Outcome {
    for (cluster, peer) in [(paris, "osaka"), (osaka, "paris")] {
        let delete = ["delete", "clusterpeering", peer, "--ignore-not-found", "--wait"];
        text(cluster.kubectl(&delete))?;
    }
    Ok(())
}

fn ready_soon(lab: &Lab) -> Outcome {
    let (paris, osaka) = installed(lab)?;
    let runs = std::env::var("CARRICK_READY_RUNS").ok().and_then(|runs| runs.parse().ok());
    let mut times = Vec::new();
    for _ in 0..runs.unwrap_or(RUNS).max(1) {
        part(&paris, &osaka)?;
        let watches = watches(&paris, &osaka)?;
        let start = text(carrick::peer(&paris, &osaka))?;
        let (took, _) = both(&watches, "True", start, SOON)?;
        // Ready is a promise: the first packet must cross right now.
        let (from, to) = (&node_names(&paris)[1], &node_names(&osaka)[1]);
        let began = Instant::now();
        let flow = Flow::start(&pod_network(&paris, from)?, target(&osaka, to, 2)?)?;
        flow.run_until(began, Duration::from_millis(500));
        let record = flow.stop();
        check(record.lost() == 0, || format!("right after Ready: {}", record.summary()))?;
        times.push(took);
    }
    times.sort_unstable();
    let (median, worst) = (times[times.len() / 2], times[times.len() - 1]);
    figure(&format!(
        "Ready after {:.2} s (median), {:.2} s (worst) of {} runs; the goal is {} s",
        median.as_secs_f64(),
        worst.as_secs_f64(),
        times.len(),
        GOAL.as_secs()
    ));
    check(worst < LIMIT, || format!("it took {worst:?}"))
}

fn every_pod_reaches_every_pod(lab: &Lab) -> Outcome {
    let (paris, osaka) = peered(lab)?;
    for (clients, servers) in [(&paris, &osaka), (&osaka, &paris)] {
        for client in node_names(clients) {
            for server in node_names(servers) {
                fetches((clients, &client), (servers, &server), 2000)?;
            }
        }
    }
    Ok(())
}

fn status_and_check(lab: &Lab) -> Outcome {
    let (paris, osaka) = peered(lab)?;
    for (cluster, peer) in [(&paris, "osaka"), (&osaka, "paris")] {
        let table = text(carrick::command(cluster, &["status"]))?;
        check(table.contains(peer), || format!("no {peer} in {table}"))?;
        let said = text(carrick::command(cluster, &["status", "-o", "json"]))?;
        let report: Value = text(serde_json::from_str(&said))?;
        let peering = &report["peerings"][0];
        check(peering["ready"] == "True", || format!("{peering}"))?;
        let tunnels = peering["tunnels"].as_array().cloned().unwrap_or_default();
        let up = tunnels.iter().any(|tunnel| tunnel["state"] == "Up");
        check(up, || format!("no tunnel is up: {peering}"))?;
        let found = text(carrick::command(cluster, &["check"]))?;
        check(!found.is_empty(), || "check said nothing".to_owned())?;
    }
    Ok(())
}
