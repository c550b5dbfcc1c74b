//! Where the programs of all contestants come from: ours from this repository, the others built from
//! their registries at fixed versions, once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use carrick_e2e::image::{Gateway, gateway_program};
use carrick_e2e::parts::{cache_folder, ensure_go, ensure_programs, repository};
use carrick_e2e::progress::Progress;
use carrick_e2e::run::{last_line, run, run_logged};

use crate::plan::Contestant;

/// Programs of Debian's, with their packages.
const DEBIAN: [(&str, &str); 5] = [
    ("iperf3", "iperf3"),
    ("ip", "iproute2"),
    ("ethtool", "ethtool"),
    ("nsenter", "util-linux"),
    ("setpriv", "util-linux"),
];

/// Where wireguard-go's version is fixed.
const GO_MODULE: &str = "golang.zx2c4.com/wireguard";

const BORINGTUN: &str = "0.7.1";
const GOTATUN: &str = "0.10.2";

/// One contestant's program.
#[derive(Clone, Debug)]
pub struct Program {
    /// The file.
    pub path: PathBuf,
    /// What it is, for reports.
    pub version: String,
    /// Lines for its configuration file, if it is ours.
    pub settings: Vec<String>,
}

impl Program {
    fn new(path: PathBuf, version: String) -> Self {
        Self { path, version, settings: Vec::new() }
    }
}

/// What a person gave instead of what is built here.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// Our gateway.
    pub gateway: Option<PathBuf>,
    /// Our gateway without its cipher.
    pub floor: Option<PathBuf>,
    /// Lines for our gateway's configuration file, for example `lanes: 2`.
    pub settings: Vec<String>,
}

/// The programs of all contestants; builds and installs what is missing.
///
/// # Errors
/// When a build or an installation fails, or a given file is missing.
pub fn ensure(
    contestants: &[Contestant],
    given: &Given,
    progress: &Progress,
) -> anyhow::Result<BTreeMap<Contestant, Program>> {
    ensure_programs(&DEBIAN, progress)?;
    let cache = cache_folder();
    std::fs::create_dir_all(&cache).with_context(|| format!("making {}", cache.display()))?;
    let mut programs = BTreeMap::new();
    for contestant in contestants {
        let program = match contestant {
            Contestant::Plain => Program::new(PathBuf::new(), kernel()?),
            Contestant::Floor => match &given.floor {
                Some(path) => ours(path, &given.settings)?,
                None => built(Gateway::WithoutCipher, given, progress)?,
            },
            Contestant::Carrick => gateway(given, progress)?,
            Contestant::WireguardGo => wireguard_go(&cache, progress)?,
            Contestant::BoringtunCli => from_crates("boringtun-cli", BORINGTUN, &cache, progress)?,
            Contestant::Gotatun => {
                let program = from_crates("gotatun-cli", GOTATUN, &cache, progress)?;
                Program { path: program.path.with_file_name("gotatun"), ..program }
            }
        };
        programs.insert(*contestant, program);
    }
    Ok(programs)
}

/// Our gateway, given or built.
///
/// # Errors
/// When it can't be built or doesn't run.
pub fn gateway(given: &Given, progress: &Progress) -> anyhow::Result<Program> {
    match &given.gateway {
        Some(path) => ours(path, &given.settings),
        None => built(Gateway::Shipped, given, progress),
    }
}

fn kernel() -> anyhow::Result<String> {
    Ok(format!("Linux {}", nix::sys::utsname::uname()?.release().to_string_lossy()))
}

fn built(which: Gateway, given: &Given, progress: &Progress) -> anyhow::Result<Program> {
    ours(&gateway_program(which, progress)?, &given.settings)
}

fn ours(path: &Path, settings: &[String]) -> anyhow::Result<Program> {
    let mut version = run(Command::new(path).arg("--version"))?.trim().to_owned();
    let mut git = Command::new("git");
    git.args(["describe", "--always", "--dirty"]).current_dir(repository());
    // A source archive has no history.
    if let Ok(commit) = run(&mut git) {
        version += &format!(", repository at {}", commit.trim());
    }
    for setting in settings {
        version += &format!(", {setting}");
    }
    Ok(Program { path: path.to_owned(), version, settings: settings.to_vec() })
}

