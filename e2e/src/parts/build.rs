//! Building the parts by Go, once: the folder's name is a digest of all that
//! decides what comes out, and it appears only when it is complete.

use std::path::{Path, PathBuf};
use std::process::Command;

use aws_lc_rs::digest::{Context, SHA256};

use crate::parts::repository;
use crate::progress::Progress;
use crate::run::run_logged;
use crate::state::{ROOT, Store};
use crate::{Error, Result};

/// The Kubernetes version of go.mod: the daemons say it by this.
const KUBERNETES: &str = "1.36.3";

/// What decides the result beside the flags, relative to the module.
const SOURCES: [&str; 5] = ["go.mod", "go.sum", "kube/main.go", "coredns/main.go", "pause/main.go"];

/// The names by which the multi-call binary is started.
const KUBE_NAMES: [&str; 5] =
    ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy"];

/// Programs whose package has another name than the program.
const RENAMED: [(&str, &str); 2] = [("server", "etcd"), ("wireguard", "wireguard-go")];

/// Bytes of the digest in a folder's name.
const KEY_BYTES: usize = 6;

/// The start of the name of a folder that is being built; the process's number follows.
const BUILDING: &str = "parts-building-";

/// What must be there at the end.
const EXPECTED: [&str; 14] = [
    "kube",
    "coredns",
    "pause",
    "kubectl",
    "helm",
    "etcd",
    "containerd",
    "containerd-shim-runc-v2",
    "ctr",
    "bridge",
    "host-local",
    "loopback",
    "portmap",
    "wireguard-go",
];

/// Builds the parts unless this version is in `cache`, and returns their folder.
///
/// # Errors
/// When a source can't be read, or the build fails.
pub(super) fn ensure(cache: &Path, progress: &Progress) -> Result<PathBuf> {
    let module = repository().join("e2e/parts");
    let folder = cache.join(format!("parts-{}", key(&module)?));
    if folder.is_dir() {
        return Ok(folder);
    }
    remove_abandoned(cache)?;
    // Two labs may build at once: each in its own folder; the second finds the first's.
    let fresh = cache.join(format!("{BUILDING}{}", std::process::id()));
    std::fs::create_dir_all(&fresh).map_err(Error::file("making", &fresh))?;
    let newest = || newest_entry(&fresh);
    progress.say(
        "building Kubernetes, etcd, containerd and the rest from source: about ten minutes, once",
    );
    let built = progress.step("built the clusters' parts", newest, || compile(&module, &fresh));
    let moved = built.and_then(|()| publish(&fresh, &folder));
    if moved.is_err() {
        std::fs::remove_dir_all(&fresh).map_err(Error::file("removing", &fresh))?;
    }
    moved?;
    remove_superseded(cache, &folder, &in_use(Path::new(ROOT)), progress)?;
    Ok(folder)
}

/// The folders of parts that labs run from.
fn in_use(labs: &Path) -> Vec<PathBuf> {
    let others = Store::at(labs, "").others().into_iter();
    others.filter_map(|name| Some(Store::at(labs, &name).load().ok()??.parts)).collect()
}

/// Removes other versions' parts, a gigabyte each, but for those that labs run from.
fn remove_superseded(
    cache: &Path,
    current: &Path,
    used: &[PathBuf],
    progress: &Progress,
) -> Result<()> {
    for entry in std::fs::read_dir(cache).into_iter().flatten().flatten() {
        let (name, path) = (entry.file_name().to_string_lossy().into_owned(), entry.path());
        let key = name.strip_prefix("parts-").unwrap_or_default();
        let is_key = key.len() == 2 * KEY_BYTES && key.bytes().all(|b| b.is_ascii_hexdigit());
        if !is_key || path == current || used.contains(&path) {
            continue;
        }
        std::fs::remove_dir_all(&path).map_err(Error::file("removing", &path))?;
        progress.say(&format!("removed {name}: parts that this version does not use"));
    }
    Ok(())
}

/// Removes what builds left that were killed: their process is gone.
fn remove_abandoned(cache: &Path) -> Result<()> {
    for entry in std::fs::read_dir(cache).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(rest) = name.strip_prefix(BUILDING) else { continue };
        let pid = rest.split('.').next().unwrap_or_default();
        if Path::new("/proc").join(pid).exists() {
            continue;
        }
        let path = entry.path();
        let removed = match path.is_dir() {
            true => std::fs::remove_dir_all(&path),
            false => std::fs::remove_file(&path),
        };
        removed.map_err(Error::file("removing", path))?;
    }
    Ok(())
}

fn key(module: &Path) -> Result<String> {
    let mut digest = Context::new(&SHA256);
    for source in SOURCES {
        let path = module.join(source);
        let text = std::fs::read(&path).map_err(Error::file("reading", &path))?;
        digest.update(&(text.len() as u64).to_be_bytes());
        digest.update(&text);
    }
    digest.update(flags().as_bytes());
    Ok(digest.finish().as_ref().iter().take(KEY_BYTES).map(|byte| format!("{byte:02x}")).collect())
}

fn flags() -> String {
    let minor = KUBERNETES.split('.').nth(1).unwrap_or_default();
    let version = "-X k8s.io/component-base/version.git";
    format!("-s -w {version}Version=v{KUBERNETES} {version}Major=1 {version}Minor={minor}")
}

