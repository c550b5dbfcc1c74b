//! The workspaces beside the main one, as part of `cargo test`.

use std::path::Path;
use std::process::Command;

/// Runs the tests of the workspace in `folder` (from this crate's), with these words after the others.
fn passes(folder: &str, words: &[&str]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    // The folder matters: its configuration names a target folder of its own, so that no lock is shared.
    let status = Command::new(env!("CARGO"))
        .args(["test", "--quiet", "--locked", "--release"])
        .args(words)
        .current_dir(&folder)
        .env_remove("CARGO_TARGET_DIR")
        .env_remove("RUSTFLAGS")
        .status()
        .expect("cargo, which runs this test too");
    assert!(
        status.success(),
        "it failed; to see it again, run `cargo test --release` in {folder:?}"
    );
}

/// `e2e/sim`: two lanes in virtual time, and worlds of clusters for a minute.
#[test]
fn lanes_and_clusters_in_virtual_time() {
    passes("sim", &["--", "--nocapture"]);
}

/// `fuzz`: the inputs that fuzzing of the packet path kept.
#[test]
fn what_fuzzing_found_breaks_nothing() {
    passes("../fuzz", &["--test", "corpus"]);
}
