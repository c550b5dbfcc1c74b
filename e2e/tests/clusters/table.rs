//! The table of failover: faults again and again under traffic, and how long each interrupted it. Not part of the usual
//! tests, as 200 trials take the better part of an hour: `cargo drills table[::FAULT]`.

mod paths;
pub mod record;
pub mod whole;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use carrick_e2e::Lab;
use carrick_e2e::carrick::NAMESPACE;
use carrick_e2e::cluster::Cluster;
use carrick_e2e::lock::Lock;
use carrick_e2e::outages::{Moved, Outages, Trial};
use carrick_e2e::state;
use carrick_e2e::wait::wait_until;

use crate::common::{
    GATEWAYS, SOON, address_v4, check, node_names, node_of, pod_network, processes, ready, restart,
    rolled_out, text,
};
use crate::connections::{self, Connections};
use crate::failover::{
    BOTH_WAYS, TO_NODES, all_used, both_used, cut_from_nodes, doubled, join_nodes, kill_gateway,
};
use crate::kill::{api_answers, kill_process, scale_dns};
use crate::quiet::{other_controllers, settled};
use crate::stream::{Shape, Stream, Trouble, USUAL};
use crate::traffic::last;
use crate::upgrade::gateways;
use crate::world::{Case, Outcome};
use record::Record;

/// All faults.
pub const CASES: &[(&str, Case)] = &[
    ("table::gateway_killed", gateway_killed),
    ("table::gateways_node_loses_power", power),
    ("table::gateway_cut_from_nodes", |lab| cut_off(lab, BOTH_WAYS)),
    ("table::gateway_cut_from_nodes_one_way", |lab| cut_off(lab, TO_NODES)),
    ("table::path_cut", |lab| paths::cut(lab, true)),
    ("table::path_cut_one_way", |lab| paths::cut(lab, false)),
    ("table::path_loses_much", paths::loses_much),
    ("table::path_loses_little_in_bursts", paths::loses_little),
    ("table::path_becomes_slow", paths::becomes_slow),
    ("table::path_passes_small_packets_only", paths::becomes_narrow),
    ("table::gateway_drained", gateway_drained),
    ("table::gateways_scaled", scaled),
    ("table::gateways_replaced", |lab| replaced(lab, GATEWAYS)),
    ("table::agents_replaced", |lab| replaced(lab, "daemonset/carrick-agent")),
    ("table::controllers_killed", controllers_killed),
    ("table::api_server_restarted", api_server_restarted),
    ("table::api_server_and_controllers_away", control_away),
    ("table::dns_away", dns_away),
    ("table::peer_without_power", whole::away),
];

/// Gaps are looked for so long after a fault, or after its end where it lasts.
const WINDOW: Duration = Duration::from_secs(4);

/// How long control plane or DNS stay away.
const AWAY: Duration = Duration::from_secs(10);

/// A node or a gateway is back within that.
const BACK: Duration = Duration::from_secs(180);

const PORTS: [u16; 2] = [9400, 9410];

/// A fault: makes it, and says what it hit and when it began. It has ended when this returns, or never does.
type Fault<'a> = &'a mut dyn FnMut(&Cluster, usize) -> Result<(String, Instant), String>;
/// Brings all back to how it was.
type Repair<'a> = &'a mut dyn FnMut(&Cluster) -> Outcome;

/// What goes on while a fault lasts, and for how long it is looked at.
#[derive(Debug, Clone, Copy)]
struct Watching {
    /// Looked at for so long after a fault, or after its end where it lasts.
    window: Duration,
    /// The streams.
    shape: Shape,
    /// Bytes of the TCP connections' messages.
    message: usize,
    /// A flow has left a bad path when it had no such trouble for so long. Only for paths that go on, badly.
    quiet: Option<(Trouble, Duration)>,
}

impl Default for Watching {
    fn default() -> Self {
        Self { window: WINDOW, shape: USUAL, message: connections::BYTES, quiet: None }
    }
}

