//! What one cluster says to each other cluster, signed when it says something new.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use carrick_model::ClusterId;

use super::Version;
use crate::identity::{ClusterIdentity, IdentityError};
use crate::message::snapshot::{ClusterSnapshot, SignedSnapshot};

/// How long a signed snapshot holds. Receivers keep what they hold while nobody signs for us, so this
/// bounds only how long a stolen old one can be shown to somebody who has none.
pub const VALIDITY: Duration = Duration::from_secs(7 * 24 * 3600);

/// A snapshot is signed anew, unchanged, after this time by the wall clock: a machine may sleep.
pub const RENEWAL: Duration = Duration::from_secs(24 * 3600);

/// Signs snapshots, and gives out the generations that order all that its process says. One that begins
/// anew starts above all that the one before has said, as long as the clock was not put back.
#[derive(Debug)]
pub struct Signer {
    epoch: u64,
    generation: u64,
    held: BTreeMap<ClusterId, Held>,
}

#[derive(Debug)]
struct Held {
    content: ClusterSnapshot,
    signed: SignedSnapshot,
    version: Version,
    at: SystemTime,
}

impl Signer {
    /// For a process that begins `now`.
    pub fn new(now: SystemTime) -> Self {
        let epoch = seconds(now);
        // Room for 2^20 changes a second of the life of the process before.
        Self { epoch, generation: epoch << 20, held: BTreeMap::new() }
    }

    /// The next generation.
    pub fn next_generation(&mut self) -> u64 {
        self.generation += 1;
        self.generation
    }

    /// Forgets what is said to others than these.
    pub fn retain(&mut self, wanted: impl Fn(&ClusterId) -> bool) {
        self.held.retain(|cluster, _| wanted(cluster));
    }

    /// Says `content` to `audience`; its version and times are set here. What was signed before stays as
    /// long as it says the same and is not too old.
    pub fn sign(
        &mut self,
        identity: &ClusterIdentity,
        audience: &ClusterId,
        content: ClusterSnapshot,
        now: SystemTime,
    ) -> Result<(), IdentityError> {
        let stands = |held: &Held| held.content == content && is_fresh(held.at, now);
        if self.held.get(audience).is_some_and(stands) {
            return Ok(());
        }
        let version = Version { epoch: self.epoch, generation: self.next_generation() };
        let issued_at = seconds(now);
        let signed = identity.sign_snapshot(&ClusterSnapshot {
            epoch: version.epoch,
            generation: version.generation,
            issued_at,
            expires_at: issued_at + VALIDITY.as_secs(),
            ..content.clone()
        })?;
        self.held.insert(audience.clone(), Held { content, signed, version, at: now });
        Ok(())
    }

    /// What is said to `audience` now.
    pub fn signed(&self, audience: &ClusterId) -> Option<&SignedSnapshot> {
        self.held.get(audience).map(|held| &held.signed)
    }

    /// Its version.
    pub fn version(&self, audience: &ClusterId) -> Option<Version> {
        self.held.get(audience).map(|held| held.version)
    }
}

/// Whether what was made `at` still does. A clock that was put back makes it anew.
pub fn is_fresh(at: SystemTime, now: SystemTime) -> bool {
    now.duration_since(at).is_ok_and(|age| age < RENEWAL)
}

fn seconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn equal_content_is_signed_once_a_day_and_changes_at_once() {
        let identity = ClusterIdentity::generate().expect("a key");
        let osaka: ClusterId = "osaka".parse().expect("cluster ID");
        let now = SystemTime::now();
        let mut signer = Signer::new(now);
        let mut say = |consents, at| {
            let content = ClusterSnapshot { consents, ..ClusterSnapshot::default() };
            signer.sign(&identity, &osaka, content, at).expect("signed");
            signer.version(&osaka).expect("held")
        };
        let first = say(true, now);
        assert_eq!(say(true, now + 23 * HOUR), first);
        let renewed = say(true, now + 25 * HOUR);
        assert!(renewed > first);
        let changed = say(false, now + 25 * HOUR);
        assert!(changed > renewed);
        assert!(say(false, now) > changed, "the clock was put back");
        let later = Signer::new(now + HOUR).next_generation();
        assert!(later > signer.next_generation());
        signer.retain(|_| false);
        assert_eq!(signer.signed(&osaka), None);
    }
}
