//! One side is upgraded from an earlier release under traffic, and goes back, while the other stays: peers of two
//! releases get along. Not part of the usual tests, as the earlier release has to be built first.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use carrick_e2e::Lab;
use carrick_e2e::carrick;
use carrick_e2e::cluster::Cluster;
use carrick_e2e::image::{Previous, previous};
use carrick_e2e::probes;
use carrick_e2e::progress::Progress;

use crate::common::{check, clusters, figure, is_installed, pod_network, ready, rolled_out, text};
use crate::connections::{BYTES, CONNECTIONS, Connections};
use crate::failover::both_used;
use crate::flow::Record;
use crate::traffic::last;
use crate::upgrade::observed;
use crate::world::{Case, Outcome};

/// All cases; both clusters have the current release and two gateways afterwards.
pub const CASES: &[(&str, Case)] = &[("skew::one_side_is_upgraded_and_goes_back", there_and_back)];

const TWO_GATEWAYS: &str = "gateway.replicas=2";

/// What the chart keeps when it is taken away.
const DEFINITIONS: [&str; 3] =
    ["clusterpeerings.carrick.dev", "clusteridentities.carrick.dev", "failoverdrills.carrick.dev"];

const PORT: u16 = 9420;

fn there_and_back(lab: &Lab) -> Outcome {
    let progress = Progress::default();
    let old = text(previous(&progress))?;
    figure(&format!("the previous release is {}, with images {}", old.name, old.images.tag));
    text(lab.import(&old.images, &progress))?;
    let (paris, osaka) = clusters(lab)?;
    for cluster in [&paris, &osaka] {
        anew(cluster)?;
        text(carrick::release(cluster, "install", &old.chart, &old.images.tag, &[TWO_GATEWAYS]))?;
    }
    for cluster in [&paris, &osaka] {
        rolled_out(cluster)?;
    }
    text(carrick::peer(&paris, &osaka))?;
    ready(&paris, &osaka)?;
    let new = text(lab.image_tag())?;
    let upgrade = |cluster: &Cluster| text(carrick::upgrade(cluster, &new, &[TWO_GATEWAYS]));
    let steps: [(&str, &Cluster, &dyn Fn() -> Outcome); 4] = [
        ("paris upgraded, osaka as before", &paris, &|| upgrade(&paris)),
        ("paris rolled back", &paris, &|| text(carrick::rollback(&paris))),
        ("paris upgraded again", &paris, &|| upgrade(&paris)),
        ("osaka upgraded", &osaka, &|| upgrade(&osaka)),
    ];
    // All steps, so that one run says all that is wrong.
    let outcomes = steps.map(|(what, cluster, step)| {
        let outcome = costs_nothing((&paris, &osaka), what, &old, || {
            step()?;
            rolled_out(cluster)
        });
        outcome.map_err(|error| format!("{what}: {error}"))
    });
    let wrong: Vec<String> = outcomes.into_iter().filter_map(Result::err).collect();
    check(wrong.is_empty(), || wrong.join("\n"))?;
    both_used(lab, &paris)?;
    both_used(lab, &osaka)
}

/// Takes Carrick away with all that it keeps but the identity.
fn anew(cluster: &Cluster) -> Outcome {
    if is_installed(cluster) {
        text(carrick::uninstall(cluster))?;
    }
    let delete = ["delete", "customresourcedefinitions", "--ignore-not-found"];
    text(cluster.kubectl(&[&delete[..], &DEFINITIONS].concat())).map(drop)
}

/// Makes a step under traffic of pods. Both sides are Ready afterwards and no connection has broken; nor was a packet
/// lost, where the gateways that are replaced can do without.
fn costs_nothing(
    (paris, osaka): (&Cluster, &Cluster),
    what: &str,
    old: &Previous,
    step: impl FnOnce() -> Outcome,
) -> Outcome {
    let (near, far) = (last(paris), last(osaka));
    let address: IpAddr = text(probes::address(osaka, &far))?;
    let ends = (pod_network(paris, &near)?, pod_network(osaka, &far)?);
    let connections =
        Connections::start(&ends.0, &ends.1, SocketAddr::from((address, PORT)), BYTES)?;
    let (records, outcome) = observed(paris, osaka, what, step)?;
    let broken = connections.broken_by(Instant::now());
    let all = || records.iter().flatten();
    let lost: usize = all().map(Record::lost).sum();
    let gap = all().map(Record::longest_gap).max().unwrap_or_default();
    figure(&format!(
        "{what}: {lost} of {} packets lost, longest gap {} ms, {broken} of {CONNECTIONS} TCP connections broke",
        all().map(Record::sent).sum::<usize>(),
        gap.as_millis()
    ));
    outcome?;
    if old.drains() {
        check(broken == 0, || format!("{broken} TCP connections broke"))?;
        return check(lost == 0, || format!("{lost} packets were lost"));
    }
    figure("the previous release's gateways end at once: that is not judged");
    Ok(())
}