fn compile(module: &Path, fresh: &Path) -> Result<()> {
    let mut command = Command::new("nice");
    command
        .args([
            "-n",
            "5",
            "go",
            "build",
            "-trimpath",
            "-buildvcs=false",
            "-ldflags",
            &flags(),
            "-o",
        ])
        .arg(fresh)
        .args(["./...", "tool"])
        .current_dir(module)
        .env("CGO_ENABLED", "0");
    run_logged(&mut command, &fresh.with_extension("log"))?;
    name_programs(fresh)
}

fn name_programs(fresh: &Path) -> Result<()> {
    for (built, name) in RENAMED {
        let from = fresh.join(built);
        std::fs::rename(&from, fresh.join(name)).map_err(Error::file("renaming", from))?;
    }
    for name in KUBE_NAMES {
        let link = fresh.join(name);
        std::os::unix::fs::symlink("kube", &link).map_err(Error::file("linking", link))?;
    }
    match EXPECTED.iter().find(|name| !fresh.join(name).is_file()) {
        None => Ok(()),
        Some(name) => Err(Error::Invalid(format!(
            "the build of e2e/parts made no program {name}; is its tool line in go.mod?"
        ))),
    }
}

fn publish(fresh: &Path, folder: &Path) -> Result<()> {
    match std::fs::rename(fresh, folder) {
        Err(_) if folder.is_dir() => {
            std::fs::remove_dir_all(fresh).map_err(Error::file("removing", fresh))
        }
        result => result.map_err(Error::file("moving the build to", folder)),
    }
}

fn newest_entry(fresh: &Path) -> String {
    let entries = std::fs::read_dir(fresh).into_iter().flatten().flatten();
    let done: Vec<String> = entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    match done.len() {
        0 => "compiling".to_owned(),
        _ => format!("linked {}", done.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::LabSpec;
    use crate::state::State;

    #[test]
    fn the_key_follows_every_source() {
        let folder = tempfile::tempdir().expect("a folder");
        for source in SOURCES {
            let path = folder.path().join(source);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            std::fs::write(path, source).expect("written");
        }
        let first = key(folder.path()).expect("a key");
        assert_eq!(first, key(folder.path()).expect("a key"), "stable");
        for source in SOURCES {
            std::fs::write(folder.path().join(source), "changed").expect("written");
            assert_ne!(first, key(folder.path()).expect("a key"), "{source}");
            std::fs::write(folder.path().join(source), source).expect("written");
        }
    }

    #[test]
    fn the_version_is_the_one_that_go_mod_requires() {
        let module =
            std::fs::read_to_string(repository().join("e2e/parts/go.mod")).expect("go.mod");
        assert!(module.contains(&format!("k8s.io/kubernetes v{KUBERNETES}\n")));
    }

    #[test]
    fn a_missing_program_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        for (built, _) in RENAMED {
            std::fs::write(folder.path().join(built), "").expect("written");
        }
        let error = name_programs(folder.path()).expect_err("incomplete").to_string();
        assert!(error.contains("no program kube;"), "{error}");
    }

    #[test]
    fn what_a_killed_build_left_goes_and_a_running_one_stays() {
        let cache = tempfile::tempdir().expect("a folder");
        let dead = cache.path().join(format!("{BUILDING}{}", i32::MAX));
        let own = cache.path().join(format!("{BUILDING}{}", std::process::id()));
        for folder in [&dead, &own] {
            std::fs::create_dir(folder).expect("made");
            std::fs::write(folder.with_extension("log"), "").expect("written");
        }
        remove_abandoned(cache.path()).expect("cleaned");
        assert!(!dead.exists() && !dead.with_extension("log").exists());
        assert!(own.exists() && own.with_extension("log").exists());
    }

    #[test]
    fn other_versions_go_unless_a_lab_runs_from_them() {
        let cache = tempfile::tempdir().expect("a folder");
        let at = |name: &str| cache.path().join(name);
        for name in ["parts-0123456789ab", "parts-aaaaaaaaaaaa", "parts-bbbbbbbbbbbb"] {
            std::fs::create_dir(at(name)).expect("made");
        }
        for name in ["parts-other", "images", "parts-building-7"] {
            std::fs::create_dir(at(name)).expect("made");
        }
        let labs = tempfile::tempdir().expect("a folder");
        let state =
            State::new(LabSpec::default(), "boot".into(), at("parts-bbbbbbbbbbbb").to_owned());
        Store::at(labs.path(), "mine").save(&state).expect("saved");
        let used = in_use(labs.path());
        remove_superseded(cache.path(), &at("parts-0123456789ab"), &used, &Progress::default())
            .expect("removed");
        assert!(!at("parts-aaaaaaaaaaaa").exists());
        for name in ["parts-0123456789ab", "parts-bbbbbbbbbbbb", "parts-other", "images"] {
            assert!(at(name).exists(), "{name}");
        }
        assert!(at("parts-building-7").exists());
    }

    #[test]
    fn a_second_build_leaves_the_first() {
        let folder = tempfile::tempdir().expect("a folder");
        let (fresh, done) = (folder.path().join("fresh"), folder.path().join("done"));
        for path in [&fresh, &done] {
            std::fs::create_dir(path).expect("made");
            std::fs::write(path.join("kube"), path.to_string_lossy().as_bytes()).expect("written");
        }
        publish(&fresh, &done).expect("published");
        assert!(!fresh.exists());
        let kept = std::fs::read_to_string(done.join("kube")).expect("kept");
        assert_eq!(kept, done.to_string_lossy());
    }
}
