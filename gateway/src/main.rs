//! The gateway's command line.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use carrick_gateway::control::run::{self, PodOptions};
use carrick_gateway::standalone::{Config, Standalone};
use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Carrick's gateway: carries packets between clusters through userspace WireGuard.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run standalone from a file, without Kubernetes.
    Run {
        /// The configuration (YAML).
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Only check the file, and say what is wrong with it.
        #[arg(long)]
        check: bool,
    },
    /// Run in a pod of Kubernetes, as the controller wants.
    Pod(#[command(flatten)] Box<PodOptions>),
    /// Print a new private key and its public key, for a standalone gateway's file.
    Key,
}

fn main() -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| "info,boringtun=off".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match command(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("carrick-gateway: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn command(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Run { config, check } => {
            let config = Config::read(&config)?;
            if check {
                println!("the configuration is good");
                return Ok(());
            }
            runtime()?.block_on(run(config))
        }
        Command::Pod(options) => runtime()?.block_on(pod(*options)),
        Command::Key => {
            print!("{}", carrick_gateway::standalone::new_key());
            Ok(())
        }
    }
}

/// One thread is enough: packets have threads of their own.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")
}

async fn run(config: Config) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let gateway = Standalone::start(config)?;
    let lane = gateway.dataplane().lanes()[0];
    let device = gateway.dataplane().device();
    tracing::info!(device, port = lane.port, public_key = %lane.public_key, "gateway runs");
    let mut failure = gateway.dataplane().failure();
    let failed = tokio::select! {
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
        failed = failure.wait_for(Option::is_some) => Some(match failed {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => "all lanes are gone".to_owned(),
        }),
    };
    match failed {
        Some(reason) => anyhow::bail!("{reason}"),
        None => Ok(()),
    }
}

async fn pod(options: PodOptions) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let stop = CancellationToken::new();
    let signalled = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        signalled.cancel();
    });
    run::run(options, stop).await
}
