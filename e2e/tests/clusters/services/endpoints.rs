//! How soon an endpoint that becomes ready, is ready no more or dies is so in the slices of the other cluster. Not part of
//! the usual tests: `cargo drills services::endpoints`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use carrick_e2e::Lab;
use carrick_e2e::cluster::Cluster;
use carrick_e2e::spread::Spread;
use carrick_e2e::wait::wait_until;
use serde_json::json;

use super::figures::{keep, tell};
use super::policy::{BACK, served_by};
use super::{consent, export, gone, imported, object, sharing};
use crate::api::{Api, Event, Feed};
use crate::common::{check, holds, text};
use crate::table::record::wanted;
use crate::world::{Case, Outcome};

/// The measurement.
pub const CASES: &[(&str, Case)] =
    &[("services::endpoints::a_change_is_in_the_other_clusters_slices", changes)];

/// A change, or a pod that starts, may take so long.
const LIMIT: Duration = Duration::from_secs(60);

/// Between two changes: a slice is written ten times a second at most, which is not what is looked for.
const PAUSE: Duration = Duration::from_millis(500);

/// By this condition of the pod the API decides whether it is ready, and no probe with a period of its own.
const GATE: &str = "carrick.dev/e2e";

const NAME: &str = "gated";

const PODS: &str = "/api/v1/namespaces/default/pods/gated";
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
const MARK: &str = "/api/v1/namespaces/default/configmaps/mark";

/// What happens to an endpoint, and how long it took to be seen.
struct Change {
    /// In the slices of the cluster that exports.
    at_home: Spread,
    /// From there to the slices of the cluster that imports.
    across: Spread,
}

impl Change {
    fn of(what: &str) -> Self {
        Self {
            at_home: Spread::of(&format!("{what}: in the exporting cluster's own slice")),
            across: Spread::of(&format!("{what}: from there to the other cluster's slice")),
        }
    }
}

/// What a bare write takes to be seen by who watches, in each cluster.
struct Marks {
    rounds: [Spread; 2],
    feeds: [Feed; 2],
}

impl Marks {
    fn of(apis: [&Api; 2]) -> Result<Self, String> {
        const MARKS: &str =
            "/api/v1/namespaces/default/configmaps?fieldSelector=metadata.name%3Dmark";
        Ok(Self {
            rounds: ["paris", "osaka"]
                .map(|name| Spread::of(&format!("a bare write, seen by a watch in {name}"))),
            feeds: [apis[0].watch(MARKS)?, apis[1].watch(MARKS)?],
        })
    }

    fn look(&mut self, apis: [&Api; 2]) -> Outcome {
        for ((api, feed), round) in apis.into_iter().zip(&self.feeds).zip(&mut self.rounds) {
            let began = Instant::now();
            let stamp = format!("{began:?}");
            api.patch(MARK, &json!({ "data": { "stamp": stamp } }))?;
            let seen = feed.wait("a bare write", LIMIT, |events| {
                events.iter().find(|e| e.object["data"]["stamp"] == stamp).map(|event| event.at)
            })?;
            round.add(seen - began);
        }
        Ok(())
    }
}

/// Both clusters, and what is watched of them.
struct Rig {
    osaka: Cluster,
    api: Api,
    home: Feed,
    away: Feed,
    pod: String,
}

impl Rig {
    /// Has the endpoint changed, and counts how long that took to be seen, after a time in which nothing changes.
    fn change(
        &self,
        what: &mut Change,
        address: &str,
        ready: bool,
        act: impl FnOnce() -> Outcome,
    ) -> Outcome {
        std::thread::sleep(PAUSE);
        let began = Instant::now();
        act()?;
        let home = seen(&self.home, "the own slice", address, ready, began)?;
        let away = seen(&self.away, "the other cluster's slice", address, ready, began)?;
        what.at_home.add(home - began);
        what.across.add(away.saturating_duration_since(home));
        Ok(())
    }

    fn gate(&self, open: bool) -> Outcome {
        let status = if open { "True" } else { "False" };
        let conditions = json!([{ "type": GATE, "status": status }]);
        let patch = json!({ "status": { "conditions": conditions } });
        self.api.patch(&format!("{PODS}/status"), &patch)
    }

    /// Starts the pod, and gives its address once its container is ready.
    fn start(&self) -> Result<String, String> {
        text(self.osaka.apply(&self.pod))?;
        text(wait_until(LIMIT, "the pod to run", || {
            let pod = object(&self.osaka, "pod", NAME)?;
            let runs = holds(&pod, "ContainersReady", "True");
            let address = pod["status"]["podIP"].as_str().unwrap_or_default().to_owned();
            check(runs && !address.is_empty(), || pod["status"].to_string()).map(|()| address)
        }))
    }
}

