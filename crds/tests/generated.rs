//! The CustomResourceDefinitions in the chart are those of the types.

use std::collections::BTreeSet;
use std::path::Path;

const RENEW: &str = "run `cargo run -p carrick-crds --bin generate-crds` and commit what it writes";

#[test]
fn the_charts_definitions_are_fresh_and_no_others_lie_there() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/carrick/templates/crds");
    let files = carrick_crds::generate::files().expect("definitions render");
    for (name, content) in &files {
        let held = std::fs::read_to_string(folder.join(name)).unwrap_or_default();
        assert!(held == *content, "charts/carrick/templates/crds/{name} is stale: {RENEW}");
    }
    let held: BTreeSet<String> = std::fs::read_dir(&folder)
        .expect("folder of definitions")
        .map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned())
        .collect();
    let made: BTreeSet<String> = files.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(held, made, "{RENEW}");
}

#[test]
fn definitions_survive_uninstall_and_hold_nothing_that_helm_would_expand() {
    for (name, content) in carrick_crds::generate::files().expect("definitions render") {
        assert!(content.contains("helm.sh/resource-policy: keep"), "{name}");
        // Those that others may have brought stand in a guard, which is all that helm expands.
        let guarded = name.starts_with("service");
        let expanded: Vec<&str> = content.lines().filter(|line| line.contains("{{")).collect();
        let guards = expanded.iter().all(|line| line.starts_with("{{- "));
        assert!(guards && expanded.len() == if guarded { 2 } else { 0 }, "{name}: {expanded:?}");
    }
}
