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
    /// Who is said to answer there.
    announced: Option<MemberName>,
    /// Who answered last.
    answered: Option<MemberName>,
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

    /// Another role, for what is dialled from now on.
    pub fn set_role(&mut self, role: DialRole) {
        self.role = role;
    }

    /// Whether `gateway` is said to answer at `endpoint`, or did so last.
    pub fn is_of(&self, endpoint: &Endpoint, gateway: &MemberName) -> bool {
        self.targets.get(endpoint).is_some_and(|target| target.is_of(gateway))
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
                announced: None,
                answered: None,
                next: now + delay,
                pause: FIRST_PAUSE,
                dialling: false,
            });
            target.announced.clone_from(gateway);
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

    /// `gateway` answered at `endpoint`. Where that is another one than the announced one, the latter
    /// is sought there ever more seldom.
    pub fn connected(&mut self, endpoint: &Endpoint, gateway: &MemberName, now: Instant) {
        let Some(target) = self.targets.get_mut(endpoint) else { return };
        target.dialling = false;
        target.answered = Some(gateway.clone());
        target.next = now + target.pause;
        target.pause = match &target.announced {
            Some(announced) if announced != gateway => {
                target.pause.saturating_mul(2).min(SILENT_PAUSE)
            }
            _ => FIRST_PAUSE,
        };
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

    /// The link with `gateway` ended: its endpoints are dialled anew. `jitter` is a random number from
    /// 0 to 1.
    pub fn lost(&mut self, gateway: &MemberName, jitter: f64, now: Instant) {
        let delay = self.role.delay().max(FIRST_PAUSE).mul_f64(0.75 + 0.5 * jitter);
        for target in self.targets.values_mut().filter(|target| !target.dialling) {
            let elsewhere = target.announced.as_ref().is_some_and(|name| name != gateway);
            if target.is_of(gateway) && !elsewhere {
                target.next = now + delay;
                target.pause = FIRST_PAUSE;
            }
        }
    }
}

impl Target {
    fn wants(&self, linked: &BTreeSet<MemberName>) -> bool {
        let sought = self.announced.as_ref().or(self.answered.as_ref());
        !self.dialling && sought.is_none_or(|gateway| !linked.contains(gateway))
    }

    fn is_of(&self, gateway: &MemberName) -> bool {
        [&self.announced, &self.answered].into_iter().flatten().any(|name| name == gateway)
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
        dialling.lost(&name("g"), 0.5, now);
        let again = dialling.deadline(&BTreeSet::new()).expect("deadline");
        assert!(again <= now + Duration::from_millis(250));
    }

    #[test]
    fn endpoint_learns_who_answers_there() {
        let (now, linked) = (Instant::now(), BTreeSet::from([name("g")]));
        let mut dialling = Dialling::new(DialRole::AtOnce);
        dialling.retarget(&wanted(None), false, now);
        assert_eq!(dialling.due(&linked, now).len(), 1, "it may be another gateway");
        dialling.connected(&endpoint(1), &name("g"), now);
        assert_eq!(dialling.deadline(&linked), None);
        dialling.retarget(&wanted(None), false, now);
        assert_eq!(dialling.deadline(&linked), None, "what was learned stays");
    }

    #[test]
    fn announced_gateway_is_sought_ever_more_seldom_where_another_one_answers() {
        let (mut now, linked) = (Instant::now(), BTreeSet::from([name("other")]));
        let mut dialling = Dialling::new(DialRole::AtOnce);
        let mut pauses = Vec::new();
        for _ in 0..8 {
            dialling.retarget(&wanted(Some("announced")), false, now);
            assert_eq!(dialling.due(&linked, now).len(), 1);
            dialling.connected(&endpoint(1), &name("other"), now);
            assert_eq!(dialling.due(&linked, now), [], "not again without a pause");
            // The link before was replaced by the new one.
            dialling.lost(&name("other"), 0.5, now);
            let next = dialling.deadline(&linked).expect("deadline");
            pauses.push((next - now).as_millis());
            now = next;
        }
        assert_eq!(pauses, [250, 500, 1000, 2000, 4000, 5000, 5000, 5000]);
        dialling.retarget(&wanted(Some("other")), false, now);
        assert_eq!(dialling.deadline(&linked), None, "it is the right one after all");
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
