//! Who dials, and which of two connections stays.

use std::time::Duration;

use carrick_model::IdentityKey;

/// How long the higher identity waits for the lower one to dial, which may try ever more seldom by then: after a power
/// cut traffic is back that much later. Long enough for a handshake over a satellite.
pub const PATIENCE: Duration = Duration::from_secs(1);

/// Our part in connecting to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DialRole {
    /// Our identity key is the lower one: dial at once.
    AtOnce,
    /// Theirs is: dial when nothing has come for this long.
    After(Duration),
}

impl DialRole {
    /// How long to wait before the first attempt.
    pub fn delay(self) -> Duration {
        match self {
            Self::AtOnce => Duration::ZERO,
            Self::After(delay) => delay,
        }
    }

    /// Of two connections between the same two gateways, whether one stays that we dialled (`true`)
    /// or that they dialled: the one that the lower identity dialled.
    pub fn keeps(self, we_dialled: bool) -> bool {
        (self == Self::AtOnce) == we_dialled
    }
}

/// Our part towards a peer. Equal keys are our own cluster's, whom nobody dials as a peer.
pub fn dial_role(own: &IdentityKey, theirs: &IdentityKey) -> DialRole {
    if own < theirs { DialRole::AtOnce } else { DialRole::After(PATIENCE) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_side_dials_and_both_keep_the_same_connection() {
        let (low, high) = (IdentityKey::from_bytes([1; 32]), IdentityKey::from_bytes([2; 32]));
        let (ours, theirs) = (dial_role(&low, &high), dial_role(&high, &low));
        assert_eq!((ours, theirs), (DialRole::AtOnce, DialRole::After(PATIENCE)));
        for low_dialled in [true, false] {
            assert_eq!(ours.keeps(low_dialled), theirs.keeps(!low_dialled));
        }
    }
}
