//! The kill table: each part dies under two-way pod traffic, and what that costs.

use std::time::{Duration, Instant};

use carrick_e2e::Lab;
use carrick_e2e::cluster::{CONTROL_PLANE_PROCESSES, Cluster, Process};
use carrick_e2e::wait::wait_until;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::{
    SOON, check, figure, gateway_pids, node_names, node_of, peered, processes, ready, rolled_out,
    supervise, text,
};
use crate::connections::{BYTES, CONNECTIONS, Connections};
use crate::failover::{both_used, gateway_pid, with_two};
use crate::quiet::settled;
use crate::stream::{Stream, USUAL};
use crate::table::Ends;
use crate::traffic::{Traffic, gap_below, last, nothing_lost};
use crate::world::{Case, Outcome};

/// All cases, in order.
pub const CASES: &[(&str, Case)] = &[
    ("kill::controller", controller),
    ("kill::gateway_process", gateway),
    ("kill::agent_process", agent),
    ("kill::kubelet", |lab| node_process(lab, "kubelet")),
    ("kill::power_of_the_only_gateway's_node", power),
    // Last: Kubernetes' own controllers look for their API server ever more rarely.
    ("kill::api_server", |lab| control_plane(lab, "kube-apiserver")),
    ("kill::etcd", |lab| control_plane(lab, "etcd")),
    ("kill::without_api_server_and_controller", without_control),
    ("kill::gateway_and_agents_without_control_plane_and_dns", restarts_without_control),
    ("kill::one_of_two_gateways_without_control_plane_and_dns", failover_without_control),
];

/// How long the control plane stays away.
const AWAY: Duration = Duration::from_secs(15);

/// A gateway's process starts anew within that.
const GATEWAY: Duration = Duration::from_secs(15);

/// Flows have left a dead gateway long before, however busy the machine; the exact figures are the table's.
const LEFT: Duration = Duration::from_secs(2);

/// Of two gateways the one that came later: its kubelet has not started it anew before, and makes no pause yet.
const SECOND: &str = "carrick-gateway-1";

/// The only gateway comes back on another node within that.
const POWER: Duration = Duration::from_secs(60);

/// Kills a process at once.
pub fn kill_process(pid: i32) -> Outcome {
    text(kill(Pid::from_raw(pid), Signal::SIGKILL))
}

fn controller(lab: &Lab) -> Outcome {
    let (paris, osaka) = peered(lab)?;
    let traffic = Traffic::usual(&paris, &osaka)?;
    for pid in processes(&paris, "controller")? {
        kill_process(pid)?;
    }
    text(wait_until(SOON, "a controller", || settled(&paris)))?;
    let records = traffic.row("controllers killed")?;
    ready(&paris, &osaka)?;
    nothing_lost(&records)
}

fn gateway(lab: &Lab) -> Outcome {
    let (paris, osaka) = peered(lab)?;
    let traffic = Traffic::usual(&paris, &osaka)?;
    let pids = gateway_pids(&paris)?;
    kill_process(*pids.first().ok_or("the gateway has no process")?)?;
    let killed = Instant::now();
    text(wait_until(GATEWAY, "another process", || match gateway_pids(&paris)? {
        now if !now.is_empty() && now != pids => Ok(()),
        now => Err(format!("{now:?}")),
    }))?;
    traffic.there.wait_answer(killed + Duration::from_millis(100), GATEWAY)?;
    ready(&paris, &osaka)?;
    let records = traffic.row("gateway process killed")?;
    gap_below(&records, GATEWAY)
}

fn agent(lab: &Lab) -> Outcome {
    let (paris, osaka) = peered(lab)?;
    let traffic = Traffic::usual(&paris, &osaka)?;
    for pid in processes(&paris, "agent")? {
        kill_process(pid)?;
    }
    rolled_out(&paris)?;
    text(wait_until(SOON, "all agents", || settled(&paris)))?;
    let records = traffic.row("agent processes killed")?;
    ready(&paris, &osaka)?;
    nothing_lost(&records)
}

fn restart(process: &Process) -> Outcome {
    text(process.kill())?;
    text(process.start())
}

