//! What a lab has made, on disk: written before a thing is made, so that any
//! later process can remove it, whatever happened to the one that made it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::lock::Lock;
use crate::machine::ProcessRecord;
use crate::spec::LabSpec;
use crate::{Error, Result};

/// Where the labs of this host are.
pub const ROOT: &str = "/var/lib/carrick-lab";

/// The record of one lab.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct State {
    /// What was asked for.
    pub spec: LabSpec,
    /// The boot in which it was made: processes of another boot are gone.
    pub boot_id: String,
    /// Whether `up` ran to its end.
    pub complete: bool,
    /// The folder of the programs that run in it.
    pub parts: PathBuf,
    /// The tag of Carrick's images, when they were loaded.
    pub image_tag: Option<String>,
    /// The process that emulates the wide-area network.
    pub wan: Option<ProcessRecord>,
    /// Its machines by name.
    pub machines: BTreeMap<String, MachineRecord>,
}

/// The record of one machine.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct MachineRecord {
    /// The process that holds its namespaces; none before it started or while its power is cut.
    pub holder: Option<ProcessRecord>,
    /// What runs in it, by name.
    pub processes: BTreeMap<String, ProcessRecord>,
}

impl State {
    /// The record of a lab that has made nothing yet.
    #[must_use]
    pub fn new(spec: LabSpec, boot_id: String, parts: PathBuf) -> Self {
        Self {
            spec,
            boot_id,
            complete: false,
            parts,
            image_tag: None,
            wan: None,
            machines: BTreeMap::new(),
        }
    }

    /// Every process that must be gone before anything else is removed:
    /// holders take what runs in their machine with them.
    #[must_use]
    pub fn roots(&self) -> Vec<&ProcessRecord> {
        let holders = self.machines.values().filter_map(|machine| machine.holder.as_ref());
        self.wan.iter().chain(holders).collect()
    }
}

/// The files of one lab.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
    name: String,
}

