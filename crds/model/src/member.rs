//! Who a process is: its cluster, its role and its name.

use std::fmt;
use std::str::FromStr;

use crate::ClusterId;

/// What a process does in its cluster; the certificate carries it and each link demands one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Watches the Kubernetes API and holds the identity key.
    Controller,
    /// Carries packets between clusters.
    Gateway,
    /// Programs one node.
    Agent,
}

impl Role {
    /// The word used in certificates and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Controller => "controller",
            Self::Gateway => "gateway",
            Self::Agent => "agent",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A member's name inside its cluster: a pod UID (gateway, controller) or a node name (agent);
/// 1–253 characters of a–z, 0–9, '-' and '.'.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberName(String);

impl MemberName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for MemberName {
    type Err = MemberIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fits = matches!(text.len(), 1..=253)
            && text
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b));
        if fits {
            Ok(Self(text.to_owned()))
        } else {
            Err(MemberIdError(text.chars().take(300).collect()))
        }
    }
}

impl fmt::Display for MemberName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A member as certificates name it: the URI `carrick://<cluster-id>/<role>/<name>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId {
    /// The cluster that it belongs to.
    pub cluster: ClusterId,
    /// What it does there.
    pub role: Role,
    /// Its name there.
    pub name: MemberName,
}

/// A text is no member's URI or name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no member: expected carrick://<cluster-id>/<controller|gateway|agent>/<name>")]
pub struct MemberIdError(String);

impl FromStr for MemberId {
    type Err = MemberIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || MemberIdError(text.chars().take(300).collect());
        let mut parts = text.strip_prefix("carrick://").ok_or_else(bad)?.split('/');
        let (Some(cluster), Some(role), Some(name), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(bad());
        };
        let role = [Role::Controller, Role::Gateway, Role::Agent]
            .into_iter()
            .find(|r| r.as_str() == role)
            .ok_or_else(bad)?;
        Ok(Self { cluster: cluster.parse().map_err(|_| bad())?, role, name: name.parse()? })
    }
}

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "carrick://{}/{}/{}", self.cluster, self.role, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uri_round_trips() {
        let text = "carrick://paris.eu/gateway/3f2a-11";
        assert_eq!(text.parse::<MemberId>().expect("member").to_string(), text);
    }

    #[test]
    fn other_uris_are_refused() {
        for bad in [
            "carrick://paris/gateway",
            "carrick://paris/gateway/a/b",
            "carrick://paris/root/a",
            "spiffe://paris/gateway/a",
            "carrick:///gateway/a",
            "carrick://paris/gateway/",
            "carrick://paris/gateway/A b",
        ] {
            assert!(bad.parse::<MemberId>().is_err(), "{bad}");
        }
    }
}