fn node_process(lab: &Lab, name: &str) -> Outcome {
    let (paris, osaka) = peered(lab)?;
    let traffic = Traffic::usual(&paris, &osaka)?;
    for node in paris.nodes() {
        restart(&node.process(name))?;
    }
    text(paris.wait_nodes())?;
    let records = traffic.row(&format!("{name} restarted on all nodes"))?;
    ready(&paris, &osaka)?;
    nothing_lost(&records)
}

/// Waits for the API server; starts it and what it keeps its data in again when they have ended.
pub fn api_answers(cluster: &Cluster) -> Outcome {
    // The others must not come before it.
    let answer = || {
        supervise(cluster, &CONTROL_PLANE_PROCESSES[..2])?;
        text(cluster.kubectl(&["get", "--raw", "/readyz"]))
    };
    text(wait_until(2 * SOON, "the API server", answer)).map(drop)
}

fn control_plane(lab: &Lab, name: &str) -> Outcome {
    let (paris, osaka) = peered(lab)?;
    let traffic = Traffic::usual(&paris, &osaka)?;
    restart(&paris.control_plane_process(name))?;
    api_answers(&paris)?;
    text(wait_until(SOON, "a controller", || settled(&paris)))?;
    let records = traffic.row(&format!("{name} restarted"))?;
    ready(&paris, &osaka)?;
    nothing_lost(&records)
}

fn without_control(lab: &Lab) -> Outcome {
    let (paris, osaka) = peered(lab)?;
    let traffic = Traffic::usual(&paris, &osaka)?;
    let controllers = processes(&paris, "controller")?;
    let server = paris.control_plane_process("kube-apiserver");
    text(server.kill())?;
    let away = Instant::now();
    // Those that the kubelets start instead find no API server, so that none of them leads.
    for pid in controllers {
        kill_process(pid)?;
    }
    traffic.there.run_until(away, AWAY);
    let records = traffic.row("API server and controllers down for 15 s")?;
    text(server.start())?;
    api_answers(&paris)?;
    rolled_out(&paris)?;
    text(wait_until(2 * SOON, "a controller", || settled(&paris)))?;
    ready(&paris, &osaka)?;
    nothing_lost(&records)
}

/// While API server, controllers and DNS of a cluster are away, its gateway and all its agents die. They come back as
/// they were configured last, and packets cross.
fn restarts_without_control(lab: &Lab) -> Outcome {
    let (paris, osaka) = peered(lab)?;
    let traffic = Traffic::usual(&paris, &osaka)?;
    let (agents, gateways) = (processes(&paris, "agent")?, gateway_pids(&paris)?);
    let outcome = without_control_and_dns(&paris, || {
        agents.into_iter().chain(gateways).try_for_each(kill_process)?;
        let killed = Instant::now() + Duration::from_millis(100);
        traffic.there.wait_answer(killed, GATEWAY)?;
        traffic.back.wait_answer(killed, GATEWAY).map(drop)
    });
    let records = traffic.row("gateway and agents killed, no API server, controllers and DNS")?;
    recovered(&paris, &osaka)?;
    outcome?;
    gap_below(&records, GATEWAY)
}

/// While API server, controllers and DNS of a cluster are away, one of its two gateways dies: traffic goes on by the other,
/// and by both once the kubelet has started it anew.
fn failover_without_control(lab: &Lab) -> Outcome {
    with_two(lab, |lab, paris, osaka| {
        let ends = Ends::of(paris, osaka)?;
        let streams = [ends.stream(true, USUAL)?, ends.stream(false, USUAL)?];
        let connections = ends.connect(BYTES)?;
        let gateway = gateway_pid(paris, SECOND)?;
        let outcome = without_control_and_dns(paris, || {
            left_and_used_again(lab, paris, gateway, (&streams, &connections))
        });
        drop((streams, connections));
        recovered(paris, osaka)?;
        outcome
    })
}

/// Kills a gateway's process and waits until all nodes use two gateways again. No flow pauses for long, and no connection
/// breaks.
fn left_and_used_again(
    lab: &Lab,
    cluster: &Cluster,
    gateway: i32,
    (streams, connections): (&[Stream; 2], &Connections),
) -> Outcome {
    let killed = Instant::now();
    kill_process(gateway)?;
    // Until nodes have left it, it looks used.
    std::thread::sleep(LEFT);
    both_used(lab, cluster)?;
    let used = Instant::now();
    let broken = connections.broken_by(used);
    let until = Instant::now();
    let gaps = streams.each_ref().map(|stream| stream.longest_gap(killed, until));
    let said = format!(
        "{SECOND} killed without API server, controllers and DNS: longest gap there {} ms, back {} ms, {broken} of \
         {CONNECTIONS} TCP connections broke, used again within {:.1} s",
        gaps[0].as_millis(),
        gaps[1].as_millis(),
        (used - killed).as_secs_f64()
    );
    figure(&said);
    check(broken == 0 && gaps.into_iter().all(|gap| gap < LEFT), || said)
}