impl Store {
    /// The files of the lab with this name.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self::at(Path::new(ROOT), name)
    }

    /// As [`Store::new`] under another root folder.
    #[must_use]
    pub fn at(root: &Path, name: &str) -> Self {
        Self { root: root.to_owned(), name: name.to_owned() }
    }

    /// The lab's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The folder of all that the lab keeps on disk.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        self.root.join(&self.name)
    }

    /// The folder of one machine: its disk, its configuration, its logs.
    #[must_use]
    pub fn machine(&self, machine: &str) -> PathBuf {
        self.folder().join(machine)
    }

    /// Whoever holds this may change the lab. It is let go when its process ends, however that ends.
    ///
    /// # Errors
    /// When another process holds it, or the folder can't be written.
    pub fn lock(&self) -> Result<Lock> {
        self.hold("lock", "another command is changing", "wait for it, or give another --lab name")
    }

    /// Whoever holds this runs cases on the lab from beginning to end, and may be about to remove it: another run would
    /// find it up and lose it. Commands by hand need not ask.
    ///
    /// # Errors
    /// When another run holds it, or the folder can't be written.
    pub fn claim(&self) -> Result<Lock> {
        let advice = "it may be removing it still: wait for it to end, or name another lab by CARRICK_TEST_LAB";
        self.hold("cases", "another run of cases uses", advice)
    }

    /// Takes one of the lab's locks, or says who has it and what to do.
    fn hold(&self, lock: &str, holder: &str, advice: &str) -> Result<Lock> {
        std::fs::create_dir_all(&self.root).map_err(Error::file("making", &self.root))?;
        let held = || Error::Invalid(format!("{holder} lab {}; {advice}", self.name));
        Lock::try_take(&self.root.join(format!("{}.{lock}", self.name)))?.ok_or_else(held)
    }

    /// Writes the record so that a reader sees the old one or the new one, never a part.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn save(&self, state: &State) -> Result<()> {
        let folder = self.folder();
        std::fs::create_dir_all(&folder).map_err(Error::file("making", &folder))?;
        let text = serde_json::to_vec_pretty(state).map_err(|e| Error::Format {
            what: "the lab's record".into(),
            reason: e.to_string(),
        })?;
        let (path, fresh) = (folder.join("state.json"), folder.join("state.json.new"));
        std::fs::write(&fresh, text).map_err(Error::file("writing", &fresh))?;
        std::fs::rename(&fresh, &path).map_err(Error::file("writing", &path))
    }

    /// The record, or nothing when the lab never got that far.
    ///
    /// # Errors
    /// When it is there and can't be read.
    pub fn load(&self) -> Result<Option<State>> {
        let path = self.folder().join("state.json");
        let text = match std::fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            result => result.map_err(Error::file("reading", &path))?,
        };
        serde_json::from_slice(&text).map(Some).map_err(|e| Error::Format {
            what: format!("{} (of another version? remove it after a reboot)", path.display()),
            reason: e.to_string(),
        })
    }

    /// Removes all that the lab keeps on disk, the record last.
    ///
    /// # Errors
    /// When something can't be removed, for example because it is still mounted.
    pub fn remove(&self) -> Result<()> {
        let folder = self.folder();
        let entries = match std::fs::read_dir(&folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            result => result.map_err(Error::file("reading", &folder))?,
        };
        for entry in entries.flatten() {
            let path = entry.path();
            if path.is_dir() {
                std::fs::remove_dir_all(&path).map_err(Error::file("removing", &path))?;
            }
        }
        std::fs::remove_dir_all(&folder).map_err(Error::file("removing", &folder))
    }

    /// Names of all labs that have a record under the same root.
    #[must_use]
    pub fn others(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.root).into_iter().flatten().flatten();
        let labs = entries.filter(|entry| entry.path().join("state.json").is_file());
        let names = labs.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.filter(|name| *name != self.name).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        State::new(LabSpec::default(), "boot".into(), PathBuf::from("parts"))
    }

    #[test]
    fn a_record_comes_back_and_goes() {
        let root = tempfile::tempdir().expect("a folder");
        let store = Store::at(root.path(), "one");
        assert!(store.load().expect("no record").is_none());
        let mut state = state();
        state.machines.insert("paris-1".into(), MachineRecord::default());
        store.save(&state).expect("saved");
        std::fs::create_dir_all(store.machine("paris-1").join("disk")).expect("made");
        let loaded = store.load().expect("read").expect("there");
        assert!(loaded.machines.contains_key("paris-1") && !loaded.complete);
        assert_eq!(Store::at(root.path(), "two").others(), ["one"]);
        assert!(store.others().is_empty());
        store.remove().expect("removed");
        store.remove().expect("removed twice");
        assert!(store.load().expect("no record").is_none());
    }

    #[test]
    fn a_damaged_record_is_named() {
        let root = tempfile::tempdir().expect("a folder");
        let store = Store::at(root.path(), "one");
        std::fs::create_dir_all(store.folder()).expect("made");
        std::fs::write(store.folder().join("state.json"), "{").expect("written");
        assert!(store.load().expect_err("damaged").to_string().contains("state.json"));
    }

    #[test]
    fn only_one_may_change_a_lab() {
        let root = tempfile::tempdir().expect("a folder");
        let store = Store::at(root.path(), "one");
        let held = store.lock().expect("free");
        assert!(store.lock().expect_err("held").to_string().contains("lab one"));
        drop(held);
        store.lock().expect("free again");
    }

    #[test]
    fn one_run_of_cases_has_a_lab_for_itself_and_may_change_it() {
        let root = tempfile::tempdir().expect("a folder");
        let store = Store::at(root.path(), "one");
        let held = store.claim().expect("free");
        assert!(store.claim().expect_err("held").to_string().contains("uses lab one"));
        Store::at(root.path(), "two").claim().expect("of another lab");
        drop(store.lock().expect("for those who change it"));
        drop(held);
        store.claim().expect("free again");
    }

    #[test]
    fn roots_are_the_wan_and_every_holder() {
        let record = |pid| ProcessRecord { pid, ..ProcessRecord::default() };
        let mut state = state();
        state.wan = Some(record(1));
        let running = MachineRecord {
            holder: Some(record(2)),
            processes: [("kubelet".to_owned(), record(3))].into(),
        };
        state.machines.insert("a".into(), running);
        state.machines.insert("cut".into(), MachineRecord::default());
        let pids: Vec<i32> = state.roots().iter().map(|process| process.pid).collect();
        assert_eq!(pids, [1, 2]);
    }
}
