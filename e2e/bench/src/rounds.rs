//! The rounds: every contestant once in each, on a fresh world, in an order that changes.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, bail};
use carrick_e2e::progress::Progress;
use serde::{Deserialize, Serialize};

use crate::contestant::Tunnel;
use crate::ledger::Ledger;
use crate::machine::busy_share;
use crate::measure::{Figures, Subject, in_words};
use crate::plan::{Contestant, Measure, Plan, Profile};
use crate::programs::Program;
use crate::world::World;

/// How long the machine is looked at before each turn.
const LOOK: Duration = Duration::from_millis(200);
/// Above this share of others, figures suffer.
pub const DISTURBED: f64 = 0.1;

/// The figures of one contestant in one round.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sample {
    /// The underlay.
    pub profile: Profile,
    /// Counted from 0.
    pub round: usize,
    /// Who.
    pub contestant: Contestant,
    /// The share of the processors (0 to 1) that others used just before.
    pub busy: f64,
    /// What came out.
    pub figures: Figures,
    /// What failed, in words: its figures are missing.
    pub failures: Vec<String>,
}

/// Runs the whole plan. A measure that fails is said and kept as a failure; the others go on.
pub fn run(
    plan: &Plan,
    programs: &BTreeMap<Contestant, Program>,
    ledger: &Ledger,
    progress: &Progress,
) -> Vec<Sample> {
    let mut samples = Vec::new();
    if plan.measures.is_empty() {
        return samples;
    }
    let count = plan.rounds * plan.profiles.len() * plan.contestants.len();
    for profile in &plan.profiles {
        for round in 0..plan.rounds {
            for contestant in plan.order(round) {
                let Some(program) = programs.get(&contestant) else { continue };
                let name = format!("{} round {}: {}", profile.name(), round + 1, contestant.name());
                progress.say(&format!("[{}/{count}] {name}", samples.len() + 1));
                let busy = busy_share(LOOK).unwrap_or(f64::NAN);
                if busy > DISTURBED {
                    let percent = 100.0 * busy;
                    progress.say(&format!("    others use {percent:.0} % of the processors"));
                }
                let mut sample = Sample {
                    profile: *profile,
                    round,
                    contestant,
                    busy,
                    figures: Figures::new(),
                    failures: Vec::new(),
                };
                if let Err(error) = one(plan, program, ledger, progress, &mut sample) {
                    fail(&mut sample, progress, &format!("{error:#}"));
                }
                samples.push(sample);
            }
        }
    }
    samples
}

fn one(
    plan: &Plan,
    program: &Program,
    ledger: &Ledger,
    progress: &Progress,
    sample: &mut Sample,
) -> anyhow::Result<()> {
    let world = World::new(sample.profile)?;
    let mut tunnel = Tunnel::start(sample.contestant, program, &world, ledger)?;
    let result = measure(plan, &world, &tunnel, ledger, progress, sample);
    match tunnel.last_words(&world, ledger) {
        Some(words) => bail!("a gateway of {} has ended: {words}", sample.contestant.name()),
        None => result,
    }
}

fn measure(
    plan: &Plan,
    world: &World,
    tunnel: &Tunnel,
    ledger: &Ledger,
    progress: &Progress,
    sample: &mut Sample,
) -> anyhow::Result<()> {
    let (near, far) = world.targets(sample.contestant != Contestant::Plain);
    let subject = Subject { world, tunnel, near, far, ledger, seconds: plan.seconds };
    if plan.measures.contains(&Measure::Memory) {
        sample.figures.extend(subject.memory("rest")?);
    }
    for measure in Measure::ALL.into_iter().filter(|measure| plan.measures.contains(measure)) {
        let said = format!("{}, {}", sample.contestant.name(), measure.name());
        match subject.measure(measure).with_context(|| said) {
            Ok(figures) if figures.is_empty() => {}
            Ok(figures) => {
                progress.say(&format!("    {}: {}", measure.name(), in_words(&figures)));
                sample.figures.extend(figures);
            }
            Err(error) => fail(sample, progress, &format!("{error:#}")),
        }
    }
    Ok(())
}

fn fail(sample: &mut Sample, progress: &Progress, words: &str) {
    progress.say(&format!("    FAILED: {words}"));
    sample.failures.push(words.to_owned());
}
