//! `cargo lab`: real clusters for daily work.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;

use anyhow::Context as _;
use carrick_e2e::cluster::{CONTROL_PLANE_PROCESSES, Cluster, NODE_PROCESSES, Process};
use carrick_e2e::progress::Progress;
use carrick_e2e::spec::parse_millis;
use carrick_e2e::{Family, Lab, LabSpec};
use carrick_wan::Stats;
use clap::{Args, Parser, Subcommand};

/// Real Kubernetes clusters on this machine, joined by an emulated network.
#[derive(Parser)]
#[command(name = "cargo lab", version)]
struct Cli {
    /// The lab's name: labs of different names live side by side.
    #[arg(long, global = true, default_value = "lab")]
    lab: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Starts the clusters.
    Up(Up),
    /// Shows what runs.
    Status,
    /// Runs kubectl as a cluster's administrator.
    Kubectl(InCluster),
    /// Runs helm as a cluster's administrator.
    Helm(InCluster),
    /// Runs a program on a cluster's network with KUBECONFIG set.
    Run(InCluster),
    /// Runs a program inside a node; a shell without one.
    Exec(OnNode),
    /// Builds Carrick's images again, loads them, and restarts Carrick's pods.
    Reload,
    /// Cuts a node's power.
    PowerCut(NodeName),
    /// Gives a node power again.
    PowerOn(NodeName),
    /// Shows or changes the network between clusters.
    #[command(subcommand)]
    Wan(WanCommand),
    /// Removes the clusters and all that they left.
    Down,
}

#[derive(Args)]
struct Up {
    /// How many clusters, 1 to 8.
    #[arg(long, default_value_t = 2)]
    clusters: u8,
    /// How many nodes each, 1 to 16.
    #[arg(long, default_value_t = 2)]
    nodes: u8,
    /// ipv4, or dual: nodes, pods and services have IPv6 as well.
    #[arg(long, default_value = "ipv4")]
    family: Family,
    /// Round-trip time between clusters.
    #[arg(long, default_value = "20ms", value_parser = parse_millis)]
    rtt: u32,
    /// Cables between the clusters instead of the emulated network: without delay, for measurements.
    #[arg(long)]
    cables: bool,
    /// Without Carrick's images.
    #[arg(long)]
    no_images: bool,
}

#[derive(Args)]
struct InCluster {
    /// The cluster's name.
    cluster: String,
    /// The arguments.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

#[derive(Args)]
struct NodeName {
    /// The node's name.
    node: String,
}

#[derive(Args)]
struct OnNode {
    /// The node's name.
    node: String,
    /// The program and its arguments.
    #[arg(last = true)]
    argv: Vec<String>,
}

#[derive(Subcommand)]
enum WanCommand {
    /// Shows what each direction carried and lost, and what the emulator itself lost.
    Status,
    /// Prints all counters as JSON.
    Stats,
    /// Prints a direction's conditions.
    Get(Direction),
    /// Gives a direction named conditions, or conditions as JSON.
    Set {
        #[command(flatten)]
        direction: Direction,
        /// A name (`carrick-wan list-conditions`) or JSON such as {"delayUs":10000}.
        conditions: String,
    },
    /// Lets nothing pass in a direction.
    Cut(Direction),
    /// Undoes a cut.
    Restore(Direction),
    /// Gives every direction its conditions of the start.
    Reset,
}

#[derive(Args)]
struct Direction {
    /// The sending cluster.
    from: String,
    /// The receiving cluster.
    to: String,
}

fn main() -> anyhow::Result<()> {
    carrick_e2e::helper::serve();
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let cli = Cli::parse();
    let progress = Progress::default();
    match cli.command {
        Command::Up(flags) => up(&cli.lab, &flags, &progress),
        Command::Down => Ok(Lab::down(&cli.lab, &progress)?),
        command => use_lab(&Lab::attach(&cli.lab)?, command, &progress),
    }
}

fn use_lab(lab: &Lab, command: Command, progress: &Progress) -> anyhow::Result<()> {
    match command {
        Command::Up(_) | Command::Down => Ok(()),
        Command::Status => status(lab),
        Command::Kubectl(InCluster { cluster, arguments }) => {
            become_program(lab, &cluster, "kubectl", &arguments)
        }
        Command::Helm(InCluster { cluster, arguments }) => {
            become_program(lab, &cluster, "helm", &arguments)
        }
        Command::Run(InCluster { cluster, arguments }) => {
            let (program, rest) = arguments.split_first().context("name a program to run")?;
            become_program(lab, &cluster, program, rest)
        }
        Command::Exec(OnNode { node, argv }) => exec(lab, &node, argv),
        Command::Reload => reload(lab, progress),
        Command::PowerCut(NodeName { node }) => {
            lab.node(&node)?.power_cut()?;
            progress.say(&format!("{node} has no power"));
            Ok(())
        }
        Command::PowerOn(NodeName { node }) => {
            lab.node(&node)?.power_on()?;
            progress.say(&format!("{node} has power"));
            Ok(())
        }
        Command::Wan(command) => wan(lab, command),
    }
}

fn up(name: &str, flags: &Up, progress: &Progress) -> anyhow::Result<()> {
    let spec = LabSpec {
        name: name.to_owned(),
        clusters: flags.clusters,
        nodes: flags.nodes,
        family: flags.family,
        rtt_ms: flags.rtt,
        cables: flags.cables,
        images: !flags.no_images,
    };
    let lab = Lab::up(&spec, progress)?;
    let option = if name == "lab" { String::new() } else { format!("--lab {name} ") };
    for cluster in lab.clusters() {
        println!("cargo lab {option}kubectl {} get pods -A", cluster.plan().name);
    }
    println!("cargo lab {option}exec paris-1      # a shell inside a node");
    println!("cargo lab {option}down");
    Ok(())
}

fn status(lab: &Lab) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    for cluster in lab.clusters() {
        let plan = cluster.plan();
        writeln!(
            out,
            "{}  nodes {}  pods {}  services {}",
            plan.name,
            plan.underlay,
            plan.pod_ranges(),
            plan.service_ranges()
        )?;
        let control_plane = CONTROL_PLANE_PROCESSES.map(|p| cluster.control_plane_process(p));
        writeln!(
            out,
            "  {:10} {:15} {}",
            plan.control_plane_name(),
            plan.control_plane,
            running(&control_plane)
        )?;
        for node in cluster.nodes() {
            let processes = match node.has_power() {
                true => running(&NODE_PROCESSES.map(|p| node.process(p))),
                false => "no power".to_owned(),
            };
            writeln!(out, "  {:10} {:15} {processes}", node.plan().name, node.plan().address)?;
        }
        writeln!(out, "{}", indent(&kubernetes_view(&cluster)))?;
    }
    if lab.spec().clusters > 1 && !lab.spec().cables {
        let verdict = lab.wan().stats().map(|stats| stats.verdict());
        writeln!(out, "{}", verdict.unwrap_or_else(|error| error.to_string()))?;
    }
    Ok(())
}

