//! Figures of services that take many trials: printed, and kept beside those of the table of failover.

use carrick_e2e::Lab;
use carrick_e2e::spread::Spread;
use serde_json::json;

use crate::common::{figure, text};
use crate::table::record::folder;
use crate::world::Outcome;

/// Prints the table of what was measured, and writes all trials to a file of this name.
pub fn tell(lab: &Lab, name: &str, spreads: &[Spread]) -> Outcome {
    Spread::head().lines().for_each(figure);
    spreads.iter().for_each(|spread| figure(&spread.row()));
    keep(lab, name, spreads)
}

/// Writes what is known so far, so that a run that is broken off is not lost.
pub fn keep(lab: &Lab, name: &str, spreads: &[Spread]) -> Outcome {
    let (folder, _) = folder()?;
    let lines: Vec<String> = spreads.iter().map(|spread| json!(spread).to_string()).collect();
    let image = json!(text(lab.image_tag())?);
    let all = format!("{{\"image\":{image},\"spreads\":[\n{}\n]}}\n", lines.join(",\n"));
    text(std::fs::write(folder.join(format!("{name}.json")), all))
}
