//! A gateway from a file, without Kubernetes: hosts, edge sites, plain WireGuard peers.

mod config;

use std::net::{SocketAddr, ToSocketAddrs as _};

use anyhow::{Context as _, bail};
use carrick_model::{ClusterId, Prefix};
use carrick_netlink::{LinkSettings, Netlink, Route, RouteKind};

use crate::dataplane::{
    Dataplane, DataplaneOptions, DeviceOptions, LaneOptions, PeerForwarding, TunnelConfig, TunnelId,
};
use carrick_gateway_core::ForwardingConfig;

pub use config::{Config, Endpoint, FileError, Interface, Peer, Secret};

/// A running standalone gateway; dropping it takes device and routes away.
#[derive(Debug)]
pub struct Standalone {
    dataplane: Dataplane,
}

impl Standalone {
    /// Opens device and socket, sets addresses and routes, and begins to talk to the peers.
    pub fn start(config: Config) -> anyhow::Result<Self> {
        let forwarding = forwarding(&config)?;
        let secret = config.private_key.as_ref().map(Secret::key);
        let dataplane = Dataplane::start(DataplaneOptions {
            lanes: vec![LaneOptions { port: config.listen_port, secret }],
            device: DeviceOptions::Tun { name: config.interface.name.clone() },
            offloads: config.offloads.into(),
        })?;
        dataplane.apply(forwarding).context("peers")?;
        set_up(&config)?;
        Ok(Self { dataplane })
    }

    /// The data plane.
    pub fn dataplane(&self) -> &Dataplane {
        &self.dataplane
    }
}

/// What the file asks of the data plane; names of endpoints are resolved now.
fn forwarding(config: &Config) -> anyhow::Result<ForwardingConfig> {
    let mut tunnels = Vec::new();
    let mut peers = Vec::new();
    for (index, peer) in config.peers.iter().enumerate() {
        let id = TunnelId(index as u64);
        let endpoint = peer.endpoint.as_ref().map(resolve).transpose();
        let endpoint = endpoint.with_context(|| format!("peers[{index}].endpoint"))?;
        let keepalive = peer.keepalive.filter(|seconds| *seconds > 0);
        tunnels.push(TunnelConfig {
            id,
            lane: 0,
            remote_key: peer.public_key,
            psk: peer.preshared_key.as_ref().map(Secret::bytes),
            endpoint,
            roaming: true,
            keepalive,
            initiate: endpoint.is_some() && keepalive.is_some(),
        });
        let cluster = match &peer.name {
            Some(name) => name.clone(),
            None => format!("peer-{index}").parse::<ClusterId>()?,
        };
        let prefixes = peer.allowed_prefixes.clone();
        peers.push(PeerForwarding { cluster, prefixes, tunnels: vec![id] });
    }
    let mtu = config.interface.mtu.into();
    Ok(ForwardingConfig { tunnels, peers, mtu, ..Default::default() })
}

fn resolve(endpoint: &Endpoint) -> anyhow::Result<SocketAddr> {
    match endpoint {
        Endpoint::Address(address) => Ok(*address),
        Endpoint::Name(name, port) => {
            let mut found = (name.as_str(), *port)
                .to_socket_addrs()
                .with_context(|| format!("cannot resolve {name}; check the name and DNS"))?;
            match found.next() {
                Some(address) => Ok(address),
                None => bail!("{name} has no address; check the name"),
            }
        }
    }
}

/// The device's MTU, addresses and routes.
fn set_up(config: &Config) -> anyhow::Result<()> {
    let interface = &config.interface;
    let name = &interface.name;
    let mut netlink = Netlink::open()?;
    let settings = LinkSettings {
        mtu: Some(interface.mtu.into()),
        up: Some(true),
        ipv6_addresses_off: Some(true),
        ..LinkSettings::default()
    };
    netlink.ensure_settings(name, &settings)?;
    let link = netlink.link(name)?.with_context(|| format!("the device {name} has vanished"))?;
    let addresses: Vec<_> =
        interface.addresses.iter().map(|net| (net.addr(), net.prefix_len())).collect();
    netlink.sync_addresses(link.index, &addresses).context("interface.addresses")?;
    if interface.routes {
        netlink.ensure_routes(&routes(config, link.index)).context("peers[].allowed_prefixes")?;
    }
    Ok(())
}

/// Routes to what the peers have, except what the interface's own subnets already lead there.
fn routes(config: &Config, link: u32) -> Vec<Route> {
    let connected: Vec<Prefix> = config
        .interface
        .addresses
        .iter()
        .map(|net| Prefix::containing(net.addr(), net.prefix_len()))
        .collect();
    let prefixes = config.peers.iter().flat_map(|peer| &peer.allowed_prefixes);
    prefixes
        .filter(|prefix| !connected.iter().any(|subnet| subnet.covers(prefix)))
        .map(|prefix| Route {
            destination: *prefix,
            metric: if prefix.address().is_ipv4() { 0 } else { 1024 },
            table: carrick_netlink::TABLE_MAIN,
            kind: RouteKind::Unicast,
            protocol: carrick_netlink::PROTOCOL,
            gateway: None,
            link: Some(link),
            source: None,
            onlink: false,
            mtu: None,
            advmss: None,
        })
        .collect()
}

/// A new private key with its public key, as lines for a configuration file.
pub fn new_key() -> String {
    use base64::Engine as _;
    let mut bytes = [0; 32];
    rand::fill(&mut bytes);
    let public = carrick_gateway_core::SecretKey::from_bytes(bytes).public();
    let private = base64::engine::general_purpose::STANDARD.encode(bytes);
    format!("private_key: {private}\n# for the other side: public_key: {public}\n")
}
