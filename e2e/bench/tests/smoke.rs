//! The bench over real namespaces, with the plain path and our own gateway only. Needs root.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use carrick_e2e::machine::ProcessRecord;
use carrick_e2e::wait::wait_until;
use serde_json::Value;

/// Where a run keeps its record.
const FOLDER: &str = "/run/carrick-bench";

/// Runs refuse each other.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn bench(out: &Path, arguments: &[&str]) -> Command {
    assert!(nix::unistd::geteuid().is_root(), "this test makes network namespaces: run as root");
    let mut command = Command::new(env!("CARGO_BIN_EXE_carrick-bench"));
    command.args(arguments).arg("--out").arg(out).stdin(Stdio::null());
    // The gateway that cargo has built beside the bench, if it has: seconds instead of minutes.
    let beside = Path::new(env!("CARGO_BIN_EXE_carrick-bench")).with_file_name("carrick-gateway");
    if beside.is_file() && !arguments.contains(&"--gateway") {
        command.arg("--gateway").arg(beside);
    }
    command
}

fn run(mut command: Command) -> Output {
    command.output().expect("the bench runs")
}

/// One short run of our gateway on the harshest underlay: figures come out, and nothing stays.
#[test]
fn a_short_run_of_our_gateway_gives_figures_and_leaves_nothing() {
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let out = tempfile::tempdir().expect("a folder");
    let flags = ["--only", "plain,carrick", "--profile", "none", "--rounds", "1", "--seconds", "1"];
    let measures = ["--measure", "rtt,tcp1,connections,memory"];
    let output = run(bench(out.path(), &[&flags[..], &measures].concat()));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let text = std::fs::read(out.path().join("bench-tunnel.json")).expect("JSON is written");
    let report: Value = serde_json::from_slice(&text).expect("JSON");
    let figure = |sample: usize, key: &str| {
        let value = report["samples"][sample]["figures"][key].as_f64();
        value.unwrap_or_else(|| panic!("sample {sample} has no {key}: {said}"))
    };
    for sample in 0..2 {
        assert!(figure(sample, "tcp1.there") > 0.01 && figure(sample, "tcp1.both") > 0.01);
        assert!(figure(sample, "rtt.p99") >= figure(sample, "rtt.p50"));
        assert!(figure(sample, "connections") > 1.0);
    }
    assert!(figure(1, "tcp1.there.send") > 0.0 && figure(1, "memory.high") > 1.0);
    assert!(report["summary"][0]["ratios"]["plain"]["median"].is_number());
    assert!(!Path::new(FOLDER).exists());
}

fn recorded() -> Result<Vec<ProcessRecord>, String> {
    let path = Path::new(FOLDER).join("record.json");
    let text = std::fs::read(path).map_err(|error| error.to_string())?;
    let record: Value = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
    serde_json::from_value(record["processes"].clone()).map_err(|error| error.to_string())
}

/// Both gateways and iperf3 run when the bench is killed.
#[test]
fn a_killed_run_takes_its_programs_along_and_does_not_block_the_next() {
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let out = tempfile::tempdir().expect("a folder");
    let flags = ["--only", "carrick", "--profile", "segmentation", "--rounds", "1"];
    let long = [&flags[..], &["--measure", "tcp1", "--seconds", "600"]].concat();
    let mut command = bench(out.path(), &long);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("started");
    let running = wait_until(Duration::from_secs(240), "programs on the record", || {
        let processes = recorded()?;
        let alive = processes.iter().filter(|process| process.alive()).count();
        if alive >= 3 { Ok(processes) } else { Err(format!("{alive} run")) }
    });
    child.kill().expect("killed");
    child.wait().expect("waited for");
    for process in running.expect("programs") {
        process.wait_gone(Duration::from_secs(5)).expect("it dies with the run");
    }
    let next = run(bench(out.path(), &[&flags[..], &["--measure", "memory"]].concat()));
    assert!(next.status.success(), "{}", String::from_utf8_lossy(&next.stderr));
    assert!(!Path::new(FOLDER).exists());
}

#[test]
fn what_is_no_gateway_is_refused() {
    let out = tempfile::tempdir().expect("a folder");
    let flags = ["--only", "carrick", "--profile", "segmentation", "--rounds", "1"];
    let output = run(bench(out.path(), &[&flags[..], &["--gateway", "/bin/false"]].concat()));
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("/bin/false"), "{said}");
}

#[test]
fn words_that_mean_nothing_are_refused_with_those_that_do() {
    let out = tempfile::tempdir().expect("a folder");
    for (flag, word) in [("--only", "wireguard"), ("--profile", "fast"), ("--measure", "tcp2")] {
        let output = run(bench(out.path(), &[flag, word]));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{said}");
        assert!(said.contains(flag) && said.contains(word) && said.contains("choose"), "{said}");
    }
}
