//! Carrick's controller.

use carrick_controller::options::{Command, Options};
use clap::Parser as _;
use tracing_subscriber::EnvFilter;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).init();
    match Options::parse().command {
        Command::Run(options) => carrick_controller::run::run(*options).await,
        Command::Withdraw(options) => carrick_controller::withdraw::withdraw(options).await,
        Command::RemoveServices(options) => {
            carrick_controller::services::remove::remove_services(options).await
        }
    }
}
