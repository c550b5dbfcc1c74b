//! Figures of a path: round-trip times and losses, smoothed.

use std::ops::Range;
use std::time::{Duration, Instant};

/// How far back the two windows of losses look: to see much loss soon, and little at all.
const SHORT: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(5);
/// From this share on the short window counts.
const MUCH: f64 = 0.1;
/// Fewer losses than this in a window prove nothing.
const EVIDENCE: f64 = 2.5;
/// From this share on the path is suspected, and for so long a single loss is enough: once traffic has left, some
/// heartbeats are all there is to tell.
const LITTLE: f64 = 0.01;
const SUSPICION: Duration = Duration::from_secs(60);
const LESS_EVIDENCE: f64 = 0.5;
/// Some lost in a row are a burst: two at least, and this share of what was sent since the last heartbeat.
const BURST: f64 = 0.1;
const BURST_LEAST: f64 = 1.5;
/// Comparisons until what was overtaken has come.
const SETTLING: usize = 3;
/// Two bursts, so long apart, count as a little loss for some time: where little is sent, a window holds too few of them
/// to show a share that they come to over a minute.
const APART: Range<Duration> = Duration::from_secs(1)..Duration::from_secs(10);
const TROUBLED: Duration = Duration::from_secs(2);
/// Round trips in a row that have to be longer before that is no hiccup of either machine.
const RECENT: usize = 3;
/// The usual round-trip time is the least of the current and the last so long.
const USUAL: Duration = Duration::from_secs(300);

/// Round-trip times, smoothed after RFC 6298.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct RoundTrip {
    /// The smoothed time, and its smoothed variation.
    smoothed: Option<(Duration, Duration)>,
    /// The newest times, the newest first.
    recent: [Duration; RECENT],
    /// The least times of this window and the one before.
    least: Option<(Duration, Duration)>,
    window: Option<Instant>,
}

impl RoundTrip {
    pub fn note(&mut self, now: Instant, time: Duration) {
        let (mean, variation) = self.smoothed.unwrap_or((time, time / 2));
        self.recent.rotate_right(1);
        self.recent[0] = time;
        let off = mean.abs_diff(time);
        self.smoothed = Some(((mean * 7 + time) / 8, (variation * 3 + off) / 4));
        if self.window.is_none_or(|begun| now.saturating_duration_since(begun) >= USUAL) {
            self.window = Some(now);
            let last = self.least.map_or(time, |(this, _)| this);
            self.least = Some((time, last));
        }
        self.least = self.least.map(|(this, last)| (this.min(time), last));
    }

    /// The smoothed time.
    pub fn mean(&self) -> Option<Duration> {
        self.smoothed.map(|(mean, _)| mean)
    }

    /// How much it varies, smoothed.
    pub fn variation(&self) -> Option<Duration> {
        self.smoothed.map(|(_, variation)| variation)
    }

    /// By how much the newest ones, all of them, are longer than the shortest within the last minutes.
    pub fn gained(&self) -> Duration {
        let now = self.recent.iter().min().copied().unwrap_or_default();
        let usual = self.least.map(|(this, last)| this.min(last));
        usual.map_or(Duration::ZERO, |usual| now.saturating_sub(usual))
    }
}

/// Datagrams expected and lost, with weights that decay.
#[derive(Debug, Clone, Copy, Default)]
struct Window {
    expected: f64,
    lost: f64,
}

impl Window {
    fn note(&mut self, age: f64, expected: f64, lost: f64) {
        let keeps = 1.0 / (1.0 + age);
        self.expected = self.expected * keeps + expected;
        self.lost = self.lost * keeps + lost;
    }

    fn share(&self, evidence: f64) -> f64 {
        if self.lost < evidence || self.expected <= 0.0 {
            return 0.0;
        }
        (self.lost / self.expected).clamp(0.0, 1.0)
    }
}

/// How much is lost of what the other side sends, by its counts and ours.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Losses {
    short: Window,
    long: Window,
    /// The counts of the other side and ours when they were compared last.
    last: Option<(Instant, u32, u32)>,
    missing: bool,
    /// All that had not arrived, lost or overtaken, at the last comparisons, the newest first.
    deficits: [f64; 2 * SETTLING],
    /// When the last burst began, and until when the last two count.
    burst: Option<Instant>,
    troubled: Option<Instant>,
    /// The share that is lost, as it was compared last.
    share: f64,
    /// Until when a little is enough.
    suspected: Option<Instant>,
}

