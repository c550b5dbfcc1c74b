//! Gateways come, are replaced and go under two-way traffic of pods, and so are agents.

use carrick_e2e::Lab;
use carrick_e2e::carrick;
use carrick_e2e::cluster::Cluster;

use crate::common::{GATEWAYS, figure, node_names, peered, ready, restart, rolled_out, text};
use crate::drops::Drops;
use crate::failover::both_used;
use crate::flow::Record;
use crate::traffic::{Traffic, nothing_lost};
use crate::world::{Case, Outcome};

/// All cases, in order; the last leaves one gateway in each cluster.
pub const CASES: &[(&str, Case)] = &[
    ("upgrade::second_gateway_comes", comes),
    ("upgrade::gateways_are_replaced", gateways_replaced),
    ("upgrade::agents_are_replaced", agents_replaced),
    ("upgrade::second_gateway_goes", goes),
];

/// How many flows each way: enough that every gateway has some.
const FLOWS: usize = 6;

fn comes(lab: &Lab) -> Outcome {
    let (paris, osaka) = peered(lab)?;
    gateways(lab, &paris, 1)?;
    under_traffic(&paris, &osaka, "a second gateway comes", || {
        gateways(lab, &paris, 2)?;
        both_used(lab, &paris)
    })
}

fn gateways_replaced(lab: &Lab) -> Outcome {
    replaced(lab, GATEWAYS)
}

fn agents_replaced(lab: &Lab) -> Outcome {
    replaced(lab, "daemonset/carrick-agent")
}

/// Replaces all pods of a part of Carrick on one side, which has two gateways like the other.
fn replaced(lab: &Lab, workload: &str) -> Outcome {
    let (paris, osaka) = peered(lab)?;
    for cluster in [&paris, &osaka] {
        gateways(lab, cluster, 2)?;
        both_used(lab, cluster)?;
    }
    under_traffic(&paris, &osaka, &format!("{workload} of one side replaced"), || {
        restart(&paris, workload)?;
        rolled_out(&paris)?;
        both_used(lab, &paris)
    })
}

fn goes(lab: &Lab) -> Outcome {
    let (paris, osaka) = peered(lab)?;
    gateways(lab, &paris, 2)?;
    both_used(lab, &paris)?;
    let outcome =
        under_traffic(&paris, &osaka, "the second gateway goes", || gateways(lab, &paris, 1));
    gateways(lab, &osaka, 1)?;
    ready(&paris, &osaka)?;
    outcome
}

/// Has so many gateways in a cluster.
pub fn gateways(lab: &Lab, cluster: &Cluster, replicas: usize) -> Outcome {
    let value = format!("gateway.replicas={replicas}");
    text(carrick::upgrade(cluster, &text(lab.image_tag())?, &[&value]))?;
    rolled_out(cluster)
}

/// Does something while pods of all nodes talk to each other, prints what each flow lost, and demands that nothing is
/// lost.
fn under_traffic(
    paris: &Cluster,
    osaka: &Cluster,
    what: &str,
    work: impl FnOnce() -> Outcome,
) -> Outcome {
    let (records, outcome) = observed(paris, osaka, what, work)?;
    records.iter().map(nothing_lost).fold(outcome, Result::and)
}

/// Does something while pods of all nodes talk to each other, and prints what each flow lost; the flows, both ways, and
/// what came of it.
pub fn observed(
    paris: &Cluster,
    osaka: &Cluster,
    what: &str,
    work: impl FnOnce() -> Outcome,
) -> Result<(Vec<[Record; 2]>, Outcome), String> {
    let (here, there) = (node_names(paris), node_names(osaka));
    let pairs = here.iter().cycle().zip(there.iter().cycle().skip(1)).take(FLOWS);
    let traffic: Result<Vec<Traffic>, String> =
        pairs.map(|(one, other)| Traffic::start((paris, one), (osaka, other))).collect();
    let traffic = traffic?;
    let before = Drops::read(&[paris, osaka]);
    let outcome = work().and_then(|()| ready(paris, osaka));
    let rows: Result<Vec<[Record; 2]>, String> = (0..)
        .zip(traffic)
        .map(|(number, traffic)| traffic.row(&format!("{what}: flow {number}")))
        .collect();
    let rows = rows?;
    if rows.iter().flatten().any(|record| record.lost() > 0) {
        for (flow, record) in
            (0..).zip(&rows).flat_map(|(n, pair)| pair.iter().map(move |r| (n, r)))
        {
            if record.lost() > 0 {
                figure(&format!("  flow {flow} lost {}", record.spans()));
            }
        }
        for line in Drops::read(&[paris, osaka]).grown(&before) {
            figure(&format!("  dropped by {line}"));
        }
    }
    Ok((rows, outcome))
}
