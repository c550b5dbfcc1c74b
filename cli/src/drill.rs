//! `carrick drill`: failover drills, from order to report.

pub mod args;
mod client;
mod html;
mod junit;
mod live;
mod order;
mod plot;
#[cfg(test)]
mod sample;
mod text;

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use carrick_crds::FailoverDrill;
use carrick_crds::drill::Verdict;
use kube::ResourceExt as _;

use crate::connect::Cluster;
use crate::print;
use args::{DrillArgs, DrillCommand, Format, RunArgs};

/// What is looked at so often while a drill runs.
const LOOK: Duration = Duration::from_millis(500);
/// How long the API server may be away meanwhile.
const PATIENCE: Duration = Duration::from_secs(60);
/// Ends that are no verdict on the bounds, and mistakes of the caller.
pub const NO_VERDICT: u8 = 2;

/// Does what is asked; the exit code says how the drill ended.
pub async fn run(cluster: &Cluster, args: DrillArgs) -> Result<ExitCode> {
    match args.command {
        DrillCommand::Run(run) => order_and_watch(cluster, &run).await,
        DrillCommand::List => {
            let drills = client::list(cluster).await?;
            print(&text::list(&drills, jiff::Timestamp::now()))?;
            Ok(ExitCode::SUCCESS)
        }
        DrillCommand::Show { name, output } => {
            let drill = client::get(cluster, &name).await?;
            print(&render(&drill, output)?)?;
            Ok(code(&drill))
        }
        DrillCommand::Abort { name } => {
            client::delete(cluster, &name).await?;
            print(&format!("failoverdrill.carrick.dev/{name} deleted; its fault ends at once\n"))?;
            Ok(ExitCode::SUCCESS)
        }
        DrillCommand::Report { name, file } => {
            let drill = client::get(cluster, &name).await?;
            let page = html::page(&drill, &cluster.server);
            match file.as_deref().filter(|file| *file != std::path::Path::new("-")) {
                Some(file) => std::fs::write(file, page)
                    .with_context(|| format!("cannot write {}", file.display()))?,
                None => print(&page)?,
            }
            Ok(code(&drill))
        }
    }
}

async fn order_and_watch(cluster: &Cluster, args: &RunArgs) -> Result<ExitCode> {
    let order = order::from(args, jiff::Timestamp::now())?;
    let made = client::create(cluster, &order).await?;
    let name = made.name_any();
    let uid = made.uid().unwrap_or_default();
    eprintln!("failoverdrill.carrick.dev/{name} created; Ctrl-C aborts it");
    let watched = tokio::select! {
        watched = watch(cluster, &name, &uid) => watched?,
        signal = tokio::signal::ctrl_c() => {
            signal.context("cannot listen for Ctrl-C")?;
            client::delete(cluster, &name).await?;
            eprintln!("\naborted: {name} is deleted, and its fault ends at once");
            return Ok(ExitCode::from(NO_VERDICT));
        }
    };
    print(&render(&watched, args.output)?)?;
    if let Some(file) = &args.report {
        std::fs::write(file, html::page(&watched, &cluster.server))
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(code(&watched))
}

/// Shows what happens until there is a verdict.
async fn watch(cluster: &Cluster, name: &str, uid: &str) -> Result<FailoverDrill> {
    let mut view = live::View::new(std::io::stderr().is_terminal());
    let mut heard = Instant::now();
    loop {
        match client::get(cluster, name).await {
            Ok(drill) => {
                if drill.uid().as_deref() != Some(uid) {
                    anyhow::bail!("drill {name} was replaced by another of the same name");
                }
                heard = Instant::now();
                eprint!("{}", view.show(&drill, jiff::Timestamp::now()));
                if drill.status.as_ref().is_some_and(|status| status.verdict.is_some()) {
                    eprint!("{}", view.end());
                    return Ok(drill);
                }
            }
            Err(error) if error.is_final() || heard.elapsed() > PATIENCE => {
                eprint!("{}", view.end());
                return Err(error.into());
            }
            // The drill ends by itself, whoever looks.
            Err(_) => {}
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn render(drill: &FailoverDrill, output: Format) -> Result<String> {
    Ok(match output {
        Format::Text => text::show(drill),
        Format::Json => format!("{}\n", serde_json::to_string_pretty(drill)?),
        Format::Junit => junit::render(drill),
    })
}

/// 0 passed, 1 failed, 2 none of both.
fn code(drill: &FailoverDrill) -> ExitCode {
    match drill.status.as_ref().and_then(|status| status.verdict) {
        Some(Verdict::Passed) => ExitCode::SUCCESS,
        Some(Verdict::Failed) => ExitCode::FAILURE,
        Some(Verdict::Aborted | Verdict::Refused) | None => ExitCode::from(NO_VERDICT),
    }
}
