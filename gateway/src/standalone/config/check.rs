//! What no single field of the file shows.

mod carrick;

use std::collections::BTreeMap;

use carrick_gateway_core::config::MTU_RANGE;

use super::{Config, PlainPeer};

/// How many lanes there may be.
const LANES: std::ops::RangeInclusive<u16> = 1..=16;

/// The field at fault, and what is wrong with it.
pub(super) type Refusal = (String, String);

fn refuse(field: &str, problem: &str) -> Result<(), Refusal> {
    Err((field.to_owned(), problem.to_owned()))
}

impl Config {
    /// What no single field shows, as far as it needs no other file.
    pub(super) fn check(&self) -> Result<(), Refusal> {
        if self.interface.mtu.is_some_and(|mtu| !MTU_RANGE.contains(&usize::from(mtu))) {
            let (low, high) = (MTU_RANGE.start(), MTU_RANGE.end());
            return refuse("interface.mtu", &format!("must be from {low} to {high}"));
        }
        if !LANES.contains(&self.lanes) {
            let (low, high) = (LANES.start(), LANES.end());
            return refuse("lanes", &format!("must be from {low} to {high}"));
        }
        if self.listen_port != 0 && self.listen_port.checked_add(self.lanes - 1).is_none() {
            return refuse("listen_port", "the last lane's port would be beyond 65535");
        }
        self.check_private_key()?;
        self.check_plain_peers()?;
        self.check_exchange()?;
        self.check_carrick_peers()
    }

    fn check_private_key(&self) -> Result<(), Refusal> {
        match (&self.private_key, &self.private_key_file) {
            (Some(_), Some(_)) => {
                refuse("private_key_file", "private_key is given too; remove one of them")
            }
            // Lanes that no plain peer knows make their keys in memory.
            (None, None) if self.cluster.is_none() || self.plain_peers().next().is_some() => {
                let hint = "missing; `carrick-gateway key` makes one (or give private_key_file)";
                refuse("private_key", hint)
            }
            _ => Ok(()),
        }
    }

    fn check_plain_peers(&self) -> Result<(), Refusal> {
        let mut keys = BTreeMap::new();
        let mut labels = BTreeMap::new();
        let mut prefixes = BTreeMap::new();
        for (index, peer) in self.plain_peers() {
            let field = |name: &str| format!("peers[{index}].{name}");
            if peer.lane >= self.lanes {
                let problem = format!("{} is no lane: there are {}, from 0", peer.lane, self.lanes);
                return Err((field("lane"), problem));
            }
            if let Some(first) = keys.insert(peer.public_key, index) {
                let problem = format!("is that of peers[{first}] too; merge the two");
                return Err((field("public_key"), problem));
            }
            if let Some(first) = labels.insert(peer.label(), index) {
                let problem = format!("{} is the name of peers[{first}] too", peer.label());
                return Err((field("name"), problem));
            }
            if peer.preshared_key.is_some() && peer.preshared_key_file.is_some() {
                let problem = "preshared_key is given too; remove one of them".to_owned();
                return Err((field("preshared_key_file"), problem));
            }
            self.check_allowed_prefixes(index, peer, &mut prefixes)?;
        }
        Ok(())
    }

    fn check_allowed_prefixes(
        &self,
        index: usize,
        peer: &PlainPeer,
        prefixes: &mut BTreeMap<carrick_model::Prefix, usize>,
    ) -> Result<(), Refusal> {
        let field = format!("peers[{index}].allowed_prefixes");
        for prefix in &peer.allowed_prefixes {
            if let Some(first) = prefixes.insert(*prefix, index) {
                let problem =
                    format!("{prefix} is that of peers[{first}] too; only one can have it");
                return Err((field, problem));
            }
            if prefix.is_default_route() && self.interface.routes {
                let problem = format!(
                    "{prefix} would capture the tunnel's own packets; set interface.routes to \
                     false and add routes that leave the peer's endpoint out"
                );
                return Err((field, problem));
            }
        }
        Ok(())
    }
}
