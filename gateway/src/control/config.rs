//! The controller's configuration, parsed: one malformed part never takes the others with it.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use carrick_exchange::Pin;
use carrick_exchange::message::member::{
    GatewayConfig, LocalNode, PeeringConfig, Vxlan as WireVxlan,
};
use carrick_exchange::message::snapshot::SignedSnapshot;
use carrick_exchange::snapshot::{MAX_ENDPOINTS, MAX_PREFIXES};
use carrick_exchange::wire::{self, Endpoint, WireError};
use carrick_gateway_core::NodeForwarding;
use carrick_gateway_core::config::MTU_RANGE;
use carrick_gateway_core::path::health::{DETECTION, DETECTION_RANGE};
use carrick_model::{ClusterId, MeshPrefix, Prefix, Role};

/// What an inner packet may have when the controller does not say, in bytes.
const DEFAULT_MTU: usize = 1420;

/// VXLAN network identifiers (RFC 7348).
const VNI_RANGE: RangeInclusive<u32> = 1..=(1 << 24) - 1;

/// The VXLAN that joins us with our nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vxlan {
    /// Network identifier, 1–16777215.
    pub vni: u32,
    /// UDP port.
    pub port: u16,
}

/// What the controller wants of this gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The VXLAN; `None` where there are no nodes to join (a standalone gateway).
    pub vxlan: Option<Vxlan>,
    /// Our nodes.
    pub nodes: Vec<NodeForwarding>,
    /// Our peers, in the order in which they may claim prefixes.
    pub peerings: Vec<Peering>,
    /// Ranges of our own.
    pub own_ranges: Vec<Prefix>,
    /// Our own mesh prefix.
    pub own_mesh: MeshPrefix,
    /// Largest inner packet in bytes.
    pub mtu: usize,
    /// What was left out because it is malformed.
    pub errors: Vec<String>,
}

/// One peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peering {
    /// Who.
    pub pin: Pin,
    /// Where to dial.
    pub endpoints: Vec<Endpoint>,
    /// What we accept.
    pub accept: Vec<Prefix>,
    /// How many prefixes we accept.
    pub max_prefixes: usize,
    /// What we say.
    pub snapshot: Option<SignedSnapshot>,
    /// WireGuard's persistent keepalive in seconds.
    pub keepalive: Option<u16>,
    /// How many lanes to have tunnels on at most, if not as many as both have.
    pub lanes: Option<usize>,
    /// Largest inner packet in bytes, if smaller than the gateway's.
    pub mtu: Option<usize>,
    /// After how long a silence a path is lost.
    pub detection: Duration,
    /// What paths by endpoints cost, where that is not 0.
    pub costs: BTreeMap<Endpoint, u16>,
}

/// Parses a configuration for a gateway of `own`. An error means that nothing of it can be used.
pub fn parse(raw: &GatewayConfig, own: &ClusterId) -> Result<Config, WireError> {
    let mut errors = Vec::new();
    if raw.vxlan.is_none() && !raw.nodes.is_empty() {
        return Err(WireError::Missing { field: "vxlan" });
    }
    let mtu = mtu(raw.mtu)?.unwrap_or(DEFAULT_MTU);
    let nodes = keep(raw.nodes.iter().map(|one| (&one.name, node(one))), "node", &mut errors);
    let peerings = raw.peerings.iter().map(|one| (&one.cluster, peering(one, own)));
    let peerings = keep(peerings, "peering", &mut errors);
    Ok(Config {
        vxlan: raw.vxlan.as_ref().map(vxlan).transpose()?,
        nodes,
        peerings,
        own_ranges: wire::prefixes(&raw.own_ranges, "own_ranges")?,
        own_mesh: wire::mesh(raw.mesh_prefix.as_ref(), "mesh_prefix")?,
        mtu,
        errors,
    })
}

fn vxlan(raw: &WireVxlan) -> Result<Vxlan, WireError> {
    let port = u16::try_from(raw.port).ok().filter(|port| *port != 0);
    let port = port.ok_or(WireError::Missing { field: "vxlan.port" })?;
    Ok(Vxlan { vni: vni(raw.vni)?, port })
}

