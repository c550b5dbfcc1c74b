//! The book: entries in buckets by the hash of their key, a hash for each bucket, and one over all of these.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use super::BUCKETS;
use super::entry::{Entry, Key};
use super::hash::{Hash, Kind};

/// Entries with their hashes. Two books with equal roots say the same. Clones share what is equal.
#[derive(Debug, Clone)]
pub struct Book {
    buckets: Vec<Arc<Bucket>>,
    root: Hash,
    count: usize,
    bytes: usize,
}

/// Entries whose keys have the same place.
#[derive(Debug, Clone)]
pub(super) struct Bucket {
    entries: BTreeMap<Key, Entry>,
    hash: Hash,
}

impl Bucket {
    fn new(entries: BTreeMap<Key, Entry>) -> Self {
        let hash = bucket_hash(entries.values());
        Self { entries, hash }
    }

    pub(super) fn hash(&self) -> Hash {
        self.hash
    }

    pub(super) fn entries(&self) -> &BTreeMap<Key, Entry> {
        &self.entries
    }
}

/// The hash of a bucket with these entries, in the order of their keys.
pub(super) fn bucket_hash<'a>(entries: impl Iterator<Item = &'a Entry>) -> Hash {
    let hashes: Vec<u8> = entries.flat_map(|entry| *entry.hash().as_bytes()).collect();
    Hash::of(Kind::Bucket, [&hashes[..]])
}

/// The root of a book with this index.
pub(super) fn root_of(index: &[u8]) -> Hash {
    Hash::of(Kind::Index, [index])
}

impl Default for Book {
    fn default() -> Self {
        let empty = Arc::new(Bucket::new(BTreeMap::new()));
        Self::from_buckets(std::iter::repeat_n(empty, BUCKETS).collect())
    }
}

impl Book {
    fn from_buckets(buckets: Vec<Arc<Bucket>>) -> Self {
        let mut book = Self { buckets, root: root_of(&[]), count: 0, bytes: 0 };
        let entries = || book.buckets.iter().flat_map(|bucket| bucket.entries.values());
        (book.count, book.bytes) =
            (entries().count(), entries().map(|entry| entry.bytes().len()).sum());
        book.root = root_of(&book.index());
        book
    }

    /// The hash over all of it.
    pub fn root(&self) -> Hash {
        self.root
    }

    /// How many entries it has.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How many bytes its entries have together.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// All entries, in no order that means anything.
    pub fn entries(&self) -> impl Iterator<Item = (&Key, &Entry)> {
        self.buckets.iter().flat_map(|bucket| &bucket.entries)
    }

    /// One entry.
    pub fn get(&self, key: &Key) -> Option<&Entry> {
        self.buckets.get(key.bucket())?.entries.get(key)
    }

    /// The hashes of all buckets, one after the other: what the root is made from.
    pub fn index(&self) -> Bytes {
        self.buckets.iter().flat_map(|bucket| *bucket.hash.as_bytes()).collect()
    }

    pub(super) fn buckets(&self) -> &[Arc<Bucket>] {
        &self.buckets
    }

    /// The same with these entries set, or taken out where there is `None`.
    #[must_use]
    pub fn with(&self, changes: impl IntoIterator<Item = (Key, Option<Entry>)>) -> Self {
        let mut buckets = self.buckets.clone();
        let mut touched = BTreeSet::new();
        for (key, entry) in changes {
            let place = key.bucket();
            let Some(bucket) = buckets.get_mut(place) else { continue };
            if bucket.entries.get(&key) == entry.as_ref() {
                continue;
            }
            let bucket = Arc::make_mut(bucket);
            match entry {
                Some(entry) => bucket.entries.insert(key, entry),
                None => bucket.entries.remove(&key),
            };
            touched.insert(place);
        }
        for place in touched {
            let bucket = Arc::make_mut(&mut buckets[place]);
            bucket.hash = bucket_hash(bucket.entries.values());
        }
        Self::from_buckets(buckets)
    }

    /// The same with these buckets instead of those of their numbers. `None` when an entry is in a bucket that is
    /// not its own, or two have the same key.
    pub(super) fn with_buckets(&self, pulled: BTreeMap<usize, Vec<(Key, Entry)>>) -> Option<Self> {
        let mut buckets = self.buckets.clone();
        for (place, entries) in pulled {
            let count = entries.len();
            let in_place = entries.iter().all(|(key, _)| key.bucket() == place);
            let entries: BTreeMap<Key, Entry> = entries.into_iter().collect();
            if !in_place || entries.len() != count {
                return None;
            }
            *buckets.get_mut(place)? = Arc::new(Bucket::new(entries));
        }
        Some(Self::from_buckets(buckets))
    }
}
