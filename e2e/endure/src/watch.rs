//! What a gateway uses, looked at again and again: memory, file descriptors, processor.

use std::collections::BTreeMap;
use std::time::Duration;

use carrick_bench::process::Process;

/// The most looks that are kept; a longer run keeps every second one, then every fourth.
const MOST: usize = 4096;
/// The share of a run, at its beginning, in which a gateway may still grow: buffers and tables get
/// their size.
const WARM_UP: f64 = 0.2;

/// One look.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Look {
    /// After the run's begin.
    pub at: Duration,
    /// Resident memory in KiB.
    pub memory: f64,
    /// Open file descriptors.
    pub files: usize,
}

/// All looks at one gateway, and what it counted.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    looks: Vec<Look>,
    every: usize,
    asked: usize,
    /// Processor seconds of processes that have ended, and of this one.
    cpu: (f64, f64),
    /// As `cpu`, by name of the counter.
    counters: BTreeMap<String, (u64, u64)>,
}

impl Watch {
    /// Looks at a process that runs.
    ///
    /// # Errors
    /// When it has ended.
    pub fn look(&mut self, at: Duration, process: &Process) -> anyhow::Result<()> {
        self.cpu.1 = process.cpu_seconds()?;
        let memory = process.memory_mib()?.0 * 1024.0;
        let files = std::fs::read_dir(format!("/proc/{}/fd", process.pid()))?.count();
        self.keep(Look { at, memory, files });
        Ok(())
    }

    fn keep(&mut self, look: Look) {
        if self.asked.is_multiple_of(self.every.max(1)) {
            self.looks.push(look);
        }
        self.asked += 1;
        if self.looks.len() == MOST {
            let mut odd = false;
            self.looks.retain(|_| {
                odd = !odd;
                odd
            });
            self.every = self.every.max(1) * 2;
        }
    }

    /// What the gateway's counters say.
    pub fn count(&mut self, counters: impl Iterator<Item = (String, u64)>) {
        for (name, value) in counters {
            self.counters.entry(name).or_default().1 = value;
        }
    }

    /// The process has ended; another will take its place.
    pub fn restart(&mut self) {
        self.cpu = (self.cpu.0 + self.cpu.1, 0.0);
        for (before, now) in self.counters.values_mut() {
            (*before, *now) = (*before + *now, 0);
        }
    }

    /// Processor seconds, those before restarts too.
    #[must_use]
    pub fn cpu(&self) -> f64 {
        self.cpu.0 + self.cpu.1
    }

    /// A counter's value over all, 0 if there is none of that name.
    #[must_use]
    pub fn counter(&self, name: &str) -> u64 {
        self.counters.get(name).map_or(0, |(before, now)| before + now)
    }

    /// Counters whose name begins so and that are not 0, by the rest of their names.
    pub fn counters(&self, prefix: &str) -> impl Iterator<Item = (&str, u64)> {
        let named = self.counters.iter();
        named
            .filter_map(move |(name, (before, now))| {
                Some((name.strip_prefix(prefix)?, before + now))
            })
            .filter(|(_, value)| *value > 0)
    }

    /// Least and most memory in KiB and file descriptors.
    #[must_use]
    pub fn ranges(&self) -> ([f64; 2], [usize; 2]) {
        let memory = self.looks.iter().map(|look| look.memory);
        let files = self.looks.iter().map(|look| look.files);
        let least = memory.clone().fold(f64::INFINITY, f64::min);
        let most = memory.fold(0.0, f64::max);
        ([least, most], [files.clone().min().unwrap_or(0), files.max().unwrap_or(0)])
    }

    /// What has grown since the warm-up, in words; empty when nothing has. Memory may differ by 5 % and
    /// 512 KiB, file descriptors by `files` (those that a look at its metrics takes).
    #[must_use]
    pub fn growth(&self, files: usize) -> Vec<String> {
        let end = self.looks.last().map_or(Duration::ZERO, |look| look.at);
        let warm: Vec<&Look> =
            self.looks.iter().filter(|look| look.at >= end.mul_f64(WARM_UP)).collect();
        let third = (warm.len() / 3).max(1).min(warm.len());
        let (early, late) = (&warm[..third], &warm[warm.len() - third..]);
        let mut grown = Vec::new();
        let (from, to) = (median(early, |look| look.memory), median(late, |look| look.memory));
        if to > from * 1.05 + 512.0 {
            grown.push(format!("memory grew from {from:.0} to {to:.0} KiB"));
        }
        let (from, to) =
            (median(early, |look| look.files as f64), median(late, |look| look.files as f64));
        if to > from + files as f64 {
            grown.push(format!("file descriptors grew from {from} to {to}"));
        }
        grown
    }
}

fn median(looks: &[&Look], value: impl Fn(&Look) -> f64) -> f64 {
    let mut values: Vec<f64> = looks.iter().map(|look| value(look)).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(memory: impl Fn(u64) -> f64, files: impl Fn(u64) -> usize) -> Watch {
        let mut watch = Watch::default();
        for second in 0..10_000 {
            let at = Duration::from_secs(second);
            watch.keep(Look { at, memory: memory(second), files: files(second) });
        }
        watch
    }

    #[test]
    fn growth_after_the_warm_up_is_seen() {
        let flat = watch(|s| if s < 1500 { s as f64 } else { 5000.0 + (s % 7) as f64 }, |_| 9);
        assert_eq!(flat.growth(0), [] as [String; 0]);
        assert!(flat.looks.len() < MOST);
        let leak = watch(|s| 5000.0 + s as f64 / 5.0, |_| 9).growth(0);
        assert!(leak.len() == 1 && leak[0].contains("memory"), "{leak:?}");
        let files = watch(|_| 5000.0, |s| 9 + (s / 1000) as usize).growth(2);
        assert!(files.len() == 1 && files[0].contains("descriptors"), "{files:?}");
    }

    #[test]
    fn counters_go_on_over_restarts() {
        let mut watch = Watch::default();
        watch.count([("a_x".to_owned(), 5), ("a_y".to_owned(), 0)].into_iter());
        watch.restart();
        watch.count([("a_x".to_owned(), 2)].into_iter());
        assert_eq!((watch.counter("a_x"), watch.counter("b")), (7, 0));
        assert_eq!(watch.counters("a_").collect::<Vec<_>>(), [("x", 7)]);
    }
}
