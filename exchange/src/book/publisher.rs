//! The exporting side: a book for each audience, and answers to what is asked of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use carrick_model::{ClusterId, ExportedService, ServiceName};

use super::change::changes;
use super::entry::{Entry, Key};
use super::hash::Hash;
use super::head::{self, RENEWAL};
use super::tree::{Book, Bucket};
use super::{MAX_ANSWER, MAX_BYTES, MAX_ENTRIES};
use crate::identity::{ClusterIdentity, IdentityError};
use crate::message::service::{
    Answer, AskHead, AskPieces, BucketPiece, News, Pieces, SignedBook, answer, ask,
};
use crate::snapshot::Version;

/// How many former books are kept, to say what changed since, and to finish pulls that are under way.
const HISTORY: usize = 32;

/// The most bytes of changes that go along with a head. More is pulled, in pieces that can be checked singly.
const MAX_CHANGES: usize = 64 << 10;

/// Room in an answer for what is around its entries, in bytes.
const AROUND: usize = 4 << 10;

/// What a cluster exports.
pub type Exports = BTreeMap<ServiceName, Arc<ExportedService>>;

/// One of these, as [`Publisher::set`] takes it.
pub type Export<'a> = (&'a ServiceName, &'a Arc<ExportedService>);

/// What became of a name: exported so, or no more.
type Changed = (ServiceName, Option<Arc<ExportedService>>);

/// Books for all audiences.
#[derive(Debug)]
pub struct Publisher {
    own: ClusterId,
    epoch: u64,
    generation: u64,
    audiences: BTreeMap<ClusterId, Audience>,
}

#[derive(Debug, Default)]
struct Audience {
    exports: Exports,
    left_out: Vec<(ServiceName, String)>,
    book: Book,
    /// Former books, the newest first.
    former: VecDeque<Book>,
    signed: Option<Signed>,
}

#[derive(Debug)]
struct Signed {
    book: SignedBook,
    root: Hash,
    version: Version,
    at: SystemTime,
}

impl Publisher {
    /// For a process of cluster `own` that begins `now`. It orders all that it says above what one that began
    /// before has said, as long as the clock was not put back.
    pub fn new(own: ClusterId, now: SystemTime) -> Self {
        let epoch = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        Self { own, epoch, generation: 0, audiences: BTreeMap::new() }
    }

    /// Forgets what is said to others than these.
    pub fn retain(&mut self, wanted: impl Fn(&ClusterId) -> bool) {
        self.audiences.retain(|audience, _| wanted(audience));
    }

    /// All that `audience` may import from now on, in the order of the names. Returns whether that is anything new for it.
    /// What is as before costs a comparison.
    pub fn set<'a>(
        &mut self,
        audience: &ClusterId,
        exports: impl IntoIterator<Item = Export<'a>>,
    ) -> bool {
        match self.audiences.get_mut(audience) {
            Some(held) => held.set(exports),
            None => {
                self.audiences.entry(audience.clone()).or_default().set(exports);
                true
            }
        }
    }

    /// To whom something is said.
    pub fn audiences(&self) -> impl Iterator<Item = &ClusterId> {
        self.audiences.keys()
    }

    /// The book for an audience.
    pub fn book(&self, audience: &ClusterId) -> Option<&Book> {
        self.audiences.get(audience).map(|held| &held.book)
    }

    /// What an audience is not told, because it is more than is carried, and why.
    pub fn left_out(&self, audience: &ClusterId) -> &[(ServiceName, String)] {
        self.audiences.get(audience).map_or(&[], |held| &held.left_out)
    }

    /// Answers one question of `audience`. `None` says that nothing is newer than what it holds: ask again after
    /// the next [`Publisher::set`] that returned true, or answer [`Publisher::unchanged`].
    ///
    /// # Errors
    /// When the identity cannot sign.
    pub fn answer(
        &mut self,
        audience: &ClusterId,
        asked: &ask::Kind,
        identity: &ClusterIdentity,
        now: SystemTime,
    ) -> Result<Option<Answer>, IdentityError> {
        let Some(held) = self.audiences.get_mut(audience) else {
            let text = format!("{} holds no ClusterPeering for {audience}", self.own);
            return Ok(Some(said(answer::Kind::Refused(text))));
        };
        match asked {
            ask::Kind::Pieces(ask) => Ok(Some(said(answer::Kind::Pieces(held.pieces(ask))))),
            ask::Kind::Head(ask) => {
                if held.is_unsigned(now) {
                    self.generation += 1;
                    let version = Version { epoch: self.epoch, generation: self.generation };
                    held.sign(identity, (&self.own, audience), version, now)?;
                }
                Ok(held.news(ask).map(|news| said(answer::Kind::Head(news))))
            }
        }
    }

    /// What to say when the time of a question is over.
    pub fn unchanged() -> Answer {
        said(answer::Kind::Unchanged(Default::default()))
    }
}

fn said(kind: answer::Kind) -> Answer {
    Answer { kind: Some(kind) }
}

