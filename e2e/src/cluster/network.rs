//! Cables, addresses and routes of one cluster.

use std::net::IpAddr;

use crate::Result;
use crate::address::{ClusterPlan, NodePlan, PRIVATE_RANGES};
use crate::cluster::config;
use crate::machine::{ProcessRecord, enter_network};
use crate::run::run_with_input;

/// Makes the router's bridge and its packet filter.
pub(super) fn set_up_router(plan: &ClusterPlan, router: &ProcessRecord) -> Result<()> {
    let (address, length) = (plan.router, plan.underlay.prefix_len());
    let (private, private_length) = (plan.private_router, plan.private.prefix_len());
    let mut script = format!(
        "link set lo up\nlink add br0 type bridge\n\
         address add {address}/{length} dev br0\n\
         address add {private}/{private_length} dev br0\nlink set br0 up\n"
    );
    if let Some(six) = &plan.six {
        let (address, length) = (six.router, six.underlay.prefix_len());
        script.push_str(&format!("address add {address}/{length} dev br0 nodad\n"));
    }
    ip(router, &script)?;
    nft(router, &config::router_filter())
}

/// Gives the control plane its cable and routes to the pods: the API server
/// calls webhooks.
pub(super) fn set_up_control_plane(
    plan: &ClusterPlan,
    router: &ProcessRecord,
    machine: &ProcessRecord,
) -> Result<()> {
    let six = plan.six.as_ref().map(|six| six.control_plane.into());
    let addresses: Vec<IpAddr> = std::iter::once(plan.control_plane.into()).chain(six).collect();
    connect(plan, "cp", &addresses, router, machine)?;
    ip(machine, &pod_routes(plan, None))
}

/// Gives a node its cable, routes to the pods of the other nodes and to the other clusters' private networks, and
/// its packet filter.
pub(super) fn set_up_node(
    plan: &ClusterPlan,
    node: &NodePlan,
    router: &ProcessRecord,
    machine: &ProcessRecord,
) -> Result<()> {
    connect(plan, &node.name, &node.addresses(), router, machine)?;
    let (address, length) = (node.private, plan.private.prefix_len());
    let private = format!(
        "address add {address}/{length} dev eth0\nroute add {PRIVATE_RANGES} via {}\n",
        plan.private_router
    );
    ip(machine, &(private + &pod_routes(plan, Some(node))))?;
    nft(machine, &config::node_filter(plan))
}

/// Pulls a machine's cable at the router. Nothing that it still sends arrives.
pub(super) fn disconnect(router: &ProcessRecord, port: &str) -> Result<()> {
    ip(router, &format!("link delete {port}\n"))
}

fn connect(
    plan: &ClusterPlan,
    port: &str,
    addresses: &[IpAddr],
    router: &ProcessRecord,
    machine: &ProcessRecord,
) -> Result<()> {
    let outside = router.pid;
    // Both ends are made where they stay: nothing ever appears on the host.
    let mut inside = format!(
        "link set lo up\nlink add eth0 type veth peer name {port} netns {outside}\nlink set eth0 up\n"
    );
    for address in addresses {
        inside.push_str(&uplink(plan, *address));
    }
    ip(machine, &inside)?;
    ip(router, &format!("link set {port} master br0\nlink set {port} up\n"))
}

/// An address of a machine, and its way out in that family.
fn uplink(plan: &ClusterPlan, address: IpAddr) -> String {
    match &plan.six {
        Some(six) if address.is_ipv6() => format!(
            "address add {address}/{} dev eth0 nodad\nroute add default via {}\n",
            six.underlay.prefix_len(),
            six.router
        ),
        _ => format!(
            "address add {address}/{} dev eth0\nroute add default via {}\n",
            plan.underlay.prefix_len(),
            plan.router
        ),
    }
}

fn pod_routes(plan: &ClusterPlan, own: Option<&NodePlan>) -> String {
    let others = plan.nodes.iter().filter(|node| own.is_none_or(|own| own.name != node.name));
    let routes = others.flat_map(|node| node.pod_ranges().into_iter().zip(node.addresses()));
    routes.map(|(pods, address)| format!("route add {pods} via {address}\n")).collect()
}

/// Runs an `ip -batch` script in a machine's network.
pub(crate) fn ip(machine: &ProcessRecord, script: &str) -> Result<()> {
    let mut command = enter_network(machine, "ip");
    command.args(["-batch", "-"]);
    run_with_input(&mut command, script.as_bytes()).map(|_| ())
}

fn nft(machine: &ProcessRecord, script: &str) -> Result<()> {
    let mut command = enter_network(machine, "nft");
    command.args(["-f", "-"]);
    run_with_input(&mut command, script.as_bytes()).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_routes_to_all_pods_but_its_own() {
        let plan = ClusterPlan::new(1, 3);
        assert_eq!(
            pod_routes(&plan, Some(&plan.nodes[1])),
            "route add 10.1.1.0/24 via 172.31.1.11\nroute add 10.1.3.0/24 via 172.31.1.13\n"
        );
        assert_eq!(pod_routes(&plan, None).lines().count(), 3);
        let both = pod_routes(&plan.with_six(), None);
        assert_eq!(both.lines().count(), 6);
        assert!(both.contains("route add fd10:0:1:2::/64 via fd72:31:1::12\n"), "{both}");
    }
}