fn keep<'a, T>(
    parsed: impl Iterator<Item = (&'a String, Result<T, WireError>)>,
    kind: &str,
    errors: &mut Vec<String>,
) -> Vec<T> {
    let mut kept = Vec::new();
    for (name, result) in parsed {
        match result {
            Ok(value) => kept.push(value),
            Err(error) => errors.push(format!("{kind} {name:?} is left out: {error}")),
        }
    }
    kept
}

fn node(raw: &LocalNode) -> Result<NodeForwarding, WireError> {
    Ok(NodeForwarding {
        mesh_address: wire::ipv4(&raw.mesh_address, "mesh_address")?,
        address: wire::address(&raw.address, "address")?,
        prefixes: wire::prefixes(&raw.prefixes, "prefixes")?,
    })
}

fn vni(raw: u32) -> Result<u32, WireError> {
    if VNI_RANGE.contains(&raw) {
        return Ok(raw);
    }
    let error = format!("{raw} must be from {} to {}", VNI_RANGE.start(), VNI_RANGE.end());
    Err(WireError::Text { field: "vxlan.vni", error })
}

fn mtu(raw: u32) -> Result<Option<usize>, WireError> {
    match raw as usize {
        0 => Ok(None),
        mtu if MTU_RANGE.contains(&mtu) => Ok(Some(mtu)),
        mtu => {
            let (low, high) = (MTU_RANGE.start(), MTU_RANGE.end());
            let error = format!("{mtu} must be from {low} to {high}");
            Err(WireError::Text { field: "mtu", error })
        }
    }
}

fn peering(raw: &PeeringConfig, own: &ClusterId) -> Result<Peering, WireError> {
    let cluster: ClusterId = wire::parse(&raw.cluster, "cluster")?;
    if cluster == *own {
        let error = "it is this cluster itself".to_owned();
        return Err(WireError::Text { field: "cluster", error });
    }
    let identities: Result<Vec<_>, _> =
        raw.identities.iter().map(|bytes| wire::identity(bytes, "identities")).collect();
    let identities = identities?;
    if identities.is_empty() {
        return Err(WireError::Missing { field: "identities" });
    }
    let endpoints: Result<Vec<_>, _> = raw.endpoints.iter().map(Endpoint::try_from).collect();
    let mut endpoints = endpoints?;
    endpoints.truncate(4 * MAX_ENDPOINTS);
    let costs = endpoints.iter().cloned().zip(&raw.endpoint_costs);
    let costs = costs.filter(|(_, cost)| **cost != 0);
    let costs = costs.map(|(end, cost)| (end, u16::try_from(*cost).unwrap_or(u16::MAX))).collect();
    let mut pin = Pin::new(cluster, identities, Role::Gateway);
    pin.post_quantum = raw.post_quantum_required;
    Ok(Peering {
        pin,
        endpoints,
        accept: wire::prefixes(&raw.accept, "accept")?,
        max_prefixes: (raw.max_prefixes as usize).min(MAX_PREFIXES),
        snapshot: raw.snapshot.clone(),
        keepalive: u16::try_from(raw.keepalive_seconds).ok().filter(|seconds| *seconds != 0),
        lanes: Some(raw.lanes as usize).filter(|lanes| *lanes != 0),
        mtu: mtu(raw.mtu)?,
        detection: detection(raw.detection_milliseconds)?,
        costs,
    })
}

fn detection(raw: u32) -> Result<Duration, WireError> {
    match Duration::from_millis(raw.into()) {
        Duration::ZERO => Ok(DETECTION),
        detection if DETECTION_RANGE.contains(&detection) => Ok(detection),
        _ => {
            let (low, high) = (DETECTION_RANGE.start(), DETECTION_RANGE.end());
            let error = format!("{raw} must be from {} to {}", low.as_millis(), high.as_millis());
            Err(WireError::Text { field: "detection_milliseconds", error })
        }
    }
}

#[cfg(test)]
mod tests {
    use carrick_exchange::message::{WireEndpoint, WirePrefix};

    use super::*;

    fn own() -> ClusterId {
        "paris".parse().expect("cluster ID")
    }

    fn raw() -> GatewayConfig {
        GatewayConfig {
            vxlan: Some(WireVxlan { vni: 51_746, port: 7789 }),
            mesh_prefix: Some("240.0.16.0/20".parse::<Prefix>().expect("prefix").into()),
            ..GatewayConfig::default()
        }
    }

