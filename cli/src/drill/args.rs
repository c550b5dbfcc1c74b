//! The command line of `carrick drill`.

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};

/// `carrick drill`.
#[derive(Debug, Clone, clap::Args)]
pub struct DrillArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: DrillCommand,
}

/// What to do with drills.
#[derive(Debug, Clone, Subcommand)]
pub enum DrillCommand {
    /// Inject a fault, watch what it does to traffic, and say whether that kept within bounds
    ///
    /// Ends with 0 when the drill passed, 1 when it failed, and 2 when it was refused or aborted. Ctrl-C
    /// aborts it.
    Run(Box<RunArgs>),
    /// List drills and their verdicts
    List,
    /// Show what a drill did and found
    Show {
        /// The drill
        name: String,
        /// How to print it
        #[arg(short, long, value_enum, default_value_t = Format::Text)]
        output: Format,
    },
    /// End a drill at once, by deleting it
    Abort {
        /// The drill
        name: String,
    },
    /// Write a report of a drill as one HTML file
    Report {
        /// The drill
        name: String,
        /// Where to [default: standard output]
        #[arg(short = 'o', long = "output-file", value_name = "FILE")]
        file: Option<PathBuf>,
    },
}

/// Options of `drill run`.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct RunArgs {
    /// A FailoverDrill as YAML or JSON, instead of the flags that describe one
    #[arg(short = 'f', long = "file", value_name = "FILE", conflicts_with_all = [
        "peering", "fault", "gateway", "endpoint", "node", "direction", "loss", "latency", "jitter", "duration", "rate",
        "size", "max_loss", "max_recovery", "connections_survive", "allow_outage",
    ])]
    pub file: Option<PathBuf>,
    /// The ClusterPeering
    #[arg(long, value_name = "NAME", required_unless_present = "file")]
    pub peering: Option<String>,
    /// What to inject
    #[arg(long, value_enum, required_unless_present = "file")]
    pub fault: Option<FaultKind>,
    /// The drill's name [default: by the time]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// The pod of the gateway to hit [default: any]
    #[arg(long, value_name = "POD")]
    pub gateway: Option<String>,
    /// The far end of the one path to hit, as `carrick status` names it [default: all]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub endpoint: Option<String>,
    /// The node whose agent to hit [default: any]
    #[arg(long, value_name = "NODE")]
    pub node: Option<String>,
    /// Which direction to hit
    #[arg(long, value_enum)]
    pub direction: Option<DirectionArg>,
    /// How many of a hundred packets to lose
    #[arg(long, value_name = "PERCENT")]
    pub loss: Option<f64>,
    /// By how many milliseconds to delay
    #[arg(long, value_name = "MS")]
    pub latency: Option<i32>,
    /// By how many milliseconds that varies
    #[arg(long, value_name = "MS")]
    pub jitter: Option<i32>,
    /// How long the fault lasts, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    pub duration: i32,
    /// Packets a second of each stream
    #[arg(long, value_name = "N")]
    pub rate: Option<i32>,
    /// Bytes of each packet
    #[arg(long, value_name = "BYTES")]
    pub size: Option<i32>,
    /// How many of a hundred packets may be lost
    #[arg(long, value_name = "PERCENT")]
    pub max_loss: Option<f64>,
    /// How many milliseconds recovery may take
    #[arg(long, value_name = "MS")]
    pub max_recovery: Option<i32>,
    /// No connection may break
    #[arg(long)]
    pub connections_survive: bool,
    /// Allow a fault that leaves no path
    #[arg(long)]
    pub allow_outage: bool,
    /// Write an HTML report in the end
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// How to print the result
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    pub output: Format,
}

/// What to inject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FaultKind {
    /// A gateway falls silent.
    GatewayCrash,
    /// A gateway announces that it leaves, and comes back.
    GatewayDrain,
    /// A gateway's paths to the peer lose packets.
    PathLoss,
    /// A gateway's paths to the peer lose or delay packets.
    PathDegraded,
    /// All paths to the peer are cut.
    Partition,
    /// A node's agent has no link to the controller.
    AgentLinkLost,
    /// The controller cannot reach the API server.
    #[value(name = "api-server-unreachable")]
    ApiServerUnreachable,
}

impl FaultKind {
    /// Its name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::GatewayCrash => "GatewayCrash",
            Self::GatewayDrain => "GatewayDrain",
            Self::PathLoss => "PathLoss",
            Self::PathDegraded => "PathDegraded",
            Self::Partition => "Partition",
            Self::AgentLinkLost => "AgentLinkLost",
            Self::ApiServerUnreachable => "APIServerUnreachable",
        }
    }
}

/// Which direction to hit, as seen from this cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DirectionArg {
    /// Both.
    Both,
    /// To the peer.
    Outbound,
    /// From the peer.
    Inbound,
}

impl DirectionArg {
    /// Its name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Both => "Both",
            Self::Outbound => "Outbound",
            Self::Inbound => "Inbound",
        }
    }
}

/// How to print a drill.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// The object.
    Json,
    /// For pipelines.
    Junit,
}
