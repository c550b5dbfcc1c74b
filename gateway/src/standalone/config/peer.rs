//! Peers in the file: plain ones of WireGuard by their key, Carrick ones by their identity.

use std::fmt;
use std::path::PathBuf;

use carrick_exchange::snapshot::MAX_PREFIXES;
use carrick_exchange::wire;
use carrick_gateway_core::config::MTU_RANGE;
use carrick_model::{ClusterId, IdentityKey, Prefix, TunnelKey};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::value::{Dial, Endpoint, Secret, optional_secret, optional_text, optional_texts};

/// How many prefixes a Carrick peer may announce when the file does not say.
const DEFAULT_MAX_PREFIXES: u32 = 32;

/// Whom we talk to.
#[derive(Debug, Clone)]
pub enum Peer {
    /// One that speaks plain WireGuard.
    Plain(PlainPeer),
    /// A cluster, or a standalone gateway, that speaks the exchange.
    Carrick(CarrickPeer),
}

/// A remote WireGuard peer.
#[derive(Debug, Clone)]
pub struct PlainPeer {
    /// A name for logs: an RFC 1123 label.
    pub name: Option<ClusterId>,
    /// Its public key.
    pub public_key: TunnelKey,
    /// The preshared key in base64.
    pub preshared_key: Option<Secret>,
    /// A file that holds it instead.
    pub preshared_key_file: Option<PathBuf>,
    /// Where it listens, `address:port` or `name:port`; nothing when it dials us.
    pub endpoint: Option<Endpoint>,
    /// What is routed to it, and the only sources that may come from it.
    pub allowed_prefixes: Vec<Prefix>,
    /// The lane that it lives on, from 0: what it sends must come to that lane's port.
    pub lane: u16,
    /// Seconds between keepalives; 0 or nothing is off.
    pub keepalive: Option<u16>,
    /// It is a Carrick gateway: the path to it is probed.
    pub probes: bool,
}

/// A remote cluster or standalone gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CarrickPeer {
    /// Its cluster ID.
    pub cluster: ClusterId,
    /// Its public identity keys, at least one; the newest first.
    pub identities: Vec<IdentityKey>,
    /// Where its exchange listens; nothing when it only dials us.
    pub endpoints: Vec<wire::Endpoint>,
    /// Ranges inside which it may announce. Nothing of them ever leaves in clear.
    pub accept: Vec<Prefix>,
    /// How many prefixes it may announce.
    pub max_prefixes: u32,
    /// What we announce to it, if not what all are told.
    pub announce: Option<Vec<Prefix>>,
    /// On how many lanes to have tunnels with it at most, if not on all that both have.
    pub lanes: Option<u16>,
    /// Largest inner packet to and from it in bytes, if smaller than the interface's.
    pub mtu: Option<u16>,
    /// Refuse key exchanges that a quantum computer could undo later.
    pub require_post_quantum: bool,
    /// Withdrawn: no traffic, and its ranges stay unreachable.
    pub suspended: bool,
}

impl PlainPeer {
    /// Its name; without one, a name that its key gives it.
    pub fn label(&self) -> String {
        let [a, b, c, d, ..] = self.public_key.as_bytes();
        let from_key = || format!("peer-{a:02x}{b:02x}{c:02x}{d:02x}");
        self.name.as_ref().map_or_else(from_key, ToString::to_string)
    }
}

/// All that a peer of either kind may have.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    #[serde(default, deserialize_with = "optional_text")]
    carrick: Option<ClusterId>,
    #[serde(default, deserialize_with = "optional_texts")]
    identities: Option<Vec<IdentityKey>>,
    #[serde(default, deserialize_with = "optional_texts")]
    endpoints: Option<Vec<Dial>>,
    #[serde(default, deserialize_with = "optional_texts")]
    accept: Option<Vec<Prefix>>,
    max_prefixes: Option<u32>,
    #[serde(default, deserialize_with = "optional_texts")]
    announce: Option<Vec<Prefix>>,
    lanes: Option<u16>,
    mtu: Option<u16>,
    require_post_quantum: Option<bool>,
    suspended: Option<bool>,
    #[serde(default, deserialize_with = "optional_text")]
    name: Option<ClusterId>,
    #[serde(default, deserialize_with = "optional_text")]
    public_key: Option<TunnelKey>,
    #[serde(default, deserialize_with = "optional_secret")]
    preshared_key: Option<Secret>,
    preshared_key_file: Option<PathBuf>,
    #[serde(default, deserialize_with = "optional_text")]
    endpoint: Option<Endpoint>,
    #[serde(default, deserialize_with = "optional_texts")]
    allowed_prefixes: Option<Vec<Prefix>>,
    lane: Option<u16>,
    keepalive: Option<u16>,
    probes: Option<bool>,
}