/// Makes all trials of a fault, in both clusters by turns, with traffic between their last nodes, keeps what was
/// measured, and judges it.
fn measure(lab: &Lab, name: &str, fault: Fault<'_>, repair: Repair<'_>) -> Outcome {
    let (paris, osaka) = doubled(lab)?;
    measure_between(lab, (&paris, &osaka), name, Watching::default(), fault, repair)
}

/// As [`measure`], on clusters that are as they should be. Where labs measure side by side, one of them has a fault at
/// a time.
fn measure_between(
    lab: &Lab,
    (paris, osaka): (&Cluster, &Cluster),
    name: &str,
    watching: Watching,
    fault: Fault<'_>,
    repair: Repair<'_>,
) -> Outcome {
    let mut record = Record::open(lab, name)?;
    let ends = Ends::of(paris, osaka)?;
    let connections = ends.connect(watching.message)?;
    // What breaks between two trials counts to the second.
    let mut counted = 0;
    while let Some(number) = record.next() {
        let hit = if number % 2 == 0 { paris } else { osaka };
        both_used(lab, paris)?;
        both_used(lab, osaka)?;
        let turn = text(Lock::take(&Path::new(state::ROOT).join("measuring.lock")))?;
        let (trial, end) = ends.trial(number % 2 == 0, watching, || fault(hit, number / 2))?;
        let broken = connections.broken_by(end);
        drop(turn);
        let target = format!("{} of {}", trial.target, hit.plan().name);
        record.add(Trial { target, broken: broken - counted, ..trial })?;
        counted = broken;
        repair(hit)?;
        ready(paris, osaka)?;
    }
    let late = connections.broken_by(Instant::now()) - counted;
    judged(&record.told(), late)
}

/// The pods between which traffic goes.
pub struct Ends {
    networks: [crate::flow::Network; 2],
    addresses: [Ipv4Addr; 2],
}

impl Ends {
    /// Those on the last nodes of two clusters.
    pub fn of(paris: &Cluster, osaka: &Cluster) -> Result<Self, String> {
        let nodes = [last(paris), last(osaka)];
        Ok(Self {
            networks: [pod_network(paris, &nodes[0])?, pod_network(osaka, &nodes[1])?],
            addresses: [address_v4(paris, &nodes[0])?, address_v4(osaka, &nodes[1])?],
        })
    }

    /// A stream from the first to the second, or back.
    pub fn stream(&self, there: bool, shape: Shape) -> Result<Stream, String> {
        let (from, to) = if there { (0, 1) } else { (1, 0) };
        let target = SocketAddr::from((self.addresses[to], PORTS[0]));
        Stream::start(&self.networks[from], &self.networks[to], target, shape)
    }

    /// Connections from the first to the second, with messages of so many bytes.
    pub fn connect(&self, bytes: usize) -> Result<Connections, String> {
        let target = SocketAddr::from((self.addresses[1], PORTS[1]));
        Connections::start(&self.networks[0], &self.networks[1], target, bytes)
    }

    /// Streams both ways while a fault hits the first cluster, or the other: what they measured, and when the fault's
    /// making ended.
    fn trial(
        &self,
        first: bool,
        watching: Watching,
        fault: impl FnOnce() -> Result<(String, Instant), String>,
    ) -> Result<(Trial, Instant), String> {
        let shape = watching.shape;
        let (mut there, mut back) = (self.stream(true, shape)?, self.stream(false, shape)?);
        let (target, at) = fault()?;
        let end = Instant::now();
        let until = end + watching.window;
        std::thread::sleep(until.saturating_duration_since(Instant::now()));
        let gaps = [&there, &back].map(|stream| stream.longest_gap(at, until).as_secs_f64() * 1e3);
        let [out_ms, into_ms] = if first { gaps } else { [gaps[1], gaps[0]] };
        let counts = [there.end(), back.end()];
        let moved = watching.quiet.map(|quiet| {
            let moved = there.moved(at, until, quiet).and(back.moved(at, until, quiet));
            let after_ms = moved.after.as_secs_f64() * 1e3;
            Moved { after_ms, lost_after: moved.lost_after, reordered: moved.reordered }
        });
        let sent = counts.iter().map(|count| count.sent).sum();
        let lost = counts.iter().map(|count| count.sent - count.arrived).sum();
        let image = String::new();
        Ok((Trial { target, out_ms, into_ms, sent, lost, broken: 0, moved, image }, end))
    }
}

