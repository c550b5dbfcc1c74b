//! The command line of the WAN emulator.

use anyhow::{Context, bail};
use carrick_wan::bench::{self, Plan};
use carrick_wan::control::Server;
use carrick_wan::{Conditions, Config, Control, Emulator, SiteConfig, Stats, conditions};
use clap::{Args, Parser, Subcommand};
use nix::sys::signal::{SigSet, Signal};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// Emulates wide-area links between network namespaces.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the emulator until SIGTERM or SIGINT; prints "ready" once it forwards. Fails at the end
    /// when it lost packets that no condition asked for.
    Run(Run),
    /// Sets a direction's conditions: `set paris osaka --named satellite-geo`, or JSON.
    Set(Set),
    /// Prints a direction's conditions as JSON.
    Get(Direction),
    /// Cuts a direction.
    Cut(Direction),
    /// Undoes a cut.
    Restore(Direction),
    /// Prints the counters as JSON.
    Stats(Socket),
    /// Gives every direction its conditions of the start.
    Reset(Socket),
    /// Prints all named conditions with their sources.
    ListConditions,
    /// Measures forwarding between two namespaces of its own; fails when it lost packets.
    Bench(Bench),
}

#[derive(Args)]
struct Run {
    /// A site and its network namespace: NAME=PATH.
    #[arg(long = "site", value_parser = pair)]
    sites: Vec<(String, String)>,
    /// A prefix of a site: NAME=CIDR.
    #[arg(long = "route", value_parser = pair)]
    routes: Vec<(String, String)>,
    /// A YAML file instead of --site and --route.
    #[arg(long, conflicts_with_all = ["sites", "routes"])]
    config: Option<PathBuf>,
    /// Where to listen for changes.
    #[arg(long)]
    control: Option<PathBuf>,
}

#[derive(Args)]
struct Socket {
    /// The control socket of a running emulator.
    #[arg(long)]
    control: PathBuf,
}

#[derive(Args)]
struct Direction {
    /// The sending site.
    from: String,
    /// The receiving site.
    to: String,
    #[command(flatten)]
    socket: Socket,
}

#[derive(Args)]
struct Set {
    #[command(flatten)]
    direction: Direction,
    /// Named conditions (see list-conditions).
    #[arg(long, required_unless_present = "json", conflicts_with = "json")]
    named: Option<String>,
    /// Conditions as JSON, for instance {"delayUs":10000}.
    #[arg(long)]
    json: Option<String>,
    /// Sets the other direction too.
    #[arg(long)]
    both: bool,
}

#[derive(Args)]
struct Bench {
    /// Packets offered a second.
    #[arg(long, default_value_t = 150_000)]
    rate: u64,
    /// Seconds.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// One-way delay in microseconds.
    #[arg(long, default_value_t = 0)]
    delay_us: u64,
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !value.is_empty() => {
            Ok((name.to_owned(), value.to_owned()))
        }
        _ => Err("give NAME=VALUE".to_owned()),
    }
}

fn main() -> ExitCode {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    match command(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("carrick-wan: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn command(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Run(args) => return run(&args),
        Command::Bench(args) => return run_bench(&args),
        Command::Set(args) => set(&args)?,
        Command::Get(Direction { from, to, socket }) => print(&connect(&socket)?.get(&from, &to)?)?,
        Command::Cut(Direction { from, to, socket }) => connect(&socket)?.cut(&from, &to)?,
        Command::Restore(Direction { from, to, socket }) => {
            connect(&socket)?.restore(&from, &to)?
        }
        Command::Stats(socket) => print(&connect(&socket)?.stats()?)?,
        Command::Reset(socket) => connect(&socket)?.reset()?,
        Command::ListConditions => print!("{}", serde_yaml::to_string(&conditions::named())?),
    }
    Ok(ExitCode::SUCCESS)
}

fn connect(socket: &Socket) -> anyhow::Result<Control> {
    Ok(Control::connect(&socket.control)?)
}

fn print(value: &impl serde::Serialize) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string_pretty(value)?);
    Ok(())
}

fn run(args: &Run) -> anyhow::Result<ExitCode> {
    let config = match &args.config {
        Some(path) => read_config(path)?,
        None => config_of(args)?,
    };
    // Before any thread starts, so that no thread takes the signal the default way.
    let stop = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT]);
    stop.thread_block()?;
    let emulator = Arc::new(Emulator::start(config)?);
    let server =
        args.control.as_ref().map(|path| Server::start(path, emulator.clone())).transpose()?;
    println!("ready");
    let signal = stop.wait()?;
    drop(server);
    tracing::info!(%signal, "stopped");
    Ok(judge(&emulator.stats()?))
}

/// Ends a run: a line that says what the emulator itself lost, and a failure if that is anything.
fn judge(stats: &Stats) -> ExitCode {
    eprintln!("{}", stats.verdict());
    if stats.unintended() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn read_config(path: &Path) -> anyhow::Result<Config> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the configuration {}", path.display()))?;
    serde_yaml::from_str(&text)
        .with_context(|| format!("the configuration {} is not valid", path.display()))
}

fn config_of(args: &Run) -> anyhow::Result<Config> {
    let mut sites: Vec<SiteConfig> = args
        .sites
        .iter()
        .map(|(name, path)| SiteConfig::new(name.clone(), path.into(), Vec::new()))
        .collect();
    for (name, prefix) in &args.routes {
        let Some(site) = sites.iter_mut().find(|site| site.name == *name) else {
            bail!("--route names site {name:?}; add --site {name}=NAMESPACE");
        };
        let net = prefix.parse();
        site.prefixes.push(net.with_context(|| format!("--route {name}={prefix}: not a CIDR"))?);
    }
    Ok(Config::new(sites))
}

fn set(args: &Set) -> anyhow::Result<()> {
    let conditions: Conditions = match (&args.named, &args.json) {
        (Some(name), _) => conditions::by_name(name)?,
        (None, Some(json)) => serde_json::from_str(json).context("--json is not conditions")?,
        (None, None) => bail!("give --named or --json"),
    };
    let Direction { from, to, socket } = &args.direction;
    let mut control = connect(socket)?;
    control.set(from, to, &conditions)?;
    if args.both {
        control.set(to, from, &conditions)?;
    }
    Ok(())
}

fn run_bench(args: &Bench) -> anyhow::Result<ExitCode> {
    let report = bench::run(&Plan {
        duration: Duration::from_secs(args.seconds.max(1)),
        rate: args.rate,
        conditions: Conditions::delay_us(args.delay_us),
    })?;
    println!(
        "offered {:.0} packets/s of 1500 B, forwarded {:.0}, received {:.0}; worst lateness {} us, \
         longest without a pause {} us",
        report.offered,
        report.forwarded,
        report.received,
        report.stats.worst_lateness_us(),
        report.stats.worst_unread_us()
    );
    Ok(judge(&report.stats))
}
