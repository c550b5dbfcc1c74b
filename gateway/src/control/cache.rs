//! The last configuration, kept in memory-backed storage so that a restart needs no controller.

use std::path::{Path, PathBuf};

use carrick_exchange::message::member::GatewayConfig;
use prost::Message as _;

/// The last configuration's file.
#[derive(Debug, Clone)]
pub struct Cache(PathBuf);

impl Cache {
    /// In this folder.
    pub fn in_folder(folder: &Path) -> Self {
        Self(folder.join("gateway-config.pb"))
    }

    /// The last configuration; `None` when there is none that can be read.
    pub fn load(&self) -> Option<GatewayConfig> {
        let bytes = match std::fs::read(&self.0) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(path = %self.0.display(), %error, "cannot read the last configuration");
                return None;
            }
        };
        let decoded = GatewayConfig::decode(bytes.as_slice());
        decoded.inspect_err(|error| {
            tracing::warn!(path = %self.0.display(), %error, "the last configuration is broken");
        })
        .ok()
    }

    /// Keeps a configuration. Written beside and renamed, so that a crash leaves the old or the new.
    pub fn store(&self, config: &GatewayConfig) {
        let beside = self.0.with_extension("new");
        let stored = std::fs::write(&beside, config.encode_to_vec())
            .and_then(|()| std::fs::rename(&beside, &self.0));
        if let Err(error) = stored {
            tracing::warn!(path = %self.0.display(), %error, "cannot keep the configuration");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_found_and_what_is_broken_is_not() {
        let folder = tempfile::tempdir().expect("folder");
        let cache = Cache::in_folder(folder.path());
        assert_eq!(cache.load(), None);
        let config = GatewayConfig { generation: 7, ..GatewayConfig::default() };
        cache.store(&config);
        assert_eq!(cache.load(), Some(config));
        std::fs::write(folder.path().join("gateway-config.pb"), [0xff; 9]).expect("written");
        assert_eq!(cache.load(), None);
    }
}
