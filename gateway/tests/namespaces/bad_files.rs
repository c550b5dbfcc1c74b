//! Files that no gateway can run from: each is refused by `--check` with what is wrong, quickly, and
//! without a word of any secret.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::standalone::{file, keys};

const SECRET: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";

fn check(path: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_carrick-gateway"));
    command.args(["run", "--check", "--config"]).arg(path).stdin(Stdio::null());
    command.output().expect("it runs")
}

fn good(peers: &str) -> String {
    format!("interface:\n  name: wan0\nprivate_key: {SECRET}\nlisten_port: 51820\npeers:\n{peers}")
}

fn peer(prefixes: &str) -> String {
    format!("- public_key: {}\n  allowed_prefixes: [{prefixes}]\n", keys().public)
}

/// What is said of this file, which must be refused.
fn refused(bytes: impl AsRef<[u8]>) -> String {
    let file = file("");
    std::fs::write(file.path(), bytes).expect("written");
    let output = check(file.path());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    // One that crashes has no exit code.
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&file.path().display().to_string()), "names no file: {said}");
    assert!(!said.contains("AQEB"), "quotes a secret: {said}");
    assert!(said.len() < 1000, "{} bytes", said.len());
    let reason = said.trim_end().rsplit(": ").next().unwrap_or_default();
    assert_eq!(said.matches(reason).count(), 1, "says it twice: {said}");
    said
}

#[test]
fn what_contradicts_itself_is_named() {
    let twice = peer("10.8.0.0/16");
    for (text, words) in [
        (good("") + "listen_port: 1\n", ["duplicate", "listen_port"]),
        (good("") + "lane: 1\n", ["unknown field", "`lane`"]),
        (good(&(peer("10.8.0.0/16") + "  mtu: 1400\n")), ["only a Carrick peer", "mtu"]),
        (good(&(twice.clone() + &twice)), ["peers[1].public_key", "peers[0]"]),
        (good(&(peer("10.8.0.0/16") + &peer("10.8.0.0/16"))), ["peers[1]", "10.8.0.0/16"]),
        (good(&peer("10.8.0.0/16, 10.8.0.0/16")), ["allowed_prefixes", "10.8.0.0/16"]),
        (good("") + "private_key_file: /nowhere\n", ["private_key_file", "remove one"]),
        (good(&peer("10.8.0.1/16")), ["10.8.0.0/16", "line"]),
    ] {
        let said = refused(&text);
        assert!(words.iter().all(|word| said.contains(word)), "{words:?} not in {said}\n{text}");
    }
}

#[test]
fn a_narrow_prefix_inside_of_another_peers_wide_one_is_no_contradiction() {
    let file = file(&good(&(peer("10.0.0.0/8") + &peer("10.8.0.0/16"))));
    let output = check(file.path());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn files_that_are_missing_or_hold_something_else_are_named() {
    let without = good("").replace(&format!("private_key: {SECRET}\n"), "");
    let named = |path: &str| {
        let file = file(&format!("{without}private_key_file: {path}\n"));
        let output = check(file.path());
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(path), "{path} is not in {said}");
        said
    };
    assert!(named("/nonexistent/key").contains("No such file"));
    assert!(named("/").contains("directory"));
    let rubbish = file("AQEBnot-a-key");
    let said = named(rubbish.path().to_str().expect("text"));
    assert!(said.contains("base64") && !said.contains("AQEB"), "{said}");
    let directory = check(Path::new("/"));
    assert!(!directory.status.success());
}

#[test]
fn what_is_no_such_file_at_all_is_refused_and_costs_little() {
    for bytes in [&b""[..], b"\xff\xfe\x00", b"interface: [", b"- 1", b"\0", b"interface: 7"] {
        refused(bytes);
    }
    refused("[".repeat(1 << 16));
    refused("a: ".repeat(1 << 12));
    // Each line is ten of the one before.
    let mut bomb = "a0: &a0 [x]\n".to_owned();
    for level in 1..12 {
        let before = format!("*a{},", level - 1).repeat(10);
        bomb += &format!("a{level}: &a{level} [{before}]\n");
    }
    refused(format!("{bomb}peers: *a11\n"));
    refused(good(&format!("- name: {}\n", "x".repeat(1 << 16))));
}
