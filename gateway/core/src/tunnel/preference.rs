//! Which of the tunnels with a peer flows take, and what nodes are told of it.

use crate::path::{Fitness, Standing};

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
}

/// Where a tunnel comes in the choice, the first having the lowest: of those that work, that to a gateway which reaches
/// its nodes comes before that to one which has lost some, however well they work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank(u8);

impl Rank {
    /// How many preferences there are of tunnels that are known to work.
    const WORKING: u8 = Preference::Unproven as u8;

    /// That of a tunnel whose gateway stands so among those of its cluster.
    pub const fn of(preference: Preference, standing: Standing) -> Self {
        let works = (preference as u8) < Self::WORKING;
        let standing = if works { standing } else { Standing::Behind };
        Self(preference as u8 + Self::WORKING * standing as u8)
    }

    /// What nodes are told of who has no better tunnel: 0 is as well as can be; `None` where none works.
    pub fn told(self) -> Option<u8> {
        (self <= Self::of(Preference::Unproven, Standing::Even)).then_some(self.0)
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

    #[test]
    fn a_gateway_that_lost_nodes_comes_after_all_others_that_work() {
        let of = Rank::of;
        let ordered = [
            of(Preference::Fit, Standing::Even),
            of(Preference::Makeshift, Standing::Even),
            of(Preference::Fit, Standing::Trial),
            of(Preference::Fit, Standing::Behind),
            of(Preference::Failing, Standing::Behind),
            of(Preference::Unproven, Standing::Even),
            of(Preference::Up, Standing::Even),
        ];
        assert!(ordered.is_sorted_by(|a, b| a < b), "{ordered:?}");
        assert_eq!(of(Preference::Up, Standing::Even), of(Preference::Up, Standing::Behind));
        let told = ordered.map(Rank::told);
        assert_eq!(told, [Some(0), Some(4), Some(5), Some(10), Some(12), Some(15), None]);
    }
}
