//! Two gateways in each cluster, of which one process after the other dies under a stream both ways.

use std::time::{Duration, Instant};

use carrick_e2e::cluster::Cluster;
use carrick_e2e::wait::wait_until;
use carrick_e2e::{Lab, carrick};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::{
    ONE_GATEWAY, check, figure, node_names, node_network, node_of, peered, ready, rolled_out, text,
};
use crate::stream::{Stream, USUAL};
use crate::world::{Case, Outcome};

/// All cases, in order.
pub const CASES: &[(&str, Case)] = &[("failover::gateway_processes_killed", killed)];

/// How often each of the four gateways is killed; a kubelet starts the third time after 20 s.
const ROUNDS: usize = 3;

/// A gateway that was killed is in use again within that, the kubelet's pauses included.
const BACK: Duration = Duration::from_secs(90);

/// Gaps are looked for so long after a kill.
const WINDOW: Duration = Duration::from_secs(4);

/// What nodes promise: flows have left a dead gateway of their own cluster within that. Detection takes 300 ms
/// at most; the rest is for machines that do much else.
const NODES: Duration = Duration::from_millis(1000);

const PORT: u16 = 9400;

/// Both clusters with two gateways each, all of them in use.
pub fn doubled(lab: &Lab) -> Result<(Cluster, Cluster), String> {
    let (paris, osaka) = peered(lab)?;
    let tag = text(lab.image_tag())?;
    for cluster in [&paris, &osaka] {
        text(carrick::upgrade(cluster, &tag, &["gateway.replicas=2"]))?;
    }
    for cluster in [&paris, &osaka] {
        rolled_out(cluster)?;
        both_used(lab, cluster)?;
    }
    ready(&paris, &osaka)?;
    Ok((paris, osaka))
}

fn killed(lab: &Lab) -> Outcome {
    let (paris, osaka) = doubled(lab)?;
    let outcome = trials(lab, &paris, &osaka);
    for cluster in [&paris, &osaka] {
        text(carrick::upgrade(cluster, &text(lab.image_tag())?, &[ONE_GATEWAY]))?;
    }
    for cluster in [&paris, &osaka] {
        rolled_out(cluster)?;
    }
    ready(&paris, &osaka)?;
    outcome
}

fn trials(lab: &Lab, paris: &Cluster, osaka: &Cluster) -> Outcome {
    let there = Stream::between(paris, osaka, PORT, USUAL)?;
    let back = Stream::between(osaka, paris, PORT, USUAL)?;
    // For each kill: how long flows out of the gateway's cluster, and into it, had nothing to receive.
    let mut gaps = Vec::new();
    for round in 0..ROUNDS {
        for number in 0..2 {
            for (cluster, out, into) in [(paris, &there, &back), (osaka, &back, &there)] {
                both_used(lab, cluster)?;
                let pod = format!("carrick-gateway-{number}");
                let at = kill_gateway(cluster, &pod)?;
                let until = at + WINDOW;
                std::thread::sleep(until.saturating_duration_since(Instant::now()));
                let gap = [out, into].map(|stream| stream.longest_gap(at, until));
                let name = &cluster.plan().name;
                figure(&format!(
                    "{pod} of {name} killed, round {round}: out {:?}, in {:?}",
                    gap[0], gap[1]
                ));
                gaps.push(gap);
                there.flows(Instant::now())?;
                back.flows(Instant::now())?;
            }
        }
    }
    let worst = distribution("out of the cluster whose gateway died", &gaps, 0);
    distribution("into it", &gaps, 1);
    check(worst <= NODES, || format!("flows stayed with a dead gateway for {worst:?}"))
}

/// Prints how the gaps are distributed; the longest.
fn distribution(what: &str, gaps: &[[Duration; 2]], which: usize) -> Duration {
    let mut sorted: Vec<Duration> = gaps.iter().map(|gap| gap[which]).collect();
    sorted.sort_unstable();
    let millis: Vec<String> = sorted.iter().map(|gap| gap.as_millis().to_string()).collect();
    let (median, worst) = (sorted[sorted.len() / 2], sorted[sorted.len() - 1]);
    figure(&format!(
        "gaps {what}: median {} ms, most {} ms, {} kills (ms: {})",
        median.as_millis(),
        worst.as_millis(),
        sorted.len(),
        millis.join(" ")
    ));
    worst
}

/// Kills a gateway's process; when.
pub fn kill_gateway(cluster: &Cluster, pod: &str) -> Result<Instant, String> {
    let node = text(cluster.node(&node_of(cluster, pod)?))?;
    let pids = text(node.pids_of_container(carrick::NAMESPACE, pod, "gateway"))?;
    let pid = pids.first().ok_or_else(|| format!("{pod} has no process"))?;
    let at = Instant::now();
    text(kill(Pid::from_raw(*pid), Signal::SIGKILL))?;
    Ok(at)
}

/// Waits until all nodes of a cluster spread flows over two gateways.
pub fn both_used(lab: &Lab, cluster: &Cluster) -> Outcome {
    all_used(lab, cluster, 2)
}

/// Waits until all nodes of a cluster spread flows over so many gateways.
pub fn all_used(lab: &Lab, cluster: &Cluster, gateways: usize) -> Outcome {
    let used = || {
        for name in node_names(cluster) {
            let listing = node_network(lab, &name)?.run(&["ip", "nexthop", "show"])?;
            let group = listing.lines().find_map(|line| line.split_once(" group "));
            let members = group.and_then(|(_, rest)| rest.split(' ').next()).unwrap_or_default();
            let count = members.split('/').count();
            check(count == gateways, || format!("{name}: {listing}"))?;
        }
        Ok(())
    };
    text(wait_until(BACK, &format!("{gateways} gateways in use"), used))
}
