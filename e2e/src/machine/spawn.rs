//! Starting a program inside a machine so that it outlives the command that started it.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, setns};
use nix::unistd::setsid;
use serde::{Deserialize, Serialize};

use crate::helper;
use crate::machine::{Cgroups, ProcessRecord};
use crate::run::run;
use crate::{Error, Result};

/// A command line and its whole environment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Program {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// The environment; nothing is inherited.
    pub env: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
struct Request {
    machine: i32,
    cgroups: Cgroups,
    log: PathBuf,
    argv: Vec<String>,
    env: BTreeMap<String, String>,
}

/// Starts the program; see [`super::spawn`].
pub(super) fn start(
    holder: &ProcessRecord,
    cgroups: &Cgroups,
    program: Program,
    log: &Path,
) -> Result<ProcessRecord> {
    let Program { argv, env } = program;
    let (log, cgroups) = (log.to_owned(), cgroups.clone());
    let request =
        Request { machine: holder.pid, cgroups, log, argv: argv.clone(), env: env.clone() };
    let said = run(&mut helper::command("run", &request)?)?;
    let pid = said.trim().parse().map_err(|_| Error::Format {
        what: "the helper's answer".to_owned(),
        reason: format!("{said:?} is no process number"),
    })?;
    Ok(ProcessRecord { argv, env, ..ProcessRecord::of(pid)? })
}

/// Helper side: enters the machine and starts the program there.
pub(crate) fn run_inside(request: &str) -> Result<()> {
    let request: Request = helper::parse(request)?;
    let Some((program, arguments)) = request.argv.split_first() else {
        return Err(Error::Invalid("no program was named".to_owned()));
    };
    let log = File::options()
        .create(true)
        .append(true)
        .open(&request.log)
        .map_err(Error::file("opening", &request.log))?;
    let copy = log.try_clone().map_err(Error::file("opening", &request.log))?;
    request.cgroups.join()?;
    setsid().map_err(Error::system("starting a session"))?;
    enter_namespaces(request.machine)?;
    std::env::set_current_dir("/").map_err(Error::file("entering", "/"))?;
    let child = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(&request.env)
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(copy)
        .spawn()
        .map_err(|source| Error::Start { program: program.clone(), source })?;
    println!("{}", child.id());
    Ok(())
}

fn enter_namespaces(pid: i32) -> Result<()> {
    // All are opened before the first is entered: the mount namespace changes what /proc is.
    let kinds = [
        ("uts", CloneFlags::CLONE_NEWUTS),
        ("ipc", CloneFlags::CLONE_NEWIPC),
        ("net", CloneFlags::CLONE_NEWNET),
        ("pid", CloneFlags::CLONE_NEWPID),
        ("mnt", CloneFlags::CLONE_NEWNS),
    ];
    let open = |(name, flag)| {
        let path = PathBuf::from(format!("/proc/{pid}/ns/{name}"));
        File::open(&path).map(|file| (file, flag)).map_err(Error::file("opening", path))
    };
    let opened = kinds.into_iter().map(open).collect::<Result<Vec<_>>>()?;
    for (file, flag) in opened {
        setns(file, flag).map_err(Error::system(format!("entering machine {pid}")))?;
    }
    Ok(())
}
