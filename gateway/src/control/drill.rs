//! The failover drill that the controller ordered: begun once, ended by time, by a new order, or by none.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use carrick_exchange::message::drill::{FaultOrder, FaultState, milliseconds};
use carrick_gateway_core::lane::fault::{LONGEST_DELAY, LONGEST_FAULT};
use carrick_gateway_core::{Effect, Fault, FaultFigures, TunnelId, Weather};
use carrick_model::{ClusterId, MemberName};

/// How long after its end lanes are asked for what a fault did.
const LAST_LOOK: Duration = Duration::from_millis(300);

/// The newest drill.
#[derive(Debug)]
pub struct Drills {
    name: Option<MemberName>,
    newest: Option<Drill>,
    /// One is ordered, of us or of another gateway.
    ordered: bool,
}

/// A drill that was ordered.
#[derive(Debug)]
struct Drill {
    order: FaultOrder,
    seed: u64,
    /// What it does, and until when; or why it does not.
    begun: Result<(Kind, Instant), String>,
    from: SystemTime,
    /// It is ordered no more.
    revoked: bool,
    to: Option<SystemTime>,
    figures: FaultFigures,
}

/// What is done.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Silence,
    Drain,
    Path(ClusterId, Option<SocketAddr>, Weather),
}

impl Drills {
    /// For the gateway of this name; without one, nothing is ever injected.
    pub fn new(name: Option<MemberName>) -> Self {
        Self { name, newest: None, ordered: false }
    }

    /// Takes what is ordered now. One that is known goes on, and each is begun once.
    pub fn order(&mut self, order: Option<&FaultOrder>, seed: u64, now: Instant, wall: SystemTime) {
        let own = self.name.as_ref().map(MemberName::as_str);
        let ours = |order: &&FaultOrder| {
            own.is_some_and(|own| order.gateway.is_empty() || order.gateway == own)
        };
        self.ordered = order.is_some();
        let order = order.filter(ours);
        match (order, &mut self.newest) {
            (Some(order), Some(newest)) if newest.order.id == order.id => {}
            (None, Some(newest)) => newest.revoked = true,
            (None, None) => {}
            (Some(order), _) => {
                let begun = begin(order, now, wall);
                match &begun {
                    Ok(_) => tracing::warn!(id = order.id, "a failover drill injects a fault"),
                    Err(error) => tracing::warn!(id = order.id, error, "a drill is refused"),
                }
                let (order, figures) = (order.clone(), FaultFigures::default());
                let (revoked, to) = (false, None);
                self.newest = Some(Drill { order, seed, begun, from: wall, revoked, to, figures });
            }
        }
    }

    /// Whether one is ordered, of this gateway or of another one of the cluster.
    pub fn are_ordered(&self) -> bool {
        self.ordered
    }

    /// What lanes are to inject now; `tunnels` are those to a cluster.
    pub fn fault(
        &self,
        now: Instant,
        tunnels: impl FnOnce(&ClusterId) -> BTreeSet<TunnelId>,
    ) -> Option<Fault> {
        let drill = self.newest.as_ref().filter(|drill| !drill.revoked)?;
        let (kind, until) = drill.begun.as_ref().ok().filter(|(_, until)| now < *until)?;
        let effect = match kind {
            Kind::Silence => Effect::Silence,
            // Nothing is done to packets.
            Kind::Drain => return None,
            Kind::Path(cluster, endpoint, weather) => {
                let (endpoint, weather) = (*endpoint, *weather);
                Effect::Path { tunnels: tunnels(cluster), endpoint, weather }
            }
        };
        Some(Fault { effect, until: *until, seed: drill.seed })
    }

    /// Whether the gateway is to announce that it leaves.
    pub fn drains(&self, now: Instant) -> bool {
        let drill = self.newest.as_ref().filter(|drill| !drill.revoked);
        let begun = drill.and_then(|drill| drill.begun.as_ref().ok());
        begun.is_some_and(|(kind, until)| *kind == Kind::Drain && now < *until)
    }

