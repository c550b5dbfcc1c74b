//! `cargo bench-tunnel`.

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use carrick_bench::ledger::{FOLDER, Ledger};
use carrick_bench::machine::Machine;
use carrick_bench::plan::{Contestant, Measure, Plan, Profile, parse_list};
use carrick_bench::programs::{self, Given};
use carrick_bench::report::Report;
use carrick_bench::rounds;
use carrick_e2e::parts::repository;
use carrick_e2e::progress::Progress;
use clap::Parser;
use nix::sys::signal::{SigSet, Signal};

/// Measures userspace WireGuard gateways side by side, in network namespaces of this machine.
#[derive(Parser)]
#[command(name = "cargo bench-tunnel", version)]
struct Cli {
    /// Who takes part: plain, floor, carrick, wireguard-go, boringtun-cli, gotatun. All if left out,
    /// but no floor beside another --gateway.
    #[arg(long, value_name = "LIST")]
    only: Option<String>,
    /// On which underlays: segmentation, receive, none. All if left out.
    #[arg(long, value_name = "LIST")]
    profile: Option<String>,
    /// What is measured: rtt, tcp1, tcp4, tcp16, rtt-loaded, udp64, udp512, udp1200, connections,
    /// memory. All if left out.
    #[arg(long, value_name = "LIST")]
    measure: Option<String>,
    /// How often every contestant runs.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: u16,
    /// How long one TCP transfer takes.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=3600))]
    seconds: u32,
    /// A built carrick-gateway, instead of the one that is built here.
    #[arg(long, value_name = "PATH")]
    gateway: Option<PathBuf>,
    /// A carrick-gateway that does all but the cipher, instead of the one that is built here: contestant
    /// `floor`, what input and output cost.
    #[arg(long, value_name = "PATH")]
    floor: Option<PathBuf>,
    /// A line for our gateway's configuration file, for example "lanes: 2"; may be given again.
    #[arg(long = "setting", value_name = "LINE")]
    settings: Vec<String>,
    /// Comes before other work on the machine (niceness -15, for everything that the run starts): where
    /// others compile, figures are worth more, and others wait.
    #[arg(long)]
    prefer: bool,
    /// Where bench-tunnel.json, .md and .svg go.
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

fn main() -> ExitCode {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    match run(Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("bench-tunnel: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let plan = plan(&cli)?;
    let given = Given { gateway: cli.gateway, floor: cli.floor, settings: cli.settings };
    programs::check_given(&given)?;
    if !nix::unistd::geteuid().is_root() {
        bail!("network namespaces and TUN devices need root; run it as root or with sudo");
    }
    let progress = Progress::default();
    let programs = programs::ensure(&plan.contestants, &given, &progress)?;
    // Before any thread starts, so that none takes the signals the default way.
    let stop: SigSet = [Signal::SIGTERM, Signal::SIGINT].into_iter().collect();
    stop.thread_block().context("blocking signals")?;
    if cli.prefer {
        // This thread starts all others and all programs; they inherit it.
        let own = nix::unistd::getpid().to_string();
        carrick_e2e::run::run(Command::new("renice").args(["-n", "-15", "-p", &own]))?;
    }
    let ledger = Arc::new(Ledger::open(std::path::Path::new(FOLDER))?);
    end_on_signal(stop, ledger.clone());
    let machine = Machine::this();
    let began = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    progress.say(&machine.describe());
    progress.say(&format!("about {} minutes", minutes(plan.estimate())));
    let samples = rounds::run(&plan, &programs, &ledger, &progress);
    ledger.clean();
    let failed = samples.iter().map(|sample| sample.failures.len()).sum::<usize>();
    let versions = programs.into_iter().map(|(one, program)| (one, program.version)).collect();
    let report = Report::new(machine, began, plan, versions, samples);
    let folder = cli.out.unwrap_or_else(|| repository().join("target/bench-tunnel"));
    report.write(&folder)?;
    println!("{}", report.markdown());
    progress.say(&format!("written to {}: bench-tunnel.json, .md, .svg", folder.display()));
    match failed {
        0 => Ok(ExitCode::SUCCESS),
        failed => {
            progress.say(&format!("{failed} measures FAILED; the report names them"));
            Ok(ExitCode::FAILURE)
        }
    }
}

fn plan(cli: &Cli) -> anyhow::Result<Plan> {
    let contestants = match &cli.only {
        Some(text) => parse_list("--only", text, &Contestant::ALL, Contestant::name)?,
        None => {
            // What is built here is no measure for a gateway that was built elsewhere.
            let floor = cli.floor.is_some() || cli.gateway.is_none();
            let wanted = |one: &Contestant| *one != Contestant::Floor || floor;
            Contestant::ALL.into_iter().filter(wanted).collect()
        }
    };
    let profiles = match &cli.profile {
        Some(text) => parse_list("--profile", text, &Profile::ALL, Profile::name)?,
        None => Profile::ALL.to_vec(),
    };
    let measures = match &cli.measure {
        Some(text) => parse_list("--measure", text, &Measure::ALL, Measure::name)?,
        None => Measure::ALL.to_vec(),
    };
    let rounds = cli.rounds.into();
    Ok(Plan { contestants, profiles, measures, rounds, seconds: cli.seconds })
}

/// Ends and removes all that was made when the run is told to stop.
fn end_on_signal(stop: SigSet, ledger: Arc<Ledger>) {
    std::thread::spawn(move || {
        let signal = stop.wait();
        ledger.clean();
        eprintln!("stopped by {}; nothing is left behind", signal.map_or("?", Signal::as_str));
        std::process::exit(130);
    });
}

fn minutes(time: Duration) -> String {
    format!("{:.0}", (time.as_secs_f64() / 60.0).ceil())
}
