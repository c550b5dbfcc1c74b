//! How long faults interrupted traffic: distributions over many trials, for people and for the record.

mod goal;

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use serde_json::json;

pub use goal::Verdict;

use crate::spread::nearest_rank;

/// So many trials are needed before a 99th percentile says anything.
pub const FOR_P99: usize = 200;

/// What one trial measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Trial {
    /// What the fault hit, for a person.
    pub target: String,
    /// The longest time in which a flow out of the cluster that was hit had nothing to receive, in milliseconds.
    pub out_ms: f64,
    /// The same for flows into it.
    pub into_ms: f64,
    /// Packets that were sent, both ways.
    pub sent: u64,
    /// Packets that never arrived.
    pub lost: u64,
    /// TCP connections that broke, or paused for longer than their application waits.
    pub broken: u64,
    /// For a path that goes on to carry packets, badly: how traffic left it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved: Option<Moved>,
    /// The tag of the images that were measured, where it is known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub image: String,
}

/// How traffic left a path.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Moved {
    /// From the fault to when the last packet that it hit had left, in milliseconds.
    pub after_ms: f64,
    /// Packets lost later.
    pub lost_after: u64,
    /// Packets that later ones of their flow had overtaken.
    pub reordered: u64,
}

impl Trial {
    /// The longer of both directions' outages, in milliseconds.
    #[must_use]
    pub fn outage_ms(&self) -> f64 {
        self.out_ms.max(self.into_ms)
    }
}

/// All trials of one fault.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outages {
    /// The fault, for a person.
    pub fault: String,
    /// In the order of their making.
    pub trials: Vec<Trial>,
}

impl Outages {
    /// As JSON, a trial a line.
    #[must_use]
    pub fn json(&self) -> String {
        let trials: Vec<String> =
            self.trials.iter().map(|trial| json!(trial).to_string()).collect();
        format!("{{\"fault\":{},\"trials\":[\n{}\n]}}\n", json!(self.fault), trials.join(",\n"))
    }

    /// The head of the table whose rows are [`Self::row`]'s.
    #[must_use]
    pub fn head() -> &'static str {
        "| fault | trials | outage p50, ms | p95 | p99 | most | out: p50 / most | in: p50 / most | lost, median / most | TCP broken |\n\
         |---|---|---|---|---|---|---|---|---|---|"
    }

    /// The value that `percent` of the trials do not exceed (nearest rank), 0 without trials.
    #[must_use]
    pub fn percentile(&self, percent: usize, of: impl Fn(&Trial) -> f64) -> f64 {
        nearest_rank(self.trials.iter().map(of), percent)
    }

    /// The median and three more of what is measured of each trial, as cells of a table.
    fn spread(&self, of: impl Fn(&Trial) -> f64) -> String {
        let at = |percent| format!("{:.0}", self.percentile(percent, &of));
        let p99 = if self.trials.len() < FOR_P99 { "–".to_owned() } else { at(99) };
        format!("{} | {} | {p99} | {}", at(50), at(95), at(100))
    }

    /// A row of the table.
    #[must_use]
    pub fn row(&self) -> String {
        let ends = |of: fn(&Trial) -> f64| {
            format!("{:.0} / {:.0}", self.percentile(50, of), self.percentile(100, of))
        };
        let broken: u64 = self.trials.iter().map(|trial| trial.broken).sum();
        format!(
            "| {} | {} | {} | {} | {} | {} | {broken} |",
            self.fault,
            self.trials.len(),
            self.spread(Trial::outage_ms),
            ends(|trial| trial.out_ms),
            ends(|trial| trial.into_ms),
            ends(|trial| trial.lost as f64),
        )
    }

    /// The table of how traffic left a path, of one row; nothing for a fault without such.
    #[must_use]
    pub fn moves(&self) -> Option<String> {
        let of = |trial: &Trial| trial.moved.unwrap_or_default();
        self.trials.first()?.moved?;
        let lost: u64 = self.trials.iter().map(|trial| of(trial).lost_after).sum();
        Some(format!(
            "| fault | moved p50, ms | p95 | p99 | most | lost after the move, of all trials | overtaken, median / most |\n\
             |---|---|---|---|---|---|---|\n\
             | {} | {} | {lost} | {:.0} / {:.0} |",
            self.fault,
            self.spread(|trial| of(trial).after_ms),
            self.percentile(50, |trial| of(trial).reordered as f64),
            self.percentile(100, |trial| of(trial).reordered as f64),
        ))
    }

    /// Which share of the trials had an outage of at most how many milliseconds, as a picture by itself.
    #[must_use]
    pub fn svg(&self) -> String {
        const WIDTH: f64 = 640.0;
        const HEIGHT: f64 = 240.0;
        const LEFT: f64 = 48.0;
        const TOP: f64 = 32.0;
        let moved = self.trials.iter().filter_map(|trial| Some(trial.moved?.after_ms));
        let most = moved.clone().fold(self.percentile(100, Trial::outage_ms).max(1.0), f64::max);
        let step = nice(most / 6.0);
        let right = (most / step).ceil() * step;
        let x = |value: f64| LEFT + value / right * WIDTH;
        let y = |share: f64| TOP + (1.0 - share) * HEIGHT;
        let (width, height) = (LEFT + WIDTH + 24.0, TOP + HEIGHT + 44.0);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
             font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>\n\
             <text x=\"{LEFT}\" y=\"18\" font-size=\"14\">{}: outage in ms, {} trials</text>\n",
            escaped(&self.fault),
            self.trials.len()
        );
        for share in [0.0, 0.25, 0.5, 0.75, 1.0] {
            let at = y(share);
            let _ = writeln!(
                svg,
                "<path d=\"M{LEFT} {at:.1}H{:.1}\" stroke=\"#ddd\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{:.0} %</text>",
                LEFT + WIDTH,
                LEFT - 6.0,
                at + 4.0,
                share * 100.0
            );
        }
        for number in 0..=(right / step).round() as u32 {
            let value = f64::from(number) * step;
            let _ = writeln!(
                svg,
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{value}</text>",
                x(value),
                TOP + HEIGHT + 18.0
            );
        }
        let out = self.trials.iter().map(|trial| trial.out_ms).collect();
        let into = self.trials.iter().map(|trial| trial.into_ms).collect();
        let lines: [(&str, &str, Vec<f64>); 3] = [
            ("out of the cluster that was hit", "#c33", out),
            ("into it", "#36c", into),
            ("until the last flow had left", "#393", moved.collect()),
        ];
        let drawn = lines.into_iter().filter(|(.., all)| !all.is_empty());
        for (place, (name, colour, mut all)) in (0_u32..).zip(drawn) {
            all.sort_unstable_by(f64::total_cmp);
            let mut path = format!("M{:.1} {:.1}", x(0.0), y(0.0));
            for (number, value) in (1_u32..).zip(&all) {
                let share = f64::from(number) / all.len() as f64;
                let _ = write!(path, "H{:.1}V{:.1}", x(*value), y(share));
            }
            let _ = writeln!(
                svg,
                "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" fill=\"{colour}\">{name}</text>",
                LEFT + 8.0 + f64::from(place) * 220.0,
                TOP + HEIGHT + 36.0
            );
        }
        svg + "</svg>\n"
    }
}

