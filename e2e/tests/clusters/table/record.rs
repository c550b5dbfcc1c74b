//! The trials of one fault: how many are wanted, what earlier runs left, and what is printed and kept of each.

use std::path::{Path, PathBuf};

use carrick_e2e::Lab;
use carrick_e2e::outages::{Outages, Trial};

use crate::common::{figure, text};
use crate::world::Outcome;

/// How many trials of each fault, if not [`TRIALS`].
const TRIALS_VARIABLE: &str = "CARRICK_TRIALS";
const TRIALS: usize = 10;

/// A folder, from the top of the repository where it is relative, with what earlier runs measured: only trials that are
/// missing there are made, and added.
const KEPT_VARIABLE: &str = "CARRICK_TRIALS_KEPT";

/// All trials of one fault.
pub struct Record {
    outages: Outages,
    wanted: usize,
    folder: PathBuf,
    image: String,
}

/// How many trials are asked for.
pub fn wanted() -> Result<usize, String> {
    match std::env::var(TRIALS_VARIABLE) {
        Ok(count) => count.parse().map_err(|error| format!("{TRIALS_VARIABLE}={count}: {error}")),
        Err(_) => Ok(TRIALS),
    }
}

/// Where trials are kept, and whether a run adds to those of earlier ones.
pub fn folder() -> Result<(PathBuf, bool), String> {
    let (folder, goes_on) = match std::env::var_os(KEPT_VARIABLE) {
        // A test runs in its package's folder, and not where cargo was called.
        Some(folder) => (Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).join(folder), true),
        None => (PathBuf::from(env!("CARGO_TARGET_TMPDIR")).with_file_name("drills"), false),
    };
    text(std::fs::create_dir_all(&folder))?;
    Ok((folder, goes_on))
}

impl Record {
    /// Of a fault, with the trials that earlier runs left where that is asked for.
    pub fn open(lab: &Lab, fault: &str) -> Result<Self, String> {
        let (folder, goes_on) = folder()?;
        let mut record = Self {
            outages: Outages { fault: fault.to_owned(), trials: Vec::new() },
            wanted: wanted()?,
            folder,
            image: text(lab.image_tag())?,
        };
        let file = record.file("json");
        if goes_on && file.exists() {
            let kept = text(std::fs::read_to_string(&file))?;
            record.outages = serde_json::from_str(&kept)
                .map_err(|error| format!("{} holds no trials: {error}", file.display()))?;
        }
        Ok(record)
    }

    /// The number of the next trial, until there are as many as wanted.
    pub fn next(&self) -> Option<usize> {
        Some(self.outages.trials.len()).filter(|number| *number < self.wanted)
    }

    /// Prints a trial, and writes what is known so far, so that a run that is broken off is not lost.
    pub fn add(&mut self, trial: Trial) -> Outcome {
        let trial = Trial { image: self.image.clone(), ..trial };
        let moved = trial.moved.map_or_else(String::new, |moved| {
            format!(
                ", moved after {:.0} ms, lost later {}, overtaken {}",
                moved.after_ms, moved.lost_after, moved.reordered
            )
        });
        figure(&format!(
            "{:>3}/{} {}: {}: out {:.0} ms, in {:.0} ms, lost {} of {}, TCP broken {}{moved}",
            self.outages.trials.len() + 1,
            self.wanted,
            self.outages.fault,
            trial.target,
            trial.out_ms,
            trial.into_ms,
            trial.lost,
            trial.sent,
            trial.broken
        ));
        self.outages.trials.push(trial);
        text(std::fs::write(self.file("json"), self.outages.json()))?;
        text(std::fs::write(self.file("svg"), self.outages.svg()))
    }

    /// Prints what all trials say and which goals they meet, and gives them.
    pub fn told(self) -> Outages {
        let row = format!("{}\n{}", Outages::head(), self.outages.row());
        for line in row.lines().chain(self.outages.moves().unwrap_or_default().lines()) {
            figure(line);
        }
        for verdict in self.outages.verdicts() {
            figure(&verdict.said);
        }
        self.outages
    }

    fn file(&self, extension: &str) -> PathBuf {
        let name = self.outages.fault.replace([' ', '\'', ',', '%'], "-");
        self.folder.join(format!("{name}.{extension}"))
    }
}
