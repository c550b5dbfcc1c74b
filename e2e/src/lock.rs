//! Locks that end with the process that holds them, and files that don't stay behind.

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

use crate::{Error, Result};

/// A held lock. Its file goes when it is dropped.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    _file: Flock<File>,
}

impl Lock {
    /// Takes the lock, or gives nothing when another process holds it.
    ///
    /// # Errors
    /// When the file can't be made.
    pub fn try_take(path: &Path) -> Result<Option<Self>> {
        Self::take_with(path, FlockArg::LockExclusiveNonblock)
    }

    /// Waits for the lock: for those that are held for moments only.
    ///
    /// # Errors
    /// When the file can't be made.
    pub fn take(path: &Path) -> Result<Self> {
        let taken = Self::take_with(path, FlockArg::LockExclusive)?;
        taken.ok_or_else(|| Error::Invalid(format!("{} can't be locked", path.display())))
    }

    fn take_with(path: &Path, how: FlockArg) -> Result<Option<Self>> {
        loop {
            let file = File::create(path).map_err(Error::file("opening", path))?;
            let Ok(file) = Flock::lock(file, how) else { return Ok(None) };
            // Whoever held it before has removed the file: ours is another one then.
            if same_file(&file, path) {
                return Ok(Some(Self { path: path.to_owned(), _file: file }));
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "a lock's file stays behind");
        }
    }
}

fn same_file(file: &File, path: &Path) -> bool {
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(held), Ok(named)) => held.ino() == named.ino() && held.dev() == named.dev(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holder_at_a_time_and_no_file_afterwards() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("lock");
        let held = Lock::take(&path).expect("taken");
        assert!(Lock::try_take(&path).expect("asked").is_none());
        drop(held);
        assert!(!path.exists());
        assert!(Lock::try_take(&path).expect("asked").is_some());
    }

    #[test]
    fn a_lock_on_a_removed_file_counts_for_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("lock");
        let stale = File::create(&path).expect("made");
        std::fs::remove_file(&path).expect("removed");
        assert!(!same_file(&stale, &path));
    }
}
