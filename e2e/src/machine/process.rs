//! A process of the lab's, known by more than its number: numbers are used
//! again, so the time of its start is part of its name.

use std::collections::BTreeMap;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::wait::wait_until;
use crate::{Error, Result};

/// A killed process is gone by then, even one that waits for a disk.
const DEATH: Duration = Duration::from_secs(20);

/// A process and how to start it again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessRecord {
    /// Its number in the host's process namespace; 0 when it isn't running.
    pub pid: i32,
    /// When it started, in clock ticks since boot (field 22 of /proc/PID/stat).
    pub started: u64,
    /// The command line; empty for those that the lab starts in another way.
    pub argv: Vec<String>,
    /// The environment.
    pub env: BTreeMap<String, String>,
}

impl ProcessRecord {
    /// The record of a process that runs now.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn of(pid: i32) -> Result<Self> {
        match started(pid) {
            Some(started) => Ok(Self { pid, started, ..Self::default() }),
            None => Err(Error::Invalid(format!("process {pid} ended as soon as it had started"))),
        }
    }

    /// Whether it still runs. A zombie doesn't.
    #[must_use]
    pub fn alive(&self) -> bool {
        self.pid > 0 && started(self.pid) == Some(self.started)
    }

    /// Sends a signal, unless the process is gone already.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        if !self.alive() {
            return Ok(());
        }
        match kill(Pid::from_raw(self.pid), signal) {
            Ok(()) | Err(nix::Error::ESRCH) => Ok(()),
            Err(source) => {
                Err(Error::System { action: format!("{signal} to {}", self.pid), source })
            }
        }
    }

    /// Kills it and waits until it is gone.
    ///
    /// # Errors
    /// When it can't be killed.
    pub fn kill(&self) -> Result<()> {
        self.signal(Signal::SIGKILL)?;
        self.wait_gone(DEATH)
    }

    /// Waits until it is gone.
    ///
    /// # Errors
    /// [`Error::Timeout`] when it is still there at the deadline.
    pub fn wait_gone(&self, deadline: Duration) -> Result<()> {
        wait_until(deadline, &format!("the end of process {}", self.pid), || match self.alive() {
            true => Err("it runs".to_owned()),
            false => Ok(()),
        })
    }
}

fn started(pid: i32) -> Option<u64> {
    parse_stat(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The start time of a line of /proc/PID/stat; none for a zombie whose threads
/// have all ended (until then they keep its ports). The name in parentheses may
/// itself hold spaces and parentheses.
fn parse_stat(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = fields.split(' ').collect();
    let threads: u64 = fields.get(17)?.parse().ok()?;
    match *fields.first()? {
        "Z" | "X" if threads <= 1 => None,
        _ => fields.get(19)?.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_time_survives_strange_names() {
        let rest = "0 ".repeat(18);
        assert_eq!(parse_stat(&format!("7 (a) b) S {rest}4711 9")), Some(4711));
        assert_eq!(parse_stat(&format!("7 (a) Z {rest}4711 9")), None);
        let dying = format!("7 (a) Z {}5 0 4711 9", "0 ".repeat(16));
        assert_eq!(parse_stat(&dying), Some(4711));
        assert_eq!(parse_stat("nonsense"), None);
    }

    #[test]
    fn a_process_is_not_its_number() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("sleep");
        let record = ProcessRecord::of(child.id().try_into().expect("small")).expect("runs");
        let other = ProcessRecord { started: record.started + 1, ..record.clone() };
        assert!(record.alive() && !other.alive());
        other.kill().expect("does nothing");
        assert!(record.alive());
        let reaper = std::thread::spawn(move || child.wait());
        record.kill().expect("killed");
        assert!(!record.alive());
        reaper.join().expect("joined").expect("reaped");
        assert!(!ProcessRecord::default().alive());
    }
}
