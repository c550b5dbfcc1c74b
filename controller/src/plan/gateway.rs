//! What our gateways are to know, and which of them carry a peering now.

use std::collections::BTreeSet;

use carrick_crds::peering::parse::{Endpoint, Host};
use carrick_crds::peering::{MTU_RANGE, Peering};
use carrick_exchange::message::WireEndpoint;
use carrick_exchange::message::member::{GatewayConfig, LocalNode, PeeringConfig, Vxlan};
use carrick_exchange::wire::address_bytes;
use carrick_model::{ClusterId, MemberName};

use super::{Base, most_mtu};
use crate::cluster::claims::Claims;
use crate::world::{Now, World};

pub(super) fn config(
    world: &World,
    base: &Base,
    served: &[&Peering],
    claims: &Claims,
    now: Now,
) -> GatewayConfig {
    GatewayConfig {
        generation: 0,
        vxlan: Some(vxlan(world)),
        nodes: nodes(world, claims),
        peerings: served.iter().map(|peering| peering_config(world, peering, now)).collect(),
        own_ranges: base.own.ranges.iter().map(|range| (*range).into()).collect(),
        mesh_prefix: Some(base.own.mesh.into()),
        mtu: served
            .iter()
            .map(|peering| peering.mtu)
            .chain([None])
            .map(|wanted| mtu(world, wanted, now))
            .max()
            .unwrap_or(0),
        drill: None,
    }
}

pub(super) fn vxlan(world: &World) -> Vxlan {
    Vxlan { vni: world.settings.vni, port: world.settings.vxlan_port.into() }
}

/// Nodes with all that a gateway needs of them. Only addresses that are already remembered count, so
/// that no restart can give a node another one.
fn nodes(world: &World, claims: &Claims) -> Vec<LocalNode> {
    let complete = |name: &String| {
        let mesh = world.record.mesh.get(name)?;
        let address = world.outer_address(world.facts.nodes.get(name)?)?;
        let prefixes = claims.granted.get(name).map(Vec::as_slice).unwrap_or_default();
        Some(LocalNode {
            name: name.clone(),
            address: address_bytes(address),
            mesh_address: mesh.octets().to_vec(),
            prefixes: prefixes.iter().map(|prefix| (*prefix).into()).collect(),
        })
    };
    world.facts.nodes.keys().filter_map(complete).collect()
}

fn peering_config(world: &World, peering: &Peering, now: Now) -> PeeringConfig {
    PeeringConfig {
        cluster: peering.cluster.to_string(),
        identities: peering.identities.iter().map(|key| key.as_bytes().to_vec()).collect(),
        endpoints: peering.endpoints.iter().map(endpoint).collect(),
        accept: peering.accept.iter().map(|range| (*range).into()).collect(),
        max_prefixes: peering.max_prefixes,
        snapshot: None,
        keepalive_seconds: peering.keepalive_seconds.into(),
        post_quantum_required: peering.post_quantum_required,
        lanes: peering.lanes.unwrap_or_default(),
        mtu: mtu(world, peering.mtu, now),
        detection_milliseconds: peering.detection_milliseconds.unwrap_or_default(),
        endpoint_costs: costs(peering),
    }
}

/// As [`most_mtu`], but no less than what gateways accept: IPv6's minimum. Nodes have the true one.
fn mtu(world: &World, wanted: Option<u32>, now: Now) -> u32 {
    most_mtu(world, wanted, now).max(MTU_RANGE.0.unsigned_abs())
}

/// The costs in the order of the endpoints; none where all are 0, as a gateway of an older release has it.
fn costs(peering: &Peering) -> Vec<u32> {
    let costs: Vec<u32> = peering.endpoints.iter().map(|end| end.cost.into()).collect();
    if costs.iter().all(|cost| *cost == 0) { Vec::new() } else { costs }
}

fn endpoint(endpoint: &Endpoint) -> WireEndpoint {
    let host = match &endpoint.host {
        Host::Address(address) => address.to_string(),
        Host::Name(name) => name.clone(),
    };
    WireEndpoint { host, port: endpoint.port.into() }
}

/// The largest inner packet in bytes that all paths to `cluster` carry, as far as gateways know: any flow
/// may take any of them. A tunnel that is down keeps what was found.
pub(super) fn path_mtu(world: &World, cluster: &ClusterId, now: Now) -> Option<u32> {
    let states = world.gateways.values().filter_map(|member| member.live(now.instant));
    let peers = states.flat_map(|s| s.peers.iter().filter(|p| p.cluster == cluster.as_str()));
    let tunnels = peers.flat_map(|peer| peer.connections.iter().flat_map(|c| &c.tunnels));
    tunnels.map(|tunnel| tunnel.mtu).filter(|mtu| *mtu > 0).min()
}

/// Gateways that have a live tunnel to `cluster` and stay in service; where none of them stays, those that
/// leave, as they still carry packets.
pub(super) fn connected(world: &World, cluster: &ClusterId, now: Now) -> BTreeSet<MemberName> {
    let carries = |name: &MemberName| {
        let state = world.gateways.get(name)?.live(now.instant)?;
        let mut peers = state.peers.iter().filter(|peer| peer.cluster == cluster.as_str());
        let tunnels = peers.any(|p| p.connections.iter().any(|c| c.tunnels.iter().any(|t| t.up)));
        tunnels.then(|| (name.clone(), state.draining))
    };
    let pods = world.facts.gateway_pods(&world.settings.namespace);
    let names = pods.iter().filter_map(|pod| pod.uid.parse().ok());
    let all: Vec<(MemberName, bool)> = names.filter_map(|name| carries(&name)).collect();
    let none_stays = all.iter().all(|(_, draining)| *draining);
    all.into_iter().filter(|(_, draining)| none_stays || !draining).map(|(name, _)| name).collect()
}
