//! Settings of the whole host that clusters need or change: remembered before
//! the first lab, restored after the last.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::lock::Lock;
use crate::state::{ROOT, Store};
use crate::{Error, Result};

/// Raised: each containerd and kubelet takes a dozen inotify instances.
const INOTIFY: (&str, u64) = ("fs/inotify/max_user_instances", 8192);

/// Changed by every kubelet.
const BY_KUBELET: [&str; 3] = ["vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops"];

/// The identity of this boot.
///
/// # Errors
/// When the kernel doesn't say.
pub fn boot_id() -> Result<String> {
    let path = "/proc/sys/kernel/random/boot_id";
    let text = std::fs::read_to_string(path).map_err(Error::file("reading", path))?;
    Ok(text.trim().to_owned())
}

/// Remembers the settings unless another lab has, and raises what must be raised.
///
/// # Errors
/// When a setting can't be read or written.
pub fn prepare() -> Result<()> {
    Settings::of_host().prepare()
}

/// Restores the settings if no lab but `store`'s is there.
///
/// # Errors
/// When a setting can't be written.
pub fn restore(store: &Store) -> Result<()> {
    if !store.others().is_empty() {
        return Ok(());
    }
    Settings::of_host().restore()
}

struct Settings {
    sysctls: PathBuf,
    saved: PathBuf,
}

impl Settings {
    fn of_host() -> Self {
        Self { sysctls: "/proc/sys".into(), saved: Path::new(ROOT).join("sysctls.json") }
    }

    fn prepare(&self) -> Result<()> {
        let _lock = self.lock()?;
        if !self.saved.exists() {
            let names = BY_KUBELET.iter().chain([&INOTIFY.0]);
            let old: BTreeMap<&str, String> =
                names.map(|name| Ok((*name, self.read(name)?))).collect::<Result<_>>()?;
            let text = serde_json::to_vec_pretty(&old).map_err(|e| self.malformed(&e))?;
            std::fs::write(&self.saved, text).map_err(Error::file("writing", &self.saved))?;
        }
        let (name, wanted) = INOTIFY;
        if self.read(name)?.parse::<u64>().is_ok_and(|now| now < wanted) {
            self.write(name, &wanted.to_string())?;
        }
        Ok(())
    }

    fn restore(&self) -> Result<()> {
        let _lock = self.lock()?;
        let text = match std::fs::read(&self.saved) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            result => result.map_err(Error::file("reading", &self.saved))?,
        };
        let old: BTreeMap<String, String> =
            serde_json::from_slice(&text).map_err(|e| self.malformed(&e))?;
        for (name, value) in &old {
            self.write(name, value)?;
        }
        std::fs::remove_file(&self.saved).map_err(Error::file("removing", &self.saved))
    }

    fn lock(&self) -> Result<Lock> {
        let path = self.saved.with_extension("lock");
        let folder = path.parent().unwrap_or(&path);
        std::fs::create_dir_all(folder).map_err(Error::file("making", folder))?;
        Lock::take(&path)
    }

    fn read(&self, name: &str) -> Result<String> {
        let path = self.sysctls.join(name);
        let text = std::fs::read_to_string(&path).map_err(Error::file("reading", path))?;
        Ok(text.trim().to_owned())
    }

    fn write(&self, name: &str, value: &str) -> Result<()> {
        let path = self.sysctls.join(name);
        std::fs::write(&path, value).map_err(Error::file("writing", path))
    }

    fn malformed(&self, error: &serde_json::Error) -> Error {
        Error::Format { what: self.saved.display().to_string(), reason: error.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_values_survive_a_second_lab_and_come_back() {
        let root = tempfile::tempdir().expect("a folder");
        let settings =
            Settings { sysctls: root.path().join("sys"), saved: root.path().join("saved.json") };
        for name in BY_KUBELET.iter().chain([&INOTIFY.0]) {
            let path = settings.sysctls.join(name);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            std::fs::write(path, "128\n").expect("written");
        }
        settings.prepare().expect("first lab");
        assert_eq!(settings.read(INOTIFY.0).expect("read"), "8192");
        settings.write("kernel/panic", "10").expect("a kubelet");
        settings.prepare().expect("second lab");
        settings.restore().expect("restored");
        assert_eq!(settings.read("kernel/panic").expect("read"), "128");
        assert_eq!(settings.read(INOTIFY.0).expect("read"), "128");
        settings.restore().expect("nothing to do");
    }
}