impl Losses {
    /// Compares counts: `sent` datagrams left, `arrived` did, both modulo 2³².
    pub fn compare(&mut self, now: Instant, sent: u32, arrived: u32) {
        let Some((at, sent_before, arrived_before)) = self.last.replace((now, sent, arrived))
        else {
            return;
        };
        let expected = sent.wrapping_sub(sent_before);
        // A count that went back is of another life.
        if expected > u32::MAX / 2 {
            return;
        }
        // What overtook a heartbeat is made up for by the next.
        let lost = f64::from(expected) - f64::from(arrived.wrapping_sub(arrived_before));
        self.missing = lost > 0.0;
        let passed = now.saturating_duration_since(at);
        for (window, length) in [(&mut self.short, SHORT), (&mut self.long, LONG)] {
            window.note(passed.div_duration_f64(length), expected.into(), lost);
        }
        let suspected = self.suspected.is_some_and(|until| now < until);
        let short = self.short.share(EVIDENCE);
        let long = self.long.share(if suspected { LESS_EVIDENCE } else { EVIDENCE });
        self.share = if short >= MUCH { short.max(long) } else { long };
        if self.settle(lost) >= BURST_LEAST.max(f64::from(expected) * BURST) {
            self.note_burst(now);
        }
        if self.troubled.is_some_and(|until| now < until) {
            self.share = self.share.max(LITTLE);
        }
        if self.share >= LITTLE {
            self.suspected = Some(now + SUSPICION);
        }
    }

    /// By how much what has not arrived exceeds, at each of the last comparisons, what it was at any before: what was only
    /// overtaken comes in between.
    fn settle(&mut self, lost: f64) -> f64 {
        self.deficits.rotate_right(1);
        self.deficits[0] = self.deficits[1] + lost;
        let (newest, before) = self.deficits.split_at(SETTLING);
        let least = newest.iter().copied().fold(f64::INFINITY, f64::min);
        least - before.iter().copied().fold(f64::NEG_INFINITY, f64::max)
    }

    fn note_burst(&mut self, now: Instant) {
        let passed = self.burst.map(|at| now.saturating_duration_since(at));
        if passed.is_some_and(|passed| passed < APART.start) {
            return;
        }
        self.burst = Some(now);
        if passed.is_some_and(|passed| passed < APART.end) {
            self.troubled = Some(now + TROUBLED);
        }
    }

    /// Begins to compare anew: it comes from elsewhere.
    pub fn rebase(&mut self) {
        self.last = None;
    }

    /// It fell silent, and begins to compare anew: what was lost meanwhile is not counted, but suspicion goes on.
    pub fn note_silence(&mut self, now: Instant) {
        self.rebase();
        if self.suspected.is_some_and(|until| now < until) {
            self.suspected = Some(now + SUSPICION);
        }
    }

    /// The share that is lost, from 0 to 1.
    pub fn share(&self) -> f64 {
        self.share
    }

    /// Whether something was lost between the two newest heartbeats.
    pub fn is_missing(&self) -> bool {
        self.missing
    }
}

