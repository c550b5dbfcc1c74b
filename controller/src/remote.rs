//! What other clusters say: carried by gateways, believed only with the other identity's signature.
//! A gateway is not trusted to verify; the newest of what all gateways carry counts.

use std::collections::BTreeMap;
use std::time::SystemTime;

use carrick_exchange::Pin;
use carrick_exchange::message::member::GatewayState;
use carrick_exchange::message::snapshot::SignedSnapshot;
use carrick_exchange::snapshot::{SnapshotError, VerifiedSnapshot, verify};
use carrick_model::{ClusterId, IdentityKey, Role};
use tracing::{info, warn};

use crate::peering::Resolved;

/// The newest verified snapshots, by cluster.
#[derive(Debug, Default)]
pub struct Remotes(BTreeMap<ClusterId, Remote>);

/// What is held of one cluster.
#[derive(Debug, Default)]
pub struct Remote {
    /// The newest that was believed.
    pub snapshot: Option<VerifiedSnapshot>,
    /// Why the last one offered was not believed.
    pub error: Option<SnapshotError>,
    /// The key that signed [`Remote::snapshot`].
    key: Vec<u8>,
    /// Whose signatures counted when `seen` was looked at.
    pins: Vec<IdentityKey>,
    /// What was looked at already: held and refused.
    seen: Vec<SignedSnapshot>,
}

/// How many snapshots of a cluster are remembered as seen.
const SEEN_LIMIT: usize = 8;

impl Remotes {
    /// What is held of `cluster`.
    pub fn get(&self, cluster: &ClusterId) -> Option<&Remote> {
        self.0.get(cluster)
    }

    /// The snapshot of `cluster` that is believed.
    pub fn snapshot(&self, cluster: &ClusterId) -> Option<&VerifiedSnapshot> {
        self.0.get(cluster)?.snapshot.as_ref()
    }

    /// Looks at all that gateways carry for accepted peerings, and forgets everyone else.
    pub fn refresh<'a>(
        &mut self,
        own: &ClusterId,
        peerings: &[Resolved<'_>],
        gateways: impl Iterator<Item = &'a GatewayState> + Clone,
        now: SystemTime,
    ) {
        let accepted = || peerings.iter().filter_map(Resolved::accepted);
        self.0.retain(|cluster, remote| {
            let peering = accepted().find(|peering| peering.cluster == *cluster);
            peering.inspect(|peering| remote.repin(&peering.identities)).is_some()
        });
        for peering in accepted() {
            let pin = Pin::new(peering.cluster.clone(), peering.identities.clone(), Role::Gateway);
            let carried = gateways.clone().flat_map(|gateway| &gateway.peers);
            let carried = carried.filter(|peer| peer.cluster == peering.cluster.as_str());
            for signed in carried.filter_map(|peer| peer.snapshot.as_ref()) {
                let remote = self.0.entry(peering.cluster.clone()).or_default();
                remote.repin(&peering.identities);
                remote.offer(signed, &pin, own, now);
            }
        }
    }
}

impl Remote {
    fn offer(&mut self, signed: &SignedSnapshot, pin: &Pin, own: &ClusterId, now: SystemTime) {
        if self.seen.contains(signed) {
            return;
        }
        self.seen.push(signed.clone());
        if self.seen.len() > SEEN_LIMIT {
            self.seen.remove(0);
        }
        let held = self.snapshot.as_ref().map(|snapshot| snapshot.version);
        match verify(signed, pin, own, now, held) {
            Ok(snapshot) => {
                info!(cluster = %pin.cluster, version = %snapshot.version, "snapshot taken");
                self.key.clone_from(&signed.key);
                self.snapshot = Some(snapshot);
                self.error = None;
            }
            // Another gateway was faster; that is no fault.
            Err(SnapshotError::Older { .. }) => {}
            Err(error) => {
                warn!(cluster = %pin.cluster, reason = error.reason(), %error, "snapshot refused");
                self.error = Some(error);
            }
        }
    }

    /// Changed pins make everything be looked at again; what no pinned key signed is dropped.
    fn repin(&mut self, identities: &[IdentityKey]) {
        if self.pins == identities {
            return;
        }
        self.pins = identities.to_vec();
        self.seen.clear();
        self.error = None;
        if !identities.iter().any(|identity| identity.as_bytes().as_slice() == self.key) {
            self.snapshot = None;
        }
    }
}
