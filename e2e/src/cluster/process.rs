//! A daemon of a cluster that can be stopped, killed and started alone.

use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::Result;
use crate::cluster::{Cluster, log_tail};
use crate::lab::Book;
use crate::machine::{ProcessRecord, Program};

/// Longer than that and a daemon that was asked to end is killed: an API
/// server may take a minute and keep its port meanwhile.
const POLITE: Duration = Duration::from_secs(5);

/// A daemon of a machine. A handle: it needn't run.
#[derive(Clone, Debug)]
pub struct Process {
    cluster: Cluster,
    machine: String,
    name: String,
}

impl Process {
    pub(super) fn new(cluster: Cluster, machine: String, name: String) -> Self {
        Self { cluster, machine, name }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Asks it to end, kills it when it doesn't, and waits until it is gone.
    ///
    /// # Errors
    /// When it was never started.
    pub fn stop(&self) -> Result<()> {
        let record = self.record()?;
        record.signal(Signal::SIGTERM)?;
        record.wait_gone(POLITE).or_else(|_| record.kill())
    }

    /// Kills it (SIGKILL) and waits until it is gone.
    ///
    /// # Errors
    /// When it was never started.
    pub fn kill(&self) -> Result<()> {
        self.record()?.kill()
    }

    /// Starts it as it was started before.
    ///
    /// # Errors
    /// When it was never started, or another command is changing the lab.
    pub fn start(&self) -> Result<()> {
        let ProcessRecord { argv, env, .. } = self.record()?;
        let book = Book::open(self.cluster.store())?;
        self.cluster.spawn(&book, &self.machine, &self.name, Program { argv, env })
    }

    /// Whether it runs.
    ///
    /// # Errors
    /// When it was never started.
    pub fn running(&self) -> Result<bool> {
        Ok(self.record()?.alive())
    }

    /// Its process number on the host.
    ///
    /// # Errors
    /// When it was never started.
    pub fn pid(&self) -> Result<i32> {
        Ok(self.record()?.pid)
    }

    /// Where it writes its log.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.cluster.log(&self.machine, &self.name)
    }

    /// The last lines of its log.
    #[must_use]
    pub fn log_tail(&self, lines: usize) -> String {
        log_tail(&self.log(), lines)
    }

    fn record(&self) -> Result<ProcessRecord> {
        let state = self.cluster.state()?;
        let processes = state.machines.get(&self.machine).map(|machine| &machine.processes);
        let found = processes.and_then(|processes| processes.get(&self.name).cloned());
        found.ok_or_else(|| {
            let known = processes.map(|p| p.keys().cloned().collect::<Vec<_>>().join(", "));
            self.cluster.unknown(
                "process",
                &format!("{} on {}", self.name, self.machine),
                known.unwrap_or_default(),
            )
        })
    }
}
