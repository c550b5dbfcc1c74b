//! Whether services of a cluster count as reachable: gone at once, back after a while.

use std::time::{Duration, Instant};

/// How long packets must have got there without a break before new connections are led there again.
const RETURN: Duration = Duration::from_secs(5);

/// How one cluster is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Packets get there.
    Up,
    /// They do not.
    Down,
    /// They do again since then, which is not long enough.
    Returning(Instant),
}

impl Reach {
    /// What follows from whether packets get there now. A cluster that is seen for the first time counts at once.
    #[must_use]
    pub fn next(before: Option<Self>, routed: bool, now: Instant) -> Self {
        match (before, routed) {
            (_, false) => Self::Down,
            (None | Some(Self::Up), true) => Self::Up,
            (Some(Self::Down), true) => Self::Returning(now),
            (Some(Self::Returning(since)), true) if now < since + RETURN => Self::Returning(since),
            (Some(Self::Returning(_)), true) => Self::Up,
        }
    }

    /// Whether new connections are led there.
    pub fn is_up(self) -> bool {
        self == Self::Up
    }

    /// When to look again although nothing happens.
    pub fn due(self) -> Option<Instant> {
        match self {
            Self::Up | Self::Down => None,
            Self::Returning(since) => Some(since + RETURN),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gone_at_once_and_back_after_a_while_without_a_break() {
        let now = Instant::now();
        let second = Duration::from_secs(1);
        let up = Reach::next(None, true, now);
        assert!(up.is_up(), "nothing spoke against it");
        let down = Reach::next(Some(up), false, now);
        assert!(!down.is_up());
        let back = Reach::next(Some(down), true, now + second);
        assert_eq!(back.due(), Some(now + second + RETURN));
        assert!(!Reach::next(Some(back), true, now + RETURN).is_up());
        assert!(Reach::next(Some(back), true, now + second + RETURN).is_up());
        let broken = Reach::next(Some(back), false, now + RETURN);
        assert_eq!(Reach::next(Some(broken), true, now + RETURN), Reach::Returning(now + RETURN));
    }
}
