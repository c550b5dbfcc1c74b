//! From flags or a file to the object that is made.

use anyhow::{Context as _, Result, bail};
use carrick_crds::drill::{BoundsSpec, Drill, FaultSpec, LoadSpec};
use carrick_crds::{FailoverDrill, FailoverDrillSpec};
use jiff::Timestamp;

use super::args::{DirectionArg, RunArgs};

/// The drill that is asked for; what is wrong with it is said before anything is made.
pub fn from(args: &RunArgs, now: Timestamp) -> Result<FailoverDrill> {
    let mut drill = match &args.file {
        Some(file) => {
            let text = std::fs::read_to_string(file)
                .with_context(|| format!("cannot read {}", file.display()))?;
            serde_yaml::from_str::<FailoverDrill>(&text)
                .with_context(|| format!("{} is no FailoverDrill", file.display()))?
        }
        None => FailoverDrill::new("", spec(args)),
    };
    let named = drill.metadata.name.take().filter(|name| !name.is_empty());
    let by_time = || format!("drill-{}", now.strftime("%Y%m%d-%H%M%S"));
    drill.metadata.name = Some(args.name.clone().or(named).unwrap_or_else(by_time));
    drill.status = None;
    if let Err(error) = Drill::parse(&drill.spec) {
        bail!("the drill cannot be run: {error}");
    }
    Ok(drill)
}

fn spec(args: &RunArgs) -> FailoverDrillSpec {
    let default = LoadSpec::default();
    FailoverDrillSpec {
        peering: args.peering.clone().unwrap_or_default(),
        fault: FaultSpec {
            kind: args.fault.map(|kind| kind.as_str().to_owned()).unwrap_or_default(),
            gateway: args.gateway.clone(),
            endpoint: args.endpoint.clone(),
            node: args.node.clone(),
            direction: args.direction.map(DirectionArg::as_str).map(str::to_owned),
            loss_percent: args.loss,
            latency_milliseconds: args.latency,
            jitter_milliseconds: args.jitter,
        },
        duration_seconds: args.duration,
        load: LoadSpec {
            packets_per_second: args.rate.unwrap_or(default.packets_per_second),
            size_bytes: args.size.unwrap_or(default.size_bytes),
        },
        bounds: BoundsSpec {
            max_loss_percent: args.max_loss,
            max_recovery_milliseconds: args.max_recovery,
            connections_survive: args.connections_survive.then_some(true),
        },
        allow_outage: args.allow_outage,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::super::args::DrillCommand;
    use super::*;
    use crate::args::{Args, Command};

    fn args(flags: &[&str]) -> Result<RunArgs, clap::Error> {
        let line = ["carrick", "drill", "run"].iter().chain(flags);
        match Args::try_parse_from(line)?.command {
            Command::Drill(drill) => match drill.command {
                DrillCommand::Run(run) => Ok(*run),
                _ => unreachable!("asked for run"),
            },
            _ => unreachable!("asked for drill"),
        }
    }

    #[test]
    fn flags_become_a_spec() {
        let now = Timestamp::from_second(1_800_000_000).expect("time");
        let flags = ["--peering=osaka", "--fault=path-loss", "--loss=30", "--max-recovery=3000"];
        let drill = from(&args(&flags).expect("flags"), now).expect("drill");
        assert_eq!(drill.metadata.name.as_deref(), Some("drill-20270115-080000"));
        assert_eq!(drill.spec.fault.kind, "PathLoss");
        assert_eq!(drill.spec.duration_seconds, 10);
        let flags = ["--peering=osaka", "--fault=agent-link-lost", "--node=n1", "--max-loss=0"];
        let drill = from(&args(&flags).expect("flags"), now).expect("drill");
        let fault = drill.spec.fault;
        assert_eq!((fault.kind.as_str(), fault.node.as_deref()), ("AgentLinkLost", Some("n1")));
        let flags = ["--peering=osaka", "--fault=api-server-unreachable", "--max-loss=0"];
        let drill = from(&args(&flags).expect("flags"), now).expect("drill");
        assert_eq!(drill.spec.fault.kind, "APIServerUnreachable");
        let bad = ["--peering=osaka", "--fault=path-loss", "--max-recovery=3000"];
        let error = from(&args(&bad).expect("flags"), now).expect_err("no loss").to_string();
        assert!(error.contains("spec.fault.lossPercent"), "{error}");
        assert!(args(&["--peering=osaka"]).is_err(), "no fault");
        assert!(args(&["-f", "drill.yaml", "--name=d", "--report=d.html"]).is_ok());
        for flag in ["--duration=5", "--loss=3", "--max-loss=0", "--allow-outage", "--rate=50"] {
            assert!(args(&["-f", "drill.yaml", flag]).is_err(), "{flag} would be ignored");
        }
    }

    #[test]
    fn a_file_is_read_and_its_mistakes_are_named() {
        let folder = std::env::temp_dir().join(format!("carrick-drill-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("folder");
        let file = folder.join("drill.yaml");
        let yaml = "apiVersion: carrick.dev/v1alpha1\nkind: FailoverDrill\nmetadata: {name: d}\n\
                    spec: {peering: osaka, fault: {type: GatewayCrash}, durationSeconds: 5, \
                    bounds: {maxLossPercent: 2}}\n";
        std::fs::write(&file, yaml).expect("written");
        let run = RunArgs { file: Some(file.clone()), ..RunArgs::default() };
        let drill = from(&run, Timestamp::UNIX_EPOCH).expect("drill");
        assert_eq!(drill.metadata.name.as_deref(), Some("d"));
        assert_eq!(drill.spec.bounds.max_loss_percent, Some(2.0));
        std::fs::write(&file, "kind: Pod").expect("written");
        let error = from(&run, Timestamp::UNIX_EPOCH).expect_err("no drill").to_string();
        assert!(error.contains("is no FailoverDrill"), "{error}");
        std::fs::remove_dir_all(&folder).expect("removed");
    }
}
