//! Public keys: a cluster's identity, a gateway lane's WireGuard key.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

const IDENTITY_SCHEME: &str = "ed25519:";

/// A cluster identity: an Ed25519 public key (RFC 8032), written `ed25519:` and 44 characters of
/// base64. Keys compare by their bytes; the lower one dials (see `carrick-exchange`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdentityKey([u8; 32]);

/// The public key of a gateway lane: X25519, as WireGuard uses it, written as 44 characters of base64.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TunnelKey([u8; 32]);

/// Why a text is no public key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The scheme is missing or unknown.
    #[error("identity {0:?} must begin with \"ed25519:\"")]
    Scheme(String),
    /// Not base64 of 32 bytes.
    #[error("key {0:?} must be 32 bytes in base64 (44 characters)")]
    Encoding(String),
}

fn decode(text: &str) -> Result<[u8; 32], KeyError> {
    let bad = || KeyError::Encoding(text.chars().take(64).collect());
    STANDARD.decode(text).map_err(|_| bad())?.try_into().map_err(|_| bad())
}

impl IdentityKey {
    /// From the 32 bytes of the public key.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl TunnelKey {
    /// From the 32 bytes of the public key.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl FromStr for IdentityKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Some(key) = text.strip_prefix(IDENTITY_SCHEME) else {
            return Err(KeyError::Scheme(text.chars().take(64).collect()));
        };
        decode(key).map(Self)
    }
}

impl FromStr for TunnelKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        decode(text).map(Self)
    }
}

impl fmt::Display for IdentityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{IDENTITY_SCHEME}{}", STANDARD.encode(self.0))
    }
}

impl fmt::Display for TunnelKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for IdentityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for TunnelKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips() {
        let identity = IdentityKey::from_bytes([7; 32]);
        assert_eq!(identity.to_string().parse(), Ok(identity));
        let tunnel = TunnelKey::from_bytes([9; 32]);
        assert_eq!(tunnel.to_string().parse(), Ok(tunnel));
    }

    #[test]
    fn wrong_text_is_refused() {
        for bad in ["", "ed25519:", "ed25519:AAAA", "rsa:AAAA", "ed25519:!!!!"] {
            assert!(bad.parse::<IdentityKey>().is_err(), "{bad:?}");
        }
    }
}
