//! A gateway from a file, without Kubernetes: hosts, edge sites, plain WireGuard peers.

mod config;
mod desk;
mod exchange;
mod identity;
mod metrics;
mod mtu;
mod network;
mod notices;
mod plane;
mod probes;
mod routes;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use carrick_model::ClusterId;
use tokio::sync::watch;

use crate::dataplane::{
    Dataplane, DataplaneOptions, DeviceOptions, LaneOptions, PeerForwarding, TunnelConfig, TunnelId,
};
use carrick_gateway_core::ForwardingConfig;
use carrick_gateway_core::config::MTU_RANGE;

pub use config::{
    CarrickPeer, Config, EXAMPLE, Endpoint, ExchangeSection, FileError, Identity, Interface,
    OffloadSwitches, Peer, PlainPeer, Secret,
};
pub use identity::identity;

use exchange::Running;
use metrics::Names;
use mtu::Follower;
use plane::StandalonePlane;

/// Marks the names of plain peers' tunnels; control gives names without it to those of Carrick peers.
const PLAIN: u64 = 1 << 63;

/// A running standalone gateway; dropping it takes device and routes away.
#[derive(Debug)]
pub struct Standalone {
    plane: Arc<StandalonePlane>,
    config: Config,
    names: Names,
    /// The configured MTU, for whoever follows the paths.
    mtu: watch::Sender<Option<u16>>,
    next: u64,
    /// The lanes that have the file's key.
    keyed: BTreeSet<u16>,
    exchange: Option<Running>,
}

impl Standalone {
    /// Opens device and socket, sets addresses and routes, and begins to talk to the peers. Needs a tokio
    /// runtime.
    pub fn start(config: Config) -> anyhow::Result<Self> {
        let keyed = keyed_lanes(&config);
        let secret = config.private_key.as_ref().map(Secret::key);
        let lane = |index| LaneOptions {
            port: if config.listen_port == 0 { 0 } else { config.listen_port + index },
            secret: secret.clone().filter(|_| keyed.contains(&index)),
        };
        let dataplane = Dataplane::start(DataplaneOptions {
            lanes: (0..config.lanes).map(lane).collect(),
            device: DeviceOptions::Tun { name: config.interface.name.clone() },
            offloads: config.offloads.into(),
        })?;
        let (plane, names) = (Arc::new(StandalonePlane::new(dataplane)), Names::default());
        let mtu = watch::Sender::new(config.interface.mtu);
        let mut gateway = Self { plane, config, names, mtu, next: 0, keyed, exchange: None };
        let config = gateway.config.clone();
        gateway.apply(&config)?;
        network::set_up(&config)?;
        gateway.exchange = Running::start(&config, &gateway.plane)?;
        Ok(gateway)
    }

    /// Changes what differs in `config`; sessions with peers that stay go on. What needs a new device or
    /// socket is refused, and then nothing changes.
    pub fn reload(&mut self, config: Config) -> anyhow::Result<()> {
        if let Some(field) = self.config.needs_restart(&config) {
            bail!("{field} has changed, which takes a restart; nothing was changed");
        }
        if let Some((index, peer)) = config.plain_peers().find(|p| !self.keyed.contains(&p.1.lane))
        {
            let lane = peer.lane;
            bail!(
                "peers[{index}].lane: lane {lane} had no plain peer at the start and has made its own \
                 key, so that one takes a restart; nothing was changed"
            );
        }
        self.apply(&config).context("nothing was changed")?;
        let before = std::mem::replace(&mut self.config, config);
        if let Some(exchange) = &self.exchange {
            exchange.reload(&self.config);
        }
        let changed = network::change(&before, &self.config).context(
            "peers are changed, addresses and routes not all; mend this and send SIGHUP again",
        );
        self.mtu.send_replace(self.config.interface.mtu);
        changed
    }

