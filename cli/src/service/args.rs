//! The command line of `carrick service`.

use std::str::FromStr;

use carrick_model::ServicePolicy;
use clap::{Subcommand, ValueEnum};

use crate::dns;

/// `carrick service`.
#[derive(Debug, Clone, clap::Args)]
pub struct ServiceArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: ServiceCommand,
}

/// What to do about services of several clusters.
#[derive(Debug, Clone, Subcommand)]
pub enum ServiceCommand {
    /// Give a Service to the other clusters
    ///
    /// Called again, it takes back the labels and annotations that are not named again.
    Export(ExportArgs),
    /// Give it to them no longer
    Unexport {
        /// The Service
        name: String,
    },
    /// List what is exported from here, and what is imported
    List {
        /// Of all namespaces
        #[arg(short = 'A', long)]
        all_namespaces: bool,
        /// How to print it
        #[arg(short, long, value_enum, default_value_t = Format::Table)]
        output: Format,
    },
    /// Walk from a service's name to the pods behind it, and say where the way ends
    ///
    /// From the name in clusterset.local to the import, its address, its endpoints, and for each
    /// cluster to the peering and the tunnels. Ends with 1 where something is wrong.
    Trace(TraceArgs),
}

/// Options of `service export`.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ExportArgs {
    /// The Service
    pub name: String,
    /// A label that its imports get
    #[arg(long = "label", alias = "labels", value_name = "KEY=VALUE", value_delimiter = ',')]
    pub labels: Vec<Pair>,
    /// An annotation that its imports get
    #[arg(long = "annotation", value_name = "KEY=VALUE")]
    pub annotations: Vec<Pair>,
    /// Which clusters serve: `Balanced`, `PreferLocal`, or `Failover: paris, osaka` [default: Balanced]
    #[arg(long, value_name = "POLICY")]
    pub policy: Option<ServicePolicy>,
}

/// Options of `service trace`.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct TraceArgs {
    /// The service
    pub name: String,
    /// The namespace of CoreDNS
    #[arg(long, value_name = "NAME", default_value = dns::NAMESPACE)]
    pub dns_namespace: String,
    /// Its ConfigMap with the Corefile
    #[arg(long, value_name = "NAME", default_value = dns::CONFIGMAP)]
    pub dns_configmap: String,
}

/// How to print a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
}

/// A key with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The key.
    pub key: String,
    /// The value; may be empty.
    pub value: String,
}

impl FromStr for Pair {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('=') {
            Some((key, value)) if !key.is_empty() => {
                Ok(Self { key: key.to_owned(), value: value.to_owned() })
            }
            _ => Err(format!("{text:?} is not of the form KEY=VALUE")),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Args, Command};

    #[test]
    fn flags_of_an_export() {
        let line = [
            "carrick",
            "service",
            "export",
            "hello",
            "-n",
            "shop",
            "--label",
            "a=b,c=",
            "--annotation",
            "d=e,f",
        ];
        let args = Args::try_parse_from(line).expect("flags");
        assert_eq!(args.cluster.namespace.as_deref(), Some("shop"));
        let Command::Service(ServiceArgs { command: ServiceCommand::Export(export) }) =
            args.command
        else {
            panic!("asked for an export");
        };
        let pair = |key: &str, value: &str| Pair { key: key.into(), value: value.into() };
        assert_eq!(export.labels, [pair("a", "b"), pair("c", "")]);
        assert_eq!(export.annotations, [pair("d", "e,f")]);
        let line = ["carrick", "service", "export", "hello", "--policy", "Nearest"];
        let bad = Args::try_parse_from(line);
        assert!(bad.is_err_and(|error| error.to_string().contains("PreferLocal")));
        let bad = Args::try_parse_from(["carrick", "service", "export", "hello", "--label", "a"]);
        assert!(bad.is_err_and(|error| error.to_string().contains("KEY=VALUE")));
    }
}
