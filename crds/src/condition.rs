//! Conditions: their types, and how one is set.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::Reason;

/// The condition types of a ClusterPeering, in the order in which they come true.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PeeringCondition {
    /// The spec is good, and collides with nothing in this cluster.
    Accepted,
    /// A gateway of ours has a connection and a live tunnel to a gateway of the peer.
    Connected,
    /// Every live node routes every accepted prefix.
    RoutesReady,
    /// Full-size packets cross between nodes of both clusters, both ways, now.
    DataPathReady,
    /// True is bad: some nodes fail while others work.
    NodesDegraded,
    /// All of the above (but [`NodesDegraded`](Self::NodesDegraded), which must not be true).
    Ready,
}

impl PeeringCondition {
    /// All of them, in order.
    pub const ALL: [Self; 6] = [
        Self::Accepted,
        Self::Connected,
        Self::RoutesReady,
        Self::DataPathReady,
        Self::NodesDegraded,
        Self::Ready,
    ];

    /// The `type` in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "Accepted",
            Self::Connected => "Connected",
            Self::RoutesReady => "RoutesReady",
            Self::DataPathReady => "DataPathReady",
            Self::NodesDegraded => "NodesDegraded",
            Self::Ready => "Ready",
        }
    }
}

/// The condition types of the ClusterIdentity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IdentityCondition {
    /// There is an identity key, and a ClusterPeering can be offered to other clusters.
    Ready,
    /// Every pod's real address lies in the announced pod ranges.
    PrefixesCoverPods,
    /// After the annotation `carrick.dev/withdraw`: nothing of Carrick is left on any node.
    Withdrawn,
}

impl IdentityCondition {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Ready, Self::PrefixesCoverPods, Self::Withdrawn];

    /// The `type` in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::PrefixesCoverPods => "PrefixesCoverPods",
            Self::Withdrawn => "Withdrawn",
        }
    }
}

/// A condition's `status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// It is not known yet.
    Unknown,
}

impl ConditionStatus {
    /// The word in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl From<bool> for ConditionStatus {
    fn from(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

/// What a condition is to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it holds.
    pub status: ConditionStatus,
    /// Why, for programs.
    pub reason: Reason,
    /// Why, for people: what failed (object, field, address:port).
    pub message: String,
}

impl Verdict {
    /// It holds.
    pub fn yes(reason: Reason, message: impl Into<String>) -> Self {
        Self { status: ConditionStatus::True, reason, message: message.into() }
    }

    /// It does not hold.
    pub fn no(reason: Reason, message: impl Into<String>) -> Self {
        Self { status: ConditionStatus::False, reason, message: message.into() }
    }

    /// It is not known yet.
    pub fn unknown(reason: Reason, message: impl Into<String>) -> Self {
        Self { status: ConditionStatus::Unknown, reason, message: message.into() }
    }
}

/// The most characters of a condition's message that are stored (the API allows 32,768).
pub const MESSAGE_LIMIT: usize = 2048;

/// Sets the condition `type_` in `conditions`. `lastTransitionTime` moves only when the status does.
/// Returns whether anything but `observedGeneration` changed.
pub fn set(
    conditions: &mut Vec<Condition>,
    type_: &str,
    verdict: &Verdict,
    generation: Option<i64>,
    now: Timestamp,
) -> bool {
    let wanted = Condition {
        type_: type_.to_owned(),
        status: verdict.status.as_str().to_owned(),
        reason: verdict.reason.as_str().to_owned(),
        message: verdict.message.chars().take(MESSAGE_LIMIT).collect(),
        observed_generation: generation,
        last_transition_time: Time(now),
    };
    let Some(held) = conditions.iter_mut().find(|c| c.type_ == type_) else {
        conditions.push(wanted);
        return true;
    };
    let changed = (&held.status, &held.reason, &held.message)
        != (&wanted.status, &wanted.reason, &wanted.message);
    let since = if held.status == wanted.status {
        held.last_transition_time.clone()
    } else {
        wanted.last_transition_time.clone()
    };
    *held = Condition { last_transition_time: since, ..wanted };
    changed
}

/// The condition `type_`, if it is there.
pub fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|c| c.type_ == type_)
}

/// Whether the condition `type_` is there and holds.
pub fn is_true(conditions: &[Condition], type_: &str) -> bool {
    find(conditions, type_).is_some_and(|c| c.status == "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("time")
    }

    #[test]
    fn the_transition_time_moves_with_the_status_only() {
        let mut conditions = Vec::new();
        let first = Verdict::no(Reason::Timeout, "no answer from 192.0.2.1:31820");
        assert!(set(&mut conditions, "Connected", &first, Some(1), at(10)));
        assert!(!set(&mut conditions, "Connected", &first, Some(1), at(11)));

        let other = Verdict::no(Reason::WrongIdentity, "192.0.2.1:31820 has another key");
        assert!(set(&mut conditions, "Connected", &other, Some(1), at(12)));
        assert_eq!(conditions[0].last_transition_time.0, at(10));

        let good = Verdict::yes(Reason::Connected, "1 gateway");
        assert!(set(&mut conditions, "Connected", &good, Some(1), at(13)));
        assert_eq!(conditions[0].last_transition_time.0, at(13));
        assert!(is_true(&conditions, "Connected") && !is_true(&conditions, "Ready"));
    }

    #[test]
    fn a_long_message_is_cut() {
        let mut conditions = Vec::new();
        let long = Verdict::no(Reason::InvalidSpec, "ä".repeat(MESSAGE_LIMIT + 1));
        set(&mut conditions, "Accepted", &long, None, at(0));
        assert_eq!(conditions[0].message.chars().count(), MESSAGE_LIMIT);
    }
}