    /// Keeps the MTUs of device and routes in step with the paths', as long as the gateway lives.
    pub fn follow_paths(&self) -> anyhow::Result<()> {
        let follower = Follower::new(self.plane.dataplane().clone(), self.mtu.subscribe())?;
        tokio::spawn(follower.run());
        Ok(())
    }

    /// The data plane.
    pub fn dataplane(&self) -> &Arc<Dataplane> {
        self.plane.dataplane()
    }

    /// Waits until the exchange, if there is one, ends by itself; says why. Then only a restart helps.
    pub async fn exchange_ended(&mut self) -> anyhow::Error {
        match &mut self.exchange {
            Some(exchange) => exchange.ended().await,
            None => std::future::pending().await,
        }
    }

    /// Tells Carrick peers that we leave. Routes that keep their ranges in stay behind.
    pub async fn stop(&mut self) {
        if let Some(exchange) = self.exchange.take() {
            exchange.stop().await;
        }
    }

    /// Serves metrics and health, if the file says where, until the process ends.
    pub async fn serve_metrics(&self) -> anyhow::Result<()> {
        match self.config.metrics {
            Some(address) => {
                let view = self.exchange.as_ref().map(Running::view);
                let dataplane = self.plane.dataplane().clone();
                metrics::serve(address, dataplane, self.names.clone(), view).await
            }
            None => Ok(()),
        }
    }

    /// Gives the data plane what a file asks of it; names of endpoints are resolved now. Peers that were
    /// there before keep their tunnel.
    fn apply(&mut self, config: &Config) -> anyhow::Result<()> {
        let held = self.names.ids();
        let (mut tunnels, mut peers, mut names) = (Vec::new(), Vec::new(), BTreeMap::new());
        for (index, peer) in config.plain_peers() {
            let id = held.get(&peer.public_key).copied().unwrap_or_else(|| {
                self.next += 1;
                TunnelId(PLAIN | self.next)
            });
            let cluster = peer.label().parse::<ClusterId>()?;
            let endpoint = peer.endpoint.as_ref().map(resolve).transpose();
            let endpoint = endpoint.with_context(|| format!("peers[{index}].endpoint"))?;
            tunnels.push(tunnel(id, peer, endpoint));
            names.insert(id, (peer.public_key, cluster.to_string()));
            let prefixes = peer.allowed_prefixes.clone();
            peers.push(PeerForwarding { cluster, prefixes, tunnels: vec![id], mtu: None });
        }
        let mtu = config.interface.mtu.map_or(*MTU_RANGE.end(), usize::from);
        let forwarding = ForwardingConfig { tunnels, peers, mtu, ..Default::default() };
        self.plane.set_plain(forwarding).context("peers")?;
        self.names.replace(names);
        Ok(())
    }
}

/// Takes away the routes that an earlier run with this file has left; returns how many there were.
pub fn clean_up(config: &Config) -> anyhow::Result<usize> {
    routes::clean_up(config)
}

/// The lanes that have the file's key: all, unless Carrick peers may want some; those then make keys in
/// memory, as in Kubernetes.
fn keyed_lanes(config: &Config) -> BTreeSet<u16> {
    let plain = config.plain_peers().map(|(_, peer)| peer.lane);
    if config.cluster.is_some() { plain.collect() } else { (0..config.lanes).collect() }
}

fn tunnel(id: TunnelId, peer: &PlainPeer, endpoint: Option<SocketAddr>) -> TunnelConfig {
    let keepalive = peer.keepalive.filter(|seconds| *seconds > 0);
    TunnelConfig {
        id,
        lane: peer.lane.into(),
        remote_key: peer.public_key,
        psk: peer.preshared_key.as_ref().map(Secret::bytes),
        paths: carrick_gateway_core::PathConfig::only(endpoint),
        roaming: true,
        keepalive,
        initiate: endpoint.is_some() && keepalive.is_some(),
        probes: peer.probes,
        detection: carrick_gateway_core::path::health::DETECTION,
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
