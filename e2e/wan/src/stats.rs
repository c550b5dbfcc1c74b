//! What was counted: intended drops per direction, unintended ones apart.

use crate::link::DropReason;
use serde::{Deserialize, Serialize};
use std::fmt;

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
    /// Longest time, in microseconds, in which there was always something to read: no packet waited
    /// longer than that before the model saw it.
    pub worst_unread_us: u64,
    /// What the emulator lost against its conditions.
    pub unintended: Unintended,
    /// One for each other site.
    pub directions: Vec<DirectionStats>,
}

/// Drops that no condition asked for: a run that has any is not to be trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Unintended {
    /// Hold queue: no packet buffer was left.
    pub pool_exhausted: u64,
    /// Send: the far device didn't take the packet.
    pub write_failed: u64,
    /// Read: failed other than by having nothing to read.
    pub read_failed: u64,
    /// Receive queue: the kernel's queue before us overflowed.
    pub kernel_queue: u64,
    /// Questions that found the kernel's counter unreadable: drops may have gone uncounted.
    pub uncounted: u64,
}

impl Unintended {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.causes().iter().map(|(_, count)| count).sum()
    }

    /// What came after `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            pool_exhausted: self.pool_exhausted.saturating_sub(earlier.pool_exhausted),
            write_failed: self.write_failed.saturating_sub(earlier.write_failed),
            read_failed: self.read_failed.saturating_sub(earlier.read_failed),
            kernel_queue: self.kernel_queue.saturating_sub(earlier.kernel_queue),
            uncounted: self.uncounted.saturating_sub(earlier.uncounted),
        }
    }

    /// Each place in the emulator where packets can get lost, in a packet's order, with its count.
    fn causes(&self) -> [(&'static str, u64); 5] {
        [
            ("receive queue", self.kernel_queue),
            ("receive queue unreadable", self.uncounted),
            ("read", self.read_failed),
            ("hold queue", self.pool_exhausted),
            ("send", self.write_failed),
        ]
    }
}

/// The causes that have a count: `receive queue 1072, send 3`.
impl fmt::Display for Unintended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counted = self.causes().into_iter().filter(|(_, count)| *count > 0);
        let words: Vec<String> = counted.map(|(cause, count)| format!("{cause} {count}")).collect();
        f.write_str(&words.join(", "))
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

/// Intended drops that have a count: `loss 12, cut 3`; `none` without any.
impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = [
            ("cut", self.cut),
            ("filtered", self.filtered),
            ("too big", self.too_big),
            ("loss", self.loss),
            ("burst", self.burst),
            ("queue full", self.queue_full),
        ];
        let counted = all.into_iter().filter(|(_, count)| *count > 0);
        let words: Vec<String> = counted.map(|(name, count)| format!("{name} {count}")).collect();
        f.write_str(if words.is_empty() { "none" } else { "" })?;
        f.write_str(&words.join(", "))
    }
}

impl Stats {
    /// Unintended drops of all sites.
    pub fn unintended(&self) -> u64 {
        self.sites.iter().map(|site| site.unintended.total()).sum()
    }

    /// The latest departure of all sites against the model, in microseconds.
    pub fn worst_lateness_us(&self) -> u64 {
        self.sites.iter().map(|site| site.worst_lateness_us).max().unwrap_or(0)
    }

    /// The longest time of all sites in which there was always something to read, in microseconds.
    pub fn worst_unread_us(&self) -> u64 {
        self.sites.iter().map(|site| site.worst_unread_us).max().unwrap_or(0)
    }

    /// What came after `earlier`, which the same emulator gave: of unintended drops only.
    #[must_use]
    pub fn unintended_since(&self, earlier: &Self) -> Self {
        let mut later = self.clone();
        for site in &mut later.sites {
            if let Some(before) = earlier.sites.iter().find(|before| before.site == site.site) {
                site.unintended = site.unintended.since(&before.unintended);
            }
        }
        later
    }

    /// The line that ends every run: how many packets the emulator itself lost, and where.
    pub fn verdict(&self) -> String {
        let mut lines = format!("WAN emulator: {} unintended drops", self.unintended());
        let spoiled: Vec<String> = self
            .sites
            .iter()
            .filter(|site| site.unintended.total() > 0)
            .map(|site| format!("{}: {}", site.site, site.unintended))
            .collect();
        if !spoiled.is_empty() {
            lines += &format!(
                " ({}); LOSS FIGURES OF THIS RUN ARE NOT TO BE TRUSTED; worst lateness {} us, \
                 longest without a pause {} us",
                spoiled.join("; "),
                self.worst_lateness_us(),
                self.worst_unread_us()
            );
        }
        lines
    }

    /// The counters of one direction.
    pub fn direction(&self, from: &str, to: &str) -> Option<&DirectionStats> {
        let site = self.sites.iter().find(|site| site.site == from)?;
        site.directions.iter().find(|direction| direction.to == to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(name: &str, unintended: Unintended) -> SiteStats {
        SiteStats { site: name.into(), unintended, ..SiteStats::default() }
    }

    #[test]
    fn the_verdict_names_place_and_count() {
        let clean = Stats { sites: vec![site("paris", Unintended::default())] };
        assert_eq!(clean.verdict(), "WAN emulator: 0 unintended drops");
        let lost = Unintended { kernel_queue: 1072, write_failed: 3, ..Unintended::default() };
        let mut stats = Stats { sites: vec![site("paris", lost), site("osaka", <_>::default())] };
        let verdict = stats.verdict();
        assert!(verdict.starts_with("WAN emulator: 1075 unintended drops"), "{verdict}");
        assert!(verdict.contains("(paris: receive queue 1072, send 3)"), "{verdict}");

        let before = stats.clone();
        stats.sites[1].unintended.uncounted = 1;
        let later = stats.unintended_since(&before);
        assert_eq!(later.unintended(), 1);
        assert!(later.verdict().contains("osaka: receive queue unreadable 1"));
    }

    #[test]
    fn intended_drops_are_named_or_none() {
        assert_eq!(Dropped::default().to_string(), "none");
        let dropped = Dropped { cut: 3, loss: 12, ..Dropped::default() };
        assert_eq!(dropped.to_string(), "cut 3, loss 12");
    }
}
