//! A cluster whose pods have a network of their own above the nodes', as with many CNIs: packets between a node and
//! pods of another take a tunnel of the CNI's, each way, and bear an address that the node has in it.

use std::net::Ipv4Addr;
use std::time::Duration;

use carrick_e2e::Lab;
use carrick_e2e::address::NodePlan;
use carrick_e2e::cluster::Cluster;

use crate::common::{Fault, check, node_names, peered, ready, text};
use crate::drops::Drops;
use crate::narrow::{WIDE, arrives_within, full_size};
use crate::traffic::{Traffic, nothing_lost};
use crate::upgrade::gateways;
use crate::world::{Case, Outcome};

/// All cases, in order.
pub const CASES: &[(&str, Case)] = &[("overlay::nodes_and_gateways_meet_in_it", meet)];

/// The overlay's device, as flannel makes it.
const DEVICE: &str = "overlay.1";
/// What the overlay carries, in bytes, and what is left inside Carrick's VXLAN.
const CARRIES: u32 = 1450;
const INNER: u32 = CARRIES - 50;
/// What became larger far away is tried every minute.
const FOUND: Duration = Duration::from_secs(90);

fn meet(lab: &Lab) -> Outcome {
    let (paris, osaka) = peered(lab)?;
    gateways(lab, &paris, 2)?;
    let both = [(&paris, "osaka"), (&osaka, "paris")];
    {
        let undo = || each(&paris, &without);
        let _overlay = Fault(&undo);
        each(&paris, &with)?;
        arrives_within(FOUND, &both, INNER)?;
        ready(&paris, &osaka)?;
        for node in paris.nodes() {
            let device = text(node.exec(&["ip", "-d", "link", "show", "carrick0"]))?;
            let own = format!("local {} ", inside(node.plan()));
            check(device.contains(&own), || format!("{} has {device}", node.plan().name))?;
        }
        crosses(&paris, &osaka)?;
        full_size(&paris, &osaka, INNER)?;
    }
    arrives_within(FOUND, &both, WIDE)?;
    ready(&paris, &osaka)?;
    crosses(&paris, &osaka)?;
    gateways(lab, &paris, 1)?;
    ready(&paris, &osaka)
}

/// Packets between pods of all nodes, both ways, and none of a gateway taken for a stranger's.
fn crosses(paris: &Cluster, osaka: &Cluster) -> Outcome {
    let before = Drops::read(&[paris, osaka]);
    for (one, other) in node_names(paris).iter().zip(node_names(osaka).iter().cycle().skip(1)) {
        let traffic = Traffic::start((paris, one), (osaka, other))?;
        nothing_lost(&traffic.row(&format!("between {one} and {other}"))?)?;
    }
    let grown = Drops::read(&[paris, osaka]).grown(&before);
    let foreign: Vec<&String> = grown.iter().filter(|line| line.contains("foreign")).collect();
    check(foreign.is_empty(), || format!("{foreign:?}"))
}

/// A node's address in the overlay.
fn inside(node: &NodePlan) -> Ipv4Addr {
    node.pods.network()
}

/// The overlay's Ethernet address of a node.
fn mac(node: &NodePlan) -> String {
    let [.., a, b] = node.address.octets();
    format!("02:0f:00:00:{a:02x}:{b:02x}")
}

/// Does something on each node, with the other nodes.
fn each(cluster: &Cluster, work: &dyn Fn(&NodePlan, &[&NodePlan]) -> Vec<String>) -> Outcome {
    let plans = &cluster.plan().nodes;
    for node in cluster.nodes() {
        let others: Vec<&NodePlan> =
            plans.iter().filter(|other| other.name != node.plan().name).collect();
        for line in work(node.plan(), &others) {
            text(node.exec(&line.split(' ').collect::<Vec<_>>()))?;
        }
    }
    Ok(())
}

fn with(own: &NodePlan, others: &[&NodePlan]) -> Vec<String> {
    let mut lines = vec![
        format!(
            "ip link add {DEVICE} type vxlan id 1 local {} dstport 8472 nolearning",
            own.address
        ),
        format!("ip link set {DEVICE} address {} mtu {CARRIES} up", mac(own)),
        format!("ip address add {}/32 dev {DEVICE}", inside(own)),
    ];
    for other in others {
        let (address, mac) = (inside(other), mac(other));
        lines.extend([
            format!("ip neighbour replace {address} lladdr {mac} dev {DEVICE} nud permanent"),
            format!("bridge fdb replace {mac} dev {DEVICE} dst {}", other.address),
            format!("ip route replace {} via {address} dev {DEVICE} onlink", other.pods),
        ]);
    }
    lines
}

fn without(_: &NodePlan, others: &[&NodePlan]) -> Vec<String> {
    let routes =
        others.iter().map(|other| format!("ip route replace {} via {}", other.pods, other.address));
    routes.chain([format!("ip link delete {DEVICE}")]).collect()
}
