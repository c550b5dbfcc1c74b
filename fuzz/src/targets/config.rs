//! Configuration: a standalone gateway's file, as it is and put together from parts, and what a
//! controller sends.

use std::path::Path;

use carrick_exchange::message::member::{GatewayConfig, LocalNode, PeeringConfig, Vxlan};
use carrick_exchange::message::{WireEndpoint, WirePrefix};
use carrick_gateway::control::config as control;
use carrick_gateway::standalone::{Config, FileError};
use carrick_model::ClusterId;
use prost::Message as _;

use super::input::Input;

/// Fields of the file, each with a value that fits, by where they belong.
const TOP: [&str; 15] = [
    "private_key: AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=",
    "listen_port: 51820",
    "lanes: 2",
    "metrics: 127.0.0.1:9586",
    "offloads: {device_tcp: false}",
    "private_key_file: /nonexistent",
    "listen_port: 65535",
    "lanes: 16",
    "unknown: 1",
    "cluster: edge-1",
    "identity_file: /nonexistent",
    "exchange: {port: 51819, endpoints: ['192.0.2.1:51819']}",
    "announce: [10.50.0.0/16]",
    "mesh_prefix: 240.9.16.0/20",
    "identity: none",
];
const INTERFACE: [&str; 6] = [
    "name: wan0",
    "addresses: [10.9.0.1/24, 'fd09::1/64']",
    "mtu: 1420",
    "routes: false",
    "mtu: 9001",
    "addresses: &a [*a]",
];
const PEER: [&str; 16] = [
    "public_key: AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=",
    "public_key: BAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQ=",
    "allowed_prefixes: [10.9.0.2/32, 10.20.0.0/16]",
    "allowed_prefixes: [0.0.0.0/0]",
    "allowed_prefixes: ['fd09::/64', 10.9.0.2/32]",
    "endpoint: 203.0.113.7:51820",
    "endpoint: gw.example:51820",
    "name: osaka",
    "lane: 1",
    "keepalive: 25",
    "preshared_key: AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM=",
    "preshared_key_file: /nonexistent",
    "carrick: lima",
    "identities: ['ed25519:AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=']",
    "accept: [10.30.0.0/16, 10.50.1.0/24]",
    "endpoints: ['198.51.100.7:31820', 'gw.example:31820']",
];

/// Runs one input.
pub fn run(input: &[u8]) {
    let mut input = Input(input);
    match input.byte() % 4 {
        0 => file(&String::from_utf8_lossy(input.0)),
        1 => file(&compose(&mut input)),
        2 => {
            if let Ok(raw) = GatewayConfig::decode(input.0) {
                controlled(&raw);
            }
        }
        _ => controlled(&wanted(&mut input)),
    }
}

/// A file is refused with words, or what it says fits together.
fn file(text: &str) {
    let path = Path::new("file.yaml");
    let config = match Config::parse(text, path) {
        Ok(config) => config,
        Err(error) => {
            let said = error.to_string();
            assert!(said.starts_with("file.yaml: "), "{said}");
            assert!(matches!(error, FileError::Yaml { .. } | FileError::Field { .. }));
            return;
        }
    };
    assert!(config.interface.mtu.is_none_or(|mtu| (1280..=9000).contains(&mtu)));
    assert!((1..=16).contains(&config.lanes));
    assert_eq!(config.exchange.port.is_some(), config.cluster.is_some());
    assert!(config.exchange.port.is_none_or(|port| port != 0 && port + 1 == config.listen_port));
    assert!(config.cluster.is_some() || config.carrick_peers().next().is_none());
    assert!(config.listen_port == 0 || config.listen_port.checked_add(config.lanes - 1).is_some());
}

/// A file of fields that fit, now and then with a value of the input's own.
fn compose(input: &mut Input<'_>) -> String {
    let mut text = String::from("interface:\n");
    fields(&INTERFACE, "  ", input, &mut text);
    fields(&TOP, "", input, &mut text);
    text += "peers:\n";
    for _ in 0..input.byte() % 5 {
        text += "-\n";
        fields(&PEER, "  ", input, &mut text);
    }
    text
}

