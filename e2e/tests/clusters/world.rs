//! The lab that all cases share: made by the first that needs it, removed at the end.

use std::sync::{Mutex, PoisonError};

use carrick_e2e::cluster::Cluster;
use carrick_e2e::progress::Progress;
use carrick_e2e::{Lab, LabSpec};

/// What a case gives back: what it found wrong, in words.
pub type Outcome = Result<(), String>;

/// A case.
pub type Case = fn(&Lab) -> Outcome;

enum World {
    Unmade,
    Up(Lab),
    Failed(String),
}

static WORLD: Mutex<World> = Mutex::new(World::Unmade);

/// Runs a case on the lab.
pub fn with(case: &Case) -> Outcome {
    let mut world = WORLD.lock().unwrap_or_else(PoisonError::into_inner);
    if matches!(*world, World::Unmade) {
        *world = match make() {
            Ok(lab) => World::Up(lab),
            Err(error) => World::Failed(error),
        };
    }
    match &*world {
        World::Up(lab) => case(lab),
        World::Failed(error) => Err(format!("there is no lab: {error}")),
        World::Unmade => Err("the lab was not made".to_owned()),
    }
}

/// Removes the lab.
pub fn end() {
    *WORLD.lock().unwrap_or_else(PoisonError::into_inner) = World::Unmade;
}

fn make() -> Result<Lab, String> {
    let progress = Progress::default();
    let spec = LabSpec { name: "test".to_owned(), ..LabSpec::default() };
    // A guard before the first step: a failed start is removed as well.
    let lab = Lab::up(&spec, &progress).inspect_err(|_| {
        if let Err(error) = Lab::down(&spec.name, &progress) {
            progress.say(&format!("the failed lab was not removed: {error}"));
        }
    });
    let lab = lab.map_err(|error| error.to_string())?.remove_on_drop();
    for cluster in lab.clusters() {
        start_probes(&cluster, &tag(&lab)?)?;
    }
    Ok(lab)
}

fn tag(lab: &Lab) -> Result<String, String> {
    lab.image_tag().map_err(|error| error.to_string())
}

/// One probe pod a node, named like its node, and a Service over them.
fn start_probes(cluster: &Cluster, tag: &str) -> Outcome {
    let pods = cluster.plan().nodes.iter().map(|node| {
        format!(
            "apiVersion: v1\nkind: Pod\n\
             metadata: {{name: probe-{0}, namespace: default, labels: {{app: probe}}}}\n\
             spec:\n  nodeSelector: {{kubernetes.io/hostname: {0}}}\n  \
             tolerations: [{{operator: Exists}}]\n  terminationGracePeriodSeconds: 0\n  \
             containers: [{{name: probe, image: \"carrick-probe:{tag}\", args: [serve]}}]\n---\n",
            node.name
        )
    });
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: probe, namespace: default}\n\
        spec:\n  type: NodePort\n  selector: {app: probe}\n  \
        ports: [{port: 8080, nodePort: 30080}]\n";
    let all = pods.chain([service.to_owned()]).collect::<String>();
    cluster.apply(&all).map_err(|error| error.to_string())?;
    let ready = ["wait", "--for=condition=Ready", "--timeout=60s", "pods", "--selector=app=probe"];
    cluster.kubectl(&ready).map(drop).map_err(|error| error.to_string())
}
