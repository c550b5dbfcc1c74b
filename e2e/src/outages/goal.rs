//! What each fault may cost, and whether its trials keep to that.

use Figure::{Lost, LostLater, Moved, Outage};

use super::{FOR_P99, Outages, Trial};

/// So many trials are needed before a missed goal in time is held against the software, and not against the hour.
const FOR_GOALS: usize = 50;

/// The value that so many percent of all trials do not exceed may be so large.
#[derive(Debug)]
struct Goal {
    figure: Figure,
    percent: usize,
    most: f64,
}

/// What is measured of a trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Figure {
    /// [`Trial::outage_ms`].
    Outage,
    /// Milliseconds until traffic had left a path.
    Moved,
    /// Packets lost, of which one is too many in however few trials.
    Lost,
    /// Packets lost once traffic had left a path.
    LostLater,
}

const fn goal(figure: Figure, percent: usize, most: f64) -> Goal {
    Goal { figure, percent, most }
}

const NOTHING_LOST: &[Goal] = &[goal(Lost, 100, 0.0)];
const FAILOVER: &[Goal] = &[goal(Outage, 50, 300.0), goal(Outage, 99, 600.0)];
const MANY_LOST: &[Goal] =
    &[goal(Moved, 50, 2_000.0), goal(Moved, 99, 3_000.0), goal(LostLater, 100, 0.0)];
const BURSTS: &[Goal] =
    &[goal(Moved, 50, 10_000.0), goal(Moved, 99, 20_000.0), goal(LostLater, 100, 0.0)];
const SLOW: &[Goal] = &[goal(Outage, 100, 250.0), goal(Moved, 100, 1_000.0)];
const NARROW: &[Goal] = &[goal(Outage, 50, 1_000.0), goal(Outage, 99, 2_000.0)];
const BACK: &[Goal] = &[goal(Outage, 50, 2_000.0)];

/// By the faults' names. That a gateway has lost its nodes is learnt from these by other clusters, and has no goal.
const GOALS: &[(&str, &[Goal])] = &[
    ("gateway killed", FAILOVER),
    ("gateway's node loses power", FAILOVER),
    ("gateway cut from nodes", &[]),
    ("gateway cut from nodes, one direction", &[]),
    ("path cut", FAILOVER),
    ("path cut, one direction", FAILOVER),
    ("path loses 30 %", MANY_LOST),
    ("path loses 2 % in bursts", BURSTS),
    ("path gains 200 ms", SLOW),
    ("path passes small packets only", NARROW),
    ("gateway's pod deleted", NOTHING_LOST),
    ("gateways scaled from 2 to 3 and back", NOTHING_LOST),
    ("gateway replaced", NOTHING_LOST),
    ("agent replaced", NOTHING_LOST),
    ("controllers killed", NOTHING_LOST),
    ("API server restarted", NOTHING_LOST),
    ("API server and controllers away", NOTHING_LOST),
    ("DNS away", NOTHING_LOST),
    ("cluster back after a power cut", BACK),
];

/// A goal, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Goal and figure, for a person.
    pub said: String,
    /// The goal was missed, in trials enough to say so.
    pub fails: bool,
}

impl Figure {
    fn of(self, trial: &Trial) -> f64 {
        let moved = trial.moved;
        match self {
            Self::Outage => trial.outage_ms(),
            // What was not measured keeps to nothing.
            Self::Moved => moved.map_or(f64::INFINITY, |moved| moved.after_ms),
            Self::Lost => trial.lost as f64,
            Self::LostLater => moved.map_or(f64::INFINITY, |moved| moved.lost_after as f64),
        }
    }

    /// Its name, and what it is counted in.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Outage => ("outage", "ms"),
            Self::Moved => ("moved", "ms"),
            Self::Lost => ("lost", "packets"),
            Self::LostLater => ("lost after the move", "packets"),
        }
    }
}

impl Goal {
    fn judge(&self, outages: &Outages) -> Verdict {
        let count = outages.trials.len();
        // Below that the 99th percentile says nothing.
        let percent = if self.percent == 99 && count < FOR_P99 { 100 } else { self.percent };
        let found = outages.percentile(percent, |trial| self.figure.of(trial));
        let met = found <= self.most;
        let judged = count >= FOR_GOALS || self.figure == Lost;
        let rank = if percent == 100 { "most".to_owned() } else { format!("p{percent}") };
        let (name, unit) = self.figure.words();
        let verdict = match (met, judged) {
            (true, _) => "met".to_owned(),
            (false, true) => "missed".to_owned(),
            (false, false) => format!("missed, of {count} trials: {FOR_GOALS} are judged"),
        };
        let most = self.most;
        let said = format!("goal {name} {rank} <= {most} {unit}: {found:.0}, {verdict}");
        Verdict { said, fails: judged && !met }
    }
}

