//! Getting to a head's book by its pieces, in whichever order they come and however often.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::entry::{Entry, EntryError, Key};
use super::hash::Hash;
use super::head::Head;
use super::tree::{Book, bucket_hash, root_of};
use super::{BUCKETS, MAX_ANSWER};
use crate::message::service::{AskBucket, AskPieces, BucketPiece, Pieces};

/// How many buckets are asked for at once: as many as are likely to fit into an answer.
const AT_ONCE: usize = 32;

/// A pull under way.
#[derive(Debug)]
pub(super) struct Pull {
    head: Head,
    from: Book,
    missing: Option<BTreeMap<usize, Partial>>,
    done: BTreeMap<usize, Vec<(Key, Entry)>>,
    entries: usize,
    bytes: usize,
}

/// A bucket that is wanted.
#[derive(Debug)]
struct Partial {
    hash: Hash,
    entries: Vec<(Key, Entry)>,
    asked: bool,
}

/// What a question of a pull was about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    Index,
    Buckets(Vec<usize>),
}

/// Why pieces are wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PullError {
    /// What came is not what the head vouches for.
    #[error("pieces of the list of exported services are not what its head says")]
    Forged,
    /// The other side does not have it any more.
    #[error("the list of exported services has changed meanwhile")]
    Gone,
    /// The head vouches for it, and still it is none.
    #[error("the list of exported services is malformed: {0}")]
    Malformed(String),
}

impl Pull {
    /// From what is held to the book of `head`.
    pub(super) fn new(head: Head, from: Book) -> Self {
        Self { head, from, missing: None, done: BTreeMap::new(), entries: 0, bytes: 0 }
    }

    pub(super) fn head(&self) -> Head {
        self.head
    }

    /// What to ask next; `None` when all that can be asked now has been. `index_asked` says that the index is.
    pub(super) fn next(&mut self, index_asked: bool) -> Option<(AskPieces, Wanted)> {
        let Some(missing) = &mut self.missing else {
            let index = self.head.root.as_bytes().to_vec();
            let ask = AskPieces { index, buckets: Vec::new() };
            return (!index_asked).then_some((ask, Wanted::Index));
        };
        let open = missing.iter_mut().filter(|(_, partial)| !partial.asked).take(AT_ONCE);
        let (mut buckets, mut numbers) = (Vec::new(), Vec::new());
        for (number, partial) in open {
            partial.asked = true;
            numbers.push(*number);
            buckets.push(AskBucket {
                number: *number as u32,
                hash: partial.hash.as_bytes().to_vec(),
                skip: partial.entries.len() as u32,
            });
        }
        let ask = AskPieces { index: Vec::new(), buckets };
        (!numbers.is_empty()).then_some((ask, Wanted::Buckets(numbers)))
    }

    /// A question came to nothing: it may be asked again.
    pub(super) fn unanswered(&mut self, wanted: &Wanted) {
        let (Wanted::Buckets(numbers), Some(missing)) = (wanted, &mut self.missing) else { return };
        for number in numbers {
            if let Some(partial) = missing.get_mut(number) {
                partial.asked = false;
            }
        }
    }

    /// What came back to a question. An answer without anything of what was asked says that it is gone.
    pub(super) fn take(&mut self, wanted: &Wanted, pieces: Pieces) -> Result<(), PullError> {
        self.unanswered(wanted);
        match wanted {
            Wanted::Index if self.missing.is_some() => Ok(()),
            Wanted::Index if pieces.index.is_empty() => Err(PullError::Gone),
            Wanted::Index => self.index(&pieces.index),
            Wanted::Buckets(numbers) => {
                let mut news = false;
                for piece in pieces.buckets {
                    let number = piece.number as usize;
                    if numbers.contains(&number) {
                        news |= self.bucket(number, piece)?;
                    }
                }
                if news { Ok(()) } else { Err(PullError::Gone) }
            }
        }
    }

    fn index(&mut self, index: &[u8]) -> Result<(), PullError> {
        if index.len() != BUCKETS * Hash::LENGTH || root_of(index) != self.head.root {
            return Err(PullError::Forged);
        }
        let hashes = index.chunks_exact(Hash::LENGTH).filter_map(Hash::from_bytes);
        let differing = self.from.buckets().iter().zip(hashes).enumerate();
        let differing = differing.filter(|(_, (held, hash))| held.hash() != *hash);
        let partial = |hash| Partial { hash, entries: Vec::new(), asked: false };
        let mut missing: BTreeMap<_, _> =
            differing.map(|(number, (_, hash))| (number, partial(hash))).collect();
        let empty = bucket_hash([].iter());
        let emptied: Vec<usize> =
            missing.iter().filter(|(_, p)| p.hash == empty).map(|(n, _)| *n).collect();
        for number in emptied {
            missing.remove(&number);
            self.done.insert(number, Vec::new());
        }
        self.missing = Some(missing);
        Ok(())
    }

    /// Takes a piece of a bucket; returns whether it brought anything.
    fn bucket(&mut self, number: usize, piece: BucketPiece) -> Result<bool, PullError> {
        let Some(missing) = &mut self.missing else { return Ok(false) };
        let Some(partial) = missing.get_mut(&number) else { return Ok(false) };
        if piece.skip as usize != partial.entries.len() || piece.entries.is_empty() {
            return Ok(false);
        }
        let mut entries = Vec::with_capacity(piece.entries.len());
        for bytes in piece.entries {
            self.entries += 1;
            self.bytes += bytes.len();
            if self.entries > self.head.entries || self.bytes > self.head.bytes {
                return Err(PullError::Forged);
            }
            let read = Entry::new(Bytes::from(bytes)).and_then(|e| Ok((e.key()?, e)));
            entries
                .push(read.map_err(|error: EntryError| PullError::Malformed(error.to_string()))?);
        }
        partial.entries.extend(entries);
        if piece.last {
            if bucket_hash(partial.entries.iter().map(|(_, entry)| entry)) != partial.hash {
                return Err(PullError::Forged);
            }
            let partial = missing.remove(&number);
            self.done.insert(number, partial.map(|partial| partial.entries).unwrap_or_default());
        }
        Ok(true)
    }

    /// What was held, with the buckets that have come whole.
    pub(super) fn salvage(self) -> Book {
        self.from.with_buckets(self.done).unwrap_or(self.from)
    }

    /// The book, once all pieces are there.
    pub(super) fn finish(&mut self) -> Option<Result<Book, PullError>> {
        if !self.missing.as_ref()?.is_empty() {
            return None;
        }
        let book = self.from.with_buckets(std::mem::take(&mut self.done));
        let wrong = || PullError::Malformed("its entries are not where they belong".to_owned());
        Some(book.filter(|book| self.head.is_of(book)).ok_or_else(wrong))
    }
}

// The largest entry fits into an answer, or it could never be had.
const _: () = assert!(super::MAX_ENTRY + (8 << 10) < MAX_ANSWER);
