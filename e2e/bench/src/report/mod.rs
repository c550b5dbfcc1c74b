//! What is said at the end: a summary, as JSON, Markdown and a picture.

mod curves;
mod markdown;
mod page;
mod picture;
mod targets;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::apart;
use crate::machine::Machine;
use crate::metric::{self, Metric};
use crate::plan::{Contestant, Plan, Profile};
use crate::rounds::Sample;
use crate::statistics::Spread;

/// Everything that a run gave.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Where it ran.
    pub machine: Machine,
    /// When it began: seconds since 1970.
    pub began: u64,
    /// What was asked for.
    pub plan: Plan,
    /// Which version of each contestant.
    pub versions: BTreeMap<Contestant, String>,
    /// All figures.
    pub samples: Vec<Sample>,
    /// Medians and ranges of them, and of their ratios.
    pub summary: Vec<Row>,
    /// All figures of what has no contestants.
    pub apart: Vec<apart::Sample>,
    /// Medians and ranges of those.
    pub apart_summary: Vec<ApartRow>,
}

/// One figure of what has no contestants.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApartRow {
    /// The figure.
    pub metric: Metric,
    /// Its values.
    pub values: Spread,
}

/// One figure on one underlay, over all contestants.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// The underlay.
    pub profile: Profile,
    /// The figure.
    pub metric: Metric,
    /// Each contestant's, in the plan's order.
    pub values: BTreeMap<Contestant, Spread>,
    /// Ours divided by that of each other one, round by round.
    pub ratios: BTreeMap<Contestant, Spread>,
    /// What is left of the plain path when all but the cipher is done, round by round.
    pub floor_by_plain: Option<Spread>,
}

impl Report {
    /// Summarizes the samples.
    #[must_use]
    pub fn new(
        machine: Machine,
        began: u64,
        plan: Plan,
        versions: BTreeMap<Contestant, String>,
        samples: Vec<Sample>,
        apart: Vec<apart::Sample>,
    ) -> Self {
        let summary = summarize(&plan, &samples);
        let apart_summary = summarize_apart(&plan, &apart);
        Self { machine, began, plan, versions, samples, summary, apart, apart_summary }
    }

    /// What failed, a line each.
    #[must_use]
    pub fn failures(&self) -> Vec<String> {
        let contestants = self.samples.iter().flat_map(|sample| {
            let (who, where_) = (sample.contestant.name(), sample.profile.name());
            let round = sample.round + 1;
            let named = move |words| format!("{who}, underlay {where_}, round {round}: {words}");
            sample.failures.iter().map(move |failure| named(one_line(failure)))
        });
        let apart = self.apart.iter().flat_map(|sample| {
            let (what, round) = (sample.measure.name(), sample.round + 1);
            let named = move |words| format!("{what}, round {round}: {words}");
            sample.failures.iter().map(move |failure| named(one_line(failure)))
        });
        contestants.chain(apart).collect()
    }

    /// Writes `bench-tunnel.json`, `.md` and `.svg` into a folder.
    ///
    /// # Errors
    /// When the folder can't be written.
    pub fn write(&self, folder: &Path) -> anyhow::Result<()> {
        std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        let files = [
            ("bench-tunnel.json", serde_json::to_string_pretty(self)?),
            ("bench-tunnel.md", self.markdown()),
            ("bench-tunnel.svg", self.picture()),
        ];
        for (name, text) in files {
            let path = folder.join(name);
            std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        }
        Ok(())
    }

    /// Reads one that was written.
    ///
    /// # Errors
    /// When there is none, or it is of another version of the bench.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("{} is no report", path.display()))
    }

    /// Adds what another run gave for measures that this one did not take: a long run in parts. Each
    /// figure's rounds are those of the run that it is from, so ratios are still taken inside rounds.
    pub fn join(&mut self, other: Self) {
        let (own, theirs) = (&mut self.plan, other.plan);
        let keys = |sample: &Sample| {
            let profile = sample.profile;
            sample.figures.keys().map(|key| (profile, key.clone())).collect::<Vec<_>>()
        };
        let had: BTreeSet<(Profile, String)> = self.samples.iter().flat_map(keys).collect();
        let had_apart = own.apart.clone();
        for sample in other.samples {
            add(&mut self.samples, sample, &had);
        }
        let fresh = other.apart.into_iter().filter(|sample| !had_apart.contains(&sample.measure));
        self.apart.extend(fresh);
        // A run of only what has no contestants had none.
        if !theirs.measures.is_empty() {
            unite(&mut own.contestants, theirs.contestants);
            unite(&mut own.profiles, theirs.profiles);
        }
        unite(&mut own.measures, theirs.measures);
        unite(&mut own.apart, theirs.apart);
        own.rounds = own.rounds.max(theirs.rounds);
        for (contestant, version) in other.versions {
            self.versions.entry(contestant).or_insert(version);
        }
        self.summary = summarize(&self.plan, &self.samples);
        self.apart_summary = summarize_apart(&self.plan, &self.apart);
    }

    /// One figure on one underlay.
    #[must_use]
    pub fn row(&self, profile: Profile, key: &str) -> Option<&Row> {
        self.summary.iter().find(|row| row.profile == profile && row.metric.key == key)
    }

    /// Writes it into `benchmarks.md` and `.svg` in a folder.
    ///
    /// # Errors
    /// When there is no such page, or it can't be written.
    pub fn write_page(&self, folder: &Path) -> anyhow::Result<()> {
        page::write(self, folder)
    }

    /// As Markdown.
    #[must_use]
    pub fn markdown(&self) -> String {
        markdown::render(self)
    }

    /// As SVG.
    #[must_use]
    pub fn picture(&self) -> String {
        picture::render(self)
    }
}

