//! What a run has made that could outlive it, on disk before it is used: processes and files. The
//! next run ends and removes what a killed one left. Namespaces vanish with their last process.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, bail};
use carrick_e2e::host::boot_id;
use carrick_e2e::lock::Lock;
use carrick_e2e::machine::ProcessRecord;
use serde::{Deserialize, Serialize};

/// The folder of the run that is under way on this machine.
pub const FOLDER: &str = "/run/carrick-bench";

#[derive(Debug, Default, Serialize, Deserialize)]
struct Record {
    boot_id: String,
    processes: Vec<ProcessRecord>,
    files: Vec<PathBuf>,
}

/// The record of one run; all on it is ended and removed when it is dropped.
#[derive(Debug)]
pub struct Ledger {
    folder: PathBuf,
    record: Mutex<Record>,
    lock: Mutex<Option<Lock>>,
}

impl Ledger {
    /// Starts a record in `folder`, after the removal of what a killed run left there.
    ///
    /// # Errors
    /// When another run is under way, or the folder can't be written.
    pub fn open(folder: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        let Some(lock) = Lock::try_take(&folder.join("lock"))? else {
            bail!("another run of the bench is under way; figures of two at once mean nothing");
        };
        let boot = boot_id()?;
        if let Some(left) = read(&folder.join("record.json"))? {
            clean(&left, &boot);
        }
        let record = Record { boot_id: boot, ..Record::default() };
        let (record, lock) = (Mutex::new(record), Mutex::new(Some(lock)));
        let ledger = Self { folder: folder.to_owned(), record, lock };
        ledger.save(&ledger.record())?;
        Ok(ledger)
    }

    /// The run's folder: configurations and logs.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Puts a process that runs on the record.
    ///
    /// # Errors
    /// When it can't be written. A process that has ended already needs no record.
    pub fn add_process(&self, pid: i32) -> anyhow::Result<()> {
        let Ok(process) = ProcessRecord::of(pid) else { return Ok(()) };
        let mut record = self.record();
        record.processes.retain(ProcessRecord::alive);
        record.processes.push(process);
        self.save(&record)
    }

    /// Puts a file on the record that is about to be made.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn add_file(&self, path: &Path) -> anyhow::Result<()> {
        let mut record = self.record();
        if !record.files.iter().any(|file| file == path) {
            record.files.push(path.to_owned());
            self.save(&record)?;
        }
        Ok(())
    }

    /// Ends and removes all that is on the record, and the folder. The run is over.
    pub fn clean(&self) {
        let mut record = self.record();
        let lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
        if lock.is_none() {
            return;
        }
        clean(&record, &record.boot_id);
        *record = Record::default();
        drop_file(&self.folder.join("record.json"));
        drop(lock);
        // It stays when something is in it that isn't ours, or another run has begun.
        let _ = std::fs::remove_dir(&self.folder);
    }

    fn save(&self, record: &Record) -> anyhow::Result<()> {
        let (path, fresh) = (self.folder.join("record.json"), self.folder.join("record.json.new"));
        std::fs::write(&fresh, serde_json::to_vec_pretty(record)?)
            .and_then(|()| std::fs::rename(&fresh, &path))
            .with_context(|| format!("writing {}", path.display()))
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        // Each change is whole before the next begins.
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.clean();
    }
}

fn read(path: &Path) -> anyhow::Result<Option<Record>> {
    let text = match std::fs::read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        result => result.with_context(|| format!("reading {}", path.display()))?,
    };
    let damaged = || format!("{} is damaged; remove it if no bench runs", path.display());
    serde_json::from_slice(&text).map(Some).with_context(damaged)
}

/// Goes on after a failure: what can go, goes.
fn clean(record: &Record, boot: &str) {
    // Numbers of another boot are other processes now.
    let processes = if record.boot_id == boot { &record.processes[..] } else { &[] };
    for process in processes {
        if let Err(error) = process.kill() {
            eprintln!("process {} of the bench still runs: {error}", process.pid);
        }
    }
    record.files.iter().for_each(|file| drop_file(file));
}

fn drop_file(file: &Path) {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            eprintln!("{} stays behind: {error}", file.display());
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn the_next_run_ends_what_a_killed_one_left() {
        let root = tempfile::tempdir().expect("a folder");
        let file = root.path().join("x.sock");
        std::fs::write(&file, "").expect("written");
        let mut child = Command::new("sleep").arg("60").spawn().expect("sleep");
        let process = ProcessRecord::of(child.id().try_into().expect("small")).expect("runs");
        let boot_id = boot_id().expect("a boot");
        let left = Record { boot_id, processes: vec![process], files: vec![file.clone()] };
        let record = root.path().join("record.json");
        std::fs::write(&record, serde_json::to_vec(&left).expect("JSON")).expect("written");
        let reaper = std::thread::spawn(move || child.wait());
        let ledger = Ledger::open(root.path()).expect("opened");
        assert!(!left.processes[0].alive() && !file.exists());
        reaper.join().expect("joined").expect("reaped");
        drop(ledger);
        assert!(!root.path().exists());
    }

    #[test]
    fn two_runs_at_once_are_refused() {
        let root = tempfile::tempdir().expect("a folder");
        let held = Ledger::open(root.path()).expect("opened");
        let refused = Ledger::open(root.path()).expect_err("held").to_string();
        assert!(refused.contains("another run"), "{refused}");
        held.add_file(Path::new("/nonexistent/file")).expect("recorded");
    }

    #[test]
    fn processes_of_another_boot_are_not_touched() {
        let mut child = Command::new("sleep").arg("60").spawn().expect("sleep");
        let process = ProcessRecord::of(child.id().try_into().expect("small")).expect("runs");
        let record = Record { boot_id: "then".into(), processes: vec![process], files: vec![] };
        clean(&record, "now");
        assert!(record.processes[0].alive());
        child.kill().expect("killed");
        child.wait().expect("reaped");
    }
}