/// A share from 0 to 1 in parts of 10,000.
pub(super) fn parts(share: f64) -> u16 {
    (share.clamp(0.0, 1.0) * 10_000.0).round() as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::random::Random;
    use crate::testing::start;

    const TICK: Duration = Duration::from_millis(100);

    /// Compares counts for `ticks` intervals with `each` datagrams, of which `lost(i)` are lost in interval
    /// i; the share after each.
    fn shares(ticks: u32, each: u32, lost: impl Fn(u32) -> u32) -> Vec<f64> {
        let (mut losses, mut arrived) = (Losses::default(), 0u32);
        // The counts wrap on the way.
        let first = u32::MAX - each * ticks / 2;
        losses.compare(start(), first, 0);
        let mut now = start();
        let mut share = |tick: u32| {
            now += TICK;
            arrived += each - lost(tick);
            losses.compare(now, first.wrapping_add(each * (tick + 1)), arrived);
            losses.share()
        };
        (0..ticks).map(&mut share).collect()
    }

    #[test]
    fn much_loss_shows_within_a_second_and_little_within_some() {
        let much = shares(10, 100, |_| 30);
        assert!(much[4] > 0.25 && much[9] < 0.35, "{much:?}");
        let at_rest = shares(15, 1, |tick| u32::from(tick % 3 == 0));
        assert!(at_rest[14] > 0.2, "{at_rest:?}");
        // Bursts of 20 each second, of 1,000.
        let little = shares(60, 100, |tick| 20 * u32::from(tick % 10 == 0));
        assert!(little[30..].iter().all(|share| (0.01..0.04).contains(share)), "{little:?}");
        // After it ends, it is forgotten.
        let over = shares(600, 100, |tick| 30 * u32::from(tick < 10));
        assert!(over[599] < 0.001, "{}", over[599]);
    }

    #[test]
    fn two_bursts_show_where_little_is_sent() {
        // 130 packets a second; five in a row are less than 1 % of five seconds.
        let bursts = |at: &[u32]| shares(600, 13, |tick| 5 * u32::from(at.contains(&tick)));
        let most = |shares: &[f64]| shares.iter().copied().fold(0.0, f64::max);
        assert!(most(&bursts(&[100])) < LITTLE, "one proves nothing");
        assert!(most(&bursts(&[100, 105])) < 2.0 * LITTLE, "nor do two at once");
        let again = bursts(&[100, 170]);
        assert!(most(&again[..170]) < LITTLE, "{again:?}");
        assert!(again[175..190].iter().all(|share| *share >= LITTLE), "{again:?}");
        assert!(most(&again[200..]) < LITTLE, "it is over: {again:?}");
        assert!(most(&bursts(&[100, 300])) < LITTLE, "too seldom");
    }

    #[test]
    fn single_losses_and_what_is_overtaken_are_no_bursts() {
        let mut random = Random::new(5);
        let mut part = || random.number() as f64 / u64::MAX as f64;
        for each in [13, 100, 1000] {
            let (mut losses, mut sent, mut arrived) = (Losses::default(), 0, 0);
            let mut late = 0;
            for tick in 0..36_000 {
                // One of 1,000 is lost, and up to a tenth is late.
                arrived += late + (0..each).filter(|_| part() >= 0.001).count() as u32;
                late = (part() * f64::from(each) * 0.1) as u32;
                (arrived, sent) = (arrived - late, sent + each);
                losses.compare(start() + TICK * tick, sent, arrived);
                assert!(losses.troubled.is_none(), "of {each} at {tick}");
            }
        }
    }

    #[test]
    fn after_some_losses_single_ones_count_for_a_minute() {
        // Three at once, then one more, ten heartbeats a second.
        let again = |pause: u32| {
            shares(1200, 1, |tick| u32::from((100..103).contains(&tick) || tick == 100 + pause))
        };
        let soon = again(300);
        assert!(soon[399] == 0.0 && soon[400] > 0.01 && soon[600] == 0.0, "{soon:?}");
        let late = again(1000);
        assert!(late[1100..].iter().all(|share| *share == 0.0), "{late:?}");
    }

    #[test]
    fn single_losses_prove_nothing_and_reordering_is_no_loss() {
        let one = shares(100, 1, |tick| u32::from(tick == 50));
        assert!(one.iter().all(|share| *share == 0.0), "{one:?}");
        let mut losses = Losses::default();
        for tick in 0..100u32 {
            // Every second heartbeat overtakes ten datagrams.
            let late = 10 * (tick % 2);
            losses.compare(start() + TICK * tick, tick * 100, tick * 100 - late);
        }
        assert!(losses.share() < 0.005, "{}", losses.share());
    }

    #[test]
    fn a_gain_shows_after_few_samples_and_becomes_usual() {
        let (mut trip, mut now) = (RoundTrip::default(), start());
        let mut note = |trip: &mut RoundTrip, millis| {
            now += TICK;
            trip.note(now, Duration::from_millis(millis));
        };
        (0..100).for_each(|_| note(&mut trip, 20));
        assert_eq!(trip.gained(), Duration::ZERO);
        (0..2).for_each(|_| note(&mut trip, 2000));
        assert_eq!(trip.gained(), Duration::ZERO, "a hiccup");
        note(&mut trip, 20);
        (0..3).for_each(|_| note(&mut trip, 220));
        assert_eq!(trip.gained(), Duration::from_millis(200));
        (0..6100).for_each(|_| note(&mut trip, 220));
        assert_eq!(trip.gained(), Duration::ZERO);
    }
}
