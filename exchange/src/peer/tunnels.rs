//! Which tunnels a connection goes on with: a pure function of the two Hellos.

use aws_lc_rs::digest::{SHA256, digest};
use carrick_model::TunnelKey;

use crate::message::peer::{Hello, LaneEntry, TunnelEntry};
use crate::wire::{self, WireError};

/// The TLS exporter's label for preshared keys.
const LABEL: &str = "EXPORTER-carrick-psk";

/// The most lanes that a gateway may have.
pub(super) const MAX_LANES: usize = 64;

/// A WireGuard preshared key.
pub type Psk = [u8; 32];

/// Names a preshared key without revealing it: the first 16 bytes of its SHA-256.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(pub [u8; 16]);

impl Incarnation {
    /// Of a key.
    pub fn of(psk: &Psk) -> Self {
        let hash = digest(&SHA256, psk);
        let mut name = [0; 16];
        name.copy_from_slice(&hash.as_ref()[..16]);
        Self(name)
    }
}

/// A lane of ours or of theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lane {
    /// Lane k talks to lane k.
    pub index: u32,
    /// Its WireGuard public key.
    pub key: TunnelKey,
    /// Its UDP port.
    pub port: u16,
}

/// A tunnel that we hold with the other gateway already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Its lane.
    pub lane: u32,
    /// Our lane's key when it was made.
    pub own_key: TunnelKey,
    /// Their lane's key.
    pub remote_key: TunnelKey,
    /// The preshared key.
    pub psk: Psk,
}

/// A tunnel that both sides agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agreed {
    /// Their lane.
    pub remote: Lane,
    /// Our lane's key.
    pub own_key: TunnelKey,
    /// The preshared key.
    pub psk: Psk,
    /// It is the very tunnel that both held before: leave it untouched.
    pub kept: bool,
}

/// The preshared key for a pair of lanes of two gateways, from their connection's exporter
/// (label, context → secret). Both ends get the same, whichever is called ours.
pub fn derive(export: impl Fn(&str, &[u8]) -> Psk, ours: &TunnelKey, theirs: &TunnelKey) -> Psk {
    let (lower, higher) = if ours < theirs { (ours, theirs) } else { (theirs, ours) };
    export(LABEL, &[lower.as_bytes().as_slice(), higher.as_bytes()].concat())
}

/// The lanes part of our Hello.
pub(super) fn lane_entries(lanes: &[Lane]) -> Vec<LaneEntry> {
    lanes
        .iter()
        .map(|lane| LaneEntry {
            index: lane.index,
            public_key: lane.key.as_bytes().to_vec(),
            port: lane.port.into(),
        })
        .collect()
}

/// The tunnels part of our Hello.
pub(super) fn tunnel_entries(held: &[Held]) -> Vec<TunnelEntry> {
    held.iter()
        .map(|tunnel| TunnelEntry {
            lane: tunnel.lane,
            incarnation: Incarnation::of(&tunnel.psk).0.to_vec(),
        })
        .collect()
}

/// The lanes that their Hello offers.
pub(super) fn remote_lanes(hello: &Hello) -> Result<Vec<Lane>, WireError> {
    let field = "lanes";
    let text = |error: String| WireError::Text { field, error };
    if hello.lanes.len() > MAX_LANES || hello.tunnels.len() > MAX_LANES {
        return Err(text(format!("more than {MAX_LANES}")));
    }
    let mut lanes = Vec::with_capacity(hello.lanes.len());
    for entry in &hello.lanes {
        let key = wire::tunnel_key(&entry.public_key, "lanes.public_key")?;
        let port = u16::try_from(entry.port).ok().filter(|port| *port != 0);
        let port = port.ok_or_else(|| text(format!("port {} is none", entry.port)))?;
        if lanes.iter().any(|lane: &Lane| lane.index == entry.index || lane.key == key) {
            return Err(text(format!("lane {} or its key appears twice", entry.index)));
        }
        lanes.push(Lane { index: entry.index, key, port });
    }
    Ok(lanes)
}

/// Pairs lanes by index. A tunnel is kept when both Hellos name the same incarnation and the lanes
/// still have the keys with which it was made.
pub(super) fn agree(
    lanes: &[Lane],
    held: &[Held],
    theirs: &[Lane],
    claims: &[TunnelEntry],
    export: impl Fn(&str, &[u8]) -> Psk,
) -> Vec<Agreed> {
    let pairs = theirs.iter().filter_map(|remote| {
        let own = lanes.iter().find(|own| own.index == remote.index)?;
        Some((own, remote))
    });
    pairs
        .map(|(own, remote)| {
            let kept = held.iter().find(|held| {
                let named = |entry: &TunnelEntry| {
                    entry.lane == held.lane && entry.incarnation == Incarnation::of(&held.psk).0
                };
                held.lane == remote.index
                    && held.remote_key == remote.key
                    && held.own_key == own.key
                    && claims.iter().any(named)
            });
            let psk = kept.map_or_else(|| derive(&export, &own.key, &remote.key), |held| held.psk);
            Agreed { remote: *remote, own_key: own.key, psk, kept: kept.is_some() }
        })
        .collect()
}
