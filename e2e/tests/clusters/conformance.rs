//! The project's own conformance suite of the Multi-Cluster Services API (KEP-1645), on three real clusters with both
//! address families, and its report. Not part of the usual tests, as it takes minutes: `cargo conformance`, or `cargo drills conformance::CASE` for some of it.

mod beyond;
mod conflicts;
mod ground;
mod imports;
mod list;
mod names;
mod objects;
mod several;
mod side;
mod traffic;

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use carrick_e2e::cluster::Cluster;
use carrick_e2e::conformance::{Finding, Report, Totals, Verdict};
use carrick_e2e::{Lab, carrick};
use libtest_mimic::{Completion, Failed, Trial};

use crate::common::{change_peering, figure, install, ready, rolled_out, text};
use crate::services::names::{named, serve_names};
use crate::services::share;
use crate::world::{self, Outcome};
use ground::{Ground, Seen};
use list::{ALL, Behaviour};
use side::Side;

/// What a run knows so far; nothing before its first case.
static RUN: Mutex<Option<Run>> = Mutex::new(None);

struct Run {
    /// Clusters that share everything and have names, or why there are none.
    prepared: Result<(), String>,
    report: Report,
}

/// A case for each behaviour.
pub fn trials() -> impl Iterator<Item = Trial> {
    ALL.iter().enumerate().map(|(index, behaviour)| {
        let run = move || judge(index, behaviour);
        Trial::ignorable_test(behaviour.case, run).with_ignored_flag(true)
    })
}

/// Says how the run ended, if there was one.
pub fn end() {
    let run = RUN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(run) = &*run {
        figure(&format!("{}: {}", run.report.totals.headline(), folder().display()));
    }
}

/// Looks at a behaviour, and keeps what came of it.
fn judge(index: usize, behaviour: &Behaviour) -> Result<Completion, Failed> {
    let mut seen = None;
    let mut seconds = 0.0;
    let outcome = world::with_three_of_both_families(|lab| {
        prepared(lab)?;
        let start = Instant::now();
        let looked = look(lab, index + 1, behaviour);
        seconds = start.elapsed().as_secs_f64();
        seen = Some(looked?);
        Ok(())
    });
    let (verdict, reason) = match (&outcome, seen) {
        (Err(error), _) => (Verdict::Failed, Some(error.clone())),
        (Ok(()), Some(Seen::All)) => (Verdict::Passed, None),
        (Ok(()), Some(Seen::TooLittle(why))) => (Verdict::Skipped, Some(why.to_owned())),
        (Ok(()), None) => (Verdict::Skipped, Some("nothing was looked at".to_owned())),
    };
    keep(index, verdict, reason.clone(), seconds)?;
    outcome?;
    match (verdict, reason) {
        (Verdict::Skipped, reason) => Ok(Completion::ignored_with(reason.unwrap_or_default())),
        _ => Ok(Completion::Completed),
    }
}

/// Looks at a behaviour in namespaces of its own, which are gone afterwards.
fn look(lab: &Lab, number: usize, behaviour: &Behaviour) -> Result<Seen, String> {
    let (namespace, tag) = (format!("conformance-{number}"), text(lab.image_tag())?);
    let [paris, osaka, lima] = ["paris", "osaka", "lima"].map(|name| text(lab.cluster(name)));
    let lima = lima?;
    let ground = Ground {
        paris: Side::begin(&paris?, &namespace, &tag)?,
        osaka: Side::begin(&osaka?, &namespace, &tag)?,
        third: Box::new(move || Side::begin(&lima, &namespace, &tag)),
    };
    let seen = (behaviour.look)(&ground);
    let ended = ground.everywhere(Side::end);
    let seen = seen?;
    ended.map(|()| seen)
}

/// Has the clusters share all namespaces and serve the zone, once a run.
fn prepared(lab: &Lab) -> Outcome {
    let mut run = RUN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(run) = &*run {
        return run.prepared.clone();
    }
    let report = blank(lab, &text(lab.cluster("paris"))?)?;
    let prepared = all_share_all(lab);
    *run = Some(Run { prepared: prepared.clone(), report });
    prepared
}

/// The two clusters of most behaviours, and the third, each with each.
fn all_share_all(lab: &Lab) -> Outcome {
    let (paris, osaka) = named(lab)?;
    let lima = text(lab.cluster("lima"))?;
    install(lab, &lima)?;
    rolled_out(&lima)?;
    for other in [&paris, &osaka] {
        text(carrick::peer(other, &lima))?;
    }
    for other in [&paris, &osaka] {
        ready(other, &lima)?;
    }
    share(lab, &[&lima])?;
    serve_names(&lima)?;
    let all = r#"{"spec":{"services":{"export":["*"],"import":["*"]}}}"#;
    for (cluster, peers) in
        [(&paris, ["osaka", "lima"]), (&osaka, ["paris", "lima"]), (&lima, ["paris", "osaka"])]
    {
        for peer in peers {
            change_peering(cluster, peer, all)?;
        }
    }
    Ok(())
}

/// A report in which nothing was run.
fn blank(lab: &Lab, cluster: &Cluster) -> Result<Report, String> {
    let versions = text(cluster.kubectl_json(&["version"]))?;
    let kubernetes =
        versions["serverVersion"]["gitVersion"].as_str().unwrap_or("unknown").to_owned();
    let finding = |(index, behaviour): (usize, &Behaviour)| Finding {
        number: index + 1,
        case: behaviour.case.to_owned(),
        level: behaviour.level,
        behaviour: behaviour.text.to_owned(),
        reference: behaviour.reference.to_owned(),
        verdict: Verdict::NotRun,
        reason: None,
        seconds: 0.0,
    };
    let behaviours: Vec<Finding> = ALL.iter().enumerate().map(finding).collect();
    Ok(Report {
        date: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        kubernetes,
        carrick: format!("{}, images {}", env!("CARGO_PKG_VERSION"), text(lab.image_tag())?),
        dns: dns(),
        totals: Totals::of(&behaviours),
        behaviours,
    })
}

/// The DNS server that labs are built with.
fn dns() -> String {
    const MODULES: &str = include_str!("../../parts/go.mod");
    let version =
        MODULES.lines().find_map(|line| line.trim().strip_prefix("github.com/coredns/coredns "));
    format!("CoreDNS {}", version.unwrap_or("of an unknown version"))
}

/// Keeps what came of a behaviour, and writes the report: a run that is broken off is not lost.
fn keep(index: usize, verdict: Verdict, reason: Option<String>, seconds: f64) -> Outcome {
    let mut run = RUN.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(run) = &mut *run else { return Ok(()) };
    let report = &mut run.report;
    let Some(finding) = report.behaviours.get_mut(index) else { return Ok(()) };
    // What the clusters looked like afterwards is for the run's own output.
    let short = |reason: String| reason.lines().next().unwrap_or_default().to_owned();
    (finding.verdict, finding.reason) = (verdict, reason.map(short));
    finding.seconds = (seconds * 10.0).round() / 10.0;
    report.totals = Totals::of(&report.behaviours);
    let folder = folder();
    text(std::fs::create_dir_all(&folder))?;
    let yaml = text(serde_yaml::to_string(&report))?;
    text(std::fs::write(folder.join("conformance.yaml"), yaml))?;
    text(std::fs::write(folder.join("conformance.md"), report.markdown()))
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).with_file_name("conformance")
}
