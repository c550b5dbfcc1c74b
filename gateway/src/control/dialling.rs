//! Which endpoints of a peer to dial when: pure, time is passed in.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use carrick_exchange::peer::DialRole;
use carrick_exchange::wire::Endpoint;
use carrick_model::MemberName;

/// The pause after the first failure; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// The longest pause where something answered: the operator there may be about to peer with us.
const ANSWERED_PAUSE: Duration = Duration::from_millis(750);

/// The longest pause where nothing answers.
const SILENT_PAUSE: Duration = Duration::from_secs(5);

/// Dialling of one peer.
#[derive(Debug)]
pub struct Dialling {
    role: DialRole,
    targets: BTreeMap<Endpoint, Target>,
}

#[derive(Debug)]
struct Target {
    /// Who answers there, as far as known.
    gateway: Option<MemberName>,
    next: Instant,
    pause: Duration,
    dialling: bool,
}

/// How an attempt failed, as far as the next one is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failed {
    /// Somebody answered, but there is no link.
    Answered,
    /// Nobody did, or the name did not resolve.
    Silent,
}

impl Dialling {
    /// With nothing to dial yet.
    pub fn new(role: DialRole) -> Self {
        Self { role, targets: BTreeMap::new() }
    }

    /// Which side's connection stays, see [`DialRole::keeps`].
    pub fn role(&self) -> DialRole {
        self.role
    }

    /// Replaces the set of endpoints; those that stay keep their state. New ones are dialled after
    /// the delay of our role, or at once when the peer is known to `wait` for us.
    pub fn retarget(
        &mut self,
        wanted: &BTreeMap<Endpoint, Option<MemberName>>,
        peer_waits: bool,
        now: Instant,
    ) {
        self.targets.retain(|endpoint, _| wanted.contains_key(endpoint));
        let delay = if peer_waits { Duration::ZERO } else { self.role.delay() };
        for (endpoint, gateway) in wanted {
            let target = self.targets.entry(endpoint.clone()).or_insert_with(|| Target {
                gateway: None,
                next: now + delay,
                pause: FIRST_PAUSE,
                dialling: false,
            });
            if gateway.is_some() {
                target.gateway.clone_from(gateway);
            }
        }
    }

    /// The endpoints to dial now, given the gateways that are linked. Each must be answered by
    /// [`Dialling::connected`] or [`Dialling::failed`].
    pub fn due(&mut self, linked: &BTreeSet<MemberName>, now: Instant) -> Vec<Endpoint> {
        let mut due = Vec::new();
        for (endpoint, target) in &mut self.targets {
            if target.wants(linked) && target.next <= now {
                target.dialling = true;
                due.push(endpoint.clone());
            }
        }
        due
    }

    /// When [`Dialling::due`] will have something next.
    pub fn deadline(&self, linked: &BTreeSet<MemberName>) -> Option<Instant> {
        let waiting = self.targets.values().filter(|target| target.wants(linked));
        waiting.map(|target| target.next).min()
    }

    /// `gateway` answered at `endpoint`.
    pub fn connected(&mut self, endpoint: &Endpoint, gateway: &MemberName) {
        if let Some(target) = self.targets.get_mut(endpoint) {
            target.dialling = false;
            target.gateway = Some(gateway.clone());
            target.pause = FIRST_PAUSE;
        }
    }

    /// An attempt failed. `jitter` is a random number from 0 to 1.
    pub fn failed(&mut self, endpoint: &Endpoint, how: Failed, jitter: f64, now: Instant) {
        let Some(target) = self.targets.get_mut(endpoint) else { return };
        let longest = match how {
            Failed::Answered => ANSWERED_PAUSE,
            Failed::Silent => SILENT_PAUSE,
        };
        let pause = target.pause.min(longest);
        target.dialling = false;
        target.next = now + pause.mul_f64(0.75 + 0.5 * jitter);
        target.pause = pause.saturating_mul(2).min(longest);
    }

