//! The command line of `carrick dns`.

use clap::Subcommand;

/// `carrick dns`.
#[derive(Debug, Clone, clap::Args)]
pub struct DnsArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: DnsCommand,
    /// The ConfigMap with the Corefile, in kube-system unless -n names another namespace
    #[arg(long, global = true, value_name = "NAME", default_value = "coredns")]
    pub configmap: String,
}

/// What to do about the cluster's DNS.
#[derive(Debug, Clone, Subcommand)]
pub enum DnsCommand {
    /// Let CoreDNS serve clusterset.local
    ///
    /// Adds the zone to the plugin kubernetes of an existing CoreDNS (1.12.2 or newer), and gives
    /// CoreDNS the right to read ServiceImports. Shows what it will change, and asks. Ends with 2 when it
    /// must ask and there is no terminal.
    Enable(ChangeArgs),
    /// Undo `enable`, and nothing else
    Disable(ChangeArgs),
    /// Show whether CoreDNS serves clusterset.local, and what is missing
    ///
    /// Ends with 1 when something is.
    Status,
}

/// How to change it.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ChangeArgs {
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
    /// Only show what would be changed
    #[arg(long, conflicts_with = "yes")]
    pub dry_run: bool,
    /// Restart CoreDNS at once, instead of waiting until it reads its Corefile again
    #[arg(long)]
    pub restart: bool,
}