    fn peer(cluster: &str) -> PeeringConfig {
        PeeringConfig {
            cluster: cluster.to_owned(),
            identities: vec![vec![1; 32]],
            ..PeeringConfig::default()
        }
    }

    #[test]
    fn malformed_parts_are_left_out_by_name_and_the_others_stay() {
        let mut raw = raw();
        raw.nodes = vec![LocalNode { name: "n1".to_owned(), ..LocalNode::default() }];
        let bad_key = PeeringConfig { identities: vec![vec![1; 3]], ..peer("lima") };
        let endpoint = WireEndpoint { host: "a b".to_owned(), port: 1 };
        let bad_endpoint = PeeringConfig { endpoints: vec![endpoint], ..peer("oslo") };
        let nobody = PeeringConfig { identities: Vec::new(), ..peer("rome") };
        let narrow = PeeringConfig { mtu: 100, ..peer("cairo") };
        let hasty = PeeringConfig { detection_milliseconds: 149, ..peer("quito") };
        raw.peerings =
            vec![bad_key, peer("osaka"), peer("paris"), bad_endpoint, nobody, narrow, hasty];
        let config = parse(&raw, &own()).expect("usable");
        let kept: Vec<_> = config.peerings.iter().map(|p| p.pin.cluster.as_str()).collect();
        assert_eq!(kept, ["osaka"]);
        let errors = config.errors.join("\n");
        for name in ["n1", "lima", "paris", "oslo", "rome", "cairo", "quito"] {
            assert!(errors.contains(&format!("{name:?}")), "{name}: {errors}");
        }
    }

    #[test]
    fn detection_and_costs_have_their_defaults() {
        let endpoint = |host: &str| WireEndpoint { host: host.to_owned(), port: 31_820 };
        let endpoints = vec![endpoint("192.0.2.1"), endpoint("192.0.2.2"), endpoint("192.0.2.3")];
        let plain = PeeringConfig { endpoints, ..peer("osaka") };
        let chosen = PeeringConfig {
            detection_milliseconds: 1500,
            endpoint_costs: vec![0, 70_000],
            ..plain.clone()
        };
        let parsed = [plain, chosen].map(|raw| peering(&raw, &own()).expect("good"));
        assert_eq!(parsed[0].detection, DETECTION);
        assert_eq!(parsed[0].costs, BTreeMap::new());
        assert_eq!(parsed[1].detection, Duration::from_millis(1500));
        assert_eq!(parsed[1].costs, [(parsed[1].endpoints[1].clone(), u16::MAX)].into());
    }

    #[test]
    fn without_our_own_ranges_nothing_is_believed() {
        let no_mesh = GatewayConfig { mesh_prefix: None, ..raw() };
        assert!(parse(&no_mesh, &own()).is_err());
        let bad = WirePrefix { address: vec![10, 0, 0, 1], length: 8 };
        let host_bits = GatewayConfig { own_ranges: vec![bad], ..raw() };
        assert!(parse(&host_bits, &own()).is_err());
        let nodes = vec![LocalNode { name: "n1".to_owned(), ..LocalNode::default() }];
        let no_vxlan = GatewayConfig { vxlan: None, nodes, ..raw() };
        assert!(parse(&no_vxlan, &own()).is_err());
        let alone = GatewayConfig { vxlan: None, ..raw() };
        assert_eq!(parse(&alone, &own()).expect("nobody to join").vxlan, None);
    }

    #[test]
    fn numbers_out_of_their_range_are_refused_with_the_range() {
        for mtu in [1, 1279, 65_536, u32::MAX] {
            let error = parse(&GatewayConfig { mtu, ..raw() }, &own()).expect_err("an MTU");
            assert!(error.to_string().contains("mtu"), "{error}");
        }
        for vni in [0, 1 << 24, u32::MAX] {
            let vxlan = Some(WireVxlan { vni, port: 7789 });
            let error = parse(&GatewayConfig { vxlan, ..raw() }, &own()).expect_err("a VNI");
            assert!(error.to_string().contains("16777215"), "{error}");
        }
    }
}
