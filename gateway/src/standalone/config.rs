//! The file of a standalone gateway: parsed whole, or refused with line and field.

mod check;
mod peer;
mod value;

use std::fmt::Display;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use carrick_exchange::wire;
use carrick_model::{ClusterId, MeshPrefix, Prefix};
use ipnet::IpNet;
use serde::Deserialize;

use crate::dataplane::Offloads;

pub use peer::{CarrickPeer, Peer, PlainPeer};
pub use value::{Endpoint, Identity, Secret};

use value::{dials, optional_identity, optional_mesh, optional_secret, optional_text, texts};

/// A file with every field, commented.
pub const EXAMPLE: &str = include_str!("example.yaml");

/// Why a configuration file is refused.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It could not be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is no YAML, or a field is wrong. The message names field and line.
    #[error("{path}: {source}")]
    Yaml {
        /// The file.
        path: PathBuf,
        /// What is wrong where.
        source: serde_yaml::Error,
    },
    /// Fields contradict each other.
    #[error("{path}: {field}: {problem}")]
    Field {
        /// The file.
        path: PathBuf,
        /// The field, e.g. `peers[1].allowed_prefixes`.
        field: String,
        /// What is wrong with it, and what to do.
        problem: String,
    },
}

/// A standalone gateway's configuration.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The TUN device.
    pub interface: Interface,
    /// Our private key in base64, as `carrick-gateway key` makes it.
    #[serde(default, deserialize_with = "optional_secret")]
    pub private_key: Option<Secret>,
    /// A file that holds it instead.
    #[serde(default)]
    pub private_key_file: Option<PathBuf>,
    /// The UDP port to listen on; 0 or nothing lets the kernel choose.
    #[serde(default)]
    pub listen_port: u16,
    /// How many lanes, 1–16: threads, each with a UDP port of its own from `listen_port` on.
    #[serde(default = "one")]
    pub lanes: u16,
    /// Our own cluster ID: with it, we speak the exchange, as gateways in Kubernetes do.
    #[serde(default, deserialize_with = "optional_text")]
    pub cluster: Option<ClusterId>,
    /// Our private identity key in PEM, as `carrick-gateway identity` makes it.
    #[serde(default, deserialize_with = "optional_identity")]
    pub identity: Option<Identity>,
    /// A file that holds it instead.
    #[serde(default)]
    pub identity_file: Option<PathBuf>,
    /// Where we speak it.
    #[serde(default)]
    pub exchange: ExchangeSection,
    /// What Carrick peers are told that we have.
    #[serde(default, deserialize_with = "texts")]
    pub announce: Vec<Prefix>,
    /// Our mesh prefix, if not the one that follows from our identity.
    #[serde(default, deserialize_with = "optional_mesh")]
    pub mesh_prefix: Option<MeshPrefix>,
    /// Whom we talk to.
    #[serde(default)]
    pub peers: Vec<Peer>,
    /// Where metrics and health are served over HTTP; nowhere by default.
    #[serde(default, deserialize_with = "optional_text")]
    pub metrics: Option<SocketAddr>,
    /// What may be left to the kernel; all that it has, by default.
    #[serde(default)]
    pub offloads: OffloadSwitches,
}

/// The exchange with Carrick peers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExchangeSection {
    /// Its UDP port; peers look for lane k on this port + 1 + k. The one before `listen_port`.
    #[serde(default)]
    pub port: Option<u16>,
    /// Where peers are told to reach it; nothing when they know by themselves, or we dial them.
    #[serde(default, deserialize_with = "dials")]
    pub endpoints: Vec<wire::Endpoint>,
}

/// Switches of [`Offloads`], each on unless said otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OffloadSwitches {
    /// TCP streams cross the device uncut.
    pub device_tcp: bool,
    /// UDP trains cross the device uncut.
    pub device_udp: bool,
    /// The kernel cuts what we send.
    pub socket_send: bool,
    /// The kernel merges what we receive.
    pub socket_receive: bool,
}

impl Default for OffloadSwitches {
    fn default() -> Self {
        Self { device_tcp: true, device_udp: true, socket_send: true, socket_receive: true }
    }
}

impl From<OffloadSwitches> for Offloads {
    fn from(switches: OffloadSwitches) -> Self {
        let OffloadSwitches { device_tcp, device_udp, socket_send, socket_receive } = switches;
        Self { device_tcp, device_udp, socket_send, socket_receive }
    }
}

/// The TUN device.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interface {
    /// Its name, 1–15 bytes.
    pub name: String,
    /// Its addresses, each with the length of its subnet.
    #[serde(default, deserialize_with = "texts")]
    pub addresses: Vec<IpNet>,
    /// Its MTU in bytes, 1280–9000; without one it is as large as the largest path allows.
    #[serde(default)]
    pub mtu: Option<u16>,
    /// Whether to route every allowed prefix into it.
    #[serde(default = "yes")]
    pub routes: bool,
}

