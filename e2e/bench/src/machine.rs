//! The machine that figures come from: without it they mean nothing.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What a reader must know of the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Machine {
    /// Processors that the run may use.
    pub cores: usize,
    /// The processor's model.
    pub cpu: String,
    /// Of its features, those that matter to ciphers.
    pub features: Vec<String>,
    /// The kernel's release.
    pub kernel: String,
    /// Tasks that wanted to run, as a mean of the last minute, before the run began.
    pub load: String,
}

/// Features that implementations of ChaCha20-Poly1305 choose their code by.
const CIPHER_FEATURES: [&str; 6] = ["ssse3", "avx", "avx2", "avx512f", "avx512ifma", "asimd"];

impl Machine {
    /// This one. What the kernel doesn't say is said to be unknown.
    #[must_use]
    pub fn this() -> Self {
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let loadavg = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let kernel = nix::sys::utsname::uname();
        let kernel = kernel.map(|name| name.release().to_string_lossy().into_owned());
        Self {
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            cpu: field(&cpuinfo, "model name").unwrap_or("unknown").to_owned(),
            features: cipher_features(&cpuinfo),
            kernel: kernel.unwrap_or_else(|_| "unknown".to_owned()),
            load: loadavg.split(' ').next().unwrap_or_default().to_owned(),
        }
    }

    /// In one line.
    #[must_use]
    pub fn describe(&self) -> String {
        format!(
            "{} cores of {} ({}), Linux {}, load {} before the run",
            self.cores,
            self.cpu,
            self.features.join(" "),
            self.kernel,
            self.load
        )
    }
}

/// The share of all processors' time (0 to 1) that something else uses while we only wait; none when the
/// kernel doesn't say.
#[must_use]
pub fn busy_share(wait: Duration) -> Option<f64> {
    let times = || parse_times(&std::fs::read_to_string("/proc/stat").ok()?);
    let before = times()?;
    std::thread::sleep(wait);
    let after = times()?;
    let (idle, all) = (after.0 - before.0, after.1 - before.1);
    (all > 0).then(|| 1.0 - idle as f64 / all as f64)
}

/// Ticks of all processors since boot: idle ones and all.
fn parse_times(stat: &str) -> Option<(u64, u64)> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: Vec<u64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    // Guests' time, at the end, is in the users' already; waiting for a disk is idle.
    Some((ticks.get(3)? + ticks.get(4)?, ticks.iter().take(8).sum()))
}

fn field<'a>(cpuinfo: &'a str, name: &str) -> Option<&'a str> {
    let mut fields = cpuinfo.lines().filter_map(|line| line.split_once(':'));
    fields.find_map(|(key, value)| (key.trim() == name).then(|| value.trim()))
}

fn cipher_features(cpuinfo: &str) -> Vec<String> {
    let all = field(cpuinfo, "flags").or_else(|| field(cpuinfo, "Features")).unwrap_or_default();
    let known = all.split(' ').filter(|flag| CIPHER_FEATURES.contains(flag));
    known.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_processor_is_read() {
        let text = "processor\t: 0\nmodel name\t: AMD EPYC\nflags\t\t: fpu ssse3 avx2\n\n\
            processor\t: 1\nmodel name\t: other\n";
        assert_eq!(field(text, "model name"), Some("AMD EPYC"));
        assert_eq!(cipher_features(text), ["ssse3", "avx2"]);
        assert_eq!(parse_times("cpu  1 2 3 40 5 6 7 8 9 9\ncpu0 1\n"), Some((45, 72)));
        let busy = busy_share(Duration::from_millis(30)).expect("said");
        assert!((0.0..=1.0).contains(&busy), "{busy}");
        assert!(Machine::this().describe().contains("Linux"));
    }
}
