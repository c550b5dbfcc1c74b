//! What a run of the conformance suite of the Multi-Cluster Services API found, for people and for the record.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

/// So many behaviours count; what is looked at beyond them does not.
pub const COUNTED: usize = 27;

/// Whether an implementation must behave so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Level {
    /// It must.
    Required,
    /// It may do without, and says so.
    Optional,
    /// Not among those that count: what Carrick promises besides.
    Beyond,
}

/// What became of a behaviour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// It was seen.
    Passed,
    /// Something else was seen.
    Failed,
    /// It could not be judged where it ran.
    Skipped,
    /// Nobody looked.
    NotRun,
}

impl Verdict {
    fn words(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "**failed**",
            Self::Skipped => "**skipped**",
            Self::NotRun => "**not run**",
        }
    }
}

/// One behaviour.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// Its number, from 1.
    pub number: usize,
    /// The case that looks at it: `conformance::…`.
    pub case: String,
    /// Whether it is required.
    pub level: Level,
    /// What has to hold, for a person.
    pub behaviour: String,
    /// Where that is said.
    pub reference: String,
    /// What became of it.
    pub verdict: Verdict,
    /// Why it did not pass, or what of it these clusters cannot show.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How long that took, in seconds.
    pub seconds: f64,
}

/// How many of the behaviours that count had which end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Totals {
    /// [`COUNTED`].
    pub of: usize,
    /// Those that were seen.
    pub passed: usize,
    /// Those that were not.
    pub failed: usize,
    /// Those that could not be judged.
    pub skipped: usize,
    /// Those that nobody looked at.
    pub not_run: usize,
}

/// A run of the suite.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// When it began, as RFC 3339 says.
    pub date: String,
    /// The clusters' Kubernetes version.
    pub kubernetes: String,
    /// Carrick's version, and the tag of its images.
    pub carrick: String,
    /// The clusters' DNS server.
    pub dns: String,
    /// Of the behaviours that count.
    pub totals: Totals,
    /// All behaviours, in their order.
    pub behaviours: Vec<Finding>,
}

impl Totals {
    /// Counts what counts.
    #[must_use]
    pub fn of(findings: &[Finding]) -> Self {
        let count = |verdict| {
            let counts = |one: &&Finding| one.level != Level::Beyond && one.verdict == verdict;
            findings.iter().filter(counts).count()
        };
        let [passed, failed, skipped] =
            [Verdict::Passed, Verdict::Failed, Verdict::Skipped].map(count);
        let not_run = COUNTED.saturating_sub(passed + failed + skipped);
        Self { of: COUNTED, passed, failed, skipped, not_run }
    }

    /// The whole in a line.
    #[must_use]
    pub fn headline(&self) -> String {
        let Self { of, passed, failed, skipped, not_run } = self;
        format!("{passed} of {of} passed, {failed} failed, {skipped} skipped, {not_run} not run")
    }
}

impl Report {
    /// The report as a page.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut page = format!(
            "# Conformance: Multi-Cluster Services API\n\n\
             **{}**, on dual-stack clusters, by `cargo conformance`, the project's own suite. It follows KEP-1645 and its DNS\n\
             specification; the same as data: [conformance.yaml](conformance.yaml).\n\n\
             | | |\n|---|---|\n| Date | {} |\n| Kubernetes | {} |\n| Carrick | {} |\n| DNS | {} |\n",
            self.totals.headline(),
            self.date,
            self.kubernetes,
            self.carrick,
            self.dns,
        );
        for (level, title) in [
            (Level::Required, "Required"),
            (Level::Optional, "Optional"),
            (Level::Beyond, "Beyond these, and not counted"),
        ] {
            let _ = write!(
                page,
                "\n## {title}\n\n| | behaviour | | s | said in | case |\n|---|---|---|---|---|---|\n"
            );
            let of = self.behaviours.iter().filter(|finding| finding.level == level);
            of.for_each(|finding| page.push_str(&row(finding)));
        }
        page
    }
}

fn row(finding: &Finding) -> String {
    let Finding { number, behaviour, reference, seconds, case, .. } = finding;
    let reason = finding.reason.as_deref().map(in_cell).unwrap_or_default();
    let verdict = finding.verdict.words();
    format!(
        "| {number} | {behaviour} | {verdict}{reason} | {seconds:.1} | {reference} | `{case}` |\n"
    )
}

/// What a cell of a table may hold: one line of bounded length.
fn in_cell(reason: &str) -> String {
    const MOST: usize = 300;
    let line = reason.lines().next().unwrap_or_default();
    let shown: String = line.chars().take(MOST).collect();
    format!(": {}", shown.replace('|', "\\|"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(number: usize, level: Level, verdict: Verdict) -> Finding {
        Finding {
            number,
            case: format!("conformance::case_{number}"),
            level,
            behaviour: "It works.".to_owned(),
            reference: "KEP".to_owned(),
            verdict,
            reason: (verdict == Verdict::Failed).then(|| "a|b\nmore".to_owned()),
            seconds: 1.0,
        }
    }

    fn all(verdict: impl Fn(usize) -> Verdict) -> Vec<Finding> {
        (1..=COUNTED).map(|number| finding(number, Level::Required, verdict(number))).collect()
    }

    #[test]
    fn all_pass_only_when_all_were_run_and_passed() {
        let whole = Totals::of(&all(|_| Verdict::Passed)).headline();
        assert_eq!(whole, "27 of 27 passed, 0 failed, 0 skipped, 0 not run");
        for other in [Verdict::Failed, Verdict::Skipped, Verdict::NotRun] {
            let one = |number| if number == 9 { other } else { Verdict::Passed };
            let mut findings = all(one);
            // What does not count cannot make up for it.
            findings.push(finding(28, Level::Beyond, Verdict::Passed));
            let totals = Totals::of(&findings);
            assert_eq!((totals.passed, totals.of), (26, 27), "{other:?}");
        }
        assert_eq!(Totals::of(&[]).not_run, 27);
    }

    #[test]
    fn a_page_shows_each_with_its_reason_and_the_data_reads_back() {
        let behaviours = vec![
            finding(1, Level::Required, Verdict::Failed),
            finding(2, Level::Optional, Verdict::NotRun),
        ];
        let report = Report {
            date: "2026-01-01T00:00:00Z".to_owned(),
            kubernetes: "v1".to_owned(),
            carrick: "0".to_owned(),
            dns: "CoreDNS".to_owned(),
            totals: Totals::of(&behaviours),
            behaviours,
        };
        let page = report.markdown();
        assert!(page.contains("**0 of 27 passed, 1 failed, 0 skipped, 26 not run**"), "{page}");
        assert!(page.contains("| 1 | It works. | **failed**: a\\|b | 1.0 |"), "{page}");
        assert!(page.contains("| 2 | It works. | **not run** |"), "{page}");
        let yaml = serde_yaml::to_string(&report).expect("YAML");
        assert_eq!(serde_yaml::from_str::<Report>(&yaml).expect("the same"), report);
    }
}
