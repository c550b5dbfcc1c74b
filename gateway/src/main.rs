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
        /// The configuration (YAML). SIGHUP reads it again.
        #[arg(long, value_name = "FILE", required_unless_present = "show_config_example")]
        config: Option<PathBuf>,
        /// Only check the file, and say what is wrong with it.
        #[arg(long)]
        check: bool,
        /// Only take away the routes that an earlier run with this file has left behind, which keep
        /// what Carrick peers may have from leaving in clear.
        #[arg(long, conflicts_with = "check")]
        clean_up: bool,
        /// Print a file with every field, commented.
        #[arg(long)]
        show_config_example: bool,
    },
    /// Run in a pod of Kubernetes, as the controller wants.
    Pod(#[command(flatten)] Box<PodOptions>),
    /// Print a new private key and its public key, for a standalone gateway's file.
    Key,
    /// Print the public half of the identity key in a file, which peers pin. Without the file, make it.
    Identity {
        /// The file (PEM): `identity_file` of a standalone gateway.
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

/// An error with its causes. Most of ours name their cause themselves; that is not said again.
fn told(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |told, cause| match cause.to_string() {
        cause if told.is_empty() => cause,
        cause if told.ends_with(&cause) => told,
        cause => format!("{told}: {cause}"),
    })
}

fn main() -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| "info,boringtun=off".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match command(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("carrick-gateway: {}", told(&error));
            ExitCode::FAILURE
        }
    }
}

fn command(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Run { show_config_example: true, .. } | Command::Run { config: None, .. } => {
            print!("{}", carrick_gateway::standalone::EXAMPLE);
            Ok(())
        }
        Command::Run { config: Some(path), check, clean_up, .. } => {
            let config = Config::read(&path)?;
            if clean_up {
                let routes = carrick_gateway::standalone::clean_up(&config)?;
                println!("{routes} routes taken away");
                return Ok(());
            }
            if check {
                println!("the configuration is good");
                return Ok(());
            }
            runtime()?.block_on(run(config, &path))
        }
        Command::Pod(options) => runtime()?.block_on(pod(*options)),
        Command::Key => {
            print!("{}", carrick_gateway::standalone::new_key());
            Ok(())
        }
        Command::Identity { file } => {
            println!("{}", carrick_gateway::standalone::identity(&file)?);
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

async fn run(config: Config, path: &PathBuf) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let mut hangup = signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?;
    let mut gateway = Standalone::start(config)?;
    gateway.serve_metrics().await?;
    gateway.follow_paths()?;
    let lane = gateway.dataplane().lanes()[0];
    let device = gateway.dataplane().device();
    tracing::info!(device, port = lane.port, public_key = %lane.public_key, "gateway runs");
    let mut failure = gateway.dataplane().failure();
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => match Config::read(path).map_err(Into::into).and_then(|config| gateway.reload(config)) {
                Ok(()) => tracing::info!("configuration read again"),
                Err(error) => tracing::error!("the configuration is not taken over: {}", told(&error)),
            },
            failed = failure.wait_for(Option::is_some) => match failed {
                Ok(reason) => anyhow::bail!("{}", reason.clone().unwrap_or_default()),
                Err(_) => anyhow::bail!("all lanes are gone"),
            },
            error = gateway.exchange_ended() => return Err(error),
        }
    }
    gateway.stop().await;
    Ok(())
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
