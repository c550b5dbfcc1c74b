//! What we say to one other cluster.

use carrick_crds::peering::Peering;
use carrick_exchange::message::WireEndpoint;
use carrick_exchange::message::snapshot::{ClusterSnapshot, GatewayEntry, NodeEntry};
use carrick_exchange::snapshot::{MAX_ENDPOINTS, MAX_GATEWAYS};
use carrick_model::Prefix;

use crate::cluster::PodFacts;
use crate::cluster::endpoints::{self, GatewayEndpoint};
use crate::world::World;

/// The content of the snapshot for `peering`, without version and times.
pub(super) fn content(world: &World, peering: &Peering, announced: &[Prefix]) -> ClusterSnapshot {
    let prefixes = if peering.announce.is_empty() { announced } else { &peering.announce };
    let gateways = world.facts.gateway_pods(&world.settings.namespace);
    ClusterSnapshot {
        cluster: world.cluster().to_string(),
        audience: peering.cluster.to_string(),
        gateways: gateways.iter().take(MAX_GATEWAYS).map(|pod| gateway(world, pod)).collect(),
        pod_prefixes: prefixes.iter().map(|p| (*p).into()).collect(),
        mesh_prefix: Some(world.mesh().into()),
        nodes: nodes(world),
        consents: true,
        drills: peering.drills_allowed,
        ..ClusterSnapshot::default()
    }
}

fn gateway(world: &World, pod: &PodFacts) -> GatewayEntry {
    let found = endpoints::of_gateway(pod, &world.facts, &world.settings);
    GatewayEntry {
        name: pod.uid.clone(),
        endpoints: found.into_iter().take(MAX_ENDPOINTS).map(wire).collect(),
    }
}

fn wire(endpoint: GatewayEndpoint) -> WireEndpoint {
    WireEndpoint { host: endpoint.host, port: endpoint.port.into() }
}

/// Nodes that answer probes: those that serve, and whose agent has set them up.
fn nodes(world: &World) -> Vec<NodeEntry> {
    let set_up = |name: &str| {
        let state = world.agents.iter().find(|(agent, _)| agent.as_str() == name);
        state.and_then(|(_, member)| member.state.as_ref()).is_some_and(|state| state.applied > 0)
    };
    let nodes = world.facts.nodes.values();
    // Where no agent is wanted, one that was there before answers no longer.
    let serving = nodes.filter(|node| world.serves(node) && set_up(&node.name));
    serving
        .filter_map(|node| {
            let mesh = world.record.mesh.get(&node.name)?;
            Some(NodeEntry { name: node.name.clone(), mesh_address: mesh.octets().to_vec() })
        })
        .collect()
}
