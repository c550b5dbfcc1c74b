//! Health that does not lie: four faults under which handshakes stay fresh, or nearly.

use std::time::{Duration, Instant};

use carrick_e2e::Lab;
use carrick_e2e::cluster::Cluster;
use carrick_e2e::wait::wait_until;
use carrick_wan::Conditions;

use crate::common::{
    Fault, SOON, both, check, figure, node_names, peered, pod_network, ready, target, text, watches,
};
use crate::flow::Flow;
use crate::watch::{Wanted, Watch};
use crate::world::{Case, Outcome};

/// All cases, in order.
pub const CASES: &[(&str, Case)] = &[
    ("health::routes_that_someone_removes_come_back", removed_routes_come_back),
    ("health::not_ready_when_a_node_has_no_route", without_a_route),
    ("health::not_ready_when_large_packets_are_lost", large_packets_lost),
    ("health::not_ready_when_one_direction_is_cut", one_direction_cut),
    ("health::not_ready_when_sources_are_masqueraded", masqueraded),
];

/// What even a machine that does much else must keep; the goal is two seconds.
const LIMIT: Duration = Duration::from_secs(5);

/// Makes a fault, sees Ready turn False in paris within the limit for a reason, undoes it, and sees it
/// come back.
fn turns_false(
    lab: &Lab,
    name: &str,
    reasons: &[&str],
    make: &dyn Fn() -> Outcome,
    undo: &dyn Fn() -> Outcome,
) -> Outcome {
    let before = Instant::now();
    let (paris, osaka) = (text(lab.cluster("paris"))?, text(lab.cluster("osaka"))?);
    let watches: (Watch, Watch) = watches(&paris, &osaka)?;
    both(&watches, "True", before, SOON)?;
    let fault = Fault(undo);
    make()?;
    let start = Instant::now();
    let turned = watches.0.wait(&Wanted::ready("osaka", "False"), start, LIMIT);
    // At first it may have another name; it settles within the next rounds.
    let settled = Wanted { reasons, condition: "DataPathReady", ..Wanted::ready("osaka", "False") };
    let settled = turned.as_ref().ok().map(|_| watches.0.wait(&settled, start, LIMIT));
    let undone = Instant::now();
    drop(fault);
    let (at, said) = turned?;
    settled.transpose()?;
    let (back, _) = watches.0.wait(&Wanted::ready("osaka", "True"), undone, SOON)?;
    ready(&paris, &osaka)?;
    figure(&format!(
        "{name}: not Ready after {:.2} s (goal 2 s; {}), Ready {:.2} s after its end",
        (at - start).as_secs_f64(),
        said.split(':').next().unwrap_or_default(),
        (back - undone).as_secs_f64()
    ));
    Ok(())
}

fn removed_routes_come_back(lab: &Lab) -> Outcome {
    let (paris, osaka) = peered(lab)?;
    let (from, to) = (&node_names(&paris)[1], &node_names(&osaka)[0]);
    let flow = Flow::start(&pod_network(&paris, from)?, target(&osaka, to, 2)?)?;
    let node = text(paris.node(from))?;
    let routes = || text(node.exec(&["ip", "route", "show", "table", "51820"]));
    let before = routes()?;
    text(node.exec(&["ip", "route", "flush", "table", "51820"]))?;
    let start = Instant::now();
    text(wait_until(SOON, "the routes", || {
        let now = routes()?;
        if now == before { Ok(()) } else { Err(now) }
    }))?;
    flow.wait_answer(start, SOON)?;
    let record = flow.stop();
    figure(&format!("table 51820 flushed on {from}: {}", record.summary()));
    check(record.longest_gap() < LIMIT, || record.summary())
}

fn without_a_route(lab: &Lab) -> Outcome {
    let (paris, osaka) = peered(lab)?;
    let node = text(paris.node(&node_names(&paris)[1]))?;
    let mesh = mesh_prefix(&osaka)?;
    let pods = osaka.plan().pods.to_string();
    let rule = |verb: &str| {
        for to in [&mesh, &pods] {
            let rule = ["ip", "rule", verb, "priority", "20", "to", to, "unreachable"];
            text(node.exec(&rule))?;
        }
        Ok(())
    };
    turns_false(lab, "a node without a route", &[], &|| rule("add"), &|| rule("del"))
}

fn mesh_prefix(cluster: &Cluster) -> Result<String, String> {
    let identity = text(cluster.kubectl_json(&["get", "clusteridentity", "self"]))?;
    let prefix = identity["status"]["meshPrefix"].as_str();
    prefix.map(str::to_owned).ok_or_else(|| identity["status"].to_string())
}

fn large_packets_lost(lab: &Lab) -> Outcome {
    peered(lab)?;
    let wan = lab.wan();
    let make = || {
        for (from, to) in [("paris", "osaka"), ("osaka", "paris")] {
            let conditions = text(wan.get(from, to))?;
            // So few bytes that no MTU would help: more would be followed.
            let small_only = Conditions { drop_larger_than: Some(500), ..conditions };
            text(wan.set(from, to, &small_only))?;
        }
        Ok(())
    };
    turns_false(lab, "large packets lost", &["LargePacketsLost"], &make, &|| text(wan.reset()))
}

fn one_direction_cut(lab: &Lab) -> Outcome {
    peered(lab)?;
    let wan = lab.wan();
    let make = || text(wan.cut("paris", "osaka"));
    turns_false(lab, "one direction cut", &[], &make, &|| text(wan.restore("paris", "osaka")))
}

fn masqueraded(lab: &Lab) -> Outcome {
    let (paris, _) = peered(lab)?;
    let node = text(paris.node(&node_names(&paris)[1]))?;
    let network = |script: &str| {
        let mut command = text(node.network_command("nft"))?;
        text(carrick_e2e::run::run(command.arg(script))).map(drop)
    };
    let make = || {
        network(
            "table ip faulty { chain post { type nat hook postrouting priority 90; \
             oifname \"carrick0\" masquerade; }; }",
        )
    };
    turns_false(lab, "masqueraded sources", &["SourceRewritten"], &make, &|| {
        network("delete table ip faulty")
    })
}
