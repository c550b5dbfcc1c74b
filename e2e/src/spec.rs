//! What a lab shall be: parsed from flags, validated once.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Names of the clusters, in order. A lab can have as many clusters as there are names.
pub const CLUSTER_NAMES: [&str; 8] =
    ["paris", "osaka", "lima", "oslo", "quito", "delhi", "accra", "sofia"];

/// The most nodes that a cluster can have: each has a /24 of pods and a process group of its own.
pub const MAX_NODES: u8 = 16;

/// The IP families of nodes, pods and services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// IPv4 only.
    Ipv4,
    /// Both, IPv4 first.
    Dual,
}

impl std::str::FromStr for Family {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "ipv4" => Ok(Self::Ipv4),
            "dual" => Ok(Self::Dual),
            other => Err(Error::Invalid(format!("family {other:?} is none of ipv4, dual"))),
        }
    }
}

/// A lab to make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabSpec {
    /// The lab's name: labs of different names live side by side.
    pub name: String,
    /// How many clusters, 1 to 8.
    pub clusters: u8,
    /// How many nodes each, 1 to 16.
    pub nodes: u8,
    /// The IP families.
    pub family: Family,
    /// Round-trip time between any two clusters, in milliseconds.
    pub rtt_ms: u32,
    /// Whether clusters are joined by cables instead of the emulator: no conditions, no delay, and no
    /// emulator's speed limit, which benches need.
    #[serde(default)]
    pub cables: bool,
    /// Whether Carrick's own images are built and loaded.
    pub images: bool,
}

impl Default for LabSpec {
    fn default() -> Self {
        Self {
            name: "lab".to_owned(),
            clusters: 2,
            nodes: 2,
            family: Family::Ipv4,
            rtt_ms: 20,
            cables: false,
            images: true,
        }
    }
}

impl LabSpec {
    /// Checks every field.
    ///
    /// # Errors
    /// [`Error::Invalid`] that names the field and what it may be.
    pub fn validate(&self) -> Result<()> {
        validate_name(&self.name)?;
        let most = CLUSTER_NAMES.len();
        in_range("clusters", usize::from(self.clusters), most)?;
        in_range("nodes", usize::from(self.nodes), usize::from(MAX_NODES))?;
        if self.rtt_ms > 10_000 {
            let rtt = self.rtt_ms;
            return Err(Error::Invalid(format!("rtt {rtt} ms is more than 10 s; give less")));
        }
        Ok(())
    }
}

fn in_range(field: &str, value: usize, most: usize) -> Result<()> {
    if (1..=most).contains(&value) {
        return Ok(());
    }
    Err(Error::Invalid(format!("{field} is {value}; it can be 1 to {most}")))
}

/// Checks a lab's name: it becomes part of file and cgroup names.
///
/// # Errors
/// [`Error::Invalid`] for anything but 1 to 20 lower-case letters, digits and inner dashes.
pub fn validate_name(name: &str) -> Result<()> {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let edge = |c: Option<char>| c.is_some_and(|c| c != '-');
    if name.len() <= 20
        && name.chars().all(inner)
        && edge(name.chars().next())
        && edge(name.chars().last())
    {
        return Ok(());
    }
    Err(Error::Invalid(format!(
        "lab name {name:?} must be 1 to 20 lower-case letters, digits and inner dashes"
    )))
}

/// Reads a duration such as `20ms` or `1s` as milliseconds.
///
/// # Errors
/// [`Error::Invalid`] when it has no known unit or isn't a whole number.
pub fn parse_millis(text: &str) -> Result<u32> {
    let (number, factor) = match (text.strip_suffix("ms"), text.strip_suffix('s')) {
        (Some(number), _) => (number, 1),
        (None, Some(number)) => (number, 1000),
        (None, None) => ("", 1),
    };
    number
        .parse::<u32>()
        .ok()
        .and_then(|value| value.checked_mul(factor))
        .ok_or_else(|| Error::Invalid(format!("{text:?} is no duration; write 20ms or 1s")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(change: impl FnOnce(&mut LabSpec)) -> String {
        let mut spec = LabSpec::default();
        change(&mut spec);
        spec.validate().expect_err("must be refused").to_string()
    }

    #[test]
    fn the_default_is_valid() {
        LabSpec::default().validate().expect("valid");
    }

    #[test]
    fn refusals_name_the_field_and_the_range() {
        assert_eq!(refusal(|s| s.clusters = 0), "clusters is 0; it can be 1 to 8");
        assert_eq!(refusal(|s| s.clusters = 9), "clusters is 9; it can be 1 to 8");
        assert_eq!(refusal(|s| s.nodes = 17), "nodes is 17; it can be 1 to 16");
        assert!(refusal(|s| s.rtt_ms = 10_001).contains("10001 ms"));
        for name in ["", "-a", "a-", "A", "a/b", "../x", "aaaaaaaaaaaaaaaaaaaaa"] {
            assert!(refusal(|s| s.name = name.to_owned()).contains("lab name"), "{name:?}");
        }
    }

    #[test]
    fn durations_need_a_unit_and_do_not_wrap() {
        assert_eq!(parse_millis("20ms").expect("valid"), 20);
        assert_eq!(parse_millis("2s").expect("valid"), 2000);
        for bad in ["20", "ms", "s", "-1ms", "1.5s", "4294968s", "1m"] {
            assert!(parse_millis(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn families_are_read_by_name() {
        assert_eq!("dual".parse::<Family>().expect("known"), Family::Dual);
        assert!("ipx".parse::<Family>().expect_err("unknown").to_string().contains("ipx"));
    }
}
