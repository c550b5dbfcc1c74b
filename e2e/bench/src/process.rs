//! Programs that a run starts: in a network namespace, dead with the run, their use of the processor
//! and of memory read from /proc.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::Context as _;
use carrick_e2e::run::describe;
use carrick_wan::netns::Netns;

use crate::ledger::Ledger;

/// A program that was started; ended when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
}

/// A command that runs in a namespace, and that the kernel ends with the thread that starts it.
#[must_use]
pub fn command(netns: &Netns, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "nsenter"]);
    command.arg(format!("--net={}", netns.path().display())).arg("--").arg(program);
    command
}

impl Process {
    /// Starts a command on record, its output in a file.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn start(command: &mut Command, log: &Path, ledger: &Ledger) -> anyhow::Result<Self> {
        let file = File::create(log).with_context(|| format!("making {}", log.display()))?;
        let copy = file.try_clone().with_context(|| format!("opening {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(file).stderr(copy);
        Self::spawn(command, ledger)
    }

    /// Starts a command on record, its standard output to be read by [`Process::output`].
    ///
    /// # Errors
    /// When it can't be started.
    pub fn start_piped(command: &mut Command, ledger: &Ledger) -> anyhow::Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self::spawn(command, ledger)
    }

    fn spawn(command: &mut Command, ledger: &Ledger) -> anyhow::Result<Self> {
        let name = describe(command);
        let child = command.spawn().with_context(|| format!("starting {name}"))?;
        let process = Self { child, name };
        ledger.add_process(process.pid())?;
        Ok(process)
    }

    /// Its number.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.child.id().try_into().unwrap_or_default()
    }

    /// Whether it has ended.
    pub fn ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for its end and gives what it wrote to standard output.
    ///
    /// # Errors
    /// When it can't be waited for. Its status is not looked at: iperf3 says what failed as JSON.
    pub fn output(mut self) -> anyhow::Result<String> {
        let (stdout, stderr) = (self.child.stdout.take(), self.child.stderr.take());
        // Both are small: neither fills its pipe while the other is read.
        let out = stdout.map(std::io::read_to_string).transpose();
        let err = stderr.map(std::io::read_to_string).transpose();
        self.child.wait().with_context(|| format!("waiting for {}", self.name))?;
        let out = out.with_context(|| format!("reading from {}", self.name))?.unwrap_or_default();
        match out.trim().is_empty() {
            true => anyhow::bail!(
                "{} said nothing but: {}",
                self.name,
                err.ok().flatten().unwrap_or_default().trim()
            ),
            false => Ok(out),
        }
    }

    /// Processor seconds that it has used, all its threads, in user and system mode.
    ///
    /// # Errors
    /// When it has ended.
    pub fn cpu_seconds(&self) -> anyhow::Result<f64> {
        let text = self.proc_file("stat")?;
        let ticks = parse_cpu_ticks(&text).with_context(|| format!("no times in {text:?}"))?;
        Ok(ticks as f64 / ticks_per_second()? as f64)
    }

    /// Its resident memory now and at its highest, in MiB.
    ///
    /// # Errors
    /// When it has ended.
    pub fn memory_mib(&self) -> anyhow::Result<(f64, f64)> {
        let text = self.proc_file("status")?;
        let kib = |name| parse_status_kib(&text, name).with_context(|| format!("no {name}"));
        Ok((kib("VmRSS")? as f64 / 1024.0, kib("VmHWM")? as f64 / 1024.0))
    }

    fn proc_file(&self, name: &str) -> anyhow::Result<String> {
        let path = format!("/proc/{}/{name}", self.pid());
        std::fs::read_to_string(&path)
            .with_context(|| format!("reading {path} of {}; did it crash?", self.name))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only when it has ended and was waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ticks_per_second() -> anyhow::Result<i64> {
    let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)?;
    ticks.context("the kernel does not say how long a clock tick is")
}

/// User plus system ticks of a line of /proc/PID/stat.
fn parse_cpu_ticks(stat: &str) -> Option<u64> {
    // The name in parentheses may itself hold spaces and parentheses.
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
}

fn parse_status_kib(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_survive_strange_names() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194304 100 0 0 0 1234 66 0 0 20 0 1 0 4711 9";
        assert_eq!(parse_cpu_ticks(stat), Some(1300));
        assert_eq!(parse_cpu_ticks("nonsense"), None);
        assert!(ticks_per_second().expect("said") > 0);
    }

    #[test]
    fn memory_is_read_by_name() {
        let status = "Name:\tx\nVmHWM:\t   20480 kB\nVmRSS:\t   10240 kB\n";
        assert_eq!(parse_status_kib(status, "VmRSS"), Some(10_240));
        assert_eq!(parse_status_kib(status, "VmHWM"), Some(20_480));
        assert_eq!(parse_status_kib(status, "VmSwap"), None);
    }
}