fn one() -> u16 {
    1
}

fn yes() -> bool {
    true
}

impl Config {
    /// Reads and checks the file, and the key files that it names.
    pub fn read(path: &PathBuf) -> Result<Self, FileError> {
        let mut config = Self::parse(&read(path)?, path)?;
        config.private_key = take(config.private_key, config.private_key_file.as_ref())?;
        config.identity = take(config.identity, config.identity_file.as_ref())?;
        for peer in &mut config.peers {
            if let Peer::Plain(peer) = peer {
                let inline = peer.preshared_key.take();
                peer.preshared_key = take(inline, peer.preshared_key_file.as_ref())?;
            }
        }
        match config.check_identity() {
            Ok(()) => Ok(config),
            Err((field, problem)) => Err(FileError::Field { path: path.clone(), field, problem }),
        }
    }

    /// Checks the text of the file at `path`, without the key files that it names.
    pub fn parse(text: &str, path: &Path) -> Result<Self, FileError> {
        let path = path.to_owned();
        let config: Self = match serde_yaml::from_str(text) {
            Ok(config) => config,
            Err(source) => return Err(FileError::Yaml { path, source }),
        };
        match config.check() {
            Ok(()) => Ok(config.with_ports()),
            Err((field, problem)) => Err(FileError::Field { path, field, problem }),
        }
    }

    /// Where one of the two ports of a gateway with an exchange is left out, it follows from the other.
    fn with_ports(mut self) -> Self {
        if self.cluster.is_some() {
            let port = self.exchange.port.unwrap_or_else(|| self.listen_port.saturating_sub(1));
            self.exchange.port = Some(port);
            self.listen_port = port.saturating_add(1);
        }
        self
    }

    /// The plain peers, each with its place in the file.
    pub fn plain_peers(&self) -> impl Iterator<Item = (usize, &PlainPeer)> {
        self.peers.iter().enumerate().filter_map(|(index, peer)| match peer {
            Peer::Plain(peer) => Some((index, peer)),
            Peer::Carrick(_) => None,
        })
    }

    /// The Carrick peers, each with its place in the file.
    pub fn carrick_peers(&self) -> impl Iterator<Item = (usize, &CarrickPeer)> {
        self.peers.iter().enumerate().filter_map(|(index, peer)| match peer {
            Peer::Plain(_) => None,
            Peer::Carrick(peer) => Some((index, peer)),
        })
    }

    /// Our mesh prefix, once the identity has been read; `None` without Carrick peers.
    pub fn mesh(&self) -> Option<MeshPrefix> {
        let identity = self.identity.as_ref().filter(|_| self.cluster.is_some())?;
        Some(self.mesh_prefix.unwrap_or_else(|| MeshPrefix::for_identity(&identity.public())))
    }

    /// This host's address in it, where it answers probes.
    pub fn mesh_address(&self) -> Option<Ipv4Addr> {
        self.mesh()?.node(0)
    }

    /// The first field that differs and is fixed while the gateway runs.
    pub(super) fn needs_restart(&self, other: &Self) -> Option<&'static str> {
        let key = |config: &Self| config.private_key.as_ref().map(Secret::bytes);
        let identity = |config: &Self| config.identity.as_ref().map(Identity::public);
        [
            ("interface.name", self.interface.name != other.interface.name),
            ("listen_port", self.listen_port != other.listen_port),
            ("lanes", self.lanes != other.lanes),
            ("private_key", key(self) != key(other)),
            ("cluster", self.cluster != other.cluster),
            ("identity", identity(self) != identity(other)),
            ("mesh_prefix", self.mesh_prefix != other.mesh_prefix),
            ("exchange.port", self.exchange.port != other.exchange.port),
            ("metrics", self.metrics != other.metrics),
            ("offloads", self.offloads != other.offloads),
        ]
        .into_iter()
        .find_map(|(field, differs)| differs.then_some(field))
    }
}

fn read(path: &PathBuf) -> Result<String, FileError> {
    std::fs::read_to_string(path).map_err(|source| FileError::Read { path: path.clone(), source })
}

/// What is written in the file itself, or else in the file that it names.
fn take<T>(inline: Option<T>, file: Option<&PathBuf>) -> Result<Option<T>, FileError>
where
    T: FromStr<Err: Display>,
{
    let Some(path) = file else { return Ok(inline) };
    read(path)?.parse().map(Some).map_err(|problem: T::Err| FileError::Field {
        path: path.clone(),
        field: "content".to_owned(),
        problem: problem.to_string(),
    })
}

#[cfg(test)]
mod tests;
