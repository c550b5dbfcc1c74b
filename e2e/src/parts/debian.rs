//! The parts that Debian ships: installed when a program of theirs is missing.

use std::process::Command;

use crate::progress::Progress;
use crate::run::{find_program, run};
use crate::{Error, Result};

/// A program and the package that has it.
const PROGRAMS: [(&str, &str); 9] = [
    ("runc", "runc"),
    ("nft", "nftables"),
    ("ip", "iproute2"),
    ("conntrack", "conntrack"),
    ("nsenter", "util-linux"),
    ("mount", "mount"),
    ("ethtool", "ethtool"),
    ("tcpdump", "tcpdump"),
    ("go", "golang-go"),
];

/// The oldest Go that builds the parts.
const GO: (u32, u32) = (1, 26);

/// Installs what the clusters' parts need.
///
/// # Errors
/// When apt-get is missing or fails, or Go is too old.
pub(super) fn ensure(progress: &Progress) -> Result<()> {
    ensure_programs(&PROGRAMS, progress)?;
    ensure_go()
}

/// Installs the packages whose program is missing: pairs of program and package.
///
/// # Errors
/// When apt-get is missing or fails, or the caller isn't root; then the packages are named.
pub fn ensure_programs(programs: &[(&str, &str)], progress: &Progress) -> Result<()> {
    match missing(programs, |program| find_program(program).is_some()) {
        none if none.is_empty() => Ok(()),
        missing => install(&missing, progress),
    }
}

/// Checks that Go is there and new enough.
///
/// # Errors
/// When it isn't.
pub fn ensure_go() -> Result<()> {
    check_go(&run(Command::new("go").arg("version"))?)
}

fn missing<'a>(programs: &[(&str, &'a str)], present: impl Fn(&str) -> bool) -> Vec<&'a str> {
    let absent = programs.iter().filter(|(program, _)| !present(program));
    absent.map(|(_, package)| *package).collect()
}

fn install(packages: &[&str], progress: &Progress) -> Result<()> {
    let list = packages.join(" ");
    if !nix::unistd::geteuid().is_root() || find_program("apt-get").is_none() {
        return Err(Error::Invalid(format!(
            "programs of these Debian packages are missing: {list}; install them (as root: apt-get install {list})"
        )));
    }
    progress.step(&format!("installed {list} by apt-get"), String::new, || {
        let apt = || {
            let mut command = Command::new("apt-get");
            command.env("DEBIAN_FRONTEND", "noninteractive");
            command
        };
        run(apt().args(["update", "-qq"]))?;
        run(apt().args(["install", "-y", "-qq", "--no-install-recommends"]).args(packages))?;
        Ok(())
    })
}

fn check_go(version: &str) -> Result<()> {
    let parsed = version.split_whitespace().find_map(|word| {
        let mut numbers = word.strip_prefix("go")?.split('.');
        Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    });
    match parsed {
        Some(found) if found >= GO => Ok(()),
        _ => Err(Error::Invalid(format!(
            "Go {}.{} or newer is needed; `go version` says {:?}; install it from go.dev",
            GO.0,
            GO.1,
            version.trim()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_missing_is_installed() {
        assert_eq!(missing(&PROGRAMS, |program| program != "nft"), ["nftables"]);
        assert!(missing(&PROGRAMS, |_| true).is_empty());
    }

    #[test]
    fn an_old_or_strange_go_is_refused() {
        check_go("go version go1.26.8 linux/amd64").expect("new enough");
        check_go("go version go1.27 linux/amd64").expect("new enough");
        for old in ["go version go1.19.8 linux/amd64", "", "go version devel"] {
            assert!(check_go(old).expect_err("refused").to_string().contains("1.26"), "{old}");
        }
    }
}
