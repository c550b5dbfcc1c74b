//! A hundred pods that are replaced while they serve another cluster: no connection fails, and the slices there are written
//! rarely enough. Their own cluster connects to them as well, to tell what a busy machine does by itself.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use carrick_e2e::Lab;
use carrick_e2e::cluster::{CONTROL_PLANE_PROCESSES, Cluster};
use carrick_e2e::wait::wait_until;

use super::goal::Goals;
use crate::api::{Api, Event, Feed};
use crate::common::{Fault, change_peering, check, figure, pod_network, supervise, text};
use crate::services::knock::{Knocks, page};
use crate::services::{consent, export, gone, imported, of_import, sharing};
use crate::traffic::last;
use crate::world::Outcome;

/// How many pods there are.
const PODS: usize = 100;

/// How many more of them there are while they are replaced.
const AT_ONCE: usize = 4;

/// A hundred pods that start on two nodes of a busy machine.
const STARTED: Duration = Duration::from_secs(600);

/// Writes of one slice a second.
const WRITES: f64 = 10.0;

const SECOND: Duration = Duration::from_secs(1);

const NAME: &str = "roll";

/// Nodes of this machine that start pods give nobody a turn for half a second at times, and a cluster that is silent for 300 ms
/// counts as lost. Failover is not what is looked at.
const PATIENT: &str = r#"{"detectionMilliseconds":3000}"#;

/// Asks for the Service's address in its own cluster.
const ADDRESS: [&str; 4] = ["get", "service", "roll", "--output=jsonpath={.spec.clusterIP}"];

/// Pods that are replaced as Kubernetes advises: they serve on for some seconds after they were taken out of the slices.
/// Few at a time: two cores have no turn for anything else while a quarter of them starts, which is the default.
fn objects(tag: &str) -> String {
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: roll, namespace: default}\n\
        spec: {selector: {app: roll}, ports: [{name: web, port: 80, targetPort: 8080}]}\n---\n";
    let deployment = format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: roll, namespace: default}}\n\
         spec:\n  replicas: {PODS}\n  strategy: {{rollingUpdate: {{maxSurge: {AT_ONCE}, maxUnavailable: 0}}}}\n  \
         selector: {{matchLabels: {{app: roll}}}}\n  template:\n    \
         metadata: {{labels: {{app: roll}}}}\n    spec:\n      tolerations: [{{operator: Exists}}]\n      \
         terminationGracePeriodSeconds: 8\n      containers:\n      - name: probe\n        \
         image: \"carrick-probe:{tag}\"\n        args: [serve]\n        \
         readinessProbe: {{tcpSocket: {{port: 8080}}, periodSeconds: 1}}\n        \
         lifecycle: {{preStop: {{sleep: {{seconds: 5}}}}}}\n---\n"
    );
    [service, &deployment, &export(NAME)].concat()
}

pub fn a_hundred_pods(lab: &Lab) -> Outcome {
    let (paris, osaka) = sharing(lab)?;
    consent(&paris, &osaka)?;
    let restore = || patiently(&paris, &osaka, "null");
    let _patience = Fault(&restore);
    patiently(&paris, &osaka, PATIENT)?;
    text(osaka.apply(&objects(&text(lab.image_tag())?)))?;
    let measured = roll(&paris, &osaka);
    text(osaka.kubectl(&["delete", "serviceexport/roll", "service/roll", "deployment/roll"]))?;
    gone(&paris, NAME)?;
    let pods = ["wait", "--for=delete", "pods", "--selector=app=roll", "--timeout=120s"];
    text(osaka.kubectl(&pods))?;
    measured
}

