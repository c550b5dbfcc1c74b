//! Why a Corefile is left alone.

use super::ZONE;

/// Why a Corefile is left alone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// A quotation has no end.
    #[error("a quotation begins in line {0} and does not end")]
    Quote(usize),
    /// Braces do not match.
    #[error("the braces near line {0} do not match")]
    Braces(usize),
    /// A server block without braces.
    #[error("the server block in line {0} has no braces around its plugins")]
    NoBraces(usize),
    /// Nothing serves names of Kubernetes.
    #[error("no server block has the plugin kubernetes for this cluster")]
    NoKubernetes,
    /// It may be imported anywhere.
    #[error("the plugin kubernetes is in a snippet, which may be imported in several places")]
    Snippet,
    /// Which is meant?
    #[error("several server blocks have the plugin kubernetes, and none of them serves all names")]
    Several,
    /// CoreDNS takes one only.
    #[error("the server block in line {0} has the plugin kubernetes twice")]
    Twice(usize),
    /// The zones follow from keys.
    #[error("the plugin kubernetes in line {0} names no zones")]
    NoZones(usize),
    /// It is laid out in another way than one directive a line.
    #[error(
        "the plugin kubernetes in line {0} does not end its line with `{{`, or its block is not closed in a line of its own"
    )]
    Layout(usize),
    /// Another zone of several clusters.
    #[error("the plugin kubernetes in line {0} has a `multicluster` line for other zones")]
    OtherMulticluster(usize),
    /// Names would go elsewhere.
    #[error("the server block in line {line} serves {zone}, and would take names of {ZONE}")]
    Shadowed {
        /// Where it begins.
        line: usize,
        /// Its zone.
        zone: String,
    },
    /// The cluster's own names are there.
    #[error(
        "{ZONE} is the first zone of the plugin kubernetes in line {0}: the cluster's own names are there"
    )]
    OwnZone(usize),
    /// Somebody else's work.
    #[error("`multicluster {ZONE}` in line {0} is not from `carrick dns enable`")]
    NotOurs(usize),
    /// It cannot be had back as it was.
    #[error("the plugin kubernetes is written in an unusual way")]
    Unusual,
    /// What was added cannot be taken out.
    #[error("what is left when {ZONE} is taken out cannot be read: {0}")]
    Remainder(Box<Misfit>),
}
