//! Which CoreDNS runs, by the tag of its image, and whether it can serve the zone.

use std::fmt;

/// The first release whose plugin `kubernetes` has `multicluster`.
const FIRST: (u32, u32, u32) = (1, 12, 2);

/// What an image's tag says about that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Release {
    /// It can.
    New(String),
    /// It cannot.
    Old(String),
    /// The tag is no release's.
    Unknown,
}

/// The first release that can, as people write it.
pub struct First;

impl fmt::Display for First {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", FIRST.0, FIRST.1, FIRST.2)
    }
}

/// Reads an image's reference, such as `registry.k8s.io/coredns/coredns:v1.14.2`.
pub fn of_image(image: &str) -> Release {
    let untagged = image.split('@').next().unwrap_or_default();
    let name = untagged.rsplit('/').next().unwrap_or_default();
    let Some((_, tag)) = name.split_once(':') else { return Release::Unknown };
    let mut numbers = tag.strip_prefix('v').unwrap_or(tag).split('.').map_while(number);
    let (Some(major), Some(minor)) = (numbers.next(), numbers.next()) else {
        return Release::Unknown;
    };
    let said = tag.to_owned();
    match numbers.next() {
        Some(patch) if (major, minor, patch) < FIRST => Release::Old(said),
        Some(_) => Release::New(said),
        None if (major, minor) < (FIRST.0, FIRST.1) => Release::Old(said),
        None if (major, minor) > (FIRST.0, FIRST.1) => Release::New(said),
        None => Release::Unknown,
    }
}

/// The number that a part of a tag begins with: distributions put their own builds behind it.
fn number(part: &str) -> Option<u32> {
    let digits = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
    part[..digits].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_of_distributions() {
        for (image, can) in [
            ("registry.k8s.io/coredns/coredns:v1.12.2", Some(true)),
            ("registry.k8s.io/coredns/coredns:v1.12.1", Some(false)),
            ("rancher/mirrored-coredns-coredns:1.14.0", Some(true)),
            (
                "602401143452.dkr.ecr.eu-west-1.amazonaws.com/eks/coredns:v1.11.4-eksbuild.2",
                Some(false),
            ),
            ("host:5000/coredns:v1.13.1_vmware.1@sha256:ab", Some(true)),
            ("host:5000/coredns", None),
            ("coredns@sha256:ab", None),
            ("coredns:1.9", Some(false)),
            ("coredns:1.12", None),
            ("coredns:2.0", Some(true)),
            ("carrick-lab/coredns:1", None),
            ("coredns:latest", None),
        ] {
            let found = match of_image(image) {
                Release::New(_) => Some(true),
                Release::Old(_) => Some(false),
                Release::Unknown => None,
            };
            assert_eq!(found, can, "{image}");
        }
        assert_eq!(First.to_string(), "1.12.2");
    }
}
