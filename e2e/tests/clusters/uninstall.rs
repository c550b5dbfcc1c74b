//! `helm uninstall` leaves nothing on nodes.

use std::time::{Duration, Instant};

use carrick_e2e::{Lab, carrick};

use crate::common::{check, figure, text};
use crate::services::remains::{exporting, nothing_is_imported};
use crate::world::{Case, Outcome};

/// All cases, in order; the last, because they take Carrick away.
pub const CASES: &[(&str, Case)] = &[("uninstall::nothing_is_left_on_nodes", nothing_is_left)];

/// The other side learns that it is alone.
const LEARNS: Duration = Duration::from_secs(30);

fn nothing_is_left(lab: &Lab) -> Outcome {
    let (paris, osaka) = exporting(lab)?;
    let start = Instant::now();
    text(carrick::uninstall(&paris))?;
    figure(&format!("helm uninstall took {:.1} s", start.elapsed().as_secs_f64()));
    for node in paris.nodes() {
        let name = &node.plan().name;
        let host = |program: &str, arguments: &[&str]| {
            let mut command = text(node.network_command(program))?;
            text(carrick_e2e::run::run(command.args(arguments)))
        };
        let links = host("ip", &["-o", "link"])?;
        check(!links.contains("carrick"), || format!("{name}: {links}"))?;
        let rules = host("ip", &["rule"])?;
        check(!rules.contains("51820") && !rules.contains("39:"), || format!("{name}: {rules}"))?;
        let routes = host("ip", &["route", "show", "table", "all"])?;
        check(!routes.contains("51820"), || format!("{name}: {routes}"))?;
        let nexthops = host("ip", &["nexthop"])?;
        check(nexthops.trim().is_empty(), || format!("{name}: {nexthops}"))?;
        let tables = host("nft", &["list", "tables"])?;
        check(!tables.contains("carrick"), || format!("{name}: {tables}"))?;
    }
    text(carrick::wait_condition(&osaka, "paris", "Ready", "False", LEARNS))?;
    let pods = ["get", "pods", "--namespace", carrick::NAMESPACE, "--output=name"];
    text(
        paris.kubectl(&[&["wait", "--for=delete", "--all", "--timeout=60s"], &pods[1..4]].concat()),
    )?;
    nothing_is_imported(&paris)?;
    // The definitions stay, and the objects with them: they are the user's.
    text(paris.kubectl(&["get", "clusterpeering", "osaka"])).map(drop)
}
