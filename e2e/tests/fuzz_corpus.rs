//! The inputs that fuzzing of the packet path kept, replayed in the workspace of `fuzz`, as part of
//! `cargo test`.

use std::path::Path;
use std::process::Command;

#[test]
fn what_fuzzing_found_breaks_nothing() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
    // The folder matters: its configuration names a target folder of its own.
    let status = Command::new(env!("CARGO"))
        .args(["test", "--quiet", "--locked", "--release", "--test", "corpus"])
        .current_dir(&folder)
        .env_remove("CARGO_TARGET_DIR")
        .env_remove("RUSTFLAGS")
        .status()
        .expect("cargo, which runs this test too");
    assert!(status.success(), "an input broke something; run `cargo test --release` in {folder:?}");
}