fn running(processes: &[Process]) -> String {
    let describe = |process: &Process| match process.pid() {
        Ok(pid) if process.running().unwrap_or(false) => format!("{}({pid})", process.name()),
        _ => format!("{}(stopped)", process.name()),
    };
    processes.iter().map(describe).collect::<Vec<_>>().join(" ")
}

fn kubernetes_view(cluster: &Cluster) -> String {
    let arguments = ["get", "nodes", "--request-timeout=5s"];
    cluster.kubectl(&arguments).unwrap_or_else(|error| error.to_string())
}

fn indent(text: &str) -> String {
    text.lines().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}

/// Replaces this process, so that terminal, signals and status are the program's own.
fn become_program(lab: &Lab, cluster: &str, program: &str, rest: &[String]) -> anyhow::Result<()> {
    let mut command = lab.cluster(cluster)?.command(program)?;
    Err(command.args(rest).exec()).with_context(|| format!("starting {program}"))
}

fn exec(lab: &Lab, node: &str, mut argv: Vec<String>) -> anyhow::Result<()> {
    if argv.is_empty() {
        argv.push(PathBuf::from("/bin/bash").to_string_lossy().into_owned());
    }
    Err(lab.node(node)?.command(&argv)?.exec()).with_context(|| format!("entering {node}"))
}

fn reload(lab: &Lab, progress: &Progress) -> anyhow::Result<()> {
    let carrick = lab.load_images(progress)?;
    for cluster in lab.clusters() {
        let name = &cluster.plan().name;
        match cluster.restart_carrick(&carrick.tag)? {
            0 => progress.say(&format!(
                "{name} has no Carrick to restart; install the chart with image.tag={}",
                carrick.tag
            )),
            count => progress.say(&format!("{name}: {count} workloads take tag {}", carrick.tag)),
        }
    }
    Ok(())
}

fn wan(lab: &Lab, command: WanCommand) -> anyhow::Result<()> {
    let wan = lab.wan();
    match command {
        WanCommand::Status => wan_status(&wan.stats()?),
        WanCommand::Stats => print(&wan.stats()?),
        WanCommand::Get(Direction { from, to }) => print(&wan.get(&from, &to)?),
        WanCommand::Set { direction: Direction { from, to }, conditions } => {
            let parsed = match conditions.starts_with('{') {
                true => serde_json::from_str(&conditions).context("the JSON is not conditions")?,
                false => carrick_wan::conditions::by_name(&conditions)?,
            };
            Ok(wan.set(&from, &to, &parsed)?)
        }
        WanCommand::Cut(Direction { from, to }) => Ok(wan.cut(&from, &to)?),
        WanCommand::Restore(Direction { from, to }) => Ok(wan.restore(&from, &to)?),
        WanCommand::Reset => Ok(wan.reset()?),
    }
}

fn wan_status(stats: &Stats) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    for site in &stats.sites {
        for direction in &site.directions {
            writeln!(
                out,
                "{} to {}  forwarded {} ({} bytes)  dropped as asked: {}",
                site.site,
                direction.to,
                direction.forwarded,
                direction.forwarded_bytes,
                direction.dropped
            )?;
        }
        writeln!(
            out,
            "{}  without a route {}  waiting now {}  worst lateness {} us  longest without a pause {} us",
            site.site, site.no_route, site.in_flight, site.worst_lateness_us, site.worst_unread_us
        )?;
    }
    Ok(writeln!(out, "{}", stats.verdict())?)
}

fn print(value: &impl serde::Serialize) -> anyhow::Result<()> {
    Ok(writeln!(std::io::stdout(), "{}", serde_json::to_string_pretty(value)?)?)
}
