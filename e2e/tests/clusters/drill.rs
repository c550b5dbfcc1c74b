//! Failover drills, by `carrick drill` and `kubectl apply` as people run them, and checked by independent streams.

mod rig;
mod witness;

use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use carrick_e2e::cluster::Cluster;
use carrick_e2e::wait::wait_until;
use carrick_e2e::{Lab, carrick};
use jiff::Timestamp;
use serde_json::Value;

use crate::common::{
    GATEWAYS, SOON, check, figure, peered, pod_network, ready, restart, rolled_out, target, text,
};
use crate::failover::both_used;
use crate::flow::Flow;
use crate::kill::{recovered, without_control_plane};
use crate::traffic::last;
use crate::world::{Case, Outcome};
use rig::{apply, brief, consent, remove, run, until, upgrade, willing};
use witness::{EXACT, Witness};

/// All cases, in order; the last leaves one gateway in each cluster.
pub const CASES: &[(&str, Case)] = &[
    ("drill::without_the_peers_consent_it_is_refused", refused),
    ("drill::what_makes_no_sense_is_refused", senseless),
    ("drill::a_partition_is_measured_as_others_measure_it", partition),
    ("drill::loss_is_measured_as_others_measure_it", loss),
    ("drill::latency_is_measured_as_others_measure_it", latency),
    ("drill::an_agent_without_its_link_loses_nothing", unlinked),
    ("drill::a_controller_without_the_api_server_loses_nothing", cut_off),
    ("drill::deletion_ends_it_at_once", deleted),
    ("drill::it_ends_by_itself_without_controller_and_api_server", orphaned),
    ("drill::one_of_two_gateways_is_hit", two_gateways),
];

/// Bounds of what must not be noticed at all.
const NO_LOSS: [&str; 2] = ["--max-loss=0.1", "--connections-survive"];

/// How long a fault acts whose controller and API server die meanwhile, and what its beginning and end may be off by.
const ORPHANED: Duration = Duration::from_secs(15);
const MOMENT: Duration = Duration::from_secs(4);

/// What leaves so soon before a fault's end may meet the fault one way only.
const CROSSING: Duration = Duration::from_millis(500);

/// How much round trips vary, the least and the greatest twentieth apart, that take ±10 ms longer each way: by 27 ms, and by
/// what the machine adds.
const VARIED: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_millis(60);

fn refused(lab: &Lab) -> Outcome {
    let (paris, osaka) = peered(lab)?;
    consent((&paris, &osaka), "Deny")?;
    ready(&paris, &osaka)?;
    let flags = ["--fault=partition", "--allow-outage", "--duration=2", "--max-loss=90"];
    let (code, object) = run(&paris, "refused", &flags)?;
    let said = brief(&object);
    check(code == 2 && said.contains("Refused") && said.contains("does not allow drills"), || {
        format!("ended with {code}: {said}")
    })
}

/// What the API server takes for no drill, and what the controller refuses.
fn senseless(lab: &Lab) -> Outcome {
    let (paris, _) = willing(lab, 1)?;
    let spec = |rest: &str| format!("{{peering: osaka, fault: {{type: GatewayCrash}}, {rest}}}");
    for (rest, expected) in [
        ("durationSeconds: 0, bounds: {maxLossPercent: 5}", "durationSeconds"),
        ("durationSeconds: 1000000, bounds: {maxLossPercent: 5}", "durationSeconds"),
        ("durationSeconds: 10, bounds: {}", "at least one bound"),
        ("durationSeconds: 10, bounds: {maxRecoveryMilliseconds: 10000}", "the fault ends before"),
    ] {
        let Err(said) = apply(&paris, "senseless", &spec(rest)) else {
            return Err(format!("{rest} was accepted"));
        };
        check(said.contains(expected), || format!("{rest}: {said}"))?;
    }
    for (peering, fault, expected) in [
        ("rome", "{type: GatewayCrash}", "there is no ClusterPeering"),
        ("osaka", "{type: GatewayCrash, gateway: nobody}", "there is no gateway pod"),
        ("osaka", "{type: GatewayCrash}", "the last path"),
    ] {
        let spec = format!(
            "{{peering: {peering}, fault: {fault}, durationSeconds: 9, bounds: {{maxLossPercent: 5}}}}"
        );
        apply(&paris, "senseless", &spec)?;
        let object =
            until(&paris, "senseless", "a verdict", |status| status["verdict"].is_string())?;
        let said = brief(&object);
        check(said.contains("Refused") && said.contains(expected), || said)?;
    }
    remove(&paris, "senseless");
    Ok(())
}

