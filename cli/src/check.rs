//! `carrick check`: walks from API access to the data path, names the first thing that is wrong, and
//! its remedy.

mod identity;
mod install;
pub mod peering;

use carrick_crds::Reason;

use crate::causes;
use crate::connect::ConnectError;
use crate::state::{FetchError, Fetched, State};

/// One step of the walk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What was looked at.
    pub name: String,
    /// What was found.
    pub outcome: Outcome,
}

/// What a step found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is well.
    Good(String),
    /// It works, but not as it should.
    Warning(Finding),
    /// It is wrong.
    Wrong(Finding),
    /// It depends on something that is wrong.
    Skipped,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

impl Finding {
    /// A finding.
    pub fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what: what.into(), remedy: remedy.into() }
    }
}

impl From<&FetchError> for Finding {
    fn from(error: &FetchError) -> Self {
        Self::new(error.to_string(), error.remedy())
    }
}

/// What a look at one part of the installation finds.
type Look = fn(&State) -> Outcome;

/// The way from API access to the agents; each step depends on those before it.
const INSTALLATION: [(&str, Look); 6] = [
    ("Kubernetes API", install::api),
    ("Kinds", install::kinds),
    ("Controller", install::controller),
    ("Identity", identity::identity),
    ("Gateways", install::gateways),
    ("Agents", install::agents),
];

/// Walks. After the first step of the installation that is wrong the others are skipped; peerings
/// do not depend on one another.
pub fn diagnose(state: &State) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for (name, look) in INSTALLATION {
        let outcome = if fails(&steps) { Outcome::Skipped } else { look(state) };
        steps.push(Step { name: name.to_owned(), outcome });
    }
    if fails(&steps) {
        steps.push(Step { name: "Peerings".to_owned(), outcome: Outcome::Skipped });
    } else {
        steps.extend(peering::steps(state));
    }
    steps
}

/// The step that stands for a kubeconfig that cannot be used.
pub fn unreadable_kubeconfig(error: &ConnectError) -> Step {
    let finding = Finding::new(causes::join(error), error.remedy());
    Step { name: "Kubernetes API".to_owned(), outcome: Outcome::Wrong(finding) }
}

/// Whether anything is wrong.
pub fn fails(steps: &[Step]) -> bool {
    steps.iter().any(|step| matches!(step.outcome, Outcome::Wrong(_)))
}

/// The walk as text.
pub fn render(steps: &[Step]) -> String {
    let width = steps.iter().map(|step| step.name.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for Step { name, outcome } in steps {
        let (mark, what, remedy) = match outcome {
            Outcome::Good(detail) => ("ok     ", detail.as_str(), None),
            Outcome::Warning(found) => ("warning", found.what.as_str(), Some(&found.remedy)),
            Outcome::Wrong(found) => ("WRONG  ", found.what.as_str(), Some(&found.remedy)),
            Outcome::Skipped => ("skipped", "", None),
        };
        let line = format!("{mark}  {name:width$}  {what}");
        text.push_str(line.trim_end());
        text.push('\n');
        if let Some(remedy) = remedy.filter(|remedy| !remedy.is_empty()) {
            text.push_str(&format!("{:9}{:width$}  do: {remedy}\n", "", ""));
        }
    }
    text.push_str(if fails(steps) { "\nSomething is wrong.\n" } else { "\nAll is well.\n" });
    text
}

/// Looks at what a request found, or says why it failed.
fn look<T>(fetched: &Fetched<T>, at: impl FnOnce(&T) -> Outcome) -> Outcome {
    match fetched {
        Ok(found) => at(found),
        Err(error) => Outcome::Wrong(error.into()),
    }
}

/// The remedy that goes with a condition's reason, if this release knows the reason.
fn remedy(reason: &str) -> String {
    let known = reason.parse::<Reason>().map(Reason::remedy).unwrap_or_default();
    known.to_owned()
}

fn controller_log(state: &State) -> String {
    format!("kubectl -n {} logs deployment/carrick-controller", state.namespace)
}

#[cfg(test)]
mod tests;
