//! The live state as JSON, for `/status`: fresher and finer than what is written to the API.

use serde_json::{Value, json};

use carrick_exchange::message::member::{AgentState, GatewayState, PathHealth};
use carrick_model::{MemberName, Role};

use crate::engine::Links;
use crate::event::MemberKey;
use crate::outbox::Outbox;
use crate::world::World;

/// The live state.
pub fn show(world: &World, outbox: &Outbox, links: &Links) -> Value {
    let (for_gateways, for_agents) = outbox.generations();
    let for_agents: std::collections::BTreeMap<&MemberName, u64> = for_agents.collect();
    let linked = |role, name: &MemberName| links.has(&MemberKey { role, name: name.clone() });
    let gateways = world.gateways.iter().map(|(name, member)| {
        let pod = world.facts.pods.get(name.as_str());
        json!({
            "name": name.as_str(),
            "pod": pod.map(|pod| &pod.name),
            "node": pod.map(|pod| &pod.node),
            "linked": linked(Role::Gateway, name),
            "told": for_gateways,
            "state": member.state.as_ref().map(gateway),
        })
    });
    let agents = world.agents.iter().map(|(name, member)| {
        json!({
            "node": name.as_str(),
            "linked": linked(Role::Agent, name),
            "told": for_agents.get(name),
            "state": member.state.as_ref().map(agent),
        })
    });
    let peerings = world.peerings.values().map(|object| {
        let cluster = object.spec.as_ref().ok().map(|spec| &spec.cluster_id);
        json!({ "name": object.name, "cluster": cluster, "status": object.status })
    });
    json!({
        "leader": true,
        "cluster": world.cluster().as_str(),
        "identity": world.identity.to_string(),
        "meshPrefix": world.mesh().prefix().to_string(),
        "withdraw": world.record.withdraw,
        "gateways": gateways.collect::<Vec<_>>(),
        "agents": agents.collect::<Vec<_>>(),
        "peerings": peerings.collect::<Vec<_>>(),
    })
}

fn path(path: &PathHealth) -> Value {
    json!({
        "endpoint": path.endpoint,
        "state": path.state,
        "grade": path.grade,
        "active": path.active,
        "cost": path.cost,
        "rttMicros": path.rtt_micros,
        "jitterMicros": path.jitter_micros,
        "lossOut": path.loss_out,
        "lossIn": path.loss_in,
    })
}

fn gateway(state: &GatewayState) -> Value {
    let peers = state.peers.iter().map(|peer| {
        let connections = peer.connections.iter().map(|connection| {
            let tunnels = connection.tunnels.iter().map(|tunnel| {
                json!({
                    "lane": tunnel.lane,
                    "endpoint": tunnel.endpoint,
                    "up": tunnel.up,
                    "lastHandshake": tunnel.last_handshake,
                    "txBytes": tunnel.tx_bytes,
                    "rxBytes": tunnel.rx_bytes,
                    "pathMTU": tunnel.path_mtu,
                    "mtu": tunnel.mtu,
                    "pathState": tunnel.path_state,
                    "paths": tunnel.paths.iter().map(path).collect::<Vec<_>>(),
                })
            });
            json!({
                "gateway": connection.gateway,
                "remote": connection.remote,
                "release": connection.release,
                "version": connection.version,
                "rttMicros": connection.rtt_micros,
                "tunnels": tunnels.collect::<Vec<_>>(),
            })
        });
        let failures = peer.failures.iter().map(|failure| {
            json!({
                "endpoint": failure.endpoint,
                "reason": failure.reason,
                "message": failure.message,
                "at": failure.at,
            })
        });
        json!({
            "cluster": peer.cluster,
            "connections": connections.collect::<Vec<_>>(),
            "failures": failures.collect::<Vec<_>>(),
        })
    });
    let drops: std::collections::BTreeMap<&str, u64> =
        state.drops.iter().map(|drop| (drop.reason.as_str(), drop.packets)).collect();
    let offloads: std::collections::BTreeMap<&str, bool> =
        state.offloads.iter().map(|offload| (offload.name.as_str(), offload.used)).collect();
    json!({
        "release": state.release,
        "applied": state.applied,
        "basePort": state.base_port,
        "draining": state.draining,
        "errors": state.errors,
        "drops": drops,
        "offloads": offloads,
        "drill": state.drill.as_deref().map(|drill| json!({
            "id": drill.id,
            "from": drill.from,
            "to": drill.to,
            "dropped": drill.dropped,
            "delayed": drill.delayed,
            "error": drill.error,
        })),
        "peers": peers.collect::<Vec<_>>(),
    })
}

fn agent(state: &AgentState) -> Value {
    let address = |bytes: &[u8]| {
        <[u8; 4]>::try_from(bytes).map(|b| std::net::Ipv4Addr::from(b).to_string()).ok()
    };
    let probes = state.probes.iter().map(|probe| {
        let targets = probe.targets.iter().map(|target| {
            json!({
                "address": address(&target.address),
                "ok": target.ok,
                "reason": target.reason,
                "detail": target.detail,
                "rttMicros": target.rtt_micros,
            })
        });
        json!({ "cluster": probe.cluster, "targets": targets.collect::<Vec<_>>() })
    });
    let prefix = |p| carrick_exchange::wire::prefix(p, "claims").map(|p| p.to_string()).ok();
    let claims: Vec<String> = state.claims.iter().filter_map(prefix).collect();
    json!({
        "release": state.release,
        "applied": state.applied,
        "withdrawn": state.withdrawn,
        "errors": state.errors,
        "claims": claims,
        "probes": probes.collect::<Vec<_>>(),
        "drill": state.drill.as_deref().map(|drill| json!({
            "id": drill.id,
            "phase": drill.phase,
            "sent": drill.sent,
            "silent": drill.silent,
            "error": drill.error,
        })),
    })
}