/// The least of 1, 2, 5, 10, … that is not less.
fn nice(least: f64) -> f64 {
    let power = 10_f64.powf(least.log10().floor());
    let factors = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power);
    factors.into_iter().find(|value| *value >= least).unwrap_or(10.0 * power)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outages(count: u32) -> Outages {
        let trial = |number: u32| Trial {
            target: "gateway-0".to_owned(),
            out_ms: f64::from(number),
            into_ms: f64::from(count - number),
            sent: 1000,
            lost: u64::from(number) / 2,
            broken: u64::from(number == 1),
            moved: None,
            image: String::new(),
        };
        Outages { fault: "killed <9>".to_owned(), trials: (1..=count).rev().map(trial).collect() }
    }

    #[test]
    fn percentiles_are_those_of_the_nearest_rank() {
        let outages = outages(200);
        let at = |percent| outages.percentile(percent, |trial| trial.out_ms);
        assert_eq!([1, 50, 95, 99, 100].map(at), [2.0, 100.0, 190.0, 198.0, 200.0]);
        let none = Outages { fault: String::new(), trials: Vec::new() };
        assert_eq!(none.percentile(50, Trial::outage_ms), 0.0);
    }

    #[test]
    fn what_is_written_a_trial_a_line_is_read_again() {
        let all = outages(3);
        assert_eq!(all.json().lines().count(), 5);
        assert_eq!(serde_json::from_str::<Outages>(&all.json()).expect("its own form"), all);
    }

    #[test]
    fn a_row_has_a_99th_percentile_only_where_there_is_one() {
        assert_eq!(
            outages(200).row(),
            "| killed <9> | 200 | 150 | 195 | 199 | 200 | 100 / 200 | 99 / 199 | 50 / 100 | 1 |"
        );
        assert!(outages(199).row().contains("| – |"));
        let columns = |text: &str| text.lines().next().map(|line| line.matches('|').count());
        assert_eq!(columns(Outages::head()), columns(&outages(3).row()));
    }

    #[test]
    fn a_path_that_is_left_has_a_row_of_its_own() {
        let mut outages = outages(3);
        assert_eq!(outages.moves(), None);
        for (number, trial) in (0_u32..).zip(&mut outages.trials) {
            let (after_ms, number) = (f64::from(number * 100), u64::from(number));
            trial.moved = Some(Moved { after_ms, lost_after: number, reordered: 2 * number });
        }
        let table = outages.moves().expect("a table");
        assert!(table.ends_with("| killed <9> | 100 | 200 | – | 200 | 3 | 2 / 4 |"), "{table}");
        let columns: Vec<usize> = table.lines().map(|line| line.matches('|').count()).collect();
        assert_eq!(columns, [8, 8, 8]);
        let json = serde_json::to_string(&outages).expect("JSON");
        assert_eq!(serde_json::from_str::<Outages>(&json).expect("the same"), outages);
    }

    #[test]
    fn the_picture_has_both_lines_and_no_markup_of_the_name() {
        let svg = outages(20).svg();
        assert_eq!(svg.matches("stroke-width").count(), 2);
        assert!(svg.contains("killed &lt;9>") && svg.ends_with("</svg>\n"));
        assert!(Outages { fault: String::new(), trials: Vec::new() }.svg().contains("0 trials"));
        let mut left = outages(20);
        left.trials[0].moved = Some(Moved { after_ms: 70.0, lost_after: 0, reordered: 0 });
        let svg = left.svg();
        assert_eq!(svg.matches("stroke-width").count(), 3);
        assert!(svg.contains(">60</text>") && svg.contains(">80</text>"), "room for the latest");
    }

    #[test]
    fn steps_are_nice() {
        assert_eq!(
            [0.9, 1.0, 1.1, 33.0, 77.0, 500.0].map(nice),
            [1.0, 1.0, 2.0, 50.0, 100.0, 500.0]
        );
    }
}
