//! What names a piece of a book: SHA-256, apart for each kind of piece.

use std::fmt;

use aws_lc_rs::digest::{Context, SHA256};

/// What is hashed. One kind's bytes can never pass for another's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Place,
    Entry,
    Bucket,
    Index,
}

impl Kind {
    fn context(self) -> &'static [u8] {
        match self {
            Self::Place => b"carrick book place\0",
            Self::Entry => b"carrick book entry\0",
            Self::Bucket => b"carrick book bucket\0",
            Self::Index => b"carrick book index\0",
        }
    }
}

/// The hash of a piece.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash([u8; Self::LENGTH]);

impl Hash {
    /// How long one is, in bytes.
    pub const LENGTH: usize = 32;

    pub(super) fn of<'a>(kind: Kind, parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut context = Context::new(&SHA256);
        context.update(kind.context());
        parts.into_iter().for_each(|part| context.update(part));
        let mut hash = [0; Self::LENGTH];
        hash.copy_from_slice(context.finish().as_ref());
        Self(hash)
    }

    /// From its 32 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; Self::LENGTH] {
        &self.0
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take(6).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
