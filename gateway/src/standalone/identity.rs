//! `carrick-gateway identity FILE`: the key that speaks for a standalone gateway.

use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use anyhow::Context as _;
use carrick_exchange::ClusterIdentity;
use carrick_model::IdentityKey;

/// The public half of the key in this file; without the file, it is made, readable by its owner only.
pub fn identity(path: &Path) -> anyhow::Result<IdentityKey> {
    let name = path.display();
    match std::fs::read_to_string(path) {
        Ok(pem) => {
            let held = ClusterIdentity::from_pem(&pem).with_context(|| format!("{name}"))?;
            Ok(held.public())
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let new = ClusterIdentity::generate()?;
            let mut options = std::fs::OpenOptions::new();
            let file = options.write(true).create_new(true).mode(0o600).open(path);
            file.and_then(|mut file| file.write_all(new.to_pem().as_bytes()))
                .with_context(|| format!("cannot write {name}"))?;
            Ok(new.public())
        }
        Err(error) => Err(error).with_context(|| format!("cannot read {name}")),
    }
}

/// Whether others than its owner may read a file.
pub(super) fn is_shared(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o077 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_is_its_owners() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("identity.key");
        let made = identity(&path).expect("made");
        assert_eq!(identity(&path).expect("read"), made);
        let mode = std::fs::metadata(&path).expect("the file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(!is_shared(&path));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).expect("set");
        assert!(is_shared(&path));
        std::fs::write(&path, "nonsense").expect("written");
        let error = format!("{:#}", identity(&path).expect_err("no key"));
        assert!(error.contains("identity.key") && error.contains("openssl"), "{error}");
        assert_eq!(std::fs::read_to_string(&path).expect("the file"), "nonsense");
    }
}
