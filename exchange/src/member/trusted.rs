//! Our own cluster, as the controller's ConfigMap names it.

use std::path::Path;

use carrick_model::{ClusterId, IdentityKey, Role};

use crate::trust::Pin;

/// Our own cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trusted {
    /// Its ID.
    pub cluster: ClusterId,
    /// Its identities; the first is the one that signs.
    pub identities: Vec<IdentityKey>,
}

/// Why the ConfigMap does not do.
#[derive(Debug, thiserror::Error)]
pub enum TrustedError {
    /// A file cannot be read.
    #[error("{path}: {error}; the controller writes the ConfigMap carrick-trust when it starts")]
    Read {
        /// Which.
        path: String,
        /// What happened.
        error: std::io::Error,
    },
    /// A file holds something else.
    #[error("{path}: {error}")]
    Content {
        /// Which.
        path: String,
        /// What is wrong.
        error: String,
    },
}

impl Trusted {
    /// Reads the mounted ConfigMap.
    pub fn read(directory: &Path) -> Result<Self, TrustedError> {
        let (id_path, keys_path) = (directory.join("cluster-id"), directory.join("identities"));
        let cluster = read(&id_path)?.trim().parse();
        let cluster = cluster.map_err(|error| content(&id_path, &error))?;
        let text = read(&keys_path)?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let identities: Result<Vec<IdentityKey>, _> = lines.map(str::parse).collect();
        let identities = identities.map_err(|error| content(&keys_path, &error))?;
        if identities.is_empty() {
            return Err(content(&keys_path, &"no identity in it"));
        }
        Ok(Self { cluster, identities })
    }

    /// Whom we take for our controller.
    pub fn controller(&self) -> Pin {
        Pin::new(self.cluster.clone(), self.identities.clone(), Role::Controller)
    }
}

fn read(path: &Path) -> Result<String, TrustedError> {
    std::fs::read_to_string(path)
        .map_err(|error| TrustedError::Read { path: path.display().to_string(), error })
}

fn content(path: &Path, error: &dyn std::fmt::Display) -> TrustedError {
    TrustedError::Content { path: path.display().to_string(), error: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_and_what_is_wrong_is_named() {
        let folder = tempfile::tempdir().expect("folder");
        let error = Trusted::read(folder.path()).expect_err("nothing there").to_string();
        assert!(error.contains("cluster-id") && error.contains("carrick-trust"), "{error}");
        let write = |name: &str, text: &str| {
            std::fs::write(folder.path().join(name), text).expect("written");
        };
        write("cluster-id", "paris\n");
        write("identities", "\n");
        let error = Trusted::read(folder.path()).expect_err("no key").to_string();
        assert!(error.contains("identities"), "{error}");
        let key = IdentityKey::from_bytes([7; 32]);
        write("identities", &format!("{key}\n\n"));
        let trusted = Trusted::read(folder.path()).expect("read");
        assert_eq!((trusted.cluster.as_str(), trusted.identities), ("paris", vec![key]));
    }
}
