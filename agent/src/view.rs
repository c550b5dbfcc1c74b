//! What the agent shows of itself.

use crate::probe::gateways::Seen;
use crate::probe::shell::Findings;

/// For metrics and readiness.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// Why it is not ready; `None` when it is.
    pub not_ready: Option<String>,
    /// Number of the order that is applied.
    pub applied: u64,
    /// How often the kernel was looked at.
    pub looks: u64,
    /// How much was written to the kernel.
    pub writes: u64,
    /// How many reports were made.
    pub reports: u64,
    /// How many prefixes of pods are on the node.
    pub claims: usize,
    /// How many gateways of this node are reached past the CNI's bridge.
    pub shortcuts: usize,
    /// What probes found.
    pub findings: Findings,
    /// What is known of our gateways.
    pub gateways: Vec<Seen>,
    /// What the filters counted, by counter.
    pub counters: Vec<(String, u64)>,
}