/// Does something while API server, controllers and DNS of a cluster are away, and brings these back whatever came of it.
fn without_control_and_dns(cluster: &Cluster, work: impl FnOnce() -> Outcome) -> Outcome {
    let outcome = with_control_back(cluster, || {
        take_control_and_dns(cluster)?;
        work()
    });
    scale_dns(cluster, 2)?;
    outcome
}

/// The same while API server and controllers are away.
pub fn without_control_plane(cluster: &Cluster, work: impl FnOnce() -> Outcome) -> Outcome {
    with_control_back(cluster, || {
        take_control(cluster, processes(cluster, "controller")?)?;
        work()
    })
}

/// Brings a cluster's API server back after `work`, whatever came of that.
fn with_control_back(cluster: &Cluster, work: impl FnOnce() -> Outcome) -> Outcome {
    let server = cluster.control_plane_process("kube-apiserver");
    let outcome = work();
    if !text(server.running())? {
        text(server.start())?;
    }
    api_answers(cluster)?;
    // After a second outage its informers wait for up to a minute before they look again, and Jobs with them.
    restart(&cluster.control_plane_process("kube-controller-manager"))?;
    outcome
}

fn take_control_and_dns(cluster: &Cluster) -> Outcome {
    let controllers = processes(cluster, "controller")?;
    scale_dns(cluster, 0)?;
    // Nobody ends its pods once the API server is gone; after an outage before, informers may take a minute to see them.
    let list = ["get", "pods", "--selector=k8s-app=kube-dns", "--namespace=kube-system", "-o=name"];
    text(wait_until(3 * SOON, "the end of DNS", || {
        let pods = text(cluster.kubectl(&list))?;
        check(pods.trim().is_empty(), || pods)
    }))?;
    take_control(cluster, controllers)
}

fn take_control(cluster: &Cluster, controllers: Vec<i32>) -> Outcome {
    text(cluster.control_plane_process("kube-apiserver").kill())?;
    controllers.into_iter().try_for_each(kill_process)
}

/// Waits until a cluster that was without its control plane has all again.
pub fn recovered(cluster: &Cluster, peer: &Cluster) -> Outcome {
    rolled_out(cluster)?;
    text(cluster.wait_dns())?;
    text(wait_until(2 * SOON, "a controller", || settled(cluster)))?;
    ready(cluster, peer)
}

/// Has so many replicas of the cluster's DNS.
pub fn scale_dns(cluster: &Cluster, replicas: u32) -> Outcome {
    let replicas = format!("--replicas={replicas}");
    let scale = ["scale", "deployment", "coredns", "--namespace", "kube-system", &replicas];
    text(cluster.kubectl(&scale)).map(drop)
}

fn power(lab: &Lab) -> Outcome {
    let (paris, osaka) = peered(lab)?;
    let home = node_of(&paris, "carrick-gateway-0")?;
    let names = node_names(&paris);
    let other = names.iter().find(|name| **name != home).ok_or("one node only")?;
    let traffic = Traffic::start((&paris, other), (&osaka, &last(&osaka)))?;
    let node = text(paris.node(&home))?;
    text(node.power_cut())?;
    let cut = Instant::now();
    let back = traffic.there.wait_answer(cut + Duration::from_millis(100), 2 * POWER);
    let both = traffic.back.wait_answer(cut + Duration::from_millis(100), 2 * POWER);
    text(node.power_on())?;
    let took = back?.max(both?) - cut;
    let records = traffic.row("power of the only gateway's node cut")?;
    figure(&format!("traffic was back {:.1} s after the power cut", took.as_secs_f64()));
    text(paris.wait_nodes())?;
    text(paris.wait_dns())?;
    rolled_out(&paris)?;
    ready(&paris, &osaka)?;
    gap_below(&records, POWER)
}
