//! The name of a cluster.

use std::fmt;
use std::str::FromStr;

/// A cluster's name in the cluster set: an RFC 1123 label, or two joined by a dot
/// (KEP-1645; the value of the ClusterProperty `cluster.clusterset.k8s.io`).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(String);

/// Why a text is no [`ClusterId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClusterIdError {
    /// Neither one label nor two.
    #[error("cluster ID {0:?} must be one RFC 1123 label, or two joined by a dot")]
    Labels(String),
    /// One label breaks RFC 1123: 1–63 of a–z, 0–9 and '-', beginning and ending with a letter or digit.
    #[error(
        "cluster ID {id:?}: label {label:?} must be 1-63 characters of a-z, 0-9 and '-', \
         beginning and ending with a letter or digit"
    )]
    Label {
        /// The whole text, cut to 130 characters.
        id: String,
        /// The label at fault.
        label: String,
    },
}

/// Whether `label` is an RFC 1123 DNS label.
pub(crate) fn is_dns_label(label: &str) -> bool {
    let bytes = label.as_bytes();
    let alnum = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    matches!(bytes.len(), 1..=63)
        && bytes.iter().all(|b| alnum(b) || *b == b'-')
        && bytes.first().is_some_and(alnum)
        && bytes.last().is_some_and(alnum)
}

impl ClusterId {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ClusterId {
    type Err = ClusterIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let id: String = text.chars().take(130).collect();
        if text.split('.').count() > 2 {
            return Err(ClusterIdError::Labels(id));
        }
        match text.split('.').find(|label| !is_dns_label(label)) {
            Some(label) => {
                Err(ClusterIdError::Label { label: label.chars().take(64).collect(), id })
            }
            None => Ok(Self(text.to_owned())),
        }
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_one_or_two_labels() {
        for good in ["paris", "p", "a-b.c-9", "9"] {
            assert_eq!(good.parse::<ClusterId>().expect(good).as_str(), good);
        }
    }

    #[test]
    fn refuses_what_is_no_name() {
        let long = "x".repeat(64);
        for bad in ["", "Paris", "-a", "a-", "a.b.c", "a..b", "a_b", "ä", &long, "a/b", "a "] {
            assert!(bad.parse::<ClusterId>().is_err(), "{bad:?}");
        }
    }
}