fn partition(lab: &Lab) -> Outcome {
    let (paris, osaka) = willing(lab, 1)?;
    let witness = Witness::start(&paris, &osaka)?;
    let bounds = ["--max-recovery=4000", "--connections-survive"];
    let flags = ["--fault=partition", "--allow-outage", "--duration=2"];
    let (code, object) = run(&paris, "partition", &[&flags[..], &bounds].concat())?;
    passed(code, &object)?;
    witness.agrees_on_gaps(&object, true)?;
    let news = ["get", "events", "--all-namespaces", "--field-selector=reason=PeerDrillBegan"];
    text(wait_until(SOON, "an Event in osaka", || {
        let list = text(osaka.kubectl_json(&news))?;
        let count = list["items"].as_array().map_or(0, Vec::len);
        check(count > 0, || list.to_string())
    }))?;
    let report = text(carrick::command(&paris, &["drill", "report", "partition"]))?;
    check(report.contains("<svg") && report.contains("verdict Passed"), || report)
}

/// A loss that nothing can avoid, in one direction.
fn loss(lab: &Lab) -> Outcome {
    let (paris, osaka) = willing(lab, 1)?;
    let witness = Witness::start(&paris, &osaka)?;
    let fault = ["--fault=path-loss", "--loss=4", "--direction=outbound", "--duration=5"];
    let (code, object) = run(&paris, "loss", &[&fault[..], &["--max-loss=0.5"]].concat())?;
    check(code == 1, || format!("ended with {code}: {}", brief(&object)))?;
    witness.agrees_on_loss(&object)
}

fn latency(lab: &Lab) -> Outcome {
    let (paris, osaka) = willing(lab, 1)?;
    let witness = Witness::sparing(&paris, &osaka)?;
    let from = pod_network(&paris, &last(&paris))?;
    let flow = Flow::start(&from, target(&osaka, &last(&osaka), 2)?)?;
    let fault = ["--fault=path-degraded", "--latency=150", "--jitter=10", "--duration=4"];
    let (code, object) =
        run(&paris, "latency", &[&fault[..], &["--connections-survive"]].concat())?;
    let record = flow.stop();
    passed(code, &object)?;
    let (from, to) = witness.acted(&object)?;
    let independent = |percent| record.round_trip(from, to - CROSSING, percent);
    let (found, others) = (witness.round_trip(&object)?, independent(50));
    let spread = independent(95) - independent(5);
    let said = format!(
        "round trips took {} ms by the drill while the fault acted, {} ms independently, nine of ten within {} ms",
        found.as_millis(),
        others.as_millis(),
        spread.as_millis()
    );
    figure(&said);
    // Both ways are hit.
    let late = found >= Duration::from_millis(300) && found.abs_diff(others) <= EXACT;
    check(late && VARIED.contains(&spread), || said)
}

fn unlinked(lab: &Lab) -> Outcome {
    let (paris, osaka) = willing(lab, 1)?;
    let witness = Witness::start(&paris, &osaka)?;
    let node = format!("--node={}", last(&paris));
    let fault = ["--fault=agent-link-lost", "--duration=3", &node];
    let (code, object) = run(&paris, "unlinked", &[&fault[..], &NO_LOSS].concat())?;
    passed(code, &object)?;
    witness.agrees_on_nothing(&object)?;
    let injected = &object["status"]["injected"];
    check(injected["node"] == *last(&paris), || injected.to_string())?;
    let (from, to) = witness.acted(&object)?;
    check(to - from >= Duration::from_secs(3), || format!("it acted for {:?}", to - from))
}

