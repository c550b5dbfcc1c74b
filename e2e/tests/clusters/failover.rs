//! Two gateways in each cluster, of which one process after the other dies, or loses its nodes, under a stream both ways.

use std::time::{Duration, Instant};

use carrick_e2e::cluster::Cluster;
use carrick_e2e::wait::wait_until;
use carrick_e2e::{Lab, carrick};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::{
    ONE_GATEWAY, check, figure, node_names, node_network, node_of, peered, ready, rolled_out, text,
};
use crate::flow::Network;
use crate::stream::{Losses, Stream, USUAL};
use crate::world::{Case, Outcome};

/// All cases, in order.
pub const CASES: &[(&str, Case)] = &[
    ("failover::gateway_processes_killed", killed),
    ("failover::gateways_cut_from_their_nodes", cut_off),
];

/// How often each of the four gateways is killed; a kubelet starts the third time after 20 s.
const ROUNDS: usize = 3;

/// A gateway that was killed is in use again within that, the kubelet's pauses included.
const BACK: Duration = Duration::from_secs(90);

/// Gaps are looked for so long after a kill.
const WINDOW: Duration = Duration::from_secs(4);

/// What nodes promise: flows have left a dead gateway of their own cluster within that. Detection takes 300 ms
/// at most; the rest is for machines that do much else.
const NODES: Duration = Duration::from_millis(1000);

/// What gateways promise of one that has lost its nodes, while its tunnels work: others no longer send to it. Some 600 ms,
/// the other direction up to a second; the rest is for machines that do much else.
const PEERS: Duration = Duration::from_millis(2500);

/// By which hooks of its pod's network a gateway's VXLAN is cut, both ways or towards its nodes only.
pub const BOTH_WAYS: &[&str] = &["input", "output"];
pub const TO_NODES: &[&str] = &["output"];

/// The last packets before a look have so long to arrive.
const TAIL: Duration = Duration::from_millis(500);

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
    with_two(lab, trials)
}

fn cut_off(lab: &Lab) -> Outcome {
    with_two(lab, cuts)
}

/// Does something with two gateways in each cluster, and leaves one.
pub fn with_two(lab: &Lab, work: fn(&Lab, &Cluster, &Cluster) -> Outcome) -> Outcome {
    let (paris, osaka) = doubled(lab)?;
    let outcome = work(lab, &paris, &osaka);
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

fn cuts(lab: &Lab, paris: &Cluster, osaka: &Cluster) -> Outcome {
    let there = Stream::between(paris, osaka, PORT, USUAL)?;
    let back = Stream::between(osaka, paris, PORT, USUAL)?;
    let mut worst = [Duration::ZERO; 2];
    for (name, hooks) in [("both ways", BOTH_WAYS), ("towards its nodes", TO_NODES)] {
        for number in 0..2 {
            for (cluster, out, into) in [(paris, &there, &back), (osaka, &back, &there)] {
                both_used(lab, cluster)?;
                let pod = format!("carrick-gateway-{number}");
                let at = cut_from_nodes(cluster, &pod, hooks)?;
                let until = at + WINDOW;
                std::thread::sleep((until + TAIL).saturating_duration_since(Instant::now()));
                let losses = [out, into].map(|stream| stream.losses(at, until));
                join_nodes(cluster, &pod)?;
                let spans = losses.each_ref().map(Losses::longest_span);
                figure(&format!(
                    "{pod} of {} cut from its nodes {name}: out lost {} within {:?}, in lost {} within {:?}",
                    cluster.plan().name,
                    losses[0].count(),
                    spans[0],
                    losses[1].count(),
                    spans[1]
                ));
                worst = [0, 1].map(|which| worst[which].max(spans[which]));
                there.flows(Instant::now())?;
                back.flows(Instant::now())?;
            }
        }
    }
    let [out, into] = worst;
    figure(&format!("gateways cut from their nodes: out {out:?} at most, in {into:?} at most"));
    check(out <= NODES && into <= PEERS, || {
        format!("flows stayed with a gateway that had lost its nodes: {out:?} out, {into:?} in")
    })
}

/// Cuts a gateway from all nodes, its own one included, while its tunnels go on; when.
pub fn cut_from_nodes(cluster: &Cluster, pod: &str, hooks: &[&str]) -> Result<Instant, String> {
    let network = Network::of(gateway_pid(cluster, pod)?);
    let chain = |hook: &&str| {
        format!("chain {hook} {{ type filter hook {hook} priority -300; udp dport 7789 drop; }};")
    };
    let chains: String = hooks.iter().map(chain).collect();
    let at = Instant::now();
    network.run(&["nft", &format!("table inet cut {{ {chains} }}")])?;
    Ok(at)
}

/// Ends that.
pub fn join_nodes(cluster: &Cluster, pod: &str) -> Outcome {
    let network = Network::of(gateway_pid(cluster, pod)?);
    network.run(&["nft", "delete", "table", "inet", "cut"]).map(drop)
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
    let pid = gateway_pid(cluster, pod)?;
    let at = Instant::now();
    text(kill(Pid::from_raw(pid), Signal::SIGKILL))?;
    Ok(at)
}

/// The host's number of a gateway's process.
pub fn gateway_pid(cluster: &Cluster, pod: &str) -> Result<i32, String> {
    let node = text(cluster.node(&node_of(cluster, pod)?))?;
    let pids = text(node.pids_of_container(carrick::NAMESPACE, pod, "gateway"))?;
    pids.first().copied().ok_or_else(|| format!("{pod} has no process"))
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
