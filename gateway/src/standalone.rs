//! A gateway from a file, without Kubernetes: hosts, edge sites, plain WireGuard peers.

mod config;
mod metrics;
mod network;

use std::collections::BTreeMap;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use carrick_model::ClusterId;

use crate::dataplane::{
    Dataplane, DataplaneOptions, DeviceOptions, LaneOptions, PeerForwarding, TunnelConfig, TunnelId,
};
use carrick_gateway_core::ForwardingConfig;

pub use config::{Config, EXAMPLE, Endpoint, FileError, Interface, OffloadSwitches, Peer, Secret};

use metrics::Names;

/// A running standalone gateway; dropping it takes device and routes away.
#[derive(Debug)]
pub struct Standalone {
    dataplane: Arc<Dataplane>,
    config: Config,
    names: Names,
    next: u64,
}

impl Standalone {
    /// Opens device and socket, sets addresses and routes, and begins to talk to the peers.
    pub fn start(config: Config) -> anyhow::Result<Self> {
        let lane = |index| LaneOptions {
            port: if config.listen_port == 0 { 0 } else { config.listen_port + index },
            secret: config.private_key.as_ref().map(Secret::key),
        };
        let dataplane = Dataplane::start(DataplaneOptions {
            lanes: (0..config.lanes).map(lane).collect(),
            device: DeviceOptions::Tun { name: config.interface.name.clone() },
            offloads: config.offloads.into(),
        })?;
        let (dataplane, names) = (Arc::new(dataplane), Names::default());
        let mut gateway = Self { dataplane, config, names, next: 0 };
        let config = gateway.config.clone();
        gateway.apply(&config)?;
        network::set_up(&config)?;
        Ok(gateway)
    }

    /// Changes what differs in `config`; sessions with peers that stay go on. What needs a new device or
    /// socket is refused, and then nothing changes.
    pub fn reload(&mut self, config: Config) -> anyhow::Result<()> {
        if let Some(field) = self.config.needs_restart(&config) {
            bail!("{field} has changed, which takes a restart; nothing was changed");
        }
        self.apply(&config).context("nothing was changed")?;
        let before = std::mem::replace(&mut self.config, config);
        network::change(&before, &self.config).context(
            "peers are changed, addresses and routes not all; mend this and send SIGHUP again",
        )
    }

    /// The data plane.
    pub fn dataplane(&self) -> &Arc<Dataplane> {
        &self.dataplane
    }

    /// Serves metrics and health, if the file says where, until the process ends.
    pub async fn serve_metrics(&self) -> anyhow::Result<()> {
        match self.config.metrics {
            Some(address) => {
                metrics::serve(address, self.dataplane.clone(), self.names.clone()).await
            }
            None => Ok(()),
        }
    }

    /// Gives the data plane what a file asks of it; names of endpoints are resolved now. Peers that were
    /// there before keep their tunnel.
    fn apply(&mut self, config: &Config) -> anyhow::Result<()> {
        let held = self.names.ids();
        let (mut tunnels, mut peers, mut names) = (Vec::new(), Vec::new(), BTreeMap::new());
        for (index, peer) in config.peers.iter().enumerate() {
            let id = held.get(&peer.public_key).copied().unwrap_or_else(|| {
                self.next += 1;
                TunnelId(self.next)
            });
            let cluster = peer.label().parse::<ClusterId>()?;
            let endpoint = peer.endpoint.as_ref().map(resolve).transpose();
            let endpoint = endpoint.with_context(|| format!("peers[{index}].endpoint"))?;
            tunnels.push(tunnel(id, peer, endpoint));
            names.insert(id, (peer.public_key, cluster.to_string()));
            let prefixes = peer.allowed_prefixes.clone();
            peers.push(PeerForwarding { cluster, prefixes, tunnels: vec![id], mtu: None });
        }
        let mtu = config.interface.mtu.into();
        let forwarding = ForwardingConfig { tunnels, peers, mtu, ..Default::default() };
        self.dataplane.apply(forwarding).context("peers")?;
        self.names.replace(names);
        Ok(())
    }
}

fn tunnel(id: TunnelId, peer: &Peer, endpoint: Option<SocketAddr>) -> TunnelConfig {
    let keepalive = peer.keepalive.filter(|seconds| *seconds > 0);
    TunnelConfig {
        id,
        lane: peer.lane.into(),
        remote_key: peer.public_key,
        psk: peer.preshared_key.as_ref().map(Secret::bytes),
        endpoint,
        roaming: true,
        keepalive,
        initiate: endpoint.is_some() && keepalive.is_some(),
    }
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

/// A new private key with its public key, as lines for a configuration file.
pub fn new_key() -> String {
    use base64::Engine as _;
    let mut bytes = [0; 32];
    rand::fill(&mut bytes);
    let public = carrick_gateway_core::SecretKey::from_bytes(bytes).public();
    let private = base64::engine::general_purpose::STANDARD.encode(bytes);
    format!("private_key: {private}\n# for the other side: public_key: {public}\n")
}