/// Has both clusters lose each other later.
fn patiently(paris: &Cluster, osaka: &Cluster, failover: &str) -> Outcome {
    let change = format!(r#"{{"spec":{{"failover":{failover}}}}}"#);
    change_peering(paris, "osaka", &change)?;
    change_peering(osaka, "paris", &change)
}

/// Replaces all pods while a pod of paris connects to them.
fn roll(paris: &Cluster, osaka: &Cluster) -> Outcome {
    let began = Instant::now();
    rolled_out(osaka)?;
    let (_, address) = imported(paris, NAME)?;
    text(wait_until(STARTED, "all pods in the slices of paris", || {
        let slices = of_import(paris, "default", "endpointslices", NAME)?;
        let endpoints = slices.iter().filter_map(|slice| slice["endpoints"].as_array()).flatten();
        let ready = endpoints.filter(|one| one["conditions"]["ready"] == true).count();
        check(ready == PODS, || format!("{ready} of {PODS} are ready"))
    }))?;
    figure(&format!(
        "{PODS} pods serve {:.0} s after they were made",
        began.elapsed().as_secs_f64()
    ));
    let target: SocketAddr = text(format!("{address}:80").parse())?;
    let own: SocketAddr = text(format!("{}:80", text(osaka.kubectl(&ADDRESS))?.trim()).parse())?;
    let served = |cluster, target| {
        let network = pod_network(cluster, &last(cluster))?;
        text(wait_until(STARTED, "a page", || page(&network, target).map(drop)))?;
        Ok::<_, String>(network)
    };
    let (network, own_network) = (served(paris, target)?, served(osaka, own)?);
    let api = Api::start(paris)?;
    let feed = api.watch(
        "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices\
         ?labelSelector=multicluster.kubernetes.io%2Fservice-name%3Droll",
    )?;
    let began = Instant::now();
    let knocks = Knocks::start(vec![network], target);
    let own = Knocks::start(vec![own_network], own);
    let rolled = restart(osaka);
    let (knocks, own) = (knocks.stop(), own.stop());
    rolled?;
    let (knocks, own, took) = (knocks?, own?, began.elapsed());
    let mut goals = Goals::default();
    written(&feed, took, &mut goals)?;
    let slowest = knocks.iter().map(|knock| knock.ended - knock.begun).max().unwrap_or_default();
    figure(&format!(
        "{} connections while {PODS} pods were replaced in {:.0} s, the slowest {} ms",
        knocks.len(),
        took.as_secs_f64(),
        slowest.as_millis()
    ));
    let failed = knocks.iter().filter_map(|knock| Some((knock, knock.server.as_ref().err()?)));
    for (knock, error) in failed.clone().take(10) {
        figure(&format!("{:.1} s: {error}", (knock.begun - began).as_secs_f64()));
    }
    let own_failed = own.iter().filter(|knock| knock.server.is_err()).count();
    figure(&format!("of {} connections within osaka {own_failed} failed", own.len()));
    check(!knocks.is_empty(), || "no connection was begun".to_owned())?;
    goals.at_most("connections that failed", failed.count() as f64, 0.0);
    goals.outcome()
}

fn restart(osaka: &Cluster) -> Outcome {
    text(osaka.kubectl(&["rollout", "restart", "deployment/roll"]))?;
    rolled_out(osaka)?;
    // Those that were replaced serve on for a while.
    text(wait_until(STARTED, "the end of the last pod that was replaced", || {
        let list = ["get", "pods", "--selector=app=roll", "--output=name"];
        let left = text(osaka.kubectl(&list))?.lines().count();
        check(left == PODS, || format!("{left} pods"))
    }))
}

fn rolled_out(osaka: &Cluster) -> Outcome {
    let look = ["rollout", "status", "deployment/roll", "--timeout=5s"];
    text(wait_until(STARTED, "the Deployment", || {
        supervise(osaka, &CONTROL_PLANE_PROCESSES)?;
        text(osaka.kubectl(&look))
    }))
    .map(drop)
}

/// How often each slice was written.
fn written(feed: &Feed, took: Duration, goals: &mut Goals) -> Outcome {
    let slices = feed.wait("slices", SECOND, |events| Some(by_slice(events)))?;
    let all: usize = slices.values().map(Vec::len).sum();
    figure(&format!(
        "{all} writes of {} slices, {:.1} a second and slice",
        slices.len(),
        all as f64 / took.as_secs_f64() / slices.len().max(1) as f64
    ));
    check(all > 0, || "no slice was written".to_owned())?;
    let busiest = slices.values().map(|times| busiest(times)).max().unwrap_or_default();
    goals.at_most("writes of a slice in a second, the most", busiest as f64, WRITES);
    Ok(())
}

/// When each slice was written. What a watch says first of each is how it was.
fn by_slice(events: &[Event]) -> BTreeMap<String, Vec<Instant>> {
    let mut slices: BTreeMap<String, Vec<Instant>> = BTreeMap::new();
    for event in events {
        let name = event.object["metadata"]["name"].as_str().unwrap_or_default();
        match slices.get_mut(name) {
            Some(times) => times.push(event.at),
            None => drop(slices.insert(name.to_owned(), Vec::new())),
        }
    }
    slices
}

/// The most times within any second.
fn busiest(times: &[Instant]) -> usize {
    let within =
        |first: &Instant| times.iter().filter(|at| (*first..*first + SECOND).contains(*at)).count();
    times.iter().map(within).max().unwrap_or_default()
}