    /// When something changes by itself.
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        let drill = self.newest.as_ref().filter(|drill| !drill.revoked && drill.to.is_none())?;
        let (_, until) = drill.begun.as_ref().ok()?;
        Some(if now < *until { *until } else { now + LAST_LOOK })
    }

    /// What is reported while it is ordered. `figures` are what lanes count.
    pub fn state(
        &mut self,
        figures: &FaultFigures,
        now: Instant,
        wall: SystemTime,
    ) -> Option<FaultState> {
        let drill = self.newest.as_mut().filter(|drill| !drill.revoked)?;
        let mut state = FaultState { id: drill.order.id.clone(), ..FaultState::default() };
        match &drill.begun {
            Err(error) => state.error.clone_from(error),
            Ok((_, until)) => {
                if drill.to.is_none() {
                    // Lanes publish a little after they have begun.
                    drill.figures = *figures;
                    drill.to = (now >= *until && !figures.active).then_some(wall);
                }
                state.from = milliseconds(drill.from);
                state.to = drill.to.map_or(0, milliseconds);
                (state.dropped, state.delayed) = (drill.figures.dropped, drill.figures.delayed);
            }
        }
        Some(state)
    }
}

fn begin(order: &FaultOrder, now: Instant, wall: SystemTime) -> Result<(Kind, Instant), String> {
    let length = Duration::from_millis(order.length_milliseconds.into());
    if length.is_zero() || length > LONGEST_FAULT {
        return Err(format!("its length of {} ms is out of range", order.length_milliseconds));
    }
    let not_after = UNIX_EPOCH + Duration::from_secs(order.not_after.min(u32::MAX.into()));
    let left = not_after.duration_since(wall).unwrap_or_default();
    if left.is_zero() {
        return Err("its time is over by this gateway's clock".to_owned());
    }
    Ok((kind(order)?, now + length.min(left)))
}