    /// The link with `gateway` ended: its endpoints are dialled anew.
    pub fn lost(&mut self, gateway: &MemberName, now: Instant) {
        let delay = self.role.delay().max(FIRST_PAUSE);
        for target in self.targets.values_mut() {
            if target.gateway.as_ref() == Some(gateway) && !target.dialling {
                target.next = now + delay;
                target.pause = FIRST_PAUSE;
            }
        }
    }
}

impl Target {
    fn wants(&self, linked: &BTreeSet<MemberName>) -> bool {
        !self.dialling && self.gateway.as_ref().is_none_or(|gateway| !linked.contains(gateway))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(n: u8) -> Endpoint {
        Endpoint::Address(([192, 0, 2, n], 31_820).into())
    }

    fn name(text: &str) -> MemberName {
        text.parse().expect("name")
    }

    fn wanted(gateway: Option<&str>) -> BTreeMap<Endpoint, Option<MemberName>> {
        [(endpoint(1), gateway.map(name))].into()
    }

    const LATER: DialRole = DialRole::After(Duration::from_secs(2));

    #[test]
    fn lower_identity_dials_at_once_and_higher_one_when_nothing_came() {
        let (now, none) = (Instant::now(), BTreeSet::new());
        let mut lower = Dialling::new(DialRole::AtOnce);
        lower.retarget(&wanted(None), false, now);
        assert_eq!(lower.due(&none, now), [endpoint(1)]);
        assert_eq!(lower.due(&none, now), [], "one attempt at a time");

        let mut higher = Dialling::new(LATER);
        higher.retarget(&wanted(None), false, now);
        assert_eq!(higher.due(&none, now), []);
        let deadline = higher.deadline(&none).expect("deadline");
        assert_eq!(deadline, now + Duration::from_secs(2));
        assert_eq!(higher.due(&none, deadline), [endpoint(1)]);

        let mut awaited = Dialling::new(LATER);
        awaited.retarget(&wanted(None), true, now);
        assert_eq!(awaited.due(&none, now), [endpoint(1)]);
    }

    #[test]
    fn nobody_dials_a_gateway_that_is_linked() {
        let (now, linked) = (Instant::now(), BTreeSet::from([name("g")]));
        let mut dialling = Dialling::new(DialRole::AtOnce);
        dialling.retarget(&wanted(Some("g")), false, now);
        assert_eq!((dialling.due(&linked, now), dialling.deadline(&linked)), (vec![], None));
        dialling.lost(&name("g"), now);
        let again = dialling.deadline(&BTreeSet::new()).expect("deadline");
        assert!(again <= now + Duration::from_millis(250));
    }

    #[test]
    fn endpoint_learns_who_answers_there() {
        let (now, linked) = (Instant::now(), BTreeSet::from([name("g")]));
        let mut dialling = Dialling::new(DialRole::AtOnce);
        dialling.retarget(&wanted(None), false, now);
        assert_eq!(dialling.due(&linked, now).len(), 1, "it may be another gateway");
        dialling.connected(&endpoint(1), &name("g"));
        assert_eq!(dialling.deadline(&linked), None);
        dialling.retarget(&wanted(None), false, now);
        assert_eq!(dialling.deadline(&linked), None, "what was learned stays");
    }

    #[test]
    fn pauses_grow_and_are_bounded() {
        let (mut now, none) = (Instant::now(), BTreeSet::new());
        let mut dialling = Dialling::new(DialRole::AtOnce);
        dialling.retarget(&wanted(None), false, now);
        for (how, longest) in [(Failed::Answered, 750), (Failed::Silent, 5000)] {
            let mut last = Duration::ZERO;
            for _ in 0..8 {
                assert_eq!(dialling.due(&none, now).len(), 1);
                dialling.failed(&endpoint(1), how, 0.5, now);
                let next = dialling.deadline(&none).expect("deadline");
                (last, now) = (next - now, next);
            }
            assert_eq!(last, Duration::from_millis(longest));
        }
    }
}
