//! The figures that measures give: their keys, words, units, and which way is better.

use serde::{Deserialize, Serialize};

use crate::apart::pods;
use crate::plan::{Apart, Measure};

/// One kind of figure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Metric {
    /// Its name in files.
    pub key: String,
    /// Its name for people.
    pub title: String,
    /// Its unit; empty for a bare number.
    pub unit: String,
    /// Whether more is better.
    pub more_is_better: bool,
    /// Digits after the point.
    pub digits: usize,
}

impl Metric {
    fn new(key: &str, title: &str, unit: &str, more_is_better: bool, digits: usize) -> Self {
        Self {
            key: key.to_owned(),
            title: title.to_owned(),
            unit: unit.to_owned(),
            more_is_better,
            digits,
        }
    }

    /// A value as text with this metric's digits.
    #[must_use]
    pub fn text(&self, value: f64) -> String {
        format!("{value:.*}", self.digits)
    }
}

/// The figures of one measure, in the order of reports.
#[must_use]
pub fn of(measure: Measure) -> Vec<Metric> {
    match measure {
        Measure::Rtt => rtt("rtt", "Round trip, idle"),
        Measure::RttLoaded => rtt("rtt-loaded", "Round trip beside TCP ×1"),
        Measure::Tcp1 => tcp(1),
        Measure::Tcp4 => tcp(4),
        Measure::Tcp16 => tcp(16),
        Measure::Udp64 => udp(64),
        Measure::Udp512 => udp(512),
        Measure::Udp1200 => udp(1200),
        Measure::Connections => {
            vec![Metric::new("connections", "New TCP connections", "1/s", true, 0)]
        }
        Measure::Memory => vec![
            Metric::new("memory.rest", "Resident memory after start", "MiB", false, 1),
            Metric::new("memory.end", "Resident memory after all loads", "MiB", false, 1),
            Metric::new("memory.high", "Resident memory, highest", "MiB", false, 1),
        ],
    }
}

/// The figures of what has no contestants, in the order of reports.
#[must_use]
pub fn of_apart(apart: Apart) -> Vec<Metric> {
    match apart {
        Apart::LanesInMemory => [("seal", "sealed"), ("open", "opened")].map(lanes).concat(),
        Apart::PodToPod => pods::STREAMS.map(pod_to_pod).concat(),
    }
}

fn pod_to_pod(streams: u32) -> Vec<Metric> {
    let one = |figure: &str, words: &str, unit| {
        let title = format!("TCP ×{streams}, {words}");
        Metric::new(&pods::key(streams, figure), &title, unit, true, 2)
    };
    vec![
        one("pods", "pod to pod", "Gbit/s"),
        one("gateways", "gateway to gateway", "Gbit/s"),
        one("ratio", "pod to pod by gateway to gateway", "×"),
    ]
}

fn lanes((side, words): (&str, &str)) -> Vec<Metric> {
    let one = |figure: &str, which: &str, unit, digits| {
        let (key, title) = (format!("lanes.{side}.{figure}"), format!("1420 B {words}, {which}"));
        Metric::new(&key, &title, unit, true, digits)
    };
    vec![
        one("one", "one lane on one core", "kpackets/s", 0),
        one("two", "two lanes on two cores", "kpackets/s", 0),
        one("one.gbit", "one lane on one core", "Gbit/s", 2),
        one("two.gbit", "two lanes on two cores", "Gbit/s", 2),
        one("ratio", "two lanes by one", "×", 3),
    ]
}

/// The key of one figure of TCP transfers: `tcp4.there`, `tcp4.there.send`.
#[must_use]
pub fn tcp_key(streams: u32, figure: &str) -> String {
    format!("tcp{streams}.{figure}")
}

fn rtt(key: &str, title: &str) -> Vec<Metric> {
    let one = |figure: &str, words: &str, unit, digits| {
        Metric::new(&format!("{key}.{figure}"), &format!("{title}, {words}"), unit, false, digits)
    };
    vec![one("p50", "p50", "ms", 3), one("p99", "p99", "ms", 3), one("lost", "lost", "%", 2)]
}

fn tcp(streams: u32) -> Vec<Metric> {
    let speed = |figure: &str, words: &str| {
        let title = format!("TCP ×{streams} {words}");
        Metric::new(&tcp_key(streams, figure), &title, "Gbit/s", true, 2)
    };
    let cpu = |figure: &str, words: &str| {
        let title = format!("TCP ×{streams} {words}");
        Metric::new(&tcp_key(streams, figure), &title, "CPU s/GB", false, 2)
    };
    vec![
        speed("there", "there"),
        cpu("there.send", "there, sending gateway"),
        cpu("there.receive", "there, receiving gateway"),
        speed("back", "back"),
        cpu("back.send", "back, sending gateway"),
        cpu("back.receive", "back, receiving gateway"),
        speed("both", "both ways, sum"),
        cpu("both.each", "both ways, mean gateway"),
    ]
}

fn udp(size: u32) -> Vec<Metric> {
    let one = |figure: &str, words: &str, unit, more, digits| {
        let title = format!("UDP {size} B {words}");
        Metric::new(&format!("udp{size}.{figure}"), &title, unit, more, digits)
    };
    vec![
        one("best", "delivered at the best rate", "kpackets/s", true, 1),
        one("best.lost", "lost at that rate", "%", false, 1),
        one("clean", "delivered with at most 1 % lost", "kpackets/s", true, 1),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_unique() {
        let metrics = Measure::ALL.into_iter().flat_map(of);
        let all = metrics.chain(Apart::ALL.into_iter().flat_map(of_apart));
        let mut keys: Vec<String> = all.map(|metric| metric.key).collect();
        let count = keys.len();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), count);
        assert!(keys.contains(&tcp_key(4, "there.send")));
    }
}