fn nothing(_: &Cluster) -> Outcome {
    Ok(())
}

/// Fails when a connection broke, in a trial or `late`, after the last, which no fault of the table may do, and when a
/// goal was missed.
fn judged(outages: &Outages, late: u64) -> Outcome {
    let broken: u64 = outages.trials.iter().map(|trial| trial.broken).sum();
    check(broken + late == 0, || {
        format!("{broken} TCP connections broke in trials, and {late} after the last")
    })?;
    let missed = outages.verdicts().into_iter().filter(|verdict| verdict.fails);
    let missed: Vec<String> = missed.map(|verdict| verdict.said).collect();
    check(missed.is_empty(), || missed.join("; "))
}

fn gateway_killed(lab: &Lab) -> Outcome {
    let mut killed = String::new();
    let hit = std::cell::RefCell::new(&mut killed);
    measure(
        lab,
        "gateway killed",
        &mut |cluster, turn| {
            let pod = format!("carrick-gateway-{}", turn % 2);
            let at = kill_gateway(cluster, &pod)?;
            hit.borrow_mut().clone_from(&pod);
            Ok((pod, at))
        },
        &mut |cluster| {
            // Another pod instead: a kubelet waits ever longer before it starts a container anew.
            let pod = hit.borrow().clone();
            another_pod(cluster, &pod)
        },
    )
}

/// A gateway's tunnels go on, but nothing passes between it and its cluster's nodes, or from it to them.
fn cut_off(lab: &Lab, hooks: &[&str]) -> Outcome {
    let both = hooks == BOTH_WAYS;
    let name =
        if both { "gateway cut from nodes" } else { "gateway cut from nodes, one direction" };
    let hit = std::cell::Cell::new(0);
    let pod = |turn: usize| format!("carrick-gateway-{}", turn % 2);
    measure(
        lab,
        name,
        &mut |cluster, turn| {
            hit.set(turn);
            Ok((pod(turn), cut_from_nodes(cluster, &pod(turn), hooks)?))
        },
        &mut |cluster| join_nodes(cluster, &pod(hit.get())),
    )
}

/// The node on which no traffic ends loses power, with a gateway.
fn power(lab: &Lab) -> Outcome {
    let first = |cluster: &Cluster| {
        node_names(cluster).into_iter().next().ok_or_else(|| "a cluster without nodes".to_owned())
    };
    measure(
        lab,
        "gateway's node loses power",
        &mut |cluster, _| {
            let name = first(cluster)?;
            let hosts: Result<Vec<String>, String> =
                (0..2).map(|i| node_of(cluster, &format!("carrick-gateway-{i}"))).collect();
            check(hosts?.contains(&name), || format!("no gateway runs on {name}"))?;
            let at = Instant::now();
            text(text(cluster.node(&name))?.power_cut())?;
            Ok((name, at))
        },
        &mut |cluster| {
            text(text(cluster.node(&first(cluster)?))?.power_on())?;
            text(cluster.wait_nodes())?;
            rolled_out(cluster)?;
            spread(cluster)
        },
    )
}

/// Deletes a pod, and waits until another is there.
fn another_pod(cluster: &Cluster, pod: &str) -> Outcome {
    text(cluster.kubectl(&["delete", "pod", pod, "--namespace", NAMESPACE, "--wait=true"]))?;
    rolled_out(cluster)
}

