//! The signed head of a book: made, verified, or refused.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use carrick_model::{ClusterId, IdentityKey};
use prost::Message as _;

use super::hash::Hash;
use super::tree::Book;
use super::{MAX_BYTES, MAX_ENTRIES};
use crate::certificate::leaf::rfc3339;
use crate::identity::{ClusterIdentity, IdentityError, book_signed_by};
use crate::message::service::{BookHead, SignedBook};
use crate::snapshot::{MAX_SKEW, Version};
use crate::trust::Pin;

/// How long a head is taken. Receivers keep what they hold while nobody signs for us, so this bounds only how
/// long a stolen old one can be shown to somebody who has none.
pub const VALIDITY: Duration = Duration::from_secs(24 * 3600);

/// A head is signed anew, unchanged, after this time by the wall clock.
pub const RENEWAL: Duration = Duration::from_secs(6 * 3600);

/// The largest payload that is looked at, in bytes.
const MAX_PAYLOAD: usize = 1024;

/// A head that was verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Its place in the order.
    pub version: Version,
    /// The root of the book.
    pub root: Hash,
    /// How many entries the book has, at most [`MAX_ENTRIES`].
    pub entries: usize,
    /// How many bytes they have together, at most [`MAX_BYTES`].
    pub bytes: usize,
    /// Whose signature it bears.
    pub signer: IdentityKey,
}

impl Head {
    /// Whether it is this book's.
    pub(super) fn is_of(&self, book: &Book) -> bool {
        (self.root, self.entries, self.bytes) == (book.root(), book.len(), book.bytes())
    }
}

/// Why a head is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// The signature is not one of a pinned identity over these bytes.
    #[error("the list of exported services is not signed by an identity pinned for {cluster}")]
    Signature {
        /// Whose it should be.
        cluster: ClusterId,
    },
    /// Not a head in form.
    #[error("the list of {cluster}'s exported services is malformed: {error}")]
    Malformed {
        /// Whose it should be.
        cluster: ClusterId,
        /// What is wrong.
        error: String,
    },
    /// It is of another cluster, or meant for another.
    #[error("the list of exported services is {cluster}'s for {audience}, not {pinned}'s for us")]
    Names {
        /// The pinned cluster.
        pinned: ClusterId,
        /// The cluster in it.
        cluster: String,
        /// The audience in it.
        audience: String,
    },
    /// An older one than the one held.
    #[error(
        "the list {offered} of {cluster}'s exported services is older than {held}, which is held"
    )]
    Older {
        /// Whose it is.
        cluster: ClusterId,
        /// Its version.
        offered: Version,
        /// The version held.
        held: Version,
    },
    /// Not now by our clock.
    #[error(
        "the list of {cluster}'s exported services holds from {issued_at} to {expires_at}, and the clock here \
         shows {now}; set the clocks of both clusters by NTP, and look at {cluster}'s controller"
    )]
    Time {
        /// Whose it is.
        cluster: ClusterId,
        /// Its begin, RFC 3339.
        issued_at: String,
        /// Its end, RFC 3339.
        expires_at: String,
        /// Our time, RFC 3339.
        now: String,
    },
    /// More than we hold.
    #[error(
        "{cluster} exports {entries} services of {bytes} bytes; at most {MAX_ENTRIES} of {MAX_BYTES} bytes \
         together are taken"
    )]
    TooMany {
        /// Whose it is.
        cluster: ClusterId,
        /// How many entries it has.
        entries: u32,
        /// How many bytes these have.
        bytes: u32,
    },
}

impl HeadError {
    /// The CamelCase word for status and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Signature { .. } => "WrongSignature",
            Self::Malformed { .. } => "MalformedServices",
            Self::Names { .. } => "WrongCluster",
            Self::Older { .. } => "OlderServices",
            Self::Time { .. } => "ServicesNotValidNow",
            Self::TooMany { .. } => "TooMany",
        }
    }
}

/// Signs the head of `book`, which is what `cluster` says to `audience`.
pub fn sign(
    identity: &ClusterIdentity,
    (cluster, audience): (&ClusterId, &ClusterId),
    version: Version,
    book: &Book,
    now: SystemTime,
) -> Result<SignedBook, IdentityError> {
    let issued_at = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    identity.sign_book(&BookHead {
        cluster: cluster.to_string(),
        audience: audience.to_string(),
        epoch: version.epoch,
        generation: version.generation,
        issued_at,
        expires_at: issued_at + VALIDITY.as_secs(),
        root: book.root().as_bytes().to_vec(),
        entries: number(book.len()),
        bytes: number(book.bytes()),
    })
}

/// Verifies a head of the cluster in `pin`, meant for `own`. An older one than `held` is refused.
///
/// # Errors
/// With what is wrong and, where a person can do something about it, what.
pub fn verify(
    signed: &SignedBook,
    pin: &Pin,
    own: &ClusterId,
    now: SystemTime,
    held: Option<Version>,
) -> Result<Head, HeadError> {
    let cluster = || pin.cluster.clone();
    let malformed = |error: String| HeadError::Malformed { cluster: cluster(), error };
    if signed.payload.len() > MAX_PAYLOAD {
        return Err(malformed(format!("{} bytes", signed.payload.len())));
    }
    let known = pin.identities.iter().find(|key| signed.key.as_slice() == key.as_bytes());
    let known = known.filter(|key| book_signed_by(key, &signed.payload, &signed.signature));
    let signer = *known.ok_or_else(|| HeadError::Signature { cluster: cluster() })?;
    let raw = BookHead::decode(signed.payload.as_slice())
        .map_err(|error| malformed(error.to_string()))?;
    if raw.cluster != pin.cluster.as_str() || raw.audience != own.as_str() {
        let cut = |text: &str| text.chars().take(130).collect();
        let (cluster, audience) = (cut(&raw.cluster), cut(&raw.audience));
        return Err(HeadError::Names { pinned: pin.cluster.clone(), cluster, audience });
    }
    check_time(&raw, pin, now)?;
    let root = Hash::from_bytes(&raw.root);
    let root = root.ok_or_else(|| malformed(format!("a root of {} bytes", raw.root.len())))?;
    let (entries, bytes) = (raw.entries as usize, raw.bytes as usize);
    if entries > MAX_ENTRIES || bytes > MAX_BYTES {
        let (entries, bytes) = (raw.entries, raw.bytes);
        return Err(HeadError::TooMany { cluster: cluster(), entries, bytes });
    }
    let version = Version { epoch: raw.epoch, generation: raw.generation };
    match held {
        Some(held) if version < held => {
            Err(HeadError::Older { cluster: cluster(), offered: version, held })
        }
        _ => Ok(Head { version, root, entries, bytes, signer }),
    }
}

fn check_time(raw: &BookHead, pin: &Pin, now: SystemTime) -> Result<(), HeadError> {
    // Beyond the year 9999 nothing distinguishes times, and adding could overflow.
    let at = |seconds: u64| UNIX_EPOCH + Duration::from_secs(seconds.min(253_402_300_799));
    let (issued_at, expires_at) = (at(raw.issued_at), at(raw.expires_at));
    if issued_at <= now + MAX_SKEW && now < expires_at {
        return Ok(());
    }
    let [issued_at, expires_at, now] = [issued_at, expires_at, now].map(rfc3339);
    Err(HeadError::Time { cluster: pin.cluster.clone(), issued_at, expires_at, now })
}