fn fields(all: &[&str], indent: &str, input: &mut Input<'_>, text: &mut String) {
    let picked = input.word();
    for (index, field) in all.iter().enumerate().filter(|(index, _)| picked >> index & 1 == 1) {
        *text += indent;
        match (field.split_once(": "), input.byte()) {
            (Some((name, _)), 255) => {
                let length = usize::from(input.byte() % 32);
                let value = String::from_utf8_lossy(input.bytes(length)).into_owned();
                *text += &format!("{name}: {}", value.replace('\n', " "));
            }
            _ => *text += all[index],
        }
        text.push('\n');
    }
}

/// What a controller sends is refused, or what is kept of it is sound.
fn controlled(raw: &GatewayConfig) {
    let own: ClusterId = "own".parse().expect("a name");
    let Ok(config) = control::parse(raw, &own) else { return };
    match config.vxlan {
        Some(vxlan) => assert!((1..1 << 24).contains(&vxlan.vni) && vxlan.port != 0),
        None => assert!(config.nodes.is_empty(), "nobody could reach them"),
    }
    assert!((1280..=9000).contains(&config.mtu), "{}", config.mtu);
    for peering in &config.peerings {
        assert!(peering.pin.cluster != own && !peering.pin.identities.is_empty());
        assert!(peering.mtu.is_none_or(|mtu| (1280..=9000).contains(&mtu)));
    }
    assert!(
        config.peerings.len() + config.nodes.len() + config.errors.len()
            <= raw.peerings.len() + raw.nodes.len()
    );
}

fn wanted(input: &mut Input<'_>) -> GatewayConfig {
    let strange = input.byte();
    let address = |input: &mut Input<'_>| {
        let length = [4, 4, 4, 16, 0, 5][usize::from(input.byte() % 6)];
        input.bytes(length).to_vec()
    };
    let prefix = |input: &mut Input<'_>| WirePrefix {
        address: address(input),
        length: u32::from(input.byte() & 0xf8),
    };
    let text = |input: &mut Input<'_>| {
        let length = usize::from(input.byte() % 16);
        String::from_utf8_lossy(input.bytes(length)).into_owned()
    };
    let node = |input: &mut Input<'_>| LocalNode {
        name: text(input),
        address: address(input),
        mesh_address: address(input),
        prefixes: (0..input.byte() % 4).map(|_| prefix(input)).collect(),
    };
    let peering = |input: &mut Input<'_>| PeeringConfig {
        cluster: if input.byte() & 3 == 0 { "own".to_owned() } else { text(input) },
        identities: (0..input.byte() % 3).map(|_| input.bytes(32).to_vec()).collect(),
        endpoints: (0..input.byte() % 40)
            .map(|_| WireEndpoint { host: text(input), port: input.word() as u32 })
            .collect(),
        accept: (0..input.byte() % 4).map(|_| prefix(input)).collect(),
        max_prefixes: input.word() as u32,
        keepalive_seconds: input.word() as u32,
        post_quantum_required: input.byte() & 1 == 1,
        lanes: input.word() as u32,
        mtu: input.word() as u32,
        detection_milliseconds: input.word() as u32,
        endpoint_costs: (0..input.byte() % 3).map(|_| input.word() as u32).collect(),
        ..PeeringConfig::default()
    };
    GatewayConfig {
        generation: input.byte().into(),
        vxlan: (strange & 1 == 0).then(|| Vxlan {
            vni: (input.word() << 16 | input.word()) as u32 >> (strange >> 4),
            port: input.word() as u32,
        }),
        nodes: (0..input.byte() % 4).map(|_| node(input)).collect(),
        peerings: (0..input.byte() % 4).map(|_| peering(input)).collect(),
        own_ranges: (0..input.byte() % 3).map(|_| prefix(input)).collect(),
        mesh_prefix: Some(match strange & 2 {
            0 => WirePrefix { address: vec![240, 0, 16, 0], length: 20 },
            _ => prefix(input),
        }),
        mtu: (input.word() % 16_000) as u32,
        drill: None,
    }
}
