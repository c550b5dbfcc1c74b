//! The fault of a drill that an agent injects itself: it has no link to the controller for a while. Begun once,
//! and ended by time, by an order that comes to an agent which has its link again, or by none.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use carrick_exchange::message::drill::{FaultOrder, FaultState, milliseconds};

/// The longest that a link may be given up.
const LONGEST: Duration = Duration::from_secs(3600);

/// The newest fault.
#[derive(Debug, Default)]
pub struct Unlinking {
    newest: Option<Fault>,
}

/// A fault that was ordered.
#[derive(Debug)]
struct Fault {
    id: String,
    /// Until when; or why not at all.
    until: Result<Instant, String>,
    from: SystemTime,
    to: Option<SystemTime>,
    /// It is ordered no more.
    revoked: bool,
}

impl Unlinking {
    /// Takes what is ordered now. One that is known goes on, and each is begun once.
    pub fn order(&mut self, order: Option<&FaultOrder>, now: Instant, wall: SystemTime) {
        match (order, &mut self.newest) {
            (None, Some(newest)) => newest.revoked = true,
            (None, None) => {}
            (Some(order), Some(newest)) if newest.id == order.id => {}
            (Some(order), _) => {
                let until = begin(order, now, wall);
                match &until {
                    Ok(_) => tracing::warn!(id = order.id, "a failover drill gives up the link"),
                    Err(error) => tracing::warn!(id = order.id, error, "a drill is refused"),
                }
                let (id, revoked, to) = (order.id.clone(), false, None);
                self.newest = Some(Fault { id, until, from: wall, to, revoked });
            }
        }
    }

    fn acting(&self) -> Option<&Fault> {
        self.newest.as_ref().filter(|fault| !fault.revoked)
    }

    /// Until when there is to be no link.
    pub fn away(&self, now: Instant) -> Option<Instant> {
        let until = self.acting()?.until.as_ref().ok()?;
        Some(*until).filter(|until| now < *until)
    }

    /// When the end is to be noted.
    pub fn deadline(&self) -> Option<Instant> {
        let fault = self.acting().filter(|fault| fault.to.is_none())?;
        fault.until.as_ref().ok().copied()
    }

    /// Notes the end, if it is there.
    pub fn handle_timeout(&mut self, now: Instant, wall: SystemTime) {
        let Some(fault) = &mut self.newest else { return };
        if fault.to.is_none() && fault.until.as_ref().is_ok_and(|until| *until <= now) {
            fault.to = Some(wall);
        }
    }

    /// What is reported while it is ordered.
    pub fn state(&self) -> Option<FaultState> {
        let fault = self.acting()?;
        let mut state = FaultState { id: fault.id.clone(), ..FaultState::default() };
        match &fault.until {
            Err(error) => state.error.clone_from(error),
            Ok(_) => {
                state.from = milliseconds(fault.from);
                state.to = fault.to.map_or(0, milliseconds);
            }
        }
        Some(state)
    }
}

fn begin(order: &FaultOrder, now: Instant, wall: SystemTime) -> Result<Instant, String> {
    if !order.unlink {
        return Err("this release knows no such fault".to_owned());
    }
    let length = Duration::from_millis(order.length_milliseconds.into());
    if length.is_zero() || length > LONGEST {
        return Err(format!("its length of {} ms is out of range", order.length_milliseconds));
    }
    let not_after = UNIX_EPOCH + Duration::from_secs(order.not_after.min(u32::MAX.into()));
    let left = not_after.duration_since(wall).unwrap_or_default();
    if left.is_zero() {
        return Err("its time is over by this node's clock".to_owned());
    }
    Ok(now + length.min(left))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn wall(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_800_000_000 + seconds)
    }

    fn order(id: &str) -> FaultOrder {
        FaultOrder {
            id: id.to_owned(),
            unlink: true,
            length_milliseconds: 10_000,
            not_after: 1_800_000_015,
            ..FaultOrder::default()
        }
    }

    #[test]
    fn each_runs_once_and_ends_by_itself() {
        let (mut unlinking, now) = (Unlinking::default(), Instant::now());
        unlinking.order(Some(&order("a")), now, wall(0));
        let end = now + 10 * SECOND;
        assert_eq!((unlinking.away(now), unlinking.deadline()), (Some(end), Some(end)));
        unlinking.order(Some(&order("a")), now + SECOND, wall(1));
        assert_eq!(unlinking.away(now + SECOND), Some(end), "the same goes on");
        unlinking.handle_timeout(end, wall(10));
        let state = unlinking.state().expect("ordered");
        assert_eq!((state.from, state.to), (1_800_000_000_000, 1_800_000_010_000));
        assert_eq!((unlinking.away(end), unlinking.deadline()), (None, None));
        unlinking.order(Some(&order("a")), end, wall(10));
        assert_eq!(unlinking.away(end), None, "not again");
        unlinking.order(None, end, wall(10));
        assert_eq!(unlinking.state(), None);
    }

    #[test]
    fn no_order_ends_it_at_once() {
        let (mut unlinking, now) = (Unlinking::default(), Instant::now());
        unlinking.order(Some(&order("a")), now, wall(0));
        unlinking.order(None, now, wall(0));
        assert_eq!((unlinking.away(now), unlinking.state()), (None, None));
    }

    #[test]
    fn what_is_over_strange_or_endless_is_refused() {
        for (wall, order) in [
            (wall(15), order("late")),
            (wall(0), FaultOrder { unlink: false, silence: true, ..order("another's") }),
            (wall(0), FaultOrder { length_milliseconds: 0, ..order("empty") }),
            (wall(0), FaultOrder { length_milliseconds: u32::MAX, ..order("endless") }),
        ] {
            let (mut unlinking, now) = (Unlinking::default(), Instant::now());
            unlinking.order(Some(&order), now, wall);
            assert_eq!(unlinking.away(now), None, "{}", order.id);
            assert!(!unlinking.state().expect("ordered").error.is_empty(), "{}", order.id);
        }
        let (mut restarted, now) = (Unlinking::default(), Instant::now());
        restarted.order(Some(&order("kept")), now, wall(12));
        assert_eq!(restarted.away(now), Some(now + 3 * SECOND), "by the wall clock");
    }
}
