//! The process that holds a machine's namespaces, as process 1 of its own
//! process namespace: when it dies, the kernel ends all that runs there.
//!
//! It starts in two stages, because a process can't move into a new process
//! namespace, only its children can. The first stage makes the namespaces and
//! mounts; the second stays, but only once it is told that it is on record:
//! if the lab dies before that, it reads the end of its input and ends too.

use std::io::{BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::setsid;
use serde::{Deserialize, Serialize};

use crate::helper;
use crate::machine::{Blueprint, Cgroups, ProcessRecord};
use crate::{Error, Result};

/// What a machine is for: it decides what the machine sees of the host's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// Forwards packets; sees the host's files.
    Router,
    /// Runs a control plane; sees the host's files.
    ControlPlane,
    /// Runs containers; has its own /var/lib, /var/log, /run and /sys.
    Node,
}

#[derive(Serialize, Deserialize)]
struct Request {
    name: String,
    kind: Kind,
    folder: PathBuf,
    parts: PathBuf,
    cgroups: Cgroups,
}

/// Starts the holder; see [`super::start`].
pub(super) fn start(
    blueprint: &Blueprint,
    record: impl FnOnce(&ProcessRecord) -> Result<()>,
) -> Result<ProcessRecord> {
    let request = Request {
        name: blueprint.name.clone(),
        kind: blueprint.kind,
        folder: blueprint.folder.clone(),
        parts: blueprint.parts.clone(),
        cgroups: blueprint.cgroups.clone(),
    };
    let log_path = blueprint.folder.join("log/holder.log");
    let log = std::fs::File::create(&log_path).map_err(Error::file("making", &log_path))?;
    let mut command = helper::command("hold", &request)?;
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
    let mut first_stage = command
        .spawn()
        .map_err(|source| Error::Start { program: "the machine's holder".into(), source })?;
    let result = introduce(&mut first_stage, record);
    let ended = first_stage.wait().map_err(Error::file("waiting for", "the holder's first stage"));
    result.map_err(|error| explain(error, &log_path)).and_then(|holder| ended.map(|_| holder))
}

/// Hears who the holder is, has it recorded, and tells it to stay.
fn introduce(
    first_stage: &mut Child,
    record: impl FnOnce(&ProcessRecord) -> Result<()>,
) -> Result<ProcessRecord> {
    let missing = || Error::Invalid("the holder has no pipes".to_owned());
    let mut input = first_stage.stdin.take().ok_or_else(missing)?;
    let output = first_stage.stdout.take().ok_or_else(missing)?;
    let pid = read_introduction(BufReader::new(output))?;
    let holder = ProcessRecord::of(pid)?;
    record(&holder)?;
    input.write_all(b"stay\n").map_err(Error::file("writing to", "the holder"))?;
    Ok(holder)
}

/// Reads what the two stages say, in whatever order it comes: the first which
/// process the second is, the second that it is ready.
fn read_introduction(output: impl BufRead) -> Result<i32> {
    let (mut pid, mut ready) = (None, false);
    for line in output.lines() {
        let line = line.map_err(Error::file("reading from", "the holder"))?;
        match line.strip_prefix("pid ").map(str::parse) {
            Some(Ok(number)) => pid = Some(number),
            _ => ready |= line == "ready",
        }
        if let (Some(pid), true) = (pid, ready) {
            return Ok(pid);
        }
    }
    Err(Error::Invalid("the machine's holder did not start".to_owned()))
}

fn explain(error: Error, log: &Path) -> Error {
    match std::fs::read_to_string(log) {
        Ok(text) if !text.trim().is_empty() => Error::Invalid(format!("{error}: {}", text.trim())),
        _ => error,
    }
}

/// First stage: makes the namespaces and starts the second stage in them.
pub(crate) fn hold_namespaces(request: &str) -> Result<()> {
    let parsed: Request = helper::parse(request)?;
    parsed.cgroups.join()?;
    setsid().map_err(Error::system("starting a session"))?;
    let flags = CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWPID;
    unshare(flags).map_err(Error::system("making namespaces (are you root?)"))?;
    let host_name = "/proc/sys/kernel/hostname";
    std::fs::write(host_name, &parsed.name).map_err(Error::file("writing", host_name))?;
    // Nothing that is mounted here may appear on the host, but what a kubelet
    // mounts must reach its containers.
    remount_root(MsFlags::MS_PRIVATE)?;
    remount_root(MsFlags::MS_SHARED)?;
    if parsed.kind == Kind::Node {
        mount_node(&parsed)?;
    }
    let child = helper::command_raw("init", request)?
        .spawn()
        .map_err(|source| Error::Start { program: "the machine's process 1".into(), source })?;
    say(&format!("pid {}", child.id()))
}

