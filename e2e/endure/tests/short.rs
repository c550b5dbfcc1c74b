//! Each run in its short form. They need root.

use std::path::Path;
use std::time::Duration;

use carrick_bench::ledger::Ledger;
use carrick_bench::plan::Contestant;
use carrick_bench::programs::{Given, ensure};
use carrick_e2e::progress::Progress;
use carrick_endure::gateway::{Kind, Programs};
use carrick_endure::report::Report;
use carrick_endure::traffic::Load;
use carrick_endure::{flood, interop, soak, weather};

/// As fast as an unoptimized gateway is.
const LITTLE: Load = Load { trains: 10, echoes: 10, connections: 4, stream_bits: 2_000_000 };

fn programs(contestants: &[Contestant]) -> Programs {
    assert!(nix::unistd::geteuid().is_root(), "this test makes network namespaces: run as root");
    // The gateway that cargo has built beside the program, if it has: seconds instead of minutes.
    let beside = Path::new(env!("CARGO_BIN_EXE_carrick-endure")).with_file_name("carrick-gateway");
    let given = Given { gateway: beside.is_file().then_some(beside), ..Given::default() };
    let mut found = ensure(contestants, &given, &Progress::default()).expect("the programs");
    let mut path = |one| found.remove(&one).map(|program| program.path).unwrap_or_default();
    Programs { carrick: path(Contestant::Carrick), wireguard_go: path(Contestant::WireguardGo) }
}

fn ledger() -> (tempfile::TempDir, Ledger) {
    let folder = tempfile::tempdir().expect("a folder");
    let ledger = Ledger::open(&folder.path().join("run")).expect("a ledger");
    (folder, ledger)
}

fn is_good(report: anyhow::Result<Report>) {
    let report = report.expect("it runs");
    println!("{report}");
    assert!(report.short.is_empty(), "{report}");
}

#[test]
fn wireguard_go_and_ours_understand_each_other_whoever_calls() {
    let programs = programs(&[Contestant::Carrick, Contestant::WireguardGo]);
    let (_folder, ledger) = ledger();
    std::thread::scope(|scope| {
        for caller in [Kind::Carrick, Kind::WireguardGo] {
            let (programs, ledger) = (&programs, &ledger);
            scope.spawn(move || {
                is_good(interop::run(caller, Duration::from_secs(12), &LITTLE, programs, ledger));
            });
        }
    });
}

#[test]
fn memory_and_descriptors_stay_flat_under_load_and_reloads() {
    let (programs, (_folder, ledger)) = (programs(&[Contestant::Carrick]), ledger());
    let (time, reload) = (Duration::from_secs(15), Duration::from_secs(2));
    is_good(soak::run(time, reload, &LITTLE, &programs, &ledger));
}

#[test]
fn streams_arrive_whole_through_loss_reordering_and_duplication() {
    let (programs, (_folder, ledger)) = (programs(&[Contestant::Carrick]), ledger());
    is_good(weather::run(Duration::from_secs(10), &weather::PATIENT, &programs, &ledger));
}

#[test]
fn traffic_and_a_restarted_peer_get_through_a_flood_of_handshakes() {
    let (programs, (_folder, ledger)) = (programs(&[Contestant::Carrick]), ledger());
    is_good(flood::run(Duration::from_secs(10), 1000, &interop::LIGHT, &programs, &ledger));
}