impl Audience {
    fn set<'a>(&mut self, exports: impl IntoIterator<Item = Export<'a>>) -> bool {
        let changed = differing(&self.exports, exports);
        if changed.is_empty() {
            return false;
        }
        for (name, service) in &changed {
            match service {
                Some(service) => self.exports.insert(name.clone(), service.clone()),
                None => self.exports.remove(name),
            };
        }
        let book = if self.left_out.is_empty() {
            self.book.with(changed.iter().map(|(name, service)| encoded(name, service.as_ref())))
        } else {
            // Something may fit now that did not before.
            let all = self.exports.iter();
            Book::default().with(all.map(|(name, service)| encoded(name, Some(service))))
        };
        let book = within_limits(book);
        self.left_out = left_out(&self.exports, &book);
        if book.root() == self.book.root() {
            return false;
        }
        self.former.push_front(std::mem::replace(&mut self.book, book));
        self.former.truncate(HISTORY);
        true
    }

    fn is_unsigned(&self, now: SystemTime) -> bool {
        // A clock that was put back signs anew.
        let fresh = |at: SystemTime| now.duration_since(at).is_ok_and(|age| age < RENEWAL);
        let stands = |signed: &Signed| signed.root == self.book.root() && fresh(signed.at);
        !self.signed.as_ref().is_some_and(stands)
    }

    fn sign(
        &mut self,
        identity: &ClusterIdentity,
        names: (&ClusterId, &ClusterId),
        version: Version,
        now: SystemTime,
    ) -> Result<(), IdentityError> {
        let book = head::sign(identity, names, version, &self.book, now)?;
        self.signed = Some(Signed { book, root: self.book.root(), version, at: now });
        Ok(())
    }

    fn news(&self, ask: &AskHead) -> Option<News> {
        let signed = self.signed.as_ref()?;
        if (ask.epoch, ask.generation) == (signed.version.epoch, signed.version.generation) {
            return None;
        }
        let root = Hash::from_bytes(&ask.root);
        let from = self.former.iter().find(|former| Some(former.root()) == root);
        let changes = from.and_then(|from| changes(from, &self.book, MAX_CHANGES));
        Some(News { head: Some(signed.book.clone()), changes: changes.unwrap_or_default() })
    }

    fn pieces(&self, ask: &AskPieces) -> Pieces {
        let books = || std::iter::once(&self.book).chain(&self.former);
        let root = Hash::from_bytes(&ask.index);
        let index = books().find(|book| Some(book.root()) == root).map(Book::index);
        let mut left = MAX_ANSWER - AROUND;
        let mut buckets = Vec::new();
        for wanted in ask.buckets.iter().take(super::BUCKETS) {
            let hash = Hash::from_bytes(&wanted.hash);
            let number = wanted.number as usize;
            let mut found = books().filter_map(|book| book.buckets().get(number));
            let Some(bucket) = found.find(|bucket| Some(bucket.hash()) == hash) else { continue };
            buckets.extend(piece(bucket, wanted.number, wanted.skip, &mut left));
            if left == 0 {
                break;
            }
        }
        Pieces { index: index.unwrap_or_default().to_vec(), buckets }
    }
}

/// As much of a bucket as `left` has room for; sets that to 0 when it is too little.
fn piece(bucket: &Bucket, number: u32, skip: u32, left: &mut usize) -> Option<BucketPiece> {
    let mut piece = BucketPiece { number, skip, entries: Vec::new(), last: true };
    for entry in bucket.entries().values().skip(skip as usize) {
        // Tag and length take four bytes at most, and so does what is around a bucket.
        match left.checked_sub(entry.bytes().len() + 4) {
            Some(rest) => *left = rest,
            None => {
                *left = 0;
                piece.last = false;
                break;
            }
        }
        piece.entries.push(entry.bytes().to_vec());
    }
    (!piece.entries.is_empty()).then_some(piece)
}

/// What is not the same in both, each in the order of the names.
fn differing<'a>(old: &Exports, new: impl IntoIterator<Item = Export<'a>>) -> Vec<Changed> {
    let same = |a: &Arc<ExportedService>, b: &Arc<ExportedService>| Arc::ptr_eq(a, b) || a == b;
    let (mut old, mut out) = (old.iter().peekable(), Vec::new());
    for (name, service) in new {
        while let Some((gone, _)) = old.next_if(|(before, _)| *before < name) {
            out.push((gone.clone(), None));
        }
        let before = old.next_if(|(before, _)| *before == name);
        if !before.is_some_and(|(_, before)| same(before, service)) {
            out.push((name.clone(), Some(service.clone())));
        }
    }
    out.extend(old.map(|(gone, _)| (gone.clone(), None)));
    out
}

fn encoded(name: &ServiceName, service: Option<&Arc<ExportedService>>) -> (Key, Option<Entry>) {
    (key(name), service.and_then(|service| Entry::of(service).ok()))
}

fn key(name: &ServiceName) -> Key {
    Key { namespace: name.namespace().to_owned(), name: name.name().to_owned() }
}

/// Without the last ones by name, where it is more than a book may hold.
fn within_limits(book: Book) -> Book {
    let (mut count, mut bytes) = (book.len(), book.bytes());
    if count <= MAX_ENTRIES && bytes <= MAX_BYTES {
        return book;
    }
    let entries: BTreeMap<&Key, usize> =
        book.entries().map(|(key, entry)| (key, entry.bytes().len())).collect();
    let mut beyond = Vec::new();
    for (key, length) in entries.into_iter().rev() {
        if count <= MAX_ENTRIES && bytes <= MAX_BYTES {
            break;
        }
        (count, bytes) = (count - 1, bytes - length);
        beyond.push((key.clone(), None));
    }
    book.with(beyond)
}

fn left_out(exports: &Exports, book: &Book) -> Vec<(ServiceName, String)> {
    if book.len() == exports.len() {
        return Vec::new();
    }
    let told: BTreeSet<&Key> = book.entries().map(|(key, _)| key).collect();
    let missing = exports.iter().filter(|(name, _)| !told.contains(&key(name)));
    let why = |service: &ExportedService| match Entry::of(service) {
        Err(error) => error.to_string(),
        Ok(_) => {
            format!("at most {MAX_ENTRIES} services of {MAX_BYTES} bytes together are carried")
        }
    };
    missing.map(|(name, service)| (name.clone(), why(service))).collect()
}
