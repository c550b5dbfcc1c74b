//! The command line.

use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand, ValueEnum};

use crate::dns::args::DnsArgs;
use crate::drill::args::DrillArgs;
use crate::service::args::ServiceArgs;

/// Joins Kubernetes clusters, so that pods reach pods across clouds and regions, encrypted.
#[derive(Debug, Parser)]
#[command(name = "carrick", version, max_term_width = 100)]
pub struct Args {
    /// Which cluster.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Which cluster to talk to.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ClusterArgs {
    /// The kubeconfig file [default: $KUBECONFIG, else ~/.kube/config]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Cluster")]
    pub kubeconfig: Option<PathBuf>,
    /// The kubeconfig's context [default: its current one]
    #[arg(long, global = true, value_name = "NAME", help_heading = "Cluster")]
    pub context: Option<String>,
    /// The namespace: with `service` that of the service, with `dns` that of CoreDNS, else the one that Carrick is installed in [default: found]
    #[arg(short, long, global = true, value_name = "NAME", help_heading = "Cluster")]
    pub namespace: Option<String>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print the ClusterPeering that another cluster applies to be joined with this one
    ///
    /// Pipe it there: `carrick --context paris invite | kubectl --context osaka apply -f -`. The
    /// other way round is needed as well: traffic flows only when both clusters agree.
    Invite(InviteArgs),
    /// Show clusters, gateways, tunnels, prefixes and conditions
    Status {
        /// How to print it
        #[arg(short, long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
    /// Walk from API access to the data path, name the first thing that is wrong, and its remedy
    ///
    /// Ends with 1 when something is wrong.
    Check,
    /// Export services to other clusters, and see what became of them
    Service(ServiceArgs),
    /// Let the cluster's CoreDNS serve clusterset.local, or no longer
    Dns(DnsArgs),
    /// Run failover drills, and report on them
    Drill(DrillArgs),
    /// Print this program's version and the cluster's
    Version {
        /// Do not ask the cluster
        #[arg(long)]
        client: bool,
    },
    /// Print a script that completes this command in a shell
    Completions {
        /// The shell
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
}

/// Options of `invite`.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct InviteArgs {
    /// Name of the ClusterPeering in the other cluster [default: this cluster's ID]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Print it even if this cluster's pod ranges are public addresses or very wide
    #[arg(long)]
    pub allow_broad: bool,
}

/// How to print a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
    /// For both.
    Yaml,
}

/// The name to show in help texts: how the program was called.
pub fn program_name(program: &str) -> &'static str {
    let file = Path::new(program).file_stem().and_then(|name| name.to_str());
    match file {
        Some("kubectl-carrick") => "kubectl-carrick",
        _ => "carrick",
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Args::command().debug_assert();
    }

    #[test]
    fn flags_of_the_cluster_may_stand_before_and_after_the_command() {
        for line in [["carrick", "--context", "a", "check"], ["carrick", "check", "--context", "a"]]
        {
            let args = Args::try_parse_from(line).expect("parses");
            assert_eq!(args.cluster.context.as_deref(), Some("a"));
        }
    }

    #[test]
    fn a_plugin_of_kubectl_knows_its_name() {
        assert_eq!(program_name("/usr/local/bin/kubectl-carrick"), "kubectl-carrick");
        assert_eq!(program_name("./carrick"), "carrick");
    }
}