/// That the controller asks nothing of the API server is seen by its Lease.
fn cut_off(lab: &Lab) -> Outcome {
    let (paris, osaka) = willing(lab, 1)?;
    let witness = Witness::start(&paris, &osaka)?;
    let lease = || renewed(&paris);
    let before = lease()?;
    let stop = AtomicBool::new(false);
    let (ended, pause) = std::thread::scope(|scope| {
        let watching = scope.spawn(|| {
            let (mut seen, mut pause) = (before, Duration::ZERO);
            while !stop.load(Ordering::Relaxed) {
                let now = lease()?;
                pause = pause.max(Duration::try_from(now.duration_since(seen)).unwrap_or_default());
                seen = now;
                std::thread::sleep(Duration::from_millis(200));
            }
            Ok::<_, String>(pause)
        });
        let fault = ["--fault=api-server-unreachable", "--duration=5"];
        let ended = run(&paris, "cut-off", &[&fault[..], &NO_LOSS].concat());
        stop.store(true, Ordering::Relaxed);
        (ended, watching.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    let ((code, object), pause) = (ended?, pause?);
    passed(code, &object)?;
    witness.agrees_on_nothing(&object)?;
    let refused = object["status"]["injected"]["requestsRefused"].as_u64().unwrap_or(0);
    figure(&format!("{refused} requests refused; the Lease was not renewed for {pause:?}"));
    check(refused > 0 && pause >= Duration::from_secs(5), || {
        format!("{refused} requests refused, and renewed after {pause:?}")
    })
}

/// When the controller in charge renewed its Lease.
fn renewed(cluster: &Cluster) -> Result<Timestamp, String> {
    let get = ["get", "lease/carrick-controller", "--namespace", carrick::NAMESPACE];
    let lease = text(cluster.kubectl_json(&get))?;
    text(lease["spec"]["renewTime"].as_str().unwrap_or_default().parse())
}

fn deleted(lab: &Lab) -> Outcome {
    let (paris, osaka) = willing(lab, 1)?;
    let witness = Witness::start(&paris, &osaka)?;
    let fault = "peering: osaka, fault: {type: Partition}, durationSeconds: 300, allowOutage: true";
    let spec = format!("{{{fault}, bounds: {{maxLossPercent: 100}}}}");
    apply(&paris, "endless", &spec)?;
    until(&paris, "endless", "the fault", |status| status["phase"] == "Injecting")?;
    apply(&paris, "second", &spec)?;
    let second = until(&paris, "second", "a verdict", |status| status["verdict"].is_string())?;
    let said = brief(&second);
    check(said.contains("Refused") && said.contains("endless"), || said)?;
    remove(&paris, "second");
    let deleted = Instant::now();
    text(carrick::command(&paris, &["drill", "abort", "endless"]))?;
    let back = witness.back_after(deleted)?;
    figure(&format!("traffic both ways {} ms after the deletion", back.as_millis()));
    check(back < SOON, || format!("traffic came back after {back:?}"))?;
    ready(&paris, &osaka)
}

/// Whoever injects knows when to end: not when it is alone, and not later.
fn orphaned(lab: &Lab) -> Outcome {
    let (paris, osaka) = willing(lab, 1)?;
    let witness = Witness::start(&paris, &osaka)?;
    let fault = "peering: osaka, fault: {type: Partition}, allowOutage: true";
    let length = ORPHANED.as_secs();
    let spec = format!("{{{fault}, durationSeconds: {length}, bounds: {{maxLossPercent: 100}}}}");
    apply(&paris, "orphaned", &spec)?;
    until(&paris, "orphaned", "the fault", |status| status["phase"] == "Injecting")?;
    let begun = Instant::now();
    let outcome = without_control_plane(&paris, || {
        let alone = Instant::now();
        witness.back_after(alone)?;
        let said = format!(
            "without controller and API server {:.1} s after the fault began, traffic both ways after {:.1} s of {length}",
            (alone - begun).as_secs_f64(),
            begun.elapsed().as_secs_f64()
        );
        figure(&said);
        // The phase is seen a moment after it began, and paths are used again a second after they are heard.
        let expected = ORPHANED.saturating_sub(MOMENT)..ORPHANED + MOMENT;
        let in_time = alone + MOMENT < begun + expected.start;
        check(in_time && expected.contains(&begun.elapsed()), || said)
    });
    recovered(&paris, &osaka)?;
    outcome?;
    let object = until(&paris, "orphaned", "a verdict", |status| status["verdict"].is_string())?;
    figure(&brief(&object));
    remove(&paris, "orphaned");
    Ok(())
}

/// A gateway that falls silent, one that leaves, and one with a path that is to be avoided.
fn two_gateways(lab: &Lab) -> Outcome {
    let (paris, osaka) = willing(lab, 2)?;
    let hit = twice(|| crash(&paris, &osaka))
        .and_then(|()| drain(&paris, &osaka))
        .and_then(|()| twice(|| avoided(lab, &paris, &osaka)));
    upgrade(lab, (&paris, &osaka), 1)?;
    hit
}

/// Again if it fails: gateways notice a fault up to 100 ms apart, and once in fifty runs none of a node's 16
/// streams goes by one of the two that the witness sees, or the other way round. That hardly happens twice in a row.
fn twice(compare: impl Fn() -> Outcome) -> Outcome {
    compare().or_else(|first| {
        figure(&format!("once more, since: {first}"));
        compare()
    })
}

fn crash(paris: &Cluster, osaka: &Cluster) -> Outcome {
    let witness = Witness::start(paris, osaka)?;
    let bounds = ["--max-recovery=3000", "--connections-survive"];
    let flags = ["--fault=gateway-crash", "--gateway=carrick-gateway-1", "--duration=4"];
    let (code, object) = run(paris, "crash", &[&flags[..], &bounds].concat())?;
    passed(code, &object)?;
    witness.agrees_on_gaps(&object, false)
}

fn drain(paris: &Cluster, osaka: &Cluster) -> Outcome {
    let witness = Witness::start(paris, osaka)?;
    let fault = ["--fault=gateway-drain", "--duration=3"];
    let (code, object) = run(paris, "drain", &[&fault[..], &NO_LOSS].concat())?;
    passed(code, &object)?;
    witness.agrees_on_nothing(&object)
}

fn avoided(lab: &Lab, paris: &Cluster, osaka: &Cluster) -> Outcome {
    // One that lost packets before is not used for a minute, and longer each time.
    restart(paris, GATEWAYS)?;
    rolled_out(paris)?;
    ready(paris, osaka)?;
    both_used(lab, paris)?;
    let witness = Witness::start(paris, osaka)?;
    let fault = ["--fault=path-loss", "--loss=30", "--duration=8"];
    // Nodes leave the gateway, and the peer's gateways its tunnels, long before the fault ends.
    let bounds = ["--max-recovery=3000", "--connections-survive"];
    let (code, object) = run(paris, "avoided", &[&fault[..], &bounds].concat())?;
    passed(code, &object)?;
    let rows = object["status"]["streams"].as_array().into_iter().flatten();
    let lost: u64 = rows.filter_map(|row| row["lost"].as_u64()).sum();
    check(lost > 0, || format!("no flow was hit at all: {}", brief(&object)))?;
    witness.agrees_on_avoidance(&object)
}

fn passed(code: i32, object: &Value) -> Outcome {
    figure(&brief(object));
    check(code == 0, || format!("ended with {code}: {}", brief(object)))
}
