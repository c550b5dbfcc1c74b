//! What was counted: intended drops per direction, unintended ones apart.

use crate::link::DropReason;
use serde::{Deserialize, Serialize};

/// Everything since the start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stats {
    /// One for each site.
    pub sites: Vec<SiteStats>,
}

/// What one site sent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SiteStats {
    /// The site's name.
    pub site: String,
    /// Packets read that go to no other site (and are dropped).
    pub no_route: u64,
    /// Packets that wait for their time now.
    pub in_flight: u64,
    /// Latest departure against the model, in microseconds.
    pub worst_lateness_us: u64,
    /// What the emulator lost against its conditions.
    pub unintended: Unintended,
    /// One for each other site.
    pub directions: Vec<DirectionStats>,
}

/// Drops that no condition asked for: a run that has any is not to be trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Unintended {
    /// No packet buffer was left.
    pub pool_exhausted: u64,
    /// The far device didn't take the packet.
    pub write_failed: u64,
    /// Reading failed other than by having nothing to read.
    pub read_failed: u64,
    /// The kernel's queue before us overflowed.
    pub kernel_queue: u64,
}

impl Unintended {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.pool_exhausted + self.write_failed + self.read_failed + self.kernel_queue
    }
}

/// Counters of one direction, in packets unless they say bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DirectionStats {
    /// The far site.
    pub to: String,
    /// Read for this direction.
    pub received: u64,
    /// Handed to the far site, copies included.
    pub forwarded: u64,
    /// Bytes of those.
    pub forwarded_bytes: u64,
    /// Copies made.
    pub duplicated: u64,
    /// Held back so that later ones overtake.
    pub held_back: u64,
    /// "Packet too big" answers sent.
    pub too_big_answers: u64,
    /// Intended drops.
    pub dropped: Dropped,
}

/// Intended drops by reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Dropped {
    /// The direction was cut.
    pub cut: u64,
    /// Above `dropLargerThan`.
    pub filtered: u64,
    /// Above the MTU.
    pub too_big: u64,
    /// Random loss.
    pub loss: u64,
    /// Loss in bursts.
    pub burst: u64,
    /// The bottleneck's queue was full.
    pub queue_full: u64,
}

impl Dropped {
    /// Counts one.
    pub(crate) fn count(&mut self, reason: DropReason) {
        *match reason {
            DropReason::Cut => &mut self.cut,
            DropReason::Filtered => &mut self.filtered,
            DropReason::TooBig => &mut self.too_big,
            DropReason::Loss => &mut self.loss,
            DropReason::Burst => &mut self.burst,
            DropReason::QueueFull => &mut self.queue_full,
        } += 1;
    }
}

impl Stats {
    /// Unintended drops of all sites.
    pub fn unintended(&self) -> u64 {
        self.sites.iter().map(|site| site.unintended.total()).sum()
    }

    /// The counters of one direction.
    pub fn direction(&self, from: &str, to: &str) -> Option<&DirectionStats> {
        let site = self.sites.iter().find(|site| site.site == from)?;
        site.directions.iter().find(|direction| direction.to == to)
    }
}
