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

/// What earlier runs have kept under this name, where a run adds to them; else nothing of these yet.
pub fn earlier(name: &str, new: Vec<Spread>) -> Result<Vec<Spread>, String> {
    let (folder, goes_on) = folder()?;
    let file = folder.join(format!("{name}.json"));
    if !goes_on || !file.exists() {
        return Ok(new);
    }
    let bad = |why: String| format!("{} holds no figures of this: {why}", file.display());
    let kept: serde_json::Value = serde_json::from_str(&text(std::fs::read_to_string(&file))?)
        .map_err(|error| bad(error.to_string()))?;
    let kept: Vec<Spread> =
        serde_json::from_value(kept["spreads"].clone()).map_err(|error| bad(error.to_string()))?;
    let names = |all: &[Spread]| all.iter().map(|one| one.what.clone()).collect::<Vec<_>>();
    let (found, wanted) = (names(&kept), names(&new));
    if found == wanted { Ok(kept) } else { Err(bad(format!("{found:?} instead of {wanted:?}"))) }
}

/// Writes what is known so far, so that a run that is broken off is not lost.
pub fn keep(lab: &Lab, name: &str, spreads: &[Spread]) -> Outcome {
    let (folder, _) = folder()?;
    let lines: Vec<String> = spreads.iter().map(|spread| json!(spread).to_string()).collect();
    let image = json!(text(lab.image_tag())?);
    let all = format!("{{\"image\":{image},\"spreads\":[\n{}\n]}}\n", lines.join(",\n"));
    text(std::fs::write(folder.join(format!("{name}.json")), all))
}
