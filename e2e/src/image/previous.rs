//! An earlier state of this repository, to upgrade from: its chart and its images, built from its commit.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::build::{Carrick, build_copy, target_folder};
use crate::parts::repository;
use crate::progress::Progress;
use crate::run::run;
use crate::{Error, Result};

/// Names the commit or tag, if not the newest tag before the current commit.
const VARIABLE: &str = "CARRICK_PREVIOUS";

/// The newest commit of the first week, which stands for a release as long as there is no tag.
const FIRST: &str = "52509c6";

/// An earlier release.
#[derive(Clone, Debug)]
pub struct Previous {
    /// What was asked for: a tag or a commit.
    pub name: String,
    /// The folder of its chart.
    pub chart: PathBuf,
    /// Its images.
    pub images: Carrick,
}

impl Previous {
    /// Whether its gateways go on while traffic moves to others, so that they can be replaced without loss.
    #[must_use]
    pub fn drains(&self) -> bool {
        let values = std::fs::read_to_string(self.chart.join("values.yaml"));
        values.is_ok_and(|values| values.contains("drainSeconds:"))
    }
}

/// The release that `CARRICK_PREVIOUS` names, else the newest tag before the current commit, else the newest commit of
/// the first week. What was built of it once is kept in `target/previous`, and nothing else.
///
/// # Errors
/// When the commit is not in this clone, as in a shallow one, or does not build.
pub fn previous(progress: &Progress) -> Result<Previous> {
    let name = match std::env::var(VARIABLE) {
        Ok(name) => name,
        Err(_) => newest_tag().unwrap_or_else(|| FIRST.to_owned()),
    };
    let commit = commit(&name)?;
    let folder = target_folder()?.join("previous");
    let kept = folder.join(&commit);
    let tag = kept.join("tag");
    if !tag.is_file() {
        std::fs::create_dir_all(&folder).map_err(Error::file("making", &folder))?;
        build(&commit, &folder, &kept, progress)?;
    }
    let tag = std::fs::read_to_string(&tag).map_err(Error::file("reading", &tag))?;
    let archives = archives(&kept.join("images"))?;
    Ok(Previous { name, chart: kept.join("chart"), images: Carrick { tag, archives } })
}

fn git(arguments: &[&str]) -> Result<String> {
    let said = run(Command::new("git").args(arguments).current_dir(repository()))?;
    Ok(said.trim().to_owned())
}

/// The newest tag of the commits before this one.
fn newest_tag() -> Option<String> {
    git(&["describe", "--tags", "--abbrev=0", "HEAD^"]).ok()
}

fn commit(name: &str) -> Result<String> {
    let found = git(&["rev-parse", "--verify", "--quiet", &format!("{name}^{{commit}}")]);
    found.map_err(|error| {
        let shallow = git(&["rev-parse", "--is-shallow-repository"]).is_ok_and(|is| is == "true");
        let remedy = if shallow {
            "this clone is shallow: `git fetch --unshallow --tags` brings the rest"
        } else {
            "`git fetch --tags` may bring it"
        };
        Error::Invalid(format!(
            "there is no commit {name} here to upgrade from ({error}); {remedy}, or name another one by {VARIABLE}"
        ))
    })
}

/// Builds images and keeps them with the chart. The copy of the repository goes, whatever happens.
fn build(commit: &str, folder: &Path, kept: &Path, progress: &Progress) -> Result<()> {
    let (copy, target) = (folder.join("copy"), folder.join("build"));
    remove_copy(&copy)?;
    if kept.exists() {
        std::fs::remove_dir_all(kept).map_err(Error::file("removing", kept))?;
    }
    let path = copy.to_string_lossy();
    git(&["worktree", "add", "--detach", "--force", &path, commit])?;
    let built = build_copy(&copy, &target, &kept.join("images"), progress).and_then(|carrick| {
        let from = copy.join("charts/carrick");
        run(Command::new("cp").arg("-a").arg(from).arg(kept.join("chart")))?;
        Ok(carrick)
    });
    remove_copy(&copy)?;
    let carrick = built?;
    std::fs::remove_dir_all(&target).map_err(Error::file("removing", &target))?;
    // Last: it says that all is there.
    let tag = kept.join("tag");
    std::fs::write(&tag, carrick.tag).map_err(Error::file("writing", &tag))
}

/// Removes the copy that is there, or that an interrupted run left.
fn remove_copy(copy: &Path) -> Result<()> {
    if copy.exists() {
        std::fs::remove_dir_all(copy).map_err(Error::file("removing", copy))?;
    }
    git(&["worktree", "prune"]).map(drop)
}

fn archives(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).map_err(Error::file("reading", folder))?;
    let paths: std::io::Result<Vec<PathBuf>> =
        entries.map(|entry| entry.map(|entry| entry.path())).collect();
    paths.map_err(Error::file("reading", folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_that_is_not_here_is_named_with_what_to_do() {
        let said = commit("no-such-tag").expect_err("an error").to_string();
        assert!(said.contains("no-such-tag") && said.contains("git fetch"), "{said}");
        assert!(said.contains(VARIABLE), "{said}");
    }
}
