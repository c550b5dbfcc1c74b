//! `carrick`, also `kubectl carrick`: what a person sees and does of Carrick. It needs one cluster at
//! a time, and may what that person's kubeconfig may.

mod args;
mod causes;
mod check;
mod connect;
mod dns;
mod drill;
mod fetch;
#[cfg(test)]
mod fixture;
mod invite;
mod parts;
mod service;
mod state;
mod status;
mod table;
mod version;

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{CommandFactory as _, FromArgMatches as _};

use args::{Args, Command};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    // kubectl runs its plugins by the name kubectl-<plugin>.
    let program = std::env::args().next().unwrap_or_default();
    let name = args::program_name(&program);
    let matches = Args::command().name(name).bin_name(name).get_matches();
    let args = Args::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    match run(args, name).await {
        Ok(code) => code,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn complain(error: &anyhow::Error) {
    eprintln!("error: {}", causes::join(error.as_ref()));
    if let Some(remedy) = remedy_of(error) {
        eprintln!("   do: {remedy}");
    }
}

async fn run(args: Args, name: &str) -> Result<ExitCode> {
    let now = jiff::Timestamp::now();
    match args.command {
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Args::command(), name, &mut script);
            print(&String::from_utf8(script).context("completion script")?)?;
        }
        Command::Invite(options) => {
            let cluster = connect::connect(&args.cluster).await?;
            let identity = fetch::identity(&cluster).await?;
            let invitation = invite::invite(identity.as_ref(), &options)?;
            eprint!("{}", invitation.summary);
            print(&invitation.yaml)?;
        }
        Command::Status { output } => {
            let cluster = connect::connect(&args.cluster).await?;
            let report = status::report(&fetch::state(&cluster).await, now)?;
            print(&status::render(&report, output)?)?;
        }
        Command::Check => {
            let steps = match connect::connect(&args.cluster).await {
                Ok(cluster) => check::diagnose(&fetch::state(&cluster).await),
                Err(error) => vec![check::unreadable_kubeconfig(&error)],
            };
            print(&check::render(&steps))?;
            if check::fails(&steps) {
                return Ok(ExitCode::FAILURE);
            }
        }
        Command::Dns(dns) => {
            return dns::run(&connect::connect(&args.cluster).await?, &dns).await;
        }
        Command::Service(service) => {
            return service::run(connect::connect(&args.cluster).await?, &service).await;
        }
        Command::Drill(drill) => {
            let done = async {
                let cluster = connect::connect(&args.cluster).await?;
                drill::run(&cluster, drill).await
            };
            return Ok(done.await.unwrap_or_else(|error| {
                complain(&error);
                ExitCode::from(drill::NO_VERDICT)
            }));
        }
        Command::Version { client } => {
            let state = match client {
                true => None,
                false => Some(fetch::state(&connect::connect(&args.cluster).await?).await),
            };
            print(&version::render(state.as_ref()))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes to standard output; a reader that has gone (`carrick status | head`) is no error.
fn print(text: &str) -> Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context("write to standard output"),
    }
}

fn remedy_of(error: &anyhow::Error) -> Option<String> {
    error.chain().find_map(|cause| {
        let of_fetch = cause.downcast_ref::<state::FetchError>().map(state::FetchError::remedy);
        let of_connect = || cause.downcast_ref::<connect::ConnectError>().map(|e| e.remedy());
        let of_invite = || cause.downcast_ref::<invite::InviteError>().map(|e| e.remedy());
        let of_service = || cause.downcast_ref::<service::ServiceError>().map(|e| e.remedy());
        let of_dns = || cause.downcast_ref::<dns::DnsError>().map(|e| e.remedy());
        of_fetch.or_else(of_connect).or_else(of_invite).or_else(of_dns).or_else(of_service)
    })
}