fn kind(order: &FaultOrder) -> Result<Kind, String> {
    match (order.silence, order.drain) {
        (true, _) => return Ok(Kind::Silence),
        (false, true) => return Ok(Kind::Drain),
        (false, false) => {}
    }
    let delay = |milliseconds: u32| {
        let delay = Duration::from_millis(milliseconds.into());
        let fits = delay <= LONGEST_DELAY;
        fits.then_some(delay).ok_or(format!("{milliseconds} ms is longer than datagrams are held"))
    };
    let loss = u16::try_from(order.loss_permille).ok().filter(|loss| *loss <= 1000);
    let weather = Weather {
        outbound: order.outbound,
        inbound: order.inbound,
        loss: loss.ok_or("more than all packets cannot be lost")?,
        delay: delay(order.delay_milliseconds)?,
        jitter: delay(order.jitter_milliseconds)?,
    };
    let cluster = order.cluster.parse().map_err(|error| format!("cluster: {error}"))?;
    if weather
        == (Weather { outbound: weather.outbound, inbound: weather.inbound, ..Weather::default() })
    {
        return Err("this release knows no such fault".to_owned());
    }
    let endpoint = match order.endpoint.as_str() {
        "" => None,
        text => Some(text.parse().map_err(|error| format!("endpoint {text:?}: {error}"))?),
    };
    Ok(Kind::Path(cluster, endpoint, weather))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn wall(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_800_000_000 + seconds)
    }

    fn crash(id: &str) -> FaultOrder {
        FaultOrder {
            id: id.to_owned(),
            gateway: "g0".to_owned(),
            silence: true,
            length_milliseconds: 10_000,
            not_after: 1_800_000_015,
            ..FaultOrder::default()
        }
    }

    fn drills() -> Drills {
        Drills::new(Some("g0".parse().expect("name")))
    }

    fn fault(drills: &Drills, now: Instant) -> Option<Effect> {
        drills.fault(now, |_| [TunnelId(3)].into()).map(|fault| fault.effect)
    }

    #[test]
    fn one_runs_once_for_its_time_and_tells_what_it_did() {
        let (mut drills, now) = (drills(), Instant::now());
        let order = crash("a");
        drills.order(Some(&order), 1, now, wall(0));
        assert_eq!(fault(&drills, now), Some(Effect::Silence));
        drills.order(Some(&order), 2, now + SECOND, wall(1));
        let acting = FaultFigures { active: true, dropped: 5, delayed: 0 };
        let state = drills.state(&acting, now + SECOND, wall(1)).expect("state");
        assert_eq!((state.from, state.to, state.dropped), (1_800_000_000_000, 0, 5));
        assert_eq!(drills.deadline(now + SECOND), Some(now + 10 * SECOND));
        let end = now + 10 * SECOND;
        assert_eq!(fault(&drills, end), None);
        let done = FaultFigures { active: false, dropped: 9, delayed: 0 };
        let state = drills.state(&done, end, wall(10)).expect("state");
        assert_eq!((state.to, state.dropped), (1_800_000_010_000, 9));
        drills.order(Some(&order), 3, end, wall(10));
        assert_eq!(fault(&drills, end), None, "not again");
        assert_eq!(drills.deadline(end), None);
    }

    #[test]
    fn no_order_ends_it_at_once_and_others_are_not_ours() {
        let (mut drills, now) = (drills(), Instant::now());
        drills.order(Some(&crash("a")), 1, now, wall(0));
        drills.order(None, 1, now, wall(0));
        assert_eq!((fault(&drills, now), drills.deadline(now)), (None, None));
        assert_eq!(drills.state(&FaultFigures::default(), now, wall(0)), None);
        let theirs = FaultOrder { gateway: "g1".to_owned(), ..crash("b") };
        drills.order(Some(&theirs), 1, now, wall(0));
        assert_eq!(fault(&drills, now), None);
        let all = FaultOrder { gateway: String::new(), ..crash("c") };
        drills.order(Some(&all), 1, now, wall(0));
        assert!(fault(&drills, now).is_some());
    }

    #[test]
    fn a_drain_leaves_packets_alone_and_ends() {
        let (mut drills, now) = (drills(), Instant::now());
        let order = FaultOrder { silence: false, drain: true, ..crash("a") };
        drills.order(Some(&order), 1, now, wall(0));
        assert_eq!((fault(&drills, now), drills.drains(now)), (None, true));
        let end = now + 10 * SECOND;
        assert!(!drills.drains(end));
        let state = drills.state(&FaultFigures::default(), end, wall(10)).expect("state");
        assert_eq!(state.to, 1_800_000_010_000);
    }

    #[test]
    fn a_kept_order_ends_by_the_wall_clock() {
        let (mut late, now) = (drills(), Instant::now());
        late.order(Some(&crash("a")), 1, now, wall(15));
        assert_eq!(fault(&late, now), None);
        let state = late.state(&FaultFigures::default(), now, wall(15)).expect("state");
        assert!(state.error.contains("clock"), "{}", state.error);
        let mut restarted = drills();
        restarted.order(Some(&crash("a")), 1, now, wall(12));
        assert!(fault(&restarted, now + 2 * SECOND).is_some());
        assert_eq!(fault(&restarted, now + 3 * SECOND), None);
    }

    #[test]
    fn paths_are_hit_by_cluster_and_nonsense_is_told() {
        let (mut drills, now) = (drills(), Instant::now());
        let loss = FaultOrder {
            silence: false,
            cluster: "osaka".to_owned(),
            outbound: true,
            loss_permille: 300,
            ..crash("a")
        };
        drills.order(Some(&loss), 1, now, wall(0));
        let weather = Weather { outbound: true, loss: 300, ..Weather::default() };
        let hit =
            |endpoint| Some(Effect::Path { tunnels: [TunnelId(3)].into(), endpoint, weather });
        assert_eq!(fault(&drills, now), hit(None));
        let endpoint = "192.0.2.9:31821".to_owned();
        let one = FaultOrder { id: "one path".to_owned(), endpoint, ..loss.clone() };
        drills.order(Some(&one), 1, now, wall(0));
        assert_eq!(fault(&drills, now), hit(one.endpoint.parse().ok()));
        for (n, bad) in [
            FaultOrder { loss_permille: 1001, ..loss.clone() },
            FaultOrder { delay_milliseconds: 10_001, ..loss.clone() },
            FaultOrder { cluster: "No Cluster".to_owned(), ..loss.clone() },
            FaultOrder { length_milliseconds: 0, ..loss.clone() },
            FaultOrder { length_milliseconds: u32::MAX, ..loss.clone() },
            FaultOrder { loss_permille: 0, ..loss.clone() },
            FaultOrder { endpoint: "nowhere".to_owned(), ..loss.clone() },
            FaultOrder { unlink: true, loss_permille: 0, ..loss.clone() },
        ]
        .into_iter()
        .enumerate()
        {
            drills.order(Some(&FaultOrder { id: n.to_string(), ..bad }), 1, now, wall(0));
            assert_eq!(fault(&drills, now), None, "{n}");
            let state = drills.state(&FaultFigures::default(), now, wall(0)).expect("state");
            assert!(!state.error.is_empty(), "{n}");
        }
    }
}
