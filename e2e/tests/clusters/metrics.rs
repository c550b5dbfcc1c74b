//! Metrics as programs say them.

use std::collections::BTreeMap;

/// Counters by label.
pub type Counts = BTreeMap<String, u64>;

/// Metrics in the text that Prometheus reads.
#[derive(Debug, Default)]
pub struct Metrics(String);

impl Metrics {
    /// As a program says them.
    pub fn of(said: String) -> Self {
        Self(said)
    }

    /// The samples of this name: labels and value.
    pub fn samples<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a str, u64)> {
        self.0.lines().filter_map(move |line| {
            let rest = line.strip_prefix(name)?;
            let (labels, value) = rest.rsplit_once(' ')?;
            let whole = labels.is_empty() || labels.starts_with('{');
            let value: f64 = value.parse().ok().filter(|_| whole)?;
            Some((labels, value as u64))
        })
    }

    /// The sum of all samples of this name.
    pub fn total(&self, name: &str) -> u64 {
        self.samples(name).map(|(_, value)| value).sum()
    }

    /// The samples of this name by one of their labels.
    pub fn by(&self, name: &str, by: &str) -> Counts {
        let mut out = Counts::new();
        for (labels, value) in self.samples(name) {
            *out.entry(label(labels, by).unwrap_or_default().to_owned()).or_default() += value;
        }
        out
    }
}

/// The value of a label among those of a sample.
pub fn label<'a>(labels: &'a str, name: &str) -> Option<&'a str> {
    let rest = ["{", ","].into_iter().find_map(|before| {
        labels.split_once(&format!("{before}{name}=\"")).map(|(_, rest)| rest)
    })?;
    Some(rest.split_once('"')?.0)
}