impl Fields {
    fn peer(self) -> Result<Peer, String> {
        let of_plain = [
            ("name", self.name.is_some()),
            ("public_key", self.public_key.is_some()),
            ("preshared_key", self.preshared_key.is_some()),
            ("preshared_key_file", self.preshared_key_file.is_some()),
            ("endpoint", self.endpoint.is_some()),
            ("allowed_prefixes", self.allowed_prefixes.is_some()),
            ("lane", self.lane.is_some()),
            ("keepalive", self.keepalive.is_some()),
            ("probes", self.probes.is_some()),
        ];
        let of_carrick = [
            ("identities", self.identities.is_some()),
            ("endpoints", self.endpoints.is_some()),
            ("accept", self.accept.is_some()),
            ("max_prefixes", self.max_prefixes.is_some()),
            ("announce", self.announce.is_some()),
            ("lanes", self.lanes.is_some()),
            ("mtu", self.mtu.is_some()),
            ("require_post_quantum", self.require_post_quantum.is_some()),
            ("suspended", self.suspended.is_some()),
        ];
        let first = |fields: &[(&'static str, bool)]| fields.iter().find(|f| f.1).map(|f| f.0);
        match &self.carrick {
            Some(_) => match first(&of_plain) {
                Some(field) => Err(format!(
                    "{field}: a Carrick peer has none; its keys and prefixes come by the exchange"
                )),
                None => self.carrick_peer().map(Peer::Carrick),
            },
            None => match first(&of_carrick) {
                Some(field) => Err(format!(
                    "{field}: only a Carrick peer has it; name its cluster by `carrick`"
                )),
                None => self.plain_peer().map(Peer::Plain),
            },
        }
    }

    fn plain_peer(self) -> Result<PlainPeer, String> {
        let missing = |field: &str| format!("missing field `{field}`");
        Ok(PlainPeer {
            name: self.name,
            public_key: self.public_key.ok_or_else(|| missing("public_key"))?,
            preshared_key: self.preshared_key,
            preshared_key_file: self.preshared_key_file,
            endpoint: self.endpoint,
            allowed_prefixes: self.allowed_prefixes.ok_or_else(|| missing("allowed_prefixes"))?,
            lane: self.lane.unwrap_or_default(),
            keepalive: self.keepalive,
            probes: self.probes.unwrap_or(false),
        })
    }

    fn carrick_peer(self) -> Result<CarrickPeer, String> {
        let missing = |field: &str| format!("missing field `{field}`");
        let bounds =
            |field: &str, low: usize, high: usize| format!("{field}: must be from {low} to {high}");
        let identities = self.identities.unwrap_or_default();
        if identities.is_empty() {
            return Err(missing("identities"));
        }
        let max_prefixes = self.max_prefixes.unwrap_or(DEFAULT_MAX_PREFIXES);
        if !(1..=MAX_PREFIXES).contains(&(max_prefixes as usize)) {
            return Err(bounds("max_prefixes", 1, MAX_PREFIXES));
        }
        if self.mtu.is_some_and(|mtu| !MTU_RANGE.contains(&usize::from(mtu))) {
            return Err(bounds("mtu", *MTU_RANGE.start(), *MTU_RANGE.end()));
        }
        if self.lanes == Some(0) {
            return Err("lanes: must be at least 1".to_owned());
        }
        Ok(CarrickPeer {
            cluster: self.carrick.ok_or_else(|| missing("carrick"))?,
            identities,
            endpoints: self.endpoints.unwrap_or_default().into_iter().map(|dial| dial.0).collect(),
            accept: self.accept.ok_or_else(|| missing("accept"))?,
            max_prefixes,
            announce: self.announce,
            lanes: self.lanes,
            mtu: self.mtu,
            require_post_quantum: self.require_post_quantum.unwrap_or_default(),
            suspended: self.suspended.unwrap_or_default(),
        })
    }
}

struct PeerVisitor;

impl<'de> Visitor<'de> for PeerVisitor {
    type Value = Peer;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a peer")
    }

    /// Fields are put together in here, where the reader still knows the line.
    fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<Peer, M::Error> {
        Fields::deserialize(MapAccessDeserializer::new(map))?.peer().map_err(M::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Peer {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(PeerVisitor)
    }
}
