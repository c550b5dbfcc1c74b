//! What is shown while a drill runs: one line that is written over on a terminal, else a line a phase.

use std::time::Duration;

use carrick_crds::FailoverDrill;
use carrick_crds::drill::{FailoverDrillStatus, Phase};
use jiff::Timestamp;

/// How many points the spark line shows.
const SPARK: usize = 30;
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The view.
pub struct View {
    terminal: bool,
    shown: Option<(Phase, Vec<String>)>,
}

impl View {
    /// For a terminal, or for a file.
    pub fn new(terminal: bool) -> Self {
        Self { terminal, shown: None }
    }

    /// What to write now.
    pub fn show(&mut self, drill: &FailoverDrill, now: Timestamp) -> String {
        let status = drill.status.clone().unwrap_or_default();
        let line = line(drill, &status, now);
        let news = Some((status.phase, status.reasons.clone()));
        let differs = self.shown != news;
        self.shown = news;
        if self.terminal {
            format!("\r\x1b[K{line}")
        } else if differs {
            format!("{line}\n")
        } else {
            String::new()
        }
    }

    /// What ends the view.
    pub fn end(&self) -> &'static str {
        if self.terminal { "\n" } else { "" }
    }
}

fn line(drill: &FailoverDrill, status: &FailoverDrillStatus, now: Timestamp) -> String {
    let mut parts = vec![format!("{:<10}", status.phase.as_str())];
    if let Some(left) = left(drill, status, now) {
        parts.push(format!("{left} s left"));
    }
    if let Some(percent) = status.loss_percent {
        parts.push(format!("loss {percent:.2} %"));
    }
    if let Some(recovery) = status.recovery_milliseconds {
        parts.push(format!("longest recovery {recovery} ms"));
    }
    if let Some(series) = &status.series {
        let last = series.rtt_microseconds.iter().rev().find(|rtt| **rtt > 0);
        if let Some(rtt) = last {
            parts.push(format!("rtt {:.1} ms", *rtt as f64 / 1000.0));
        }
        parts.push(spark(&series.rtt_microseconds));
    }
    if status.phase == Phase::Pending {
        parts.extend(status.reasons.iter().cloned());
    }
    parts.join("  ")
}

/// Whole seconds until the fault is over.
fn left(drill: &FailoverDrill, status: &FailoverDrillStatus, now: Timestamp) -> Option<i64> {
    let entry = status.phases.iter().find(|entry| entry.phase == Phase::Injecting)?;
    let at: Timestamp = entry.at.parse().ok()?;
    let length = Duration::from_secs(u64::try_from(drill.spec.duration_seconds).ok()?);
    let end = at.checked_add(length).ok()?;
    let injecting = status.phase == Phase::Injecting;
    injecting.then(|| (end.as_second() - now.as_second()).max(0))
}

/// Round-trip times as bars; where nothing came back, a gap.
fn spark(rtts: &[i64]) -> String {
    let shown = &rtts[rtts.len().saturating_sub(SPARK)..];
    let least = shown.iter().copied().filter(|rtt| *rtt > 0).min().unwrap_or(0);
    let most = shown.iter().copied().max().unwrap_or(0).max(least + 1);
    let bar = |rtt: &i64| match rtt {
        0 => ' ',
        rtt => {
            let step = (rtt - least) * 7 / (most - least);
            BARS[usize::try_from(step).unwrap_or(0).min(7)]
        }
    };
    shown.iter().map(bar).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drill::sample;

    #[test]
    fn a_file_gets_a_line_a_phase_and_a_terminal_one_that_moves() {
        let drill = sample::drill();
        let mut file = View::new(false);
        let at = Timestamp::from_second(1_800_000_008).expect("time");
        assert!(file.show(&drill, at).contains("Done"));
        assert_eq!(file.show(&drill, at), "");
        let mut terminal = View::new(true);
        assert!(terminal.show(&drill, at).starts_with('\r'));
        assert!(!terminal.show(&drill, at).is_empty());
    }

    #[test]
    fn the_countdown_ends_at_nothing() {
        let mut drill = sample::drill();
        let status = drill.status.as_mut().expect("status");
        status.phase = Phase::Injecting;
        let status = status.clone();
        let at = |s: i64| Timestamp::from_second(1_800_000_000 + s).expect("time");
        assert_eq!(left(&drill, &status, at(8)), Some(7));
        assert_eq!(left(&drill, &status, at(80)), Some(0));
    }

    #[test]
    fn round_trip_times_are_bars_and_gaps() {
        assert_eq!(spark(&[20, 20, 0, 40]), "▁▁ █");
        assert_eq!(spark(&[]), "");
    }
}
