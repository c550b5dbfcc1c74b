//! The simulation of `e2e/sim`, which is a workspace of its own, as part of `cargo test`.

use std::path::Path;
use std::process::Command;

#[test]
fn lanes_in_virtual_time() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("sim");
    // The folder matters: its configuration names a target folder of its own, so that no lock is shared.
    let status = Command::new(env!("CARGO"))
        .args(["test", "--quiet", "--locked", "--release", "--", "--nocapture"])
        .current_dir(&folder)
        .env_remove("CARGO_TARGET_DIR")
        .env_remove("RUSTFLAGS")
        .status()
        .expect("cargo, which runs this test too");
    assert!(status.success(), "the simulation failed; run `cargo test --release` in {folder:?}");
}
