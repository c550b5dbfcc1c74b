//! What each agent is to know.

use std::collections::BTreeMap;

use carrick_exchange::message::member::{AgentConfig, GatewayConfig, LocalGateway, RemoteCluster};
use carrick_exchange::wire::address_bytes;
use carrick_model::MemberName;

use super::gateway::vxlan;
use super::{Base, RemoteRoutes, Routes};
use crate::cluster::NodeFacts;
use crate::world::World;

/// One configuration a node that has an address and a remembered mesh address.
pub(super) fn configs(
    world: &World,
    base: &Base,
    routes: &Routes,
    gateway: &GatewayConfig,
) -> BTreeMap<MemberName, AgentConfig> {
    let all = Common {
        gateway_probe_millis: probe_millis(world.facts.nodes.len(), gateway),
        clusters: routes.clusters.iter().map(remote_cluster).collect(),
        node_addresses: node_addresses(world),
    };
    let nodes = world.facts.nodes.values();
    nodes
        .filter_map(|node| {
            let name = node.name.parse().ok()?;
            Some((name, config(world, base, routes, &all, node)?))
        })
        .collect()
}

/// What all agents are told alike, and what it costs something to make.
struct Common {
    gateway_probe_millis: u32,
    clusters: Vec<RemoteCluster>,
    node_addresses: Vec<Vec<u8>>,
}

fn config(
    world: &World,
    base: &Base,
    routes: &Routes,
    all: &Common,
    node: &NodeFacts,
) -> Option<AgentConfig> {
    let mesh = world.record.mesh.get(&node.name)?;
    let address = address_bytes(world.outer_address(node)?);
    if world.record.withdraw {
        let withdraw = true;
        let mesh_address = mesh.octets().to_vec();
        return Some(AgentConfig {
            vxlan: Some(vxlan(world)),
            node_address: address,
            mesh_address,
            withdraw,
            ..AgentConfig::default()
        });
    }
    Some(AgentConfig {
        generation: 0,
        vxlan: Some(vxlan(world)),
        node_address: address,
        mesh_address: mesh.octets().to_vec(),
        gateways: gateways(world, node),
        clusters: all.clusters.clone(),
        unreachable: routes.unreachable.iter().map(|prefix| (*prefix).into()).collect(),
        pod_prefixes: base.own.pod_ranges.iter().map(|prefix| (*prefix).into()).collect(),
        withdraw: false,
        node_pod_prefixes: node.pod_prefixes.iter().map(|prefix| (*prefix).into()).collect(),
        gateway_probe_millis: all.gateway_probe_millis,
        node_addresses: all.node_addresses.clone(),
        drill: None,
    })
}

/// Outer addresses of nodes that are not those that Kubernetes knows.
fn node_addresses(world: &World) -> Vec<Vec<u8>> {
    let nodes = world.facts.nodes.values();
    let outer = nodes.filter_map(|node| {
        world.outer_address(node).filter(|address| !node.internal.contains(address))
    });
    outer.map(address_bytes).collect()
}

/// The pause between two probes of a gateway by one node; 0 stands for the shortest, 100 ms. In the largest clusters it
/// grows, so that no gateway is asked more than some 5,000 times a second; and where no peering wants a loss to be noticed
/// as soon as that, its gateways' standstills are waited for as those of the peer's are.
fn probe_millis(nodes: usize, gateway: &GatewayConfig) -> u32 {
    let nodes = u32::try_from(nodes).unwrap_or(u32::MAX);
    let detections = gateway.peerings.iter().map(|peering| peering.detection_milliseconds);
    // 0 stands for 300 ms, and asks for the shortest pause as that does; three probes are lost before it counts.
    let wanted = (detections.min().unwrap_or_default() / 3).min(LONGEST);
    let pause = wanted.max(nodes.saturating_mul(SHORTEST) / UNHURRIED);
    if pause <= SHORTEST { 0 } else { pause }
}

const SHORTEST: u32 = 100;

/// Gateways tell their news to who asked within the last second.
const LONGEST: u32 = 800;

/// So many nodes may ask as often as they like.
const UNHURRIED: u32 = 500;

fn gateways(world: &World, node: &NodeFacts) -> Vec<LocalGateway> {
    let pods = world.facts.gateway_pods(&world.settings.namespace);
    pods.iter()
        .filter_map(|pod| {
            let mesh_address = pod.ordinal().and_then(|number| world.mesh().gateway(number));
            let mesh_address = mesh_address.map_or_else(Vec::new, |at| at.octets().to_vec());
            let state =
                pod.uid.parse().ok().and_then(|name| world.gateways.get::<MemberName>(&name));
            let says = state.and_then(|member| member.state.as_ref()).map(|s| &s.mesh_address);
            Some(LocalGateway {
                answers_probes: !mesh_address.is_empty() && says == Some(&mesh_address),
                mesh_address,
                name: pod.uid.clone(),
                address: address_bytes(pod.address?),
                on_this_node: pod.node == node.name,
            })
        })
        .collect()
}

fn remote_cluster(remote: &RemoteRoutes) -> RemoteCluster {
    RemoteCluster {
        cluster: remote.cluster.to_string(),
        next_hop: remote.mesh.router().octets().to_vec(),
        prefixes: remote.prefixes.iter().map(|prefix| (*prefix).into()).collect(),
        gateways: remote.gateways.iter().map(ToString::to_string).collect(),
        mtu: remote.mtu,
        nodes: remote.nodes.iter().map(|address| address.octets().to_vec()).collect(),
        access_all_pods: remote.access_all_pods,
        routable: remote.routable,
        drills: remote.drills,
    }
}
