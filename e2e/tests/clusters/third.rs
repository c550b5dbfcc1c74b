//! A third cluster joins two, and leaves again. It has a lab of its own: the others need none of that.

use std::time::Duration;

use carrick_e2e::cluster::Cluster;
use carrick_e2e::progress::Progress;
use carrick_e2e::{Lab, LabSpec, carrick, probes};

use crate::common::{
    SOON, check, fetches, figure, install, node_names, peered, pod_network, rolled_out, target,
    text,
};
use crate::flow::Flow;
use crate::world::{Case, Outcome};

/// All cases, in order.
pub const CASES: &[(&str, Case)] =
    &[("third::a_third_cluster_does_not_disturb_two", a_third_cluster_joins)];

/// What a change of the third cluster that comes late would need.
const LATE: Duration = Duration::from_secs(2);

fn a_third_cluster_joins(_: &Lab) -> Outcome {
    let spec =
        LabSpec { name: "test-third".to_owned(), clusters: 3, nodes: 1, ..LabSpec::default() };
    let progress = Progress::default();
    let lab = Lab::up(&spec, &progress).inspect_err(|_| {
        if let Err(error) = Lab::down(&spec.name, &progress) {
            progress.say(&format!("the failed lab was not removed: {error}"));
        }
    });
    let lab = text(lab)?.remove_on_drop();
    let tag = text(lab.image_tag())?;
    for cluster in lab.clusters() {
        text(probes::start(&cluster, &tag))?;
    }
    let (paris, osaka) = peered(&lab)?;
    let lima = text(lab.cluster("lima"))?;
    let from = pod_network(&paris, &first(&paris))?;
    let flow = Flow::start(&from, target(&osaka, &first(&osaka), 2)?)?;
    install(&lab, &lima)?;
    rolled_out(&lima)?;
    for other in [&paris, &osaka] {
        text(carrick::peer(other, &lima))?;
    }
    for other in [&paris, &osaka] {
        text(carrick::wait_condition(other, "lima", "Ready", "True", SOON))?;
        text(carrick::wait_condition(&lima, &other.plan().name, "Ready", "True", SOON))?;
        fetches((other, &first(other)), (&lima, &first(&lima)), 2000)?;
        fetches((&lima, &first(&lima)), (other, &first(other)), 2000)?;
    }
    for other in [&paris, &osaka] {
        text(other.kubectl(&["delete", "clusterpeering", "lima"]))?;
    }
    flow.run_until(std::time::Instant::now(), LATE);
    let record = flow.stop();
    figure(&format!("while a third cluster came and went: {}", record.summary()));
    check(record.lost() == 0, || record.summary())
}

fn first(cluster: &Cluster) -> String {
    node_names(cluster).swap_remove(0)
}
