//! Measures of their own, which have no contestants: what they need, and their rounds.

mod lanes;
pub mod pods;

use std::path::PathBuf;

use anyhow::Context as _;
use carrick_e2e::image::program_alone;
use carrick_e2e::progress::Progress;
use serde::{Deserialize, Serialize};

use crate::ledger::Ledger;
use crate::measure::{Figures, in_words};
use crate::plan::{Apart, Plan};
use crate::programs::Program;

/// The figures of one such measure in one round.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sample {
    /// Which.
    pub measure: Apart,
    /// Counted from 0.
    pub round: usize,
    /// What came out.
    pub figures: Figures,
    /// What failed, in words.
    pub failures: Vec<String>,
}

/// What such measures need.
#[derive(Debug)]
pub struct Tools {
    /// `carrick-lanes`, built as the gateway is; nothing when it isn't asked for.
    lanes: Option<PathBuf>,
    /// Our gateway, when pods are to be compared with it.
    gateway: Option<Program>,
}

impl Tools {
    /// Builds what the plan needs; `gateway` makes our gateway.
    ///
    /// # Errors
    /// When a build fails.
    pub fn ensure(
        plan: &Plan,
        gateway: impl FnOnce() -> anyhow::Result<Program>,
        progress: &Progress,
    ) -> anyhow::Result<Self> {
        let wants = |apart| plan.apart.contains(&apart);
        let lanes = wants(Apart::LanesInMemory);
        let lanes = lanes.then(|| program_alone("carrick-lanes", progress)).transpose()?;
        let gateway = wants(Apart::PodToPod).then(gateway).transpose()?;
        Ok(Self { lanes, gateway })
    }
}

/// Takes all such figures that the plan asks for. What fails is said and kept; the others go on.
pub fn run(plan: &Plan, tools: &Tools, ledger: &Ledger, progress: &Progress) -> Vec<Sample> {
    let mut samples = Vec::new();
    for measure in &plan.apart {
        match measure {
            Apart::LanesInMemory => samples.extend((0..plan.rounds).map(|round| {
                let result = tools.lanes.as_ref().context("carrick-lanes was not built");
                sample(*measure, round, result.and_then(|program| lanes::round(program)), progress)
            })),
            Apart::PodToPod => samples.extend(pod_to_pod(plan, tools, ledger, progress)),
        }
    }
    samples
}

fn pod_to_pod(plan: &Plan, tools: &Tools, ledger: &Ledger, progress: &Progress) -> Vec<Sample> {
    let pods = match pods::Pods::up(progress) {
        Ok(pods) => pods,
        Err(error) => return vec![sample(Apart::PodToPod, 0, Err(error), progress)],
    };
    let round = |round| {
        let gateway = tools.gateway.as_ref().context("the gateway was not built");
        let figures = gateway.and_then(|gateway| pods.round(gateway, ledger, plan.seconds));
        sample(Apart::PodToPod, round, figures, progress)
    };
    (0..plan.rounds).map(round).collect()
}

fn sample(
    measure: Apart,
    round: usize,
    result: anyhow::Result<Figures>,
    progress: &Progress,
) -> Sample {
    let name = format!("{} round {}", measure.name(), round + 1);
    let (figures, failures) = match result {
        Ok(figures) => {
            progress.say(&format!("{name}: {}", in_words(&figures)));
            (figures, Vec::new())
        }
        Err(error) => {
            progress.say(&format!("{name} FAILED: {error:#}"));
            (Figures::new(), vec![format!("{error:#}")])
        }
    };
    Sample { measure, round, figures, failures }
}