/// Second stage: process 1 of the machine.
pub(crate) fn initialize(request: &str) -> Result<()> {
    let parsed: Request = helper::parse(request)?;
    let none = None::<&str>;
    mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), none)
        .map_err(Error::system("mounting /proc"))?;
    set_sysctls(parsed.kind)?;
    let mut children = SigSet::empty();
    children.add(Signal::SIGCHLD);
    children.thread_block().map_err(Error::system("blocking SIGCHLD"))?;
    say("ready")?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).map_err(Error::file("reading", "standard input"))?;
    if answer != "stay\n" {
        return Ok(());
    }
    loop {
        children.wait().map_err(Error::system("waiting for children"))?;
        reap();
    }
}

/// Prints a line; that nobody reads it any more is an error, not a panic.
fn say(line: &str) -> Result<()> {
    writeln!(std::io::stdout(), "{line}").map_err(Error::file("writing", "standard output"))
}

fn reap() {
    while !matches!(waitpid(None, Some(WaitPidFlag::WNOHANG)), Ok(WaitStatus::StillAlive) | Err(_))
    {
    }
}

fn remount_root(propagation: MsFlags) -> Result<()> {
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | propagation, none)
        .map_err(Error::system("changing the propagation of mounts"))
}

/// Gives a node its own disk under /var and its own /run and /sys.
fn mount_node(request: &Request) -> Result<()> {
    let disk = request.folder.join("disk");
    let (lib, log, groups) = (disk.join("lib"), disk.join("log"), disk.join("cgroup"));
    let inside = lib.join("lab");
    let parts = inside.join("parts");
    let config = inside.join("config");
    for folder in [&log, &groups, &parts, &config, &lib.join("kubelet")] {
        std::fs::create_dir_all(folder).map_err(Error::file("making", folder))?;
    }
    bind(&request.parts, &parts)?;
    bind(&request.folder.join("config"), &config)?;
    // A fresh sysfs shows this network namespace's devices, but hides the
    // control groups, which are the host's: carried over by a bind.
    bind(Path::new("/sys/fs/cgroup"), &groups)?;
    let none = None::<&str>;
    mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), none)
        .map_err(Error::system("mounting /sys"))?;
    bind(&groups, Path::new("/sys/fs/cgroup"))?;
    bind(&log, Path::new("/var/log"))?;
    mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), Some("mode=755"))
        .map_err(Error::system("mounting /run"))?;
    bind(&lib, Path::new("/var/lib"))
}

fn bind(from: &Path, to: &Path) -> Result<()> {
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some(from), to, None::<&str>, flags, None::<&str>).map_err(Error::system(format!(
        "binding {} to {}",
        from.display(),
        to.display()
    )))
}

fn set_sysctls(kind: Kind) -> Result<()> {
    let settings: &[(&str, &str)] = match kind {
        // A router's bridge must not pass bridged frames to its packet filter.
        Kind::Router => &[
            ("ipv4/ip_forward", "1"),
            ("bridge/bridge-nf-call-iptables", "0"),
            ("bridge/bridge-nf-call-ip6tables", "0"),
        ],
        Kind::ControlPlane => &[],
        Kind::Node => &[
            ("ipv4/ip_forward", "1"),
            ("ipv6/conf/all/forwarding", "1"),
            // What one pod answers another of its node passes the bridge, and has to come from the Service's address.
            ("bridge/bridge-nf-call-iptables", "1"),
            ("bridge/bridge-nf-call-ip6tables", "1"),
        ],
    };
    for (name, value) in settings {
        let path = Path::new("/proc/sys/net").join(name);
        // Kernels without bridge filtering or IPv6 lack the files and need no setting.
        if path.exists() {
            std::fs::write(&path, value).map_err(Error::file("writing", path))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_stages_may_speak_in_any_order() {
        for text in ["pid 7\nready\n", "ready\npid 7\n", "noise\nready\npid 7\n"] {
            assert_eq!(read_introduction(text.as_bytes()).expect("introduced"), 7);
        }
        for text in ["", "pid 7\n", "ready\n", "pid x\nready\n"] {
            assert!(read_introduction(text.as_bytes()).is_err(), "{text:?}");
        }
    }
}
