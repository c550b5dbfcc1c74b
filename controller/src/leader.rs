//! Leadership by a Lease (coordination.k8s.io), as the Kubernetes components do it: who holds it is
//! judged by when we saw it change, never by another machine's clock.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::Client;
use kube::api::{Api, ObjectMeta, PostParams};
use tokio::time::{Instant as Moment, sleep, timeout, timeout_at};
use tracing::{info, warn};

use crate::brief::Brief;

/// The Lease's name.
pub const NAME: &str = "carrick-controller";

/// How long a Lease holds that nobody renews.
const DURATION: Duration = Duration::from_secs(15);

/// A leader that could not renew for so long gives up, well before anyone else may take over.
const DEADLINE: Duration = Duration::from_secs(12);

/// How often it is renewed, or looked at by those who stand by.
const RENEWAL: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_secs(2);

/// How long handing over may take when a leader stops.
const FAREWELL: Duration = Duration::from_secs(2);

/// One candidate.
pub struct Elector {
    api: Api<Lease>,
    holder: String,
    seen: Option<Seen>,
    /// When the request was sent that took or renewed the Lease last. Others count from its arrival,
    /// which is later.
    renewed: Moment,
}

/// The Lease as it was when it last changed.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    spec: LeaseSpec,
    at: Instant,
}

impl Elector {
    /// A candidate that calls itself `holder`: unique, but the same after a restart of its container.
    pub fn new(client: &Client, namespace: &str, holder: String) -> Self {
        let api = Api::namespaced(client.clone(), namespace);
        Self { api, holder, seen: None, renewed: Moment::now() }
    }

    /// Waits until this candidate leads. `asked` is told about each time that the API answered.
    pub async fn acquire(&mut self, asked: impl Fn()) {
        loop {
            let sent = Moment::now();
            match timeout(DEADLINE, self.try_once()).await {
                Ok(Ok(true)) => {
                    self.renewed = sent;
                    info!(holder = self.holder, "leading");
                    return;
                }
                Ok(Ok(false)) => asked(),
                Err(_) => warn!("no answer while asking for the Lease {NAME}"),
                Ok(Err(error)) => warn!(error = %Brief(&error), "cannot ask for the Lease {NAME}"),
            }
            sleep(LOOK).await;
        }
    }

    /// Renews until that fails for too long, or somebody else leads.
    pub async fn keep(&mut self) {
        loop {
            let end = self.renewed + DEADLINE;
            let next = end.min(Moment::now() + RENEWAL);
            tokio::time::sleep_until(next).await;
            let sent = Moment::now();
            let attempt = timeout_at(end.min(sent + RENEWAL), self.try_once()).await;
            match attempt {
                Ok(Ok(true)) => self.renewed = sent,
                Ok(Ok(false)) => {
                    warn!("another replica leads");
                    return;
                }
                Ok(Err(error)) => warn!(error = %Brief(&error), "cannot renew the Lease {NAME}"),
                Err(_) => warn!("no answer while renewing the Lease {NAME}"),
            }
            if self.renewed.elapsed() >= DEADLINE {
                warn!("gave up leading: the Lease {NAME} could not be renewed");
                return;
            }
        }
    }

    /// Lets the next one lead at once.
    pub async fn release(&self) {
        if timeout(FAREWELL, self.hand_over()).await.is_err() {
            warn!("no answer while releasing the Lease {NAME}; it will run out by itself");
        }
    }

    /// A renewal may be under way that nobody waits for any more: where it comes first, this is tried again.
    async fn hand_over(&self) {
        while let Err(error) = self.give_up().await {
            if matches!(&error, kube::Error::Api(status) if status.is_conflict()) {
                continue;
            }
            let error = Brief(&error);
            warn!(%error, "cannot release the Lease {NAME}; it will run out by itself");
            return;
        }
    }

    async fn give_up(&self) -> Result<(), kube::Error> {
        let Some(mut lease) = self.api.get_opt(NAME).await? else { return Ok(()) };
        let Some(spec) = lease.spec.as_mut() else { return Ok(()) };
        if spec.holder_identity.as_deref() != Some(&self.holder) {
            return Ok(());
        }
        spec.holder_identity = Some(String::new());
        spec.lease_duration_seconds = Some(1);
        self.api.replace(NAME, &PostParams::default(), &lease).await.map(drop)
    }

    async fn try_once(&mut self) -> Result<bool, kube::Error> {
        let now = Instant::now();
        let Some(lease) = self.api.get_opt(NAME).await? else {
            let spec = taken(None, &self.holder, Timestamp::now());
            let metadata = ObjectMeta { name: Some(NAME.to_owned()), ..ObjectMeta::default() };
            let lease = Lease { metadata, spec: Some(spec) };
            return won(self.api.create(&PostParams::default(), &lease).await);
        };
        let spec = lease.spec.clone().unwrap_or_default();
        let seen = match self.seen.take() {
            Some(seen) if seen.spec == spec => seen,
            _ => Seen { spec, at: now },
        };
        let free = is_free(&seen, &self.holder, now);
        let taken = taken(Some(&seen.spec), &self.holder, Timestamp::now());
        self.seen = Some(seen);
        if !free {
            return Ok(false);
        }
        // The resource version makes sure that nobody was faster.
        let lease = Lease { spec: Some(taken), ..lease };
        won(self.api.replace(NAME, &PostParams::default(), &lease).await)
    }
}

fn won(done: Result<Lease, kube::Error>) -> Result<bool, kube::Error> {
    match done {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

fn is_free(seen: &Seen, holder: &str, now: Instant) -> bool {
    let held_by = seen.spec.holder_identity.as_deref().unwrap_or_default();
    let seconds = seen.spec.lease_duration_seconds.and_then(|s| u64::try_from(s).ok());
    let duration = seconds.map_or(DURATION, Duration::from_secs);
    held_by.is_empty() || held_by == holder || now >= seen.at + duration
}

fn taken(before: Option<&LeaseSpec>, holder: &str, now: Timestamp) -> LeaseSpec {
    let before = before.cloned().unwrap_or_default();
    let same = before.holder_identity.as_deref() == Some(holder);
    let transitions = before.lease_transitions.unwrap_or_default();
    LeaseSpec {
        holder_identity: Some(holder.to_owned()),
        lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
        acquire_time: if same { before.acquire_time } else { Some(MicroTime(now)) },
        renew_time: Some(MicroTime(now)),
        lease_transitions: Some(if same { transitions } else { transitions.saturating_add(1) }),
        ..LeaseSpec::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(holder: &str, at: Instant) -> Seen {
        let spec = taken(None, holder, Timestamp::UNIX_EPOCH);
        Seen { spec, at }
    }

    #[test]
    fn a_lease_is_free_when_it_ran_out_by_our_clock_or_is_ours() {
        let start = Instant::now();
        let other = seen("b", start);
        assert!(!is_free(&other, "a", start + DURATION - Duration::from_millis(1)));
        assert!(is_free(&other, "a", start + DURATION));
        assert!(is_free(&seen("a", start), "a", start));
        assert!(is_free(&seen("", start), "a", start));
    }

    #[test]
    fn transitions_count_changes_of_the_holder() {
        let first = taken(None, "a", Timestamp::UNIX_EPOCH);
        let renewed = taken(Some(&first), "a", Timestamp::now());
        assert_eq!(renewed.lease_transitions, first.lease_transitions);
        assert_eq!(renewed.acquire_time, first.acquire_time);
        assert_eq!(taken(Some(&first), "b", Timestamp::now()).lease_transitions, Some(2));
    }
}
