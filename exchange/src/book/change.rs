//! From one book to another by what changed, for the few bytes that a changed endpoint is.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use super::entry::{Entry, Key};
use super::tree::Book;
use crate::message::service::Change;

/// What changed from `old` to `new`, in no more than `most` bytes; `None` when it is more.
pub fn changes(old: &Book, new: &Book, most: usize) -> Option<Vec<Change>> {
    let mut out = Vec::new();
    let mut left = most;
    let pairs = old.buckets().iter().zip(new.buckets());
    for (old, new) in pairs.filter(|(old, new)| !Arc::ptr_eq(old, new)) {
        let keys: BTreeSet<&Key> = old.entries().keys().chain(new.entries().keys()).collect();
        for key in keys {
            let (old, new) = (old.entries().get(key), new.entries().get(key));
            if old == new {
                continue;
            }
            let change = change(key, old, new);
            left = left.checked_sub(prost::Message::encoded_len(&change) + FRAMING)?;
            out.push(change);
        }
    }
    Some(out)
}

/// What one more message in a list costs at most, in bytes, beside its own.
const FRAMING: usize = 5;

fn change(key: &Key, old: Option<&Entry>, new: Option<&Entry>) -> Change {
    let Key { namespace, name } = key.clone();
    let Some(new) = new else {
        return Change { namespace, name, gone: true, ..Change::default() };
    };
    let (new, old) = (new.bytes(), old.map_or(&[][..], |old| old.bytes()));
    let same =
        |pairs: &mut dyn Iterator<Item = (&u8, &u8)>| pairs.take_while(|(a, b)| a == b).count();
    let front = same(&mut old.iter().zip(new));
    let back = same(&mut old[front..].iter().rev().zip(new[front..].iter().rev()));
    let middle = new[front..new.len() - back].to_vec();
    // Entries are shorter than 4 GiB by far.
    Change { namespace, name, gone: false, front: front as u32, back: back as u32, middle }
}

/// Why changes cannot be applied. They are a shortcut: the book is pulled instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the change of {namespace}/{name} does not fit the entry that is held")]
pub struct ChangeError {
    /// The namespace in it.
    pub namespace: String,
    /// The name in it.
    pub name: String,
}

/// The book that comes of `old` by these changes. Whether it is the right one, its root says.
pub fn apply(old: &Book, changes: &[Change]) -> Result<Book, ChangeError> {
    let applied: Result<Vec<_>, _> = changes.iter().map(|change| applied(old, change)).collect();
    Ok(old.with(applied?))
}

fn applied(book: &Book, change: &Change) -> Result<(Key, Option<Entry>), ChangeError> {
    let key = Key { namespace: change.namespace.clone(), name: change.name.clone() };
    if change.gone {
        return Ok((key, None));
    }
    let old = book.get(&key).map_or(&[][..], |entry| entry.bytes());
    let entry = patched(old, change).and_then(|bytes| Entry::new(bytes).ok());
    // Its own word for what it is must be the key's, or the entry could not be found again.
    match entry.filter(|entry| entry.key().as_ref() == Ok(&key)) {
        Some(entry) => Ok((key, Some(entry))),
        None => Err(ChangeError { namespace: key.namespace, name: key.name }),
    }
}

fn patched(old: &[u8], change: &Change) -> Option<Bytes> {
    let (front, back) = (change.front as usize, change.back as usize);
    let kept = front.checked_add(back)?;
    if kept > old.len() || kept + change.middle.len() > super::MAX_ENTRY {
        return None;
    }
    Some([&old[..front], &change.middle, &old[old.len() - back..]].concat().into())
}
