//! Round-trip times, counted in classes that grow by a sixteenth: bounded, and exact to 6 %.

use std::time::Duration;

/// Classes an octave.
const STEPS: u32 = 16;
/// Up to 2³² µs.
const CLASSES: usize = 32 * STEPS as usize;

/// Counts of times.
#[derive(Debug, Clone)]
pub struct Histogram {
    counts: Vec<u32>,
    total: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; CLASSES], total: 0 }
    }
}

impl Histogram {
    /// Counts a time.
    pub fn note(&mut self, time: Duration) {
        let micros = u32::try_from(time.as_micros()).unwrap_or(u32::MAX).max(1);
        let octave = micros.ilog2();
        let step = ((u64::from(micros) - (1 << octave)) * u64::from(STEPS)) >> octave;
        let class = octave * STEPS + u32::try_from(step).unwrap_or_default();
        if let Some(count) = self.counts.get_mut(class as usize) {
            *count = count.saturating_add(1);
            self.total += 1;
        }
    }

    /// The time in microseconds that this share in thousandths does not exceed; 0 for none counted.
    pub fn quantile(&self, thousandths: u64) -> u64 {
        let wanted = (self.total * thousandths).div_ceil(1000);
        let mut seen = 0;
        for (class, count) in (0_u64..).zip(&self.counts) {
            seen += u64::from(*count);
            if seen >= wanted.max(1) {
                let (octave, step) = (class / u64::from(STEPS), class % u64::from(STEPS));
                let low = 1_u64 << octave;
                // The middle of the class.
                return low + low * (2 * step + 1) / (2 * u64::from(STEPS));
            }
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_right_to_a_sixteenth() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(500), 0);
        for millis in 1..=1000 {
            histogram.note(Duration::from_millis(millis));
        }
        for (thousandths, expected) in [(500, 500_000_u64), (990, 990_000), (1000, 1_000_000)] {
            let found = histogram.quantile(thousandths);
            assert!(found.abs_diff(expected) <= expected / 16, "{thousandths}: {found}");
        }
        histogram.note(Duration::ZERO);
        histogram.note(Duration::from_secs(1 << 40));
        assert!(histogram.quantile(1) <= 1100);
    }
}
