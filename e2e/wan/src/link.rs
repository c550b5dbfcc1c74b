//! The model of one direction: a packet of some length arrives at some time and gets a verdict.
//!
//! No clock, no I/O: times are nanoseconds that the caller passes and that never go backwards;
//! the same seed and arrivals give the same verdicts.

use crate::conditions::{Conditions, Distribution, GilbertElliott, Rate};
use serde::{Deserialize, Serialize};

/// Why the model dropped a packet; always intended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DropReason {
    /// The direction is cut.
    Cut,
    /// Larger than `dropLargerThan`.
    Filtered,
    /// Larger than the MTU.
    TooBig,
    /// Random loss.
    Loss,
    /// Loss in bursts.
    Burst,
    /// The bottleneck's queue was full.
    QueueFull,
}

/// What happens to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It never arrives.
    Drop(DropReason),
    /// It arrives at `at` (nanoseconds), and at `duplicate` once more.
    Deliver {
        /// When it leaves.
        at: u64,
        /// When its copy leaves.
        duplicate: Option<u64>,
        /// Held back so that later packets overtake it.
        held_back: bool,
    },
}

/// One direction between two sites.
#[derive(Debug)]
pub struct Link {
    conditions: Conditions,
    rng: Rng,
    /// Gilbert–Elliott state.
    bad: bool,
    /// When the bottleneck has sent all that it holds.
    free_at: u64,
    /// No packet in order leaves before this: jitter alone doesn't reorder.
    floor: u64,
}

impl Link {
    /// A link with validated conditions.
    pub fn new(conditions: Conditions, seed: u64) -> Self {
        Self { conditions, rng: Rng(seed), bad: false, free_at: 0, floor: 0 }
    }

    /// The present conditions.
    pub fn conditions(&self) -> &Conditions {
        &self.conditions
    }

    /// Changes conditions for packets that arrive from now on. What is under way keeps its
    /// time, so after a fall in delay new packets may overtake it, like on a changed path.
    pub fn set(&mut self, conditions: Conditions) {
        *self = Self { conditions, rng: Rng(self.rng.next()), bad: false, free_at: 0, floor: 0 };
    }

    /// Cuts or restores the direction and leaves all else as it is.
    pub fn set_cut(&mut self, cut: bool) {
        self.conditions.cut = cut;
    }

    /// A packet of `len` bytes arrives at `now` nanoseconds.
    pub fn arrive(&mut self, now: u64, len: usize) -> Verdict {
        if let Some(reason) = self.refuse(len) {
            return Verdict::Drop(reason);
        }
        let Some(sent) = self.bottleneck(now, len) else {
            return Verdict::Drop(DropReason::QueueFull);
        };
        let at = (sent + self.delay()).max(self.floor);
        let held_back = match &self.conditions.reorder {
            Some(reorder) if self.rng.chance(reorder.probability) => {
                Some(at + reorder.extra_delay_us * 1_000)
            }
            _ => None,
        };
        if held_back.is_none() {
            self.floor = at;
        }
        let duplicate = self.rng.chance(self.conditions.duplicate).then_some(at);
        Verdict::Deliver { at: held_back.unwrap_or(at), duplicate, held_back: held_back.is_some() }
    }

    fn refuse(&mut self, len: usize) -> Option<DropReason> {
        let above = |limit: Option<u32>| limit.is_some_and(|limit| len > limit as usize);
        if self.conditions.cut {
            Some(DropReason::Cut)
        } else if above(self.conditions.drop_larger_than) {
            Some(DropReason::Filtered)
        } else if above(self.conditions.mtu) {
            Some(DropReason::TooBig)
        } else if self.rng.chance(self.conditions.loss) {
            Some(DropReason::Loss)
        } else if self.burst_loses() {
            Some(DropReason::Burst)
        } else {
            None
        }
    }

    fn burst_loses(&mut self) -> bool {
        let Some(GilbertElliott { p, r, loss_bad, loss_good }) = self.conditions.burst else {
            return false;
        };
        if self.rng.chance(if self.bad { r } else { p }) {
            self.bad = !self.bad;
        }
        self.rng.chance(if self.bad { loss_bad } else { loss_good })
    }

    /// When the bottleneck has sent the packet, or none if its queue is full. A packet that
    /// finds the bottleneck idle is sent even if it is larger than the queue.
    fn bottleneck(&mut self, now: u64, len: usize) -> Option<u64> {
        let Some(Rate { bits_per_second, queue_bytes }) = self.conditions.rate else {
            return Some(now);
        };
        let backlog_ns = self.free_at.saturating_sub(now);
        let backlog = u128::from(backlog_ns) * u128::from(bits_per_second) / 8_000_000_000;
        if backlog_ns > 0 && backlog + len as u128 > u128::from(queue_bytes) {
            return None;
        }
        let send_ns = (len as u128 * 8_000_000_000).div_ceil(u128::from(bits_per_second));
        self.free_at = self.free_at.max(now) + send_ns as u64;
        Some(self.free_at)
    }

    fn delay(&mut self) -> u64 {
        let Conditions { delay_us, jitter_us, jitter_distribution, .. } = self.conditions;
        if jitter_us == 0 {
            return delay_us * 1_000;
        }
        let factor = match jitter_distribution {
            Distribution::Uniform => self.rng.unit() * 2.0 - 1.0,
            Distribution::Normal => self.rng.normal(),
        };
        // Negative sums saturate to no delay.
        (delay_us as f64 * 1e3 + jitter_us as f64 * 1e3 * factor) as u64
    }
}

/// SplitMix64: eight bytes of state, good enough for loss and jitter.
#[derive(Debug)]
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Even over [0, 1).
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn chance(&mut self, probability: f64) -> bool {
        probability > 0.0 && self.unit() < probability
    }

    /// Standard normal, by Box–Muller.
    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }
}