impl Outages {
    /// Each goal of the fault, judged by all trials. A fault that is not listed fails: its name may have changed.
    #[must_use]
    pub fn verdicts(&self) -> Vec<Verdict> {
        match GOALS.iter().find(|(fault, _)| *fault == self.fault) {
            Some((_, goals)) => goals.iter().map(|goal| goal.judge(self)).collect(),
            None => vec![Verdict { said: format!("no goals of {:?}", self.fault), fails: true }],
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::super::Moved;
    use super::*;

    /// Trials with these outages.
    fn outages(fault: &str, ms: impl IntoIterator<Item = f64>) -> Outages {
        let trial = |out_ms: f64| Trial {
            target: String::new(),
            out_ms,
            into_ms: 0.0,
            sent: 1000,
            lost: 0,
            broken: 0,
            moved: Some(Moved::default()),
            image: String::new(),
        };
        Outages { fault: fault.to_owned(), trials: ms.into_iter().map(trial).collect() }
    }

    fn said(outages: &Outages) -> Vec<(String, bool)> {
        outages.verdicts().into_iter().map(|verdict| (verdict.said, verdict.fails)).collect()
    }

    #[test]
    fn goals_and_figures_are_told() {
        let most_late = (1..=200).map(|number| if number > 198 { 671.0 } else { 279.0 });
        let expected = [
            ("goal outage p50 <= 300 ms: 279, met".to_owned(), false),
            ("goal outage p99 <= 600 ms: 279, met".to_owned(), false),
        ];
        assert_eq!(said(&outages("gateway killed", most_late)), expected);
    }

    #[test]
    fn of_few_trials_the_longest_is_judged() {
        let one_late = (1..=50).map(|number| if number == 7 { 601.0 } else { 279.0 });
        let expected = ("goal outage most <= 600 ms: 601, missed".to_owned(), true);
        assert_eq!(said(&outages("path cut", one_late))[1], expected);
    }

    #[test]
    fn a_goal_that_fewer_trials_miss_is_only_told() {
        let expected = (
            "goal outage p50 <= 2000 ms: 2500, missed, of 3 trials: 50 are judged".to_owned(),
            false,
        );
        assert_eq!(said(&outages("cluster back after a power cut", [2500.0; 3])), [expected]);
    }

    #[test]
    fn one_lost_packet_is_too_many_in_however_few_trials() {
        let mut outages = outages("DNS away", [50.0; 3]);
        assert_eq!(said(&outages), [("goal lost most <= 0 packets: 0, met".to_owned(), false)]);
        outages.trials[1].lost = 1;
        assert_eq!(said(&outages), [("goal lost most <= 0 packets: 1, missed".to_owned(), true)]);
    }

    #[test]
    fn paths_are_judged_by_when_traffic_left_them_and_what_was_lost_later() {
        let mut outages = outages("path loses 30 %", [50.0; 50]);
        assert!(outages.verdicts().iter().all(|verdict| !verdict.fails));
        outages.trials[4].moved = Some(Moved { after_ms: 3_001.0, lost_after: 1, reordered: 0 });
        let missed: Vec<bool> = outages.verdicts().iter().map(|verdict| verdict.fails).collect();
        assert_eq!(missed, [false, true, true]);
        outages.trials.iter_mut().for_each(|trial| trial.moved = None);
        assert!(outages.verdicts().iter().all(|verdict| verdict.fails), "nothing was measured");
    }

    #[test]
    fn a_fault_that_is_not_listed_fails() {
        let expected = ("no goals of \"gateway kiled\"".to_owned(), true);
        assert_eq!(said(&outages("gateway kiled", [1.0])), [expected]);
    }

    /// What kept trials miss. The documentation says so too, and whoever mends it takes it out of here.
    const MISSED: &[&str] =
        &["path loses 2 % in bursts: goal lost after the move most <= 0 packets: 22, missed"];

    /// The documentation's tables are of these.
    #[test]
    fn kept_trials_meet_all_goals_but_those_that_are_known_to_be_missed() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/trials");
        let (mut files, mut missed) = (0, Vec::new());
        for file in fs::read_dir(folder).expect("kept trials") {
            let path = file.expect("a file").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if !name.ends_with(".json") || name.starts_with("services-") {
                continue;
            }
            let kept: Outages =
                serde_json::from_str(&fs::read_to_string(&path).expect(&name)).expect(&name);
            let failed = kept.verdicts().into_iter().filter(|verdict| verdict.fails);
            missed.extend(failed.map(|verdict| format!("{}: {}", kept.fault, verdict.said)));
            files += 1;
        }
        assert_eq!(missed, MISSED);
        assert!(files > 10, "{files} files");
    }
}
