//! Two lanes on two cores against one on one, packets in memory: by `carrick-lanes`, which is built as
//! the gateway is.

use std::path::Path;
use std::process::Command;

use anyhow::Context as _;
use carrick_e2e::run::run;
use serde_json::Value;

use crate::measure::Figures;

/// One round.
///
/// # Errors
/// When the program fails: it needs two cores.
pub(super) fn round(program: &Path) -> anyhow::Result<Figures> {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).arg(program).args(["--rounds", "1", "--json"]);
    figures(&run(&mut command)?)
}

/// The figures of what the program said.
fn figures(said: &str) -> anyhow::Result<Figures> {
    let rounds: Value = serde_json::from_str(said).context("reading what carrick-lanes said")?;
    let mut figures = Figures::new();
    for side in ["seal", "open"] {
        for (name, rates) in [
            ("one", "one"),
            ("one.gbit", "oneGbit"),
            ("two", "two"),
            ("two.gbit", "twoGbit"),
            ("ratio", "ratio"),
        ] {
            let value = rounds[0][rates][side].as_f64();
            let value = value.with_context(|| format!("carrick-lanes gave no {rates}.{side}"))?;
            // Packets a second become thousands, as everywhere.
            let scale = if matches!(name, "one" | "two") { 1e3 } else { 1.0 };
            figures.insert(format!("lanes.{side}.{name}"), value / scale);
        }
    }
    Ok(figures)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::of_apart;
    use crate::plan::Apart;

    #[test]
    fn every_metric_has_its_figure() {
        let rates = r#"{"seal": 1500000.0, "open": 2000000.0}"#;
        let said = format!(
            r#"[{{"one": {rates}, "two": {rates}, "oneGbit": {rates}, "twoGbit": {rates}, "ratio": {rates}}}]"#
        );
        let figures = figures(&said).expect("figures");
        assert_eq!((figures["lanes.seal.one"], figures["lanes.open.two"]), (1500.0, 2000.0));
        let metrics = of_apart(Apart::LanesInMemory);
        assert_eq!(figures.len(), metrics.len());
        assert!(metrics.iter().all(|metric| figures.contains_key(&metric.key)));
    }

    #[test]
    fn what_is_missing_is_named() {
        let error = figures(r#"[{"one": {"seal": 1.0}}]"#).expect_err("missing").to_string();
        assert!(error.contains("oneGbit.seal"), "{error}");
    }
}