fn wireguard_go(cache: &Path, progress: &Progress) -> anyhow::Result<Program> {
    let module = repository().join("e2e/parts");
    let text =
        std::fs::read_to_string(module.join("go.mod")).context("reading e2e/parts/go.mod")?;
    let version = required(&text, GO_MODULE)
        .with_context(|| format!("e2e/parts/go.mod requires no {GO_MODULE}"))?;
    let path = cache.join(format!("bench-wireguard-go-{version}/wireguard-go"));
    let program = Program::new(path.clone(), version.to_owned());
    if path.is_file() {
        return Ok(program);
    }
    ensure_go()?;
    let fresh = path.with_extension("new");
    let mut command = Command::new("go");
    command.args(["build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o"]).arg(&fresh);
    command.arg(GO_MODULE).current_dir(module).env("CGO_ENABLED", "0");
    build(&format!("built wireguard-go {version}"), &mut command, cache, progress)?;
    std::fs::rename(&fresh, &path).with_context(|| format!("making {}", path.display()))?;
    Ok(program)
}

/// The version of a module in the text of a go.mod.
fn required<'a>(go_mod: &'a str, module: &str) -> Option<&'a str> {
    let mut lines = go_mod.lines().map(|line| line.trim().trim_start_matches("require "));
    let rest = lines.find_map(|line| line.strip_prefix(module)?.strip_prefix(' '))?;
    rest.split_whitespace().next()
}

/// A program of crates.io, with the dependencies that its authors locked.
fn from_crates(
    package: &str,
    version: &str,
    cache: &Path,
    progress: &Progress,
) -> anyhow::Result<Program> {
    let folder = cache.join(format!("bench-{package}-{version}"));
    let path = folder.join("bin").join(package);
    let program = Program::new(path, version.to_owned());
    // Cargo writes this file when the installation is complete.
    if folder.join(".crates2.json").is_file() {
        return Ok(program);
    }
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let mut command = Command::new(cargo);
    command.args(["install", "--locked", "--root"]).arg(&folder);
    command.arg(format!("{package}@{version}")).current_dir("/");
    // Variables of the cargo that runs us would make the inner one build other things.
    let outer = std::env::vars_os().map(|(name, _)| name);
    for name in outer.filter(|name| name.to_string_lossy().starts_with("CARGO_PKG")) {
        command.env_remove(name);
    }
    build(&format!("built {package} {version}"), &mut command, cache, progress)?;
    Ok(program)
}

fn build(
    what: &str,
    command: &mut Command,
    cache: &Path,
    progress: &Progress,
) -> anyhow::Result<()> {
    let log = cache.join(format!("bench-build-{}.log", std::process::id()));
    progress.step(what, || last_line(&log), || run_logged(command, &log))?;
    Ok(())
}

/// Whether a given file can be run, before anything is built for it.
///
/// # Errors
/// When it is no file.
pub fn check_given(given: &Given) -> anyhow::Result<()> {
    for path in given.gateway.iter().chain(&given.floor) {
        if !path.is_file() {
            bail!("{} is no file; give the path of a built carrick-gateway", path.display());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_go_mod() {
        let text = "require (\n\tgolang.zx2c4.com/wireguard/wgctrl v1.0.0 // indirect\n\
            \tgolang.zx2c4.com/wireguard v0.0.0-2026 // indirect\n)\n";
        assert_eq!(required(text, GO_MODULE), Some("v0.0.0-2026"));
        assert_eq!(required("require golang.zx2c4.com/wireguard v1\n", GO_MODULE), Some("v1"));
        assert_eq!(required("module x\n", GO_MODULE), None);
        let own = std::fs::read_to_string(repository().join("e2e/parts/go.mod")).expect("go.mod");
        assert!(required(&own, GO_MODULE).is_some());
    }

    #[test]
    fn a_missing_file_is_named() {
        let given = Given { floor: Some("/nonexistent/gateway".into()), ..Given::default() };
        assert!(check_given(&given).expect_err("missing").to_string().contains("/nonexistent"));
    }
}
