//! The last order, kept in memory-backed storage so that a restart needs no controller.

use std::io;
use std::path::{Path, PathBuf};

use carrick_exchange::message::member::AgentConfig;
use prost::Message as _;

/// The last order's file.
#[derive(Debug, Clone)]
pub struct Store(PathBuf);

impl Store {
    /// In this folder.
    pub fn in_folder(folder: &Path) -> Self {
        Self(folder.join("agent-config.pb"))
    }

    /// The last order; `None` when there is none that can be read.
    pub fn load(&self) -> Option<AgentConfig> {
        let bytes = match std::fs::read(&self.0) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(path = %self.0.display(), %error, "cannot read the last order");
                return None;
            }
        };
        let decoded = AgentConfig::decode(bytes.as_slice());
        decoded
            .inspect_err(|error| {
                tracing::warn!(path = %self.0.display(), %error, "the last order is broken");
            })
            .ok()
    }

    /// Keeps an order. Written beside and renamed, so that a crash leaves the old or the new.
    pub fn save(&self, order: &AgentConfig) -> io::Result<()> {
        let beside = self.0.with_extension("new");
        std::fs::write(&beside, order.encode_to_vec())?;
        std::fs::rename(&beside, &self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::wire_config;

    #[test]
    fn what_is_kept_is_found_and_what_is_broken_is_not() {
        let folder = tempfile::tempdir().expect("folder");
        let store = Store::in_folder(folder.path());
        assert_eq!(store.load(), None);
        store.save(&wire_config()).expect("saved");
        assert_eq!(store.load(), Some(wire_config()));
        std::fs::write(folder.path().join("agent-config.pb"), [0xff; 9]).expect("written");
        assert_eq!(store.load(), None);
    }
}
