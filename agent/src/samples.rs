//! One configuration that the tests of this crate share: two gateways, one remote cluster.

use carrick_exchange::message::WirePrefix;
use carrick_exchange::message::member::{AgentConfig, LocalGateway, RemoteCluster, Vxlan};
use carrick_model::Prefix;

use crate::config::{NodeConfig, Order};

pub(crate) fn prefix(text: &str) -> Prefix {
    text.parse().expect(text)
}

fn wire_prefixes(texts: &[&str]) -> Vec<WirePrefix> {
    texts.iter().map(|text| prefix(text).into()).collect()
}

pub(crate) fn wire_config() -> AgentConfig {
    let gateway = |name: &str, last, on_this_node| LocalGateway {
        name: name.to_owned(),
        address: vec![10, 1, 0, last],
        on_this_node,
        mesh_address: Vec::new(),
        answers_probes: false,
    };
    AgentConfig {
        generation: 7,
        vxlan: Some(Vxlan { vni: 51_746, port: 7789 }),
        node_address: vec![192, 0, 2, 11],
        mesh_address: vec![240, 1, 16, 2],
        gateways: vec![gateway("gw-a", 5, true), gateway("gw-b", 6, false)],
        clusters: vec![RemoteCluster {
            cluster: "osaka".to_owned(),
            next_hop: vec![240, 2, 32, 1],
            prefixes: wire_prefixes(&["10.2.0.0/16", "240.2.32.0/20"]),
            gateways: vec!["gw-a".to_owned(), "gw-b".to_owned()],
            mtu: 1420,
            nodes: vec![vec![240, 2, 32, 2], vec![240, 2, 32, 3]],
            access_all_pods: true,
            routable: true,
            drills: false,
        }],
        unreachable: wire_prefixes(&["10.2.0.0/15"]),
        pod_prefixes: wire_prefixes(&["10.1.0.0/16"]),
        withdraw: false,
        node_pod_prefixes: wire_prefixes(&["10.1.0.0/24"]),
        gateway_probe_millis: 0,
        node_addresses: Vec::new(),
        drill: None,
    }
}

pub(crate) fn config() -> NodeConfig {
    match Order::parse(&wire_config()).expect("sample") {
        Order::Configure(config) => *config,
        Order::Withdraw { .. } => unreachable!("the sample configures"),
    }
}
