//! The lab that all cases share: made by the first that needs it, removed at the end.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use carrick_e2e::lock::Lock;
use carrick_e2e::progress::Progress;
use carrick_e2e::standstill::Watch;
use carrick_e2e::{Family, Lab, LabSpec, probes};
use carrick_wan::Stats;

use crate::aftermath;
use crate::common::figure;

/// What a case gives back: what it found wrong, in words.
pub type Outcome = Result<(), String>;

/// A case.
pub type Case = fn(&Lab) -> Outcome;

/// Names a lab that is used instead, and stays: for work on a case.
const KEPT: &str = "CARRICK_TEST_LAB";

/// A machine that gives no turn for so long is none on which gateways and nodes can be judged.
const STOOD_STILL: Duration = Duration::from_millis(200);

/// What cases stand on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ground {
    /// Two clusters with IPv4.
    Usual,
    /// Three clusters with IPv4 and IPv6.
    ThreeOfBothFamilies,
}

impl Ground {
    fn spec(self, name: &str) -> LabSpec {
        let usual = LabSpec { name: name.to_owned(), ..LabSpec::default() };
        match self {
            Self::Usual => usual,
            Self::ThreeOfBothFamilies => LabSpec { clusters: 3, family: Family::Dual, ..usual },
        }
    }
}

enum World {
    Unmade,
    // The claim goes last: until all of the lab is removed, no other run may take it up.
    Up { lab: Lab, before: Option<Stats>, ground: Ground, _claim: Lock },
    Failed(String),
}

static WORLD: Mutex<World> = Mutex::new(World::Unmade);

/// What failed so far, in a few words each.
static FAILURES: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Runs a case on the lab.
pub fn with(case: impl FnOnce(&Lab) -> Outcome) -> Outcome {
    with_ground(Ground::Usual, case)
}

/// Runs a case on a lab of three clusters that have both address families.
pub fn with_three_of_both_families(case: impl FnOnce(&Lab) -> Outcome) -> Outcome {
    with_ground(Ground::ThreeOfBothFamilies, case)
}

/// There is one lab at a time: one of the other kind goes first.
fn with_ground(wanted: Ground, case: impl FnOnce(&Lab) -> Outcome) -> Outcome {
    let mut world = WORLD.lock().unwrap_or_else(PoisonError::into_inner);
    if matches!(&*world, World::Up { ground, .. } if *ground != wanted) {
        *world = World::Unmade;
    }
    if matches!(*world, World::Unmade) {
        *world = match make(wanted) {
            Ok((lab, claim)) => {
                let before = lab.wan().stats().ok();
                World::Up { lab, before, ground: wanted, _claim: claim }
            }
            Err(error) => World::Failed(error),
        };
    }
    match &*world {
        World::Up { lab, .. } => {
            // Said with the figures as well: what follows all cases is long, and of a long output people see parts.
            case(lab).map_err(|error| {
                figure(&format!("failed: {error}"));
                format!("{error}{}", aftermath::of(lab))
            })
        }
        World::Failed(error) => Err(format!("there is no lab: {error}")),
        World::Unmade => Err("the lab was not made".to_owned()),
    }
}

/// The same for a case of the usual run; what fails is said once more after all.
pub fn named(name: &str, case: Case) -> Outcome {
    steadily(case).inspect_err(|error| {
        let found = error.split(aftermath::BEGINS).next().unwrap_or_default();
        let mut failures = FAILURES.lock().unwrap_or_else(PoisonError::into_inner);
        failures.push(format!("{name}: {}", found.replace('\n', " ")));
    })
}

/// Runs a case on the lab, and once more where it failed and the machine stood still meanwhile: nodes leave a gateway
/// that gives no sign of life for 300 ms, whoever's fault that is, and where it is the only one packets are refused.
fn steadily(case: Case) -> Outcome {
    with(|lab| {
        let watch = Watch::start();
        let outcome = case(lab);
        let longest = watch.end();
        match outcome {
            Err(error) if longest >= STOOD_STILL => {
                figure(&format!(
                    "the machine stood still for {} ms; again, after: {error}",
                    longest.as_millis()
                ));
                case(lab)
            }
            other => other,
        }
    })
}

/// Removes the lab, which says what its WAN emulator lost; of a lab that stays, says what it lost since
/// the first case: all figures of loss are to be judged by that.
pub fn end() {
    let mut world = WORLD.lock().unwrap_or_else(PoisonError::into_inner);
    if let World::Up { lab, before: Some(before), .. } = &*world
        && std::env::var_os(KEPT).is_some()
    {
        let verdict = lab.wan().stats().map(|now| now.unintended_since(before).verdict());
        let said = verdict.unwrap_or_else(|error| format!("no counters: {error}"));
        println!("lab {}: {said}", lab.spec().name);
    }
    *world = World::Unmade;
    // Last of all: of a long output the end is what is kept.
    for failure in FAILURES.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
        println!("failed: {failure}");
    }
}

fn make(ground: Ground) -> Result<(Lab, Lock), String> {
    let progress = Progress::default();
    let kept = std::env::var(KEPT).ok();
    let spec = ground.spec(kept.as_deref().unwrap_or("test"));
    let said = |error: carrick_e2e::Error| error.to_string();
    let claim = Lab::claim(&spec.name).map_err(said)?;
    let lab = match kept {
        Some(_) => Lab::up(&spec, &progress),
        None => own(&spec, &progress),
    };
    let lab = lab.map_err(said)?;
    for cluster in lab.clusters() {
        probes::start(&cluster, &tag(&lab)?).map_err(said)?;
    }
    Ok((lab, claim))
}

fn own(spec: &LabSpec, progress: &Progress) -> carrick_e2e::Result<Lab> {
    // A guard before the first step: a failed start is removed as well.
    let lab = Lab::up(spec, progress).inspect_err(|_| {
        if let Err(error) = Lab::down(&spec.name, progress) {
            progress.say(&format!("the failed lab was not removed: {error}"));
        }
    });
    lab.map(Lab::remove_on_drop)
}

fn tag(lab: &Lab) -> Result<String, String> {
    lab.image_tag().map_err(|error| error.to_string())
}
