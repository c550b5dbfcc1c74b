//! Where other clusters reach our gateways: found from Services and nodes, or given by the operator.

use super::{Facts, GATEWAY, NodeFacts, PodFacts};
use crate::options::Settings;

/// How many endpoints a ready-made ClusterPeering names at most.
const OFFER_LIMIT: usize = 8;

/// Where a gateway's exchange can be dialled.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct GatewayEndpoint {
    /// The gateway's pod name.
    pub gateway: String,
    /// Address or name.
    pub host: String,
    /// UDP port.
    pub port: u16,
}

/// The exchange port of gateway number `ordinal`; `None` beyond 65535.
pub fn base_port(settings: &Settings, ordinal: u16) -> Option<u16> {
    settings.gateway_port_stride.checked_mul(ordinal)?.checked_add(settings.gateway_base_port)
}

/// Where `pod` is reached now, most preferred first; empty when it can only dial out.
pub fn of_gateway(pod: &PodFacts, facts: &Facts, settings: &Settings) -> Vec<GatewayEndpoint> {
    let Some(port) = pod.ordinal().and_then(|ordinal| base_port(settings, ordinal)) else {
        return Vec::new();
    };
    let hosts = match hosts_of(&pod.name, facts, settings) {
        Hosts::Fixed(hosts) => hosts,
        // Only the node that runs the gateway answers (externalTrafficPolicy Local).
        Hosts::Nodes => facts.nodes.get(&pod.node).and_then(node_host).into_iter().collect(),
    };
    endpoints(&pod.name, port, hosts)
}

/// What another cluster is offered: each gateway's own endpoint first, then the nodes that it may
/// move to, so that the offer outlives a node.
pub fn offer(facts: &Facts, settings: &Settings) -> Vec<GatewayEndpoint> {
    let mut gateways: Vec<(u16, &str)> =
        facts.services.keys().filter_map(|name| Some((ordinal(name)?, name.as_str()))).collect();
    let pods = facts.gateway_pods(&settings.namespace);
    gateways.extend(pods.iter().filter_map(|pod| Some((pod.ordinal()?, pod.name.as_str()))));
    gateways.sort_unstable();
    gateways.dedup();

    let mut first = Vec::new();
    let mut later = Vec::new();
    for (ordinal, name) in gateways {
        let Some(port) = base_port(settings, ordinal) else { continue };
        let home = pods.iter().find(|pod| pod.name == name && !pod.terminating);
        match hosts_of(name, facts, settings) {
            Hosts::Fixed(hosts) => first.extend(endpoints(name, port, hosts)),
            Hosts::Nodes => {
                let at_home = |node: &&NodeFacts| home.is_some_and(|pod| pod.node == node.name);
                let ready = facts.nodes.values().filter(|n| n.is_ready());
                let (here, there): (Vec<&NodeFacts>, Vec<&NodeFacts>) = ready.partition(at_home);
                let host = |n: &NodeFacts| node_host(n);
                first.extend(endpoints(name, port, here.into_iter().filter_map(host).collect()));
                later.extend(endpoints(name, port, there.into_iter().filter_map(host).collect()));
            }
        }
    }
    first.into_iter().chain(later).take(OFFER_LIMIT).collect()
}

enum Hosts {
    /// These, wherever the gateway runs.
    Fixed(Vec<String>),
    /// The node that runs it.
    Nodes,
}

fn hosts_of(name: &str, facts: &Facts, settings: &Settings) -> Hosts {
    if !settings.gateway_addresses.is_empty() {
        return Hosts::Fixed(settings.gateway_addresses.clone());
    }
    match facts.services.get(name) {
        Some(service) if service.wants_load_balancer => Hosts::Fixed(service.load_balancer.clone()),
        Some(service) if service.node_ports => Hosts::Nodes,
        // No Service, or one that is reached from inside only: the gateway dials out.
        _ => Hosts::Fixed(Vec::new()),
    }
}

fn node_host(node: &NodeFacts) -> Option<String> {
    node.reachable_address().map(|address| address.to_string())
}

fn endpoints(gateway: &str, port: u16, hosts: Vec<String>) -> Vec<GatewayEndpoint> {
    let endpoint = |host| GatewayEndpoint { gateway: gateway.to_owned(), host, port };
    hosts.into_iter().map(endpoint).collect()
}

fn ordinal(service: &str) -> Option<u16> {
    service.strip_prefix(GATEWAY)?.strip_prefix('-')?.parse().ok()
}
