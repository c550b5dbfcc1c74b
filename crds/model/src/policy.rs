//! Which of the clusters that export a service serve it.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use crate::ClusterId;

/// The most clusters that an order has.
pub const TURNS_LIMIT: usize = 16;

/// The most characters of a text that an error repeats.
const SHOWN: usize = 64;

/// Which of the clusters that export a service serve it: of those that packets reach and that have ready endpoints.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ServicePolicy {
    /// All of them.
    #[default]
    Balanced,
    /// The client's own, and all others only while that has none.
    PreferLocal,
    /// The first of these. It is never empty, names nobody twice, and only the last turn may be the others'.
    Failover(Vec<Turn>),
}

/// Whose turn it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Turn {
    /// This cluster's.
    Cluster(ClusterId),
    /// All that are not named, together.
    Others,
}

/// Why a text is no [`ServicePolicy`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServicePolicyError {
    /// It begins with no word that is known.
    #[error(
        "{0:?} must be Balanced, PreferLocal, or Failover with clusters in order, such as \"Failover: paris, osaka\""
    )]
    Word(String),
    /// No cluster is named.
    #[error("Failover names no cluster; write them in order, such as \"Failover: paris, osaka\"")]
    Nobody,
    /// One of the names is none.
    #[error("Failover: {0}")]
    Cluster(#[from] crate::cluster::ClusterIdError),
    /// A cluster is named twice.
    #[error("Failover: {0:?} is there twice")]
    Twice(String),
    /// More follows the others.
    #[error("Failover: * stands for all others, and nobody comes after them")]
    AfterOthers,
    /// More clusters than are taken.
    #[error("Failover: {0} clusters; at most {TURNS_LIMIT} are taken")]
    TooMany(usize),
}

impl FromStr for ServicePolicy {
    type Err = ServicePolicyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (word, order) = match text.split_once(':') {
            Some((word, order)) => (word.trim(), Some(order)),
            None => (text.trim(), None),
        };
        match (word, order) {
            ("Balanced", None) => Ok(Self::Balanced),
            ("PreferLocal", None) => Ok(Self::PreferLocal),
            ("Failover", None) => Err(ServicePolicyError::Nobody),
            ("Failover", Some(order)) => turns(order).map(Self::Failover),
            _ => Err(ServicePolicyError::Word(text.chars().take(SHOWN).collect())),
        }
    }
}

fn turns(order: &str) -> Result<Vec<Turn>, ServicePolicyError> {
    if order.trim().is_empty() {
        return Err(ServicePolicyError::Nobody);
    }
    let count = order.split(',').count();
    if count > TURNS_LIMIT {
        return Err(ServicePolicyError::TooMany(count));
    }
    let mut turns = Vec::new();
    let mut named = BTreeSet::new();
    for word in order.split(',').map(str::trim) {
        let turn = match word {
            "*" => Turn::Others,
            name => Turn::Cluster(name.parse()?),
        };
        if !named.insert(turn.clone()) {
            return Err(ServicePolicyError::Twice(word.to_owned()));
        }
        if turns.last() == Some(&Turn::Others) {
            return Err(ServicePolicyError::AfterOthers);
        }
        turns.push(turn);
    }
    Ok(turns)
}

impl fmt::Display for ServicePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Balanced => f.write_str("Balanced"),
            Self::PreferLocal => f.write_str("PreferLocal"),
            Self::Failover(turns) => {
                let words: Vec<&str> = turns.iter().map(Turn::as_str).collect();
                write!(f, "Failover: {}", words.join(", "))
            }
        }
    }
}

impl Turn {
    fn as_str(&self) -> &str {
        match self {
            Self::Cluster(cluster) => cluster.as_str(),
            Self::Others => "*",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for text in
            ["Balanced", "PreferLocal", "Failover: paris", "Failover: paris, a.b, *", "Failover: *"]
        {
            let policy: ServicePolicy = text.parse().expect(text);
            assert_eq!(policy.to_string(), text);
        }
        let loose: ServicePolicy = " Failover :paris,osaka ".parse().expect("with spaces");
        assert_eq!(loose.to_string(), "Failover: paris, osaka");
    }

    #[test]
    fn what_is_wrong_is_said() {
        let many = format!("Failover: {}", vec!["a"; TURNS_LIMIT + 1].join(","));
        for (text, words) in [
            ("", "must be Balanced"),
            ("balanced", "must be Balanced"),
            ("Balanced: paris", "must be Balanced"),
            ("Failover", "names no cluster"),
            ("Failover: ", "names no cluster"),
            ("Failover: paris,", "must be 1-63"),
            ("Failover: Paris", "must be 1-63"),
            ("Failover: paris, paris", "twice"),
            ("Failover: *, *", "twice"),
            ("Failover: *, paris", "nobody comes after"),
            (&many, "at most 16"),
        ] {
            let error = text.parse::<ServicePolicy>().expect_err(text).to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
