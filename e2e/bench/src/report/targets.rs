//! What the gateway is to reach, and whether it does.

use crate::apart::pods;
use crate::plan::{Contestant, Profile};
use crate::report::Report;
use crate::statistics::Spread;

/// Where a target's figure comes from.
#[derive(Clone, Debug)]
enum Source {
    /// Ours by that of another, within rounds.
    Ratio(Profile, &'static str, Contestant),
    /// All but the cipher, by the plain path.
    FloorByPlain(&'static str),
    /// Ours.
    Own(&'static str),
    /// Of a measure without contestants.
    Apart(String),
}

/// Something to reach.
#[derive(Clone, Debug)]
struct Target {
    title: &'static str,
    source: Source,
    /// At least this, or at most where less is better.
    least: f64,
    goal: f64,
}

/// All, in the order of the table.
fn all() -> Vec<Target> {
    use Contestant::{BoringtunCli, Floor, WireguardGo};
    use Profile::{Receive, Segmentation};
    let ratio = |title, key, other, least, goal| Target {
        title,
        source: Source::Ratio(Segmentation, key, other),
        least,
        goal,
    };
    let apart =
        |title, key: String, least, goal| Target { title, source: Source::Apart(key), least, goal };
    vec![
        ratio("TCP ×1 against wireguard-go", "tcp1.there", WireguardGo, 2.0, 2.5),
        ratio("TCP ×4 against wireguard-go", "tcp4.there", WireguardGo, 1.9, 2.2),
        ratio("TCP ×1 against boringtun-cli", "tcp1.there", BoringtunCli, 8.0, 10.0),
        ratio("CPU s/GB, TCP ×1, send", "tcp1.there.send", WireguardGo, 0.38, 0.28),
        ratio("CPU s/GB, TCP ×1, receive", "tcp1.there.receive", WireguardGo, 0.38, 0.28),
        ratio("CPU s/GB, TCP ×4, send", "tcp4.there.send", WireguardGo, 0.45, 0.33),
        ratio("CPU s/GB, TCP ×4, receive", "tcp4.there.receive", WireguardGo, 0.45, 0.33),
        Target {
            title: "I/O floor on TCP ×4, share of plain veth",
            source: Source::FloorByPlain("tcp4.there"),
            least: 0.30,
            goal: 0.40,
        },
        ratio("TCP ×4, share of our I/O floor", "tcp4.there", Floor, 0.45, 0.55),
        Target {
            title: "No UDP segmentation but GRO: TCP ×1 against wireguard-go",
            source: Source::Ratio(Receive, "tcp1.there", WireguardGo),
            least: 2.3,
            goal: 2.8,
        },
        ratio("UDP 1200 B delivered, against wireguard-go", "udp1200.best", WireguardGo, 4.0, 6.0),
        ratio(
            "UDP 1200 B delivered, against boringtun-cli",
            "udp1200.best",
            BoringtunCli,
            2.0,
            2.5,
        ),
        ratio("RTT idle p99, share of wireguard-go's", "rtt.p99", WireguardGo, 0.6, 0.45),
        ratio(
            "RTT under TCP p99, share of wireguard-go's",
            "rtt-loaded.p99",
            WireguardGo,
            0.45,
            0.25,
        ),
        Target {
            title: "Resident memory of a gateway under load, MiB",
            source: Source::Own("memory.high"),
            least: 32.0,
            goal: 16.0,
        },
        apart("Two lanes by one, in memory, sealing", "lanes.seal.ratio".into(), 1.85, 1.95),
        apart("Two lanes by one, in memory, opening", "lanes.open.ratio".into(), 1.85, 1.95),
        apart("Pod to pod by gateway to gateway, TCP ×1", pods::key(1, "ratio"), 0.75, 0.85),
        apart("Pod to pod by gateway to gateway, TCP ×4", pods::key(4, "ratio"), 0.8, 0.9),
    ]
}

impl Target {
    fn more_is_better(&self) -> bool {
        self.goal > self.least
    }

    /// The figure, and where it is a ratio its two sides in words.
    fn measured(&self, report: &Report) -> Option<(Spread, String)> {
        match &self.source {
            Source::Ratio(profile, key, other) => {
                let row = report.row(*profile, key)?;
                Some((*row.ratios.get(other)?, sides(row, Contestant::Carrick, *other)))
            }
            Source::FloorByPlain(key) => {
                let row = report.row(Profile::Segmentation, key)?;
                Some((row.floor_by_plain?, sides(row, Contestant::Floor, Contestant::Plain)))
            }
            Source::Own(key) => {
                let row = report.row(Profile::Segmentation, key)?;
                Some((*row.values.get(&Contestant::Carrick)?, String::new()))
            }
            Source::Apart(key) => {
                let row = report.apart_summary.iter().find(|row| row.metric.key == *key)?;
                Some((row.values, String::new()))
            }
        }
    }

    fn verdict(&self, value: f64) -> &'static str {
        let reaches = |bound| if self.more_is_better() { value >= bound } else { value <= bound };
        match (reaches(self.goal), reaches(self.least)) {
            (true, _) => "goal",
            (false, true) => "least",
            (false, false) => "**short**",
        }
    }
}

fn sides(row: &crate::report::Row, one: Contestant, other: Contestant) -> String {
    let value = |who| row.values.get(&who).map_or("–".into(), |v| row.metric.text(v.median));
    format!("{} / {} {}", value(one), value(other), row.metric.unit)
}

/// The table; what was not measured has a dash.
pub(super) fn table(report: &Report) -> String {
    let mut text = "| measure | least | goal | measured | of | reached |\n\
                    | --- | --- | --- | --- | --- | --- |\n"
        .to_owned();
    for target in all() {
        let sign = if target.more_is_better() { "≥" } else { "≤" };
        let (least, goal) = (target.least, target.goal);
        let (measured, of, verdict) = match target.measured(report) {
            None => ("–".to_owned(), String::new(), "not measured"),
            Some((spread, of)) => (range(&spread), of, target.verdict(spread.median)),
        };
        text += &format!(
            "| {} | {sign} {least} | {sign} {goal} | {measured} | {of} | {verdict} |\n",
            target.title
        );
    }
    text
}

fn range(spread: &Spread) -> String {
    let [median, min, max] = [spread.median, spread.min, spread.max];
    match spread.count {
        1 => format!("{median:.2}"),
        count => format!("{median:.2} ({min:.2}–{max:.2}, {count} rounds)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric;
    use crate::plan::{Apart, Measure};
    use crate::report::tests::report;

    #[test]
    fn verdicts_follow_the_median_and_the_better_way() {
        let text = table(&report());
        assert!(
            text.contains(
                "| TCP ×1 against wireguard-go | ≥ 2 | ≥ 2.5 | 2.00 | 3.50 / 1.50 Gbit/s | least |"
            ),
            "{text}"
        );
        assert!(text.contains("| Two lanes by one, in memory, sealing | ≥ 1.85 | ≥ 1.95 | 1.92 (1.90–1.95, 2 rounds) |  | least |"), "{text}");
        assert!(text.contains(
            "| RTT idle p99, share of wireguard-go's | ≤ 0.6 | ≤ 0.45 | – |  | not measured |"
        ));
        let memory = all().into_iter().find(|target| target.title.contains("memory")).expect("it");
        assert_eq!(
            [15.0, 20.0, 40.0].map(|mib| memory.verdict(mib)),
            ["goal", "least", "**short**"]
        );
    }

    #[test]
    fn every_target_names_a_figure_that_is_taken() {
        let of_measures = Measure::ALL.into_iter().flat_map(metric::of);
        let of_apart = Apart::ALL.into_iter().flat_map(metric::of_apart);
        let known: Vec<String> = of_measures.chain(of_apart).map(|metric| metric.key).collect();
        for target in all() {
            let key = match &target.source {
                Source::Ratio(_, key, _) | Source::FloorByPlain(key) | Source::Own(key) => *key,
                Source::Apart(key) => key,
            };
            assert!(known.iter().any(|known| known == key), "{key}");
        }
    }
}