/// When slices said after `began` that an endpoint is ready, or is not.
fn seen(
    feed: &Feed,
    what: &str,
    address: &str,
    ready: bool,
    began: Instant,
) -> Result<Instant, String> {
    feed.wait(&format!("{address} in {what}, ready: {ready}"), LIMIT, |events| {
        let (mut slices, mut since) = (BTreeMap::new(), None);
        for event in events {
            follow(&mut slices, event);
            let is = slices.values().any(|slice: &BTreeSet<String>| slice.contains(address));
            since = match since {
                _ if is != ready => None,
                None => Some(event.at),
                since => since,
            };
        }
        since.filter(|at| *at >= began)
    })
}

/// Keeps the ready addresses of each slice.
fn follow(slices: &mut BTreeMap<String, BTreeSet<String>>, event: &Event) {
    let name = event.object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    if event.deleted {
        slices.remove(&name);
        return;
    }
    let endpoints = event.object["endpoints"].as_array().into_iter().flatten();
    let ready = endpoints.filter(|endpoint| endpoint["conditions"]["ready"] == true);
    let addresses = ready.filter_map(|endpoint| endpoint["addresses"][0].as_str());
    slices.insert(name, addresses.map(str::to_owned).collect());
}

/// A Service over a pod that stays and one whose readiness the case decides.
fn objects(tag: &str) -> [String; 2] {
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: gated, namespace: default}\n\
        spec: {selector: {app: gated}, ports: [{name: web, port: 80, targetPort: 8080}]}\n---\n";
    let pod = |name: &str, more: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: default, labels: {{app: gated}}}}\n\
             spec:\n  {more}tolerations: [{{operator: Exists}}]\n  terminationGracePeriodSeconds: 0\n  \
             containers: [{{name: probe, image: \"carrick-probe:{tag}\", args: [serve]}}]\n---\n"
        )
    };
    let gate = format!("readinessGates: [{{conditionType: {GATE}}}]\n  ");
    [[service, &pod("stays", ""), &export(NAME)].concat(), pod(NAME, &gate)]
}

fn changes(lab: &Lab) -> Outcome {
    let (paris, osaka) = sharing(lab)?;
    consent(&paris, &osaka)?;
    let mark = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: mark, namespace: default}\n";
    for cluster in [&paris, &osaka] {
        text(cluster.apply(mark))?;
    }
    let [rest, pod] = objects(&text(lab.image_tag())?);
    let delete = ["delete", "pods", "--selector=app=gated", "--ignore-not-found", "--force"];
    text(osaka.kubectl(&delete))?;
    text(osaka.apply(&rest))?;
    imported(&paris, NAME)?;
    // A cluster is trusted some seconds after it was reached first.
    served_by(&paris, NAME, &["osaka"], BACK)?;
    let measured = measure(lab, &paris, &osaka, pod);
    text(osaka.kubectl(&["delete", "serviceexport/gated", "service/gated"]))?;
    text(osaka.kubectl(&delete))?;
    gone(&paris, NAME)?;
    measured
}

fn measure(lab: &Lab, paris: &Cluster, osaka: &Cluster, pod: String) -> Outcome {
    let (own, other) = (Api::start(osaka)?, Api::start(paris)?);
    let home =
        own.watch(&format!("{SLICES}?labelSelector=kubernetes.io%2Fservice-name%3D{NAME}"))?;
    let imports = "multicluster.kubernetes.io%2Fservice-name";
    let away = other.watch(&format!("{SLICES}?labelSelector={imports}%3D{NAME}"))?;
    let mut marks = Marks::of([&other, &own])?;
    let rig = Rig { osaka: osaka.clone(), api: Api::start(osaka)?, home, away, pod };
    let mut all = ["becomes ready", "is ready no more", "dies"].map(Change::of);
    for _ in 0..wanted()? {
        let address = rig.start()?;
        let [ready, unready, dies] = &mut all;
        rig.change(ready, &address, true, || rig.gate(true))?;
        rig.change(unready, &address, false, || rig.gate(false))?;
        rig.change(ready, &address, true, || rig.gate(true))?;
        rig.change(dies, &address, false, || rig.api.delete(PODS))?;
        marks.look([&other, &own])?;
        keep(lab, "services-endpoints", &spreads(&all, &marks))?;
    }
    tell(lab, "services-endpoints", &spreads(&all, &marks))
}

/// All that was measured, and at the end what counts: all changes together.
fn spreads(changes: &[Change], marks: &Marks) -> Vec<Spread> {
    let together = |what: &str, of: fn(&Change) -> &Spread| Spread {
        what: what.to_owned(),
        ms: changes.iter().flat_map(|change| of(change).ms.clone()).collect(),
    };
    let single = changes.iter().flat_map(|change| [change.at_home.clone(), change.across.clone()]);
    let both = [
        together("any change: in the exporting cluster's own slice", |change| &change.at_home),
        together("any change: from there to the other cluster's slice", |change| &change.across),
    ];
    single.chain(marks.rounds.clone()).chain(both).collect()
}