fn summarize(plan: &Plan, samples: &[Sample]) -> Vec<Row> {
    let metrics: Vec<Metric> = plan.measures.iter().copied().flat_map(metric::of).collect();
    let mut rows = Vec::new();
    for profile in &plan.profiles {
        let on_it: Vec<&Sample> = samples.iter().filter(|s| s.profile == *profile).collect();
        for metric in &metrics {
            let row = row(*profile, metric, &plan.contestants, &on_it);
            rows.extend((!row.values.is_empty()).then_some(row));
        }
    }
    rows
}

/// Adds a sample's figures to those of the same turn, but for figures that were `had` already on that
/// underlay.
fn add(samples: &mut Vec<Sample>, mut sample: Sample, had: &BTreeSet<(Profile, String)>) {
    let same = |own: &&mut Sample| {
        (own.profile, own.round, own.contestant)
            == (sample.profile, sample.round, sample.contestant)
    };
    match samples.iter_mut().find(same) {
        None => samples.push(sample),
        Some(own) => {
            sample.figures.retain(|key, _| !had.contains(&(sample.profile, key.clone())));
            own.figures.append(&mut sample.figures);
            own.failures.append(&mut sample.failures);
            own.busy = own.busy.max(sample.busy);
        }
    }
}

fn unite<T: Ord>(own: &mut Vec<T>, theirs: Vec<T>) {
    own.extend(theirs);
    own.sort_unstable();
    own.dedup();
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn summarize_apart(plan: &Plan, samples: &[apart::Sample]) -> Vec<ApartRow> {
    let metrics = plan.apart.iter().copied().flat_map(metric::of_apart);
    metrics
        .filter_map(|metric| {
            let values = samples.iter().filter_map(|s| s.figures.get(&metric.key).copied());
            Some(ApartRow { values: Spread::of(values)?, metric })
        })
        .collect()
}

fn row(profile: Profile, metric: &Metric, contestants: &[Contestant], samples: &[&Sample]) -> Row {
    let of = |contestant: Contestant| -> BTreeMap<usize, f64> {
        let own = samples.iter().filter(|sample| sample.contestant == contestant);
        own.filter_map(|s| Some((s.round, *s.figures.get(&metric.key)?))).collect()
    };
    let by = |one: &BTreeMap<usize, f64>, other: &BTreeMap<usize, f64>| {
        // Only rounds that have both: what ran hours apart is not compared.
        Spread::of(one.iter().filter_map(|(round, value)| Some(value / other.get(round)?)))
    };
    let ours = of(Contestant::Carrick);
    let mut row = Row {
        profile,
        metric: metric.clone(),
        values: BTreeMap::new(),
        ratios: BTreeMap::new(),
        floor_by_plain: by(&of(Contestant::Floor), &of(Contestant::Plain)),
    };
    for contestant in contestants {
        let theirs = of(*contestant);
        row.values.extend(Spread::of(theirs.values().copied()).map(|spread| (*contestant, spread)));
        if *contestant != Contestant::Carrick {
            row.ratios.extend(by(&ours, &theirs).map(|spread| (*contestant, spread)));
        }
    }
    row
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::plan::{Apart, Measure};

    /// A report of two rounds, in the second of which wireguard-go failed.
    pub(crate) fn report() -> Report {
        let plan = Plan {
            contestants: vec![Contestant::Plain, Contestant::Carrick, Contestant::WireguardGo],
            profiles: vec![Profile::Segmentation],
            measures: vec![Measure::Tcp1],
            apart: vec![Apart::LanesInMemory],
            rounds: 2,
            seconds: 3,
        };
        let sample = |round, contestant, speed: Option<f64>| Sample {
            profile: Profile::Segmentation,
            round,
            contestant,
            busy: 0.25,
            figures: speed.into_iter().map(|speed| ("tcp1.there".to_owned(), speed)).collect(),
            failures: if speed.is_none() { vec!["it <crashed>".into()] } else { vec![] },
        };
        let samples = vec![
            sample(0, Contestant::Plain, Some(15.0)),
            sample(0, Contestant::Carrick, Some(3.0)),
            sample(0, Contestant::WireguardGo, Some(1.5)),
            sample(1, Contestant::Carrick, Some(4.0)),
            sample(1, Contestant::WireguardGo, None),
            sample(1, Contestant::Plain, Some(16.0)),
        ];
        let machine = Machine {
            cores: 2,
            cpu: "Some CPU".into(),
            features: vec!["avx2".into()],
            kernel: "6.18".into(),
            load: "0.1".into(),
        };
        let versions = plan.contestants.iter().map(|one| (*one, "1.0".to_owned())).collect();
        let apart = [1.9, 1.95].into_iter().enumerate().map(|(round, ratio)| apart::Sample {
            measure: Apart::LanesInMemory,
            round,
            figures: [("lanes.seal.ratio".to_owned(), ratio)].into(),
            failures: if round == 1 { vec!["it\nbroke".into()] } else { vec![] },
        });
        Report::new(machine, 1_700_000_000, plan, versions, samples, apart.collect())
    }

    #[test]
    fn ratios_are_taken_inside_rounds() {
        let report = report();
        let [row] = &report.summary[..] else { panic!("{:?}", report.summary) };
        assert_eq!(row.values[&Contestant::Carrick].median, 3.5);
        assert_eq!(row.values[&Contestant::WireguardGo].count, 1);
        // The round in which the other failed counts for nothing: 3.0 / 1.5, not 3.5 / 1.5.
        assert_eq!(row.ratios[&Contestant::WireguardGo].median, 2.0);
        assert_eq!(row.ratios[&Contestant::Plain].count, 2);
        assert!(!row.ratios.contains_key(&Contestant::Carrick));
        let [apart] = &report.apart_summary[..] else { panic!("{:?}", report.apart_summary) };
        assert_eq!((apart.values.min, apart.values.count), (1.9, 2));
        assert_eq!(report.failures().len(), 2);
    }

    #[test]
    fn a_run_in_parts_is_one() {
        let (mut one, mut other) = (report(), report());
        other.plan.measures = vec![Measure::Rtt];
        other.samples.truncate(3);
        for sample in &mut other.samples {
            sample.figures = [("rtt.p99".to_owned(), 2.0), ("tcp1.there".to_owned(), 99.0)].into();
        }
        one.join(other);
        assert_eq!(one.plan.measures, [Measure::Rtt, Measure::Tcp1]);
        let row = |key| one.row(Profile::Segmentation, key).expect(key);
        assert_eq!(row("tcp1.there").values[&Contestant::Carrick].median, 3.5);
        assert_eq!(row("rtt.p99").ratios[&Contestant::WireguardGo].median, 1.0);
        assert_eq!(one.samples.len(), 6);
        let mut apart = report();
        (apart.plan.measures, apart.samples) = (vec![], vec![]);
        apart.plan.contestants = Contestant::ALL.to_vec();
        one.join(apart);
        assert_eq!(one.plan.contestants.len(), 3);
    }

    #[test]
    fn three_files_are_written() {
        let folder = tempfile::tempdir().expect("a folder");
        report().write(&folder.path().join("new")).expect("written");
        let read =
            |name: &str| std::fs::read_to_string(folder.path().join("new").join(name)).expect(name);
        let json: serde_json::Value =
            serde_json::from_str(&read("bench-tunnel.json")).expect("JSON");
        assert_eq!(json["samples"][1]["figures"]["tcp1.there"], 3.0);
        assert_eq!(json["summary"][0]["values"]["carrick"]["median"], 3.5);
        let path = folder.path().join("new/bench-tunnel.json");
        let mut again = Report::read(&path).expect("read again");
        assert_eq!(again.summary, report().summary);
        (again.plan.apart, again.apart) = (vec![], vec![]);
        again.join(report());
        again.join(report());
        assert_eq!((again.apart_summary, again.apart.len()), (report().apart_summary, 2));
        assert!(read("bench-tunnel.md").contains("3.50 (3.00–4.00)"));
        assert!(read("bench-tunnel.svg").starts_with("<svg"));
    }
}
