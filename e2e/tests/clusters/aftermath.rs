//! What a cluster has to say after a case failed: whoever reads the run cannot ask it any more.

use std::fmt::Write as _;

use carrick_e2e::Lab;

/// Stands before each part, and so between a failure and its aftermath.
pub const BEGINS: &str = "\n--- ";

/// How many of a container's last lines are shown.
const LINES: &str = "--tail=40";

/// The pods, the leader's Lease and the controllers' last lines of all clusters.
pub fn of(lab: &Lab) -> String {
    let mut told = String::new();
    for cluster in lab.clusters() {
        let name = &cluster.plan().name;
        let selector = "--selector=app.kubernetes.io/component=controller";
        for asked in [
            ["get", "pods", "--output=wide", "--all-namespaces"].as_slice(),
            &["get", "leases", "--namespace=carrick-system", "--output=yaml"],
            &["logs", "--namespace=carrick-system", selector, "--prefix", "--timestamps", LINES],
        ] {
            let said = cluster.kubectl(asked).unwrap_or_else(|error| error.to_string());
            let asked = asked.join(" ");
            // Writing to a String cannot fail.
            let _ = write!(told, "{BEGINS}{name}: kubectl {asked}\n{said}");
        }
    }
    told
}
