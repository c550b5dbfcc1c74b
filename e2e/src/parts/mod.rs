//! The programs that clusters are made of: where they are, and building what is missing.

mod build;
mod debian;

pub use debian::{ensure_go, ensure_programs};

use std::path::{Path, PathBuf};

use crate::Result;
use crate::progress::Progress;

/// The programs, built and found.
#[derive(Clone, Debug)]
pub struct Parts {
    folder: PathBuf,
}

impl Parts {
    /// Installs and builds what is missing, once per version.
    ///
    /// # Errors
    /// When Debian's packages can't be installed or the build fails.
    pub fn ensure(progress: &Progress) -> Result<Self> {
        debian::ensure(progress)?;
        let folder = build::ensure(&cache_folder(), progress)?;
        Ok(Self { folder })
    }

    /// The programs in a folder that an earlier [`Parts::ensure`] gave.
    #[must_use]
    pub fn at(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// The folder of all programs.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The path of one program.
    #[must_use]
    pub fn program(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// PATH for programs that start others of the parts.
    #[must_use]
    pub fn search_path(&self) -> String {
        format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", self.folder.display())
    }
}

/// Where built things are kept: `CARRICK_CACHE`, else `.cache` in the repository.
#[must_use]
pub fn cache_folder() -> PathBuf {
    match std::env::var_os("CARRICK_CACHE") {
        Some(folder) => PathBuf::from(folder),
        None => repository().join(".cache"),
    }
}

/// The repository that this program was built from.
#[must_use]
pub fn repository() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_owned()
}