/// Has one gateway on each node again.
fn spread(cluster: &Cluster) -> Outcome {
    text(wait_until(BACK, "a gateway on each of two nodes", || {
        let one = node_of(cluster, "carrick-gateway-0")?;
        if one != node_of(cluster, "carrick-gateway-1")? {
            return Ok(());
        }
        another_pod(cluster, "carrick-gateway-1")?;
        Err(format!("both on {one}"))
    }))
}

fn gateway_drained(lab: &Lab) -> Outcome {
    measure(
        lab,
        "gateway's pod deleted",
        &mut |cluster, turn| {
            let (pod, at) = (format!("carrick-gateway-{}", turn % 2), Instant::now());
            another_pod(cluster, &pod)?;
            both_used(lab, cluster)?;
            Ok((pod, at))
        },
        &mut nothing,
    )
}

/// A third gateway comes, and goes again.
fn scaled(lab: &Lab) -> Outcome {
    measure(
        lab,
        "gateways scaled from 2 to 3 and back",
        &mut |cluster, _| {
            let at = Instant::now();
            for replicas in [3, 2] {
                gateways(lab, cluster, replicas)?;
                all_used(lab, cluster, replicas)?;
            }
            Ok(("all gateways".to_owned(), at))
        },
        &mut nothing,
    )
}

fn replaced(lab: &Lab, workload: &str) -> Outcome {
    measure(
        lab,
        &format!("{} replaced", workload.rsplit('-').next().unwrap_or(workload)),
        &mut |cluster, _| {
            let at = Instant::now();
            restart(cluster, workload)?;
            rolled_out(cluster)?;
            both_used(lab, cluster)?;
            Ok((workload.to_owned(), at))
        },
        &mut nothing,
    )
}

fn controllers_killed(lab: &Lab) -> Outcome {
    measure(
        lab,
        "controllers killed",
        &mut |cluster, _| {
            let at = Instant::now();
            for pid in processes(cluster, "controller")? {
                kill_process(pid)?;
            }
            Ok(("both controllers".to_owned(), at))
        },
        &mut |cluster| {
            other_controllers(cluster)?;
            settled(cluster)
        },
    )
}

fn api_server_restarted(lab: &Lab) -> Outcome {
    measure(
        lab,
        "API server restarted",
        &mut |cluster, _| {
            let server = cluster.control_plane_process("kube-apiserver");
            let at = Instant::now();
            text(server.kill())?;
            text(server.start())?;
            api_answers(cluster)?;
            Ok(("kube-apiserver".to_owned(), at))
        },
        &mut |cluster| text(wait_until(2 * SOON, "a controller", || settled(cluster))),
    )
}

fn control_away(lab: &Lab) -> Outcome {
    measure(
        lab,
        "API server and controllers away",
        &mut |cluster, _| {
            let controllers = processes(cluster, "controller")?;
            let at = Instant::now();
            text(cluster.control_plane_process("kube-apiserver").kill())?;
            for pid in controllers {
                kill_process(pid)?;
            }
            std::thread::sleep(AWAY);
            Ok(("control plane".to_owned(), at))
        },
        &mut |cluster| {
            text(cluster.control_plane_process("kube-apiserver").start())?;
            api_answers(cluster)?;
            other_controllers(cluster)?;
            text(wait_until(2 * SOON, "a controller", || settled(cluster)))
        },
    )
}

fn dns_away(lab: &Lab) -> Outcome {
    measure(
        lab,
        "DNS away",
        &mut |cluster, _| {
            let at = Instant::now();
            scale_dns(cluster, 0)?;
            std::thread::sleep(AWAY);
            Ok(("coredns".to_owned(), at))
        },
        &mut |cluster| {
            scale_dns(cluster, 2)?;
            text(cluster.wait_dns())
        },
    )
}
