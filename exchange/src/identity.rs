//! A cluster's identity: the Ed25519 key that speaks for it. Only its controller holds it.

use std::fmt;

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use carrick_model::IdentityKey;
use prost::Message as _;
use rcgen::{KeyPair, PKCS_ED25519, SigningKey as _};

use crate::message::service::{BookHead, SignedBook};
use crate::message::snapshot::{ClusterSnapshot, SignedSnapshot};

/// What precedes the payload under a snapshot's signature, so that no other text signed by the
/// same key can pass for a snapshot.
const SNAPSHOT_CONTEXT: &[u8] = b"carrick snapshot v1\0";

/// What precedes the payload under the signature of a book's head.
const BOOK_CONTEXT: &[u8] = b"carrick book v1\0";

/// The private key of a cluster.
pub struct ClusterIdentity {
    key: KeyPair,
    public: IdentityKey,
}

/// Why there is no [`ClusterIdentity`], or why it cannot sign.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// Not a PEM block with an Ed25519 private key.
    #[error(
        "identity key must be one PKCS#8 PEM block with an Ed25519 private key \
         (`openssl genpkey -algorithm ed25519` makes one): {0}"
    )]
    Pem(String),
    /// The cryptographic library failed.
    #[error("identity key cannot be used: {0}")]
    Crypto(String),
}

impl ClusterIdentity {
    /// A new random key.
    pub fn generate() -> Result<Self, IdentityError> {
        let key = KeyPair::generate_for(&PKCS_ED25519)
            .map_err(|error| IdentityError::Crypto(error.to_string()))?;
        Self::new(key)
    }

    /// From PKCS#8 PEM, version 1 or 2.
    pub fn from_pem(pem: &str) -> Result<Self, IdentityError> {
        let key = KeyPair::from_pkcs8_pem_and_sign_algo(pem, &PKCS_ED25519)
            .map_err(|error| IdentityError::Pem(error.to_string()))?;
        Self::new(key)
    }

    fn new(key: KeyPair) -> Result<Self, IdentityError> {
        let public = key
            .public_key_raw()
            .try_into()
            .map_err(|_| IdentityError::Crypto("public key is not 32 bytes".to_owned()))?;
        Ok(Self { key, public: IdentityKey::from_bytes(public) })
    }

    /// As PKCS#8 PEM. A secret.
    pub fn to_pem(&self) -> String {
        self.key.serialize_pem()
    }

    /// The public key: what other clusters pin.
    pub fn public(&self) -> IdentityKey {
        self.public
    }

    /// Signs what this cluster says to another.
    pub fn sign_snapshot(
        &self,
        snapshot: &ClusterSnapshot,
    ) -> Result<SignedSnapshot, IdentityError> {
        self.sign_payload(snapshot.encode_to_vec())
    }

    /// Signs a snapshot that is encoded already, whatever it says.
    pub fn sign_payload(&self, payload: Vec<u8>) -> Result<SignedSnapshot, IdentityError> {
        let signature = self.sign(SNAPSHOT_CONTEXT, &payload)?;
        Ok(SignedSnapshot { payload, key: self.public.as_bytes().to_vec(), signature })
    }

    /// Signs the head of what this cluster exports to another.
    pub fn sign_book(&self, head: &BookHead) -> Result<SignedBook, IdentityError> {
        let payload = head.encode_to_vec();
        let signature = self.sign(BOOK_CONTEXT, &payload)?;
        Ok(SignedBook { payload, key: self.public.as_bytes().to_vec(), signature })
    }

    fn sign(&self, context: &[u8], payload: &[u8]) -> Result<Vec<u8>, IdentityError> {
        let signed = self.key.sign(&[context, payload].concat());
        signed.map_err(|error| IdentityError::Crypto(error.to_string()))
    }

    pub(crate) fn key_pair(&self) -> &KeyPair {
        &self.key
    }
}

impl fmt::Debug for ClusterIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterIdentity").field("public", &self.public).finish_non_exhaustive()
    }
}

/// Whether `signature` over a snapshot's `payload` is `key`'s.
pub(crate) fn snapshot_signed_by(key: &IdentityKey, payload: &[u8], signature: &[u8]) -> bool {
    signed_by(key, &[SNAPSHOT_CONTEXT, payload].concat(), signature)
}

/// Whether `signature` over the `payload` of a book's head is `key`'s.
pub(crate) fn book_signed_by(key: &IdentityKey, payload: &[u8], signature: &[u8]) -> bool {
    signed_by(key, &[BOOK_CONTEXT, payload].concat(), signature)
}

/// Whether `signature` over `text` is `key`'s (Ed25519, RFC 8032).
pub(crate) fn signed_by(key: &IdentityKey, text: &[u8], signature: &[u8]) -> bool {
    UnparsedPublicKey::new(&ED25519, key.as_bytes()).verify(text, signature).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pem_round_trips() {
        let identity = ClusterIdentity::generate().expect("identity");
        let again = ClusterIdentity::from_pem(&identity.to_pem()).expect("PEM");
        assert_eq!(again.public(), identity.public());
    }

    #[test]
    fn key_made_by_openssl_is_taken() {
        // PKCS#8 version 1, without the public key: RFC 8410, section 10.3.
        let pem = "-----BEGIN PRIVATE KEY-----\n\
                   MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
                   -----END PRIVATE KEY-----\n";
        let identity = ClusterIdentity::from_pem(pem).expect("RFC 8410 example");
        assert_eq!(
            identity.public().to_string(),
            "ed25519:Gb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE="
        );
    }

    #[test]
    fn other_pem_is_refused() {
        let other = KeyPair::generate().expect("P-256 key").serialize_pem();
        for bad in ["", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", &other] {
            let error = ClusterIdentity::from_pem(bad).expect_err("not an Ed25519 key");
            assert!(error.to_string().contains("openssl genpkey"), "{error}");
        }
    }
}
