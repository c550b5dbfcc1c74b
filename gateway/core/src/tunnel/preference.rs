//! Which of the tunnels with a peer flows take, and what nodes are told of it.

use crate::path::Fitness;

/// How much a tunnel is to be preferred to others with the same peer, the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Preference {
    /// Its path works well, or for all that is known.
    Fit,
    /// It works, but not well.
    Ailing,
    /// It works, but badly.
    Failing,
    /// It works, but others are to be chosen.
    Wanted,
    /// It works by an address that may cease to: worse than a gateway that leaves, which carries on until
    /// others do.
    Makeshift,
    /// Its first session stands since a moment, and the heartbeats that should come have not.
    Unproven,
    /// Something was heard of it within the last 15 s.
    Up,
    /// Nothing speaks for it.
    Any,
}

impl Preference {
    /// `up`: something was heard within the last 15 s; `silent` is what holds of one whose peer never sent a
    /// heartbeat.
    pub fn of(fitness: Option<Fitness>, up: bool, silent: Self) -> Self {
        match fitness {
            Some(Fitness::Fit) => Self::Fit,
            Some(Fitness::Ailing) => Self::Ailing,
            Some(Fitness::Failing) => Self::Failing,
            Some(Fitness::Wanted) => Self::Wanted,
            None if up => silent,
            Some(Fitness::Lost) if up => Self::Up,
            Some(Fitness::Lost) | None => Self::Any,
        }
    }

    /// What nodes are told of who has no better tunnel: 0 is as well as can be; `None` where none works.
    pub fn rank(self) -> Option<u8> {
        (self <= Self::Unproven).then_some(self as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_to_work_comes_before_what_never_sent_a_heartbeat() {
        let of = Preference::of;
        let fit = of(Some(Fitness::Fit), true, Preference::Unproven);
        assert!(fit < of(None, true, Preference::Ailing));
        assert_eq!(of(None, true, Preference::Fit), fit, "plain WireGuard sends none");
        assert_eq!(of(None, false, Preference::Ailing), Preference::Any);
    }
}
