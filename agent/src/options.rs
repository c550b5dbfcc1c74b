//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use carrick_model::MemberName;
use clap::{ArgAction, Args, Parser, Subcommand};

/// Carrick's node agent: routes, FDB groups and filters of one node.
#[derive(Debug, Parser)]
#[command(version)]
pub struct Options {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run on a node, as the controller orders.
    Run(Box<RunOptions>),
}

/// How to run.
#[derive(Debug, Clone, Args)]
pub struct RunOptions {
    /// The controller's exchange, host:port.
    #[arg(long, env = "CARRICK_CONTROLLER")]
    pub controller: String,
    /// Name of this node.
    #[arg(long, env = "NODE_NAME")]
    pub node_name: MemberName,
    /// Where /metrics, /healthz and /readyz are served.
    #[arg(long, env = "CARRICK_HTTP_ADDRESS", default_value = "127.0.0.1:7823")]
    pub http_address: SocketAddr,
    /// Packets to gateways on this node go past the CNI's bridge, where the kernel can do that.
    #[arg(long, env = "CARRICK_SHORTCUTS", default_value_t = true, action = ArgAction::Set)]
    pub shortcuts: bool,
    /// The mounted ConfigMap carrick-trust.
    #[arg(long, env = "CARRICK_TRUST", default_value = "/etc/carrick/trust")]
    pub trust: PathBuf,
    /// The projected ServiceAccount token with the audience carrick.dev.
    #[arg(long, env = "CARRICK_TOKEN", default_value = "/var/run/carrick/token/token")]
    pub token: PathBuf,
    /// A memory-backed folder for certificate and last order.
    #[arg(long, env = "CARRICK_STATE", default_value = "/run/carrick")]
    pub state: PathBuf,
}
