//! A whole cluster loses power, and gets it back: how soon traffic goes on once its controller answers and its pods run.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use carrick_e2e::Lab;
use carrick_e2e::cluster::{CONTROL_PLANE_PROCESSES, Cluster};
use carrick_e2e::outages::Trial;
use carrick_e2e::wait::wait_until;

use crate::common::{pod_network, ready, rolled_out, target, text};
use crate::failover::doubled;
use crate::flow::Flow;
use crate::kill::api_answers;
use crate::quiet::{live, settled};
use crate::traffic::last;
use crate::world::Outcome;

use super::record::Record;
use super::{BACK, judged, spread};

/// How long the power is away.
const AWAY: Duration = Duration::from_secs(60);

/// All trials, in both clusters by turns. An outage is here the time from the answer of the cluster's controller, or
/// from when the pods that talk are there again if that is later, as none of their packets can cross before, to the
/// first packet that crosses and is answered. From the controller's answer alone it is in the words of each trial.
pub fn away(lab: &Lab) -> Outcome {
    let (paris, osaka) = doubled(lab)?;
    let mut record = Record::open(lab, "cluster back after a power cut")?;
    while let Some(number) = record.next() {
        let (hit, other) = if number % 2 == 0 { (&paris, &osaka) } else { (&osaka, &paris) };
        cut(hit)?;
        std::thread::sleep(AWAY);
        record.add(back(hit, other)?)?;
        is_as_before(hit)?;
        spread(hit)?;
        ready(&paris, &osaka)?;
    }
    judged(&record.told(), 0)
}

/// Waits until all that ran in a cluster runs again.
pub fn is_as_before(hit: &Cluster) -> Outcome {
    text(hit.wait_nodes())?;
    rolled_out(hit)?;
    text(hit.wait_dns())?;
    settled(hit)
}

/// Cuts the power of all machines at once.
pub fn cut(cluster: &Cluster) -> Outcome {
    for node in cluster.nodes() {
        text(node.power_cut())?;
    }
    let kill = |name: &&str| text(cluster.control_plane_process(name).kill());
    CONTROL_PLANE_PROCESSES.iter().try_for_each(kill)
}

/// Gives it back, and looks when controller and traffic are there again.
fn back(hit: &Cluster, other: &Cluster) -> Result<Trial, String> {
    let begin = Instant::now();
    power_on(hit)?;
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let controller = scope.spawn(|| controller_answers(hit, &stop));
        let crossed = packets_cross(hit, other);
        stop.store(crossed.is_err(), Ordering::Relaxed);
        let answered = controller.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let (pods, [out, into]) = crossed?;
        let answered = answered?;
        let since = answered.max(pods);
        let [out_ms, into_ms] =
            [out, into].map(|at| at.saturating_duration_since(since).as_secs_f64() * 1e3);
        let ms = |from: Instant, to: Instant| to.saturating_duration_since(from).as_millis();
        let traffic = out.max(into);
        let target = format!(
            "{}: from the power's return to the controller's answer {} ms, to its test pod {} ms, to traffic {} ms; \
             from the controller's answer alone to traffic {} ms",
            hit.plan().name,
            ms(begin, answered),
            ms(begin, pods),
            ms(begin, traffic),
            ms(answered, traffic)
        );
        Ok(Trial {
            target,
            out_ms,
            into_ms,
            sent: 0,
            lost: 0,
            broken: 0,
            moved: None,
            image: String::new(),
        })
    })
}

/// Gives it back to all of them, and waits for the API server.
pub fn power_on(cluster: &Cluster) -> Outcome {
    let start = |name: &&str| text(cluster.control_plane_process(name).start());
    CONTROL_PLANE_PROCESSES[..2].iter().try_for_each(start)?;
    for node in cluster.nodes() {
        text(node.power_on())?;
    }
    api_answers(cluster)?;
    CONTROL_PLANE_PROCESSES[2..].iter().try_for_each(start)
}

/// When a controller of the cluster leads and answers.
fn controller_answers(cluster: &Cluster, stop: &AtomicBool) -> Result<Instant, String> {
    text(wait_until(BACK, "the controller's answer", || {
        if stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        live(cluster).map(drop)
    }))?;
    Ok(Instant::now())
}

/// When the test pod of the cluster's last node is there again, and when a packet out of it, and one to it, is answered.
fn packets_cross(hit: &Cluster, other: &Cluster) -> Result<(Instant, [Instant; 2]), String> {
    let (own, far) = (last(hit), last(other));
    let mut found = None;
    text(wait_until(BACK, "the test pod", || {
        found = Some((pod_network(hit, &own)?, target(hit, &own, 2)?));
        Ok(())
    }))?;
    let (network, address) = found.ok_or("no test pod")?;
    let pods = Instant::now();
    let out = Flow::begin(&network, target(other, &far, 2)?)?;
    let into = Flow::begin(&pod_network(other, &far)?, address)?;
    Ok((pods, [out.wait_answer(pods, BACK)?, into.wait_answer(pods, BACK)?]))
}
