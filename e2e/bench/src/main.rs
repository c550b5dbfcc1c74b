//! `cargo bench-tunnel`.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use carrick_bench::apart;
use carrick_bench::ledger::{FOLDER, Ledger};
use carrick_bench::machine::Machine;
use carrick_bench::plan::{Apart, Contestant, Measure, Named, Plan, Profile, parse_list};
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
    /// memory; and what has no contestants: lanes-in-memory, pod-to-pod. All if left out, but
    /// pod-to-pod, which makes two clusters.
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
    /// Measures nothing, but writes the page docs/benchmarks.md and its picture anew from a bench-tunnel.json;
    /// given again, measures that the first lacks are taken from the others.
    #[arg(long, value_name = "JSON")]
    page: Vec<PathBuf>,
    /// Where bench-tunnel.json, .md and .svg go.
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

fn main() -> ExitCode {
    carrick_e2e::helper::serve();
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
    if !cli.page.is_empty() {
        return page(&cli.page);
    }
    let plan = plan(&cli)?;
    let given = Given { gateway: cli.gateway, floor: cli.floor, settings: cli.settings };
    programs::check_given(&given)?;
    if !nix::unistd::geteuid().is_root() {
        bail!("network namespaces and TUN devices need root; run it as root or with sudo");
    }
    let progress = Progress::default();
    let wanted = if plan.measures.is_empty() { &[] } else { &plan.contestants[..] };
    let programs = programs::ensure(wanted, &given, &progress)?;
    let tools = apart::Tools::ensure(&plan, || programs::gateway(&given, &progress), &progress)?;
    // Before any thread starts, so that none takes the signals the default way.
    let stop: SigSet = [Signal::SIGTERM, Signal::SIGINT].into_iter().collect();
    stop.thread_block().context("blocking signals")?;
    if cli.prefer {
        prefer()?;
    }
    let ledger = Arc::new(Ledger::open(Path::new(FOLDER))?);
    end_on_signal(stop, ledger.clone(), plan.apart.contains(&Apart::PodToPod));
    let machine = Machine::this();
    let began = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    progress.say(&machine.describe());
    progress.say(&format!("about {} minutes", minutes(plan.estimate())));
    let samples = rounds::run(&plan, &programs, &ledger, &progress);
    let apart = apart::run(&plan, &tools, &ledger, &progress);
    ledger.clean();
    let versions = programs.into_iter().map(|(one, program)| (one, program.version)).collect();
    let report = Report::new(machine, began, plan, versions, samples, apart);
    let failed = report.failures().len();
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

/// Writes the page from reports.
fn page(paths: &[PathBuf]) -> anyhow::Result<ExitCode> {
    let mut reports = paths.iter().map(|path| Report::read(path));
    let mut report = reports.next().context("no report")??;
    for other in reports {
        report.join(other?);
    }
    report.write_page(&repository().join("docs"))?;
    Ok(ExitCode::SUCCESS)
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
    let (mut measures, mut apart) = (Measure::ALL.to_vec(), vec![Apart::LanesInMemory]);
    if let Some(text) = &cli.measure {
        (measures, apart) = (Vec::new(), Vec::new());
        for named in parse_list("--measure", text, &Named::all(), Named::name)? {
            match named {
                Named::Measure(measure) => measures.push(measure),
                Named::Apart(one) => apart.push(one),
            }
        }
    }
    if cli.prefer && apart.contains(&Apart::PodToPod) {
        bail!(
            "--prefer does not reach the clusters' programs, and pod-to-pod would compare unlike things; leave it out"
        );
    }
    let rounds = cli.rounds.into();
    Ok(Plan { contestants, profiles, measures, apart, rounds, seconds: cli.seconds })
}

/// Comes before others. This thread starts all others and all programs; they inherit it.
fn prefer() -> anyhow::Result<()> {
    let own = nix::unistd::getpid().to_string();
    carrick_e2e::run::run(Command::new("renice").args(["-n", "-15", "-p", &own]))?;
    // Where the kernel groups processes by session, niceness counts only inside a group: between groups
    // it is the group's own that does.
    let group = Path::new("/proc/self/autogroup");
    match std::fs::write(group, "-15") {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error).context("preferring it"),
        _ => Ok(()),
    }
}

/// Ends and removes all that was made when the run is told to stop.
fn end_on_signal(stop: SigSet, ledger: Arc<Ledger>, lab: bool) {
    std::thread::spawn(move || {
        let signal = stop.wait().map_or("?", Signal::as_str);
        ledger.clean();
        match lab {
            true => eprintln!(
                "stopped by {signal}; `cargo lab --lab {0} down` removes the clusters, if there are any",
                apart::pods::LAB
            ),
            false => eprintln!("stopped by {signal}; nothing is left behind"),
        }
        std::process::exit(130);
    });
}

fn minutes(time: Duration) -> String {
    format!("{:.0}", (time.as_secs_f64() / 60.0).ceil())
}
