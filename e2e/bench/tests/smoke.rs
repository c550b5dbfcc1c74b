//! The bench over real namespaces, with the plain path only and with our own gateway. Needs root.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn bench(out: &Path, arguments: &[&str]) -> Output {
    assert!(nix::unistd::geteuid().is_root(), "this test makes network namespaces: run as root");
    let mut command = Command::new(env!("CARGO_BIN_EXE_carrick-bench"));
    command.args(arguments).arg("--out").arg(out).stdin(Stdio::null());
    command.output().expect("the bench runs")
}

/// One short run of our gateway on the harshest underlay: figures come out, and nothing stays.
#[test]
fn a_short_run_of_our_gateway_gives_figures_and_leaves_nothing() {
    let out = tempfile::tempdir().expect("a folder");
    let flags = ["--only", "plain,carrick", "--profile", "none", "--rounds", "1", "--seconds", "1"];
    let measures = ["--measure", "rtt,tcp1,connections,memory"];
    // The one that cargo has built beside the bench, if it has: seconds instead of minutes.
    let beside = Path::new(env!("CARGO_BIN_EXE_carrick-bench")).with_file_name("carrick-gateway");
    let path = beside.to_string_lossy();
    let gateway: &[&str] = if beside.is_file() { &["--gateway", &path] } else { &[] };
    let output = bench(out.path(), &[&flags[..], &measures, gateway].concat());
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
    assert!(!Path::new("/run/carrick-bench").exists());
}

#[test]
fn a_gateway_that_does_not_start_is_a_failure_with_its_words() {
    let out = tempfile::tempdir().expect("a folder");
    let flags = ["--only", "carrick", "--profile", "segmentation", "--rounds", "1"];
    let output = bench(out.path(), &[&flags[..], &["--gateway", "/bin/false"]].concat());
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("false"), "{said}");
}

#[test]
fn words_that_mean_nothing_are_refused_with_those_that_do() {
    let out = tempfile::tempdir().expect("a folder");
    for (flag, word) in [("--only", "wireguard"), ("--profile", "fast"), ("--measure", "tcp2")] {
        let output = bench(out.path(), &[flag, word]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{said}");
        assert!(said.contains(flag) && said.contains(word) && said.contains("choose"), "{said}");
    }
}
