//! What one cluster exports to another: services in a *book*, whose signed head proves all of it.
//!
//! A [`Book`] has 256 buckets of entries, chosen by the hash of their key. A bucket's hash is over its entries',
//! and the root is over the buckets' hashes, the *index*. The head holds the root and is signed by the cluster's
//! identity. So whoever has the head can tell right pieces from wrong ones, wherever they come from and in
//! whichever order, and gateways carry them without being trusted.
//!
//! The importing side asks. It names the head that it holds, and is answered when there is a newer one, with the
//! changes between the two ([`changes`]); a reconnection with nothing new costs one question. Where changes do
//! not lead there, it asks for the index and the buckets that differ ([`pull`]). Neither side keeps anything about
//! the other between two questions. [`Publisher`] and [`Subscriber`] are the two ends, without input or output;
//! [`parse`] makes of an entry what may be believed.

mod change;
mod entry;
mod hash;
pub mod head;
pub mod parse;
pub mod publisher;
mod pull;
pub mod reader;
pub mod subscriber;
mod tree;

pub use change::{ChangeError, apply, changes};
pub use entry::{Entry, EntryError, Key};
pub use hash::Hash;
pub use head::{Head, HeadError};
pub use publisher::Publisher;
pub use pull::PullError;
pub use reader::{Imports, Reader};
pub use subscriber::Subscriber;
pub use tree::Book;

/// How many buckets a book has.
const BUCKETS: usize = 256;

/// The largest entry, in bytes: a service with some 5,000 endpoints.
pub const MAX_ENTRY: usize = 64 << 10;

/// The most entries of a book.
pub const MAX_ENTRIES: usize = 16_384;

/// The most that the entries of a book have together, in bytes.
pub const MAX_BYTES: usize = 8 << 20;

/// The largest question, in bytes.
pub const MAX_ASK: usize = 32 << 10;

/// The largest answer, in bytes.
pub const MAX_ANSWER: usize = 256 << 10;
