//! `carrick status`: a report made of what was found, and its texts.

mod report;
mod text;

use anyhow::{Context as _, Result};

use crate::args::Output;

pub use report::{ConditionReport, Report, condition_report, report};

/// The report as the person wants it.
pub fn render(report: &Report, output: Output) -> Result<String> {
    match output {
        Output::Table => Ok(text::table(report)),
        Output::Json => {
            let json = serde_json::to_string_pretty(report).context("write the report as JSON")?;
            Ok(json + "\n")
        }
        Output::Yaml => serde_yaml::to_string(report).context("write the report as YAML"),
    }
}

#[cfg(test)]
mod tests;
