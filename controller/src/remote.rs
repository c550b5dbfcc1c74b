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
    /// Why one that is carried is not believed, unless another gateway carries the believed one.
    pub error: Option<SnapshotError>,
    /// What [`Remote::snapshot`] was read from.
    held: Option<SignedSnapshot>,
    /// Whose signatures counted when `seen` was looked at.
    pins: Vec<IdentityKey>,
    /// What was looked at already, and why it was refused if it was.
    seen: Vec<(SignedSnapshot, Option<SnapshotError>)>,
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
            let carried: Vec<_> = carried.filter_map(|peer| peer.snapshot.as_ref()).collect();
            if carried.is_empty() && !self.0.contains_key(&peering.cluster) {
                continue;
            }
            let remote = self.0.entry(peering.cluster.clone()).or_default();
            remote.repin(&peering.identities);
            remote.look(&carried, &pin, own, now);
        }
    }

    /// Whether something was refused that time alone may make good.
    pub fn wait_for_time(&self) -> bool {
        self.0.values().any(|remote| remote.error.as_ref().is_some_and(passes))
    }
}

/// Whether the refusal is about clocks, and so need not last.
fn passes(error: &SnapshotError) -> bool {
    matches!(error, SnapshotError::Expired { .. } | SnapshotError::FromTheFuture { .. })
}

impl Remote {
    /// Looks at all that is carried now. One gateway that carries nonsense does no harm while
    /// another carries what is believed.
    fn look(&mut self, carried: &[&SignedSnapshot], pin: &Pin, own: &ClusterId, now: SystemTime) {
        let refused: Vec<SnapshotError> =
            carried.iter().filter_map(|signed| self.offer(signed, pin, own, now).err()).collect();
        let held = carried.iter().any(|signed| self.held.as_ref() == Some(*signed));
        self.error = refused.into_iter().next().filter(|_| !held);
    }

    fn offer(
        &mut self,
        signed: &SignedSnapshot,
        pin: &Pin,
        own: &ClusterId,
        now: SystemTime,
    ) -> Result<(), SnapshotError> {
        let known = self.seen.iter().position(|(seen, _)| seen == signed);
        let before = known.and_then(|at| self.seen[at].1.clone());
        match (known, before.as_ref()) {
            (Some(_), None) => return Ok(()),
            (Some(_), Some(error)) if !passes(error) => return Err(error.clone()),
            _ => {}
        }
        let version = self.snapshot.as_ref().map(|snapshot| snapshot.version);
        let refusal = match verify(signed, pin, own, now, version) {
            Ok(snapshot) => {
                info!(cluster = %pin.cluster, version = %snapshot.version, "snapshot taken");
                self.held = Some(signed.clone());
                self.snapshot = Some(snapshot);
                None
            }
            // Another gateway was faster; that is no fault.
            Err(SnapshotError::Older { .. }) => None,
            // The same again: its text stays, whatever the clock shows by now.
            Err(error) if before.as_ref().is_some_and(|b| b.reason() == error.reason()) => before,
            Err(error) => {
                warn!(cluster = %pin.cluster, reason = error.reason(), %error, "snapshot refused");
                Some(error)
            }
        };
        self.remember(signed, known, refusal.clone());
        refusal.map_or(Ok(()), Err)
    }

    fn remember(
        &mut self,
        signed: &SignedSnapshot,
        known: Option<usize>,
        refusal: Option<SnapshotError>,
    ) {
        match known {
            Some(at) => self.seen[at].1 = refusal,
            None => self.seen.push((signed.clone(), refusal)),
        }
        if self.seen.len() > SEEN_LIMIT {
            self.seen.remove(0);
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
        let signer = self.held.as_ref().map(|held| held.key.as_slice());
        if !identities.iter().any(|identity| Some(identity.as_bytes().as_slice()) == signer) {
            self.snapshot = None;
            self.held = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::scene::Peer;

    fn remote(peer: &Peer) -> (Remote, Pin, ClusterId) {
        let pin =
            Pin::new("osaka".parse().expect("id"), vec![peer.identity.public()], Role::Gateway);
        (Remote::default(), pin, "paris".parse().expect("id"))
    }

    #[test]
    fn what_was_refused_for_time_is_taken_once_the_clock_is_right() {
        let osaka = Peer::new("osaka", &["10.2.0.0/24"]);
        let (mut remote, pin, paris) = remote(&osaka);
        let signed = osaka.snapshot();
        let now = SystemTime::now();
        let slow = now - Duration::from_secs(2 * 3600);
        remote.look(&[&signed], &pin, &paris, slow);
        let first = remote.error.clone().expect("refused");
        assert_eq!(first.reason(), "SnapshotNotYetValid");
        remote.look(&[&signed], &pin, &paris, slow + Duration::from_secs(60));
        assert_eq!(remote.error, Some(first), "the same text: nothing new to write");
        remote.look(&[&signed], &pin, &paris, now);
        assert_eq!(remote.error, None);
        assert!(remote.snapshot.is_some());
    }

    #[test]
    fn a_gateway_with_nonsense_does_no_harm_beside_a_good_one() {
        let osaka = Peer::new("osaka", &["10.2.0.0/24"]);
        let (mut remote, pin, paris) = remote(&osaka);
        let (good, forged) = (osaka.snapshot(), Peer::new("osaka", &[]).snapshot());
        let now = SystemTime::now();
        remote.look(&[&good, &forged], &pin, &paris, now);
        assert_eq!(remote.error, None);
        remote.look(&[&forged], &pin, &paris, now);
        assert!(remote.error.is_some(), "nobody carries the good one any more");
        remote.look(&[&forged, &good], &pin, &paris, now);
        assert_eq!(remote.error, None);
        assert!(remote.snapshot.is_some());
    }
}
