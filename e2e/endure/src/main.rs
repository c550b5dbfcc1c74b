//! `cargo endure`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use carrick_bench::ledger::Ledger;
use carrick_bench::plan::Contestant;
use carrick_bench::programs::{self, Given};
use carrick_e2e::progress::Progress;
use carrick_endure::gateway::{Kind, Programs};
use carrick_endure::report::Report;
use carrick_endure::{flood, interop, soak, weather};
use clap::{Parser, Subcommand};

/// Runs gateways under lasting traffic between network namespaces of this machine, and checks every byte.
#[derive(Parser)]
#[command(name = "cargo endure", version)]
struct Cli {
    #[command(subcommand)]
    what: What,
    /// How long, in seconds.
    #[arg(long, global = true, default_value_t = 60, value_parser = clap::value_parser!(u64).range(10..=1_000_000))]
    seconds: u64,
    /// A built carrick-gateway, instead of the one that is built here.
    #[arg(long, global = true, value_name = "PATH")]
    gateway: Option<PathBuf>,
}

#[derive(Clone, Copy, Subcommand)]
enum What {
    /// Against wireguard-go, once as the caller and once as the one that is called, both at once.
    Interop,
    /// Ours at both ends under load, with a reload every minute: memory and descriptors stay flat.
    Soak,
    /// Ours at both ends while strangers send 20,000 handshakes a second: whoever is real gets in.
    Flood,
    /// Ours at both ends of a path with 5 % each of loss, reordering and duplication.
    Weather,
}

/// Handshakes a second.
const FLOOD: u32 = 20_000;

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(reports) => {
            reports.iter().for_each(|report| print!("{report}"));
            match reports.iter().all(|report| report.short.is_empty()) {
                true => ExitCode::SUCCESS,
                false => ExitCode::FAILURE,
            }
        }
        Err(error) => {
            eprintln!("endure: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> anyhow::Result<Vec<Report>> {
    let given = Given { gateway: cli.gateway.clone(), ..Given::default() };
    programs::check_given(&given)?;
    if !nix::unistd::geteuid().is_root() {
        bail!("network namespaces and TUN devices need root; run it as root or with sudo");
    }
    let programs = programs(cli.what, &given)?;
    let folder = tempfile::tempdir()?;
    let ledger = Ledger::open(&folder.path().join("run"))?;
    let time = Duration::from_secs(cli.seconds);
    let minute = Duration::from_secs(60).min(time / 5);
    match cli.what {
        What::Interop => both_roles(time, &programs, &ledger),
        What::Soak => Ok(vec![soak::run(time, minute, &soak::LOADED, &programs, &ledger)?]),
        What::Flood => Ok(vec![flood::run(time, FLOOD, &interop::LIGHT, &programs, &ledger)?]),
        What::Weather => Ok(vec![weather::run(time, &weather::PATIENT, &programs, &ledger)?]),
    }
}

fn programs(what: What, given: &Given) -> anyhow::Result<Programs> {
    let wanted: &[Contestant] = match what {
        What::Interop => &[Contestant::Carrick, Contestant::WireguardGo],
        What::Soak | What::Flood | What::Weather => &[Contestant::Carrick],
    };
    let mut found = programs::ensure(wanted, given, &Progress::default())?;
    let mut path = |one| found.remove(&one).map(|program| program.path).unwrap_or_default();
    Ok(Programs { carrick: path(Contestant::Carrick), wireguard_go: path(Contestant::WireguardGo) })
}

/// Two pairs beside each other.
fn both_roles(time: Duration, programs: &Programs, ledger: &Ledger) -> anyhow::Result<Vec<Report>> {
    std::thread::scope(|scope| {
        let run = |caller| interop::run(caller, time, &interop::LIGHT, programs, ledger);
        let other = scope.spawn(move || run(Kind::WireguardGo));
        let reports = [run(Kind::Carrick), other.join().unwrap_or_else(|_| bail!("panicked"))];
        reports.into_iter().collect()
    })
}
