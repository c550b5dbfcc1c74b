//! A machine: a process that holds network, mount, process, IPC and host-name
//! namespaces of its own, and the processes that run in them.

mod cgroup;
mod holder;
mod process;
mod spawn;

use std::path::{Path, PathBuf};
use std::process::Command;

pub use cgroup::{Cgroups, lab_group};
pub use holder::Kind;
pub(crate) use holder::{hold_namespaces, initialize};
pub use process::ProcessRecord;
pub use spawn::Program;
pub(crate) use spawn::run_inside;

use crate::turns::LAST;
use crate::{Error, Result};

/// What a machine is made of.
#[derive(Clone, Debug)]
pub struct Blueprint {
    /// Its host name.
    pub name: String,
    /// What it is for.
    pub kind: Kind,
    /// Its folder on the host: disk, configuration and logs.
    pub folder: PathBuf,
    /// The folder of the programs that run in it.
    pub parts: PathBuf,
    /// Its own control groups.
    pub cgroups: Cgroups,
}

/// Starts a machine's holder. `record` is called with the holder before it
/// may outlive this process; only then does the holder stay.
///
/// # Errors
/// When the namespaces can't be made, or `record` fails.
pub fn start(
    blueprint: &Blueprint,
    record: impl FnOnce(&ProcessRecord) -> Result<()>,
) -> Result<ProcessRecord> {
    blueprint.cgroups.create(blueprint.kind)?;
    std::fs::create_dir_all(blueprint.folder.join("log"))
        .map_err(Error::file("making", blueprint.folder.join("log")))?;
    holder::start(blueprint, record)
}

/// Starts a program inside a machine; it lives until it ends, is killed, or the machine dies.
///
/// # Errors
/// When the machine is gone or the program can't be started.
pub fn spawn(
    holder: &ProcessRecord,
    cgroups: &Cgroups,
    program: Program,
    log: &Path,
) -> Result<ProcessRecord> {
    spawn::start(holder, cgroups, program, log)
}

/// A command that runs inside a machine, as if typed at its console.
#[must_use]
pub fn enter(holder: &ProcessRecord, argv: &[impl AsRef<std::ffi::OsStr>]) -> Command {
    let mut command = Command::new("nsenter");
    command.args(["--target", &holder.pid.to_string()]);
    command.args(["--mount", "--uts", "--ipc", "--net", "--pid", "--wd=/", "--"]);
    command.args(argv);
    command
}

/// A command that runs in a machine's network only, with the files and
/// environment of the caller.
#[must_use]
pub fn enter_network(holder: &ProcessRecord, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("nsenter");
    command.args(network_of(holder)).arg(program);
    command
}

/// As [`enter_network`], for tools: kubectl and helm each take a core with many threads as they start, which would
/// leave gateways and who measures them no turn for hundreds of milliseconds.
#[must_use]
pub fn enter_network_nicely(
    holder: &ProcessRecord,
    program: impl AsRef<std::ffi::OsStr>,
) -> Command {
    let mut command = Command::new("nice");
    command.args(["-n", LAST, "nsenter"]).args(network_of(holder)).arg(program);
    command
}

fn network_of(holder: &ProcessRecord) -> [String; 4] {
    ["--target", &holder.pid.to_string(), "--net", "--"].map(str::to_owned)
}
