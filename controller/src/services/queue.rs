//! Writes that wait: one an object, the newest; each object at most ten times a second, and backing off by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::mem::discriminant;
use std::time::{Duration, Instant};

use carrick_model::ServiceName;

use self::packed::{Packed, pack, unpack};
use super::plan::Write;
use super::render::What;

mod packed;

/// Between two writes of one object.
pub const GAP: Duration = Duration::from_millis(100);

const FIRST_RETRY: Duration = Duration::from_millis(200);
const LAST_RETRY: Duration = Duration::from_secs(30);

/// From how many written objects on those are forgotten that may be written again.
const RECENT_LIMIT: usize = 1024;

/// The most characters of an error that is kept.
const ERROR_LIMIT: usize = 512;

/// An object of a service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// The service.
    pub service: ServiceName,
    /// Which of its objects.
    pub what: What,
}

/// The queue.
#[derive(Debug, Default)]
pub struct Queue {
    waiting: BTreeMap<Key, (Packed, Instant)>,
    order: BTreeSet<(Instant, Key)>,
    busy: BTreeSet<Key>,
    recent: BTreeMap<Key, Instant>,
    troubles: BTreeMap<Key, (String, Duration)>,
}

impl Queue {
    /// What is to be written for a service, all of it: what else waited for it is dropped.
    pub fn set(&mut self, service: &ServiceName, writes: BTreeMap<What, Write>, now: Instant) {
        let gone = |key: &Key| !writes.contains_key(&key.what);
        for key in of(&self.waiting, service).filter(|key| gone(key)).cloned().collect::<Vec<_>>() {
            if let Some((_, due)) = self.waiting.remove(&key) {
                self.order.remove(&(due, key));
            }
        }
        let old = of(&self.troubles, service).filter(|key| gone(key) && !self.busy.contains(key));
        for key in old.cloned().collect::<Vec<_>>() {
            self.troubles.remove(&key);
        }
        for (what, write) in writes {
            let write = pack(write);
            let key = Key { service: service.clone(), what };
            let held = self.waiting.remove(&key);
            if let Some((_, due)) = &held {
                self.order.remove(&(*due, key.clone()));
            }
            // What failed otherwise says nothing of this: a deletion does not wait for a refused apply.
            let same = held.filter(|(held, _)| discriminant(held) == discriminant(&write));
            let written = self.recent.get(&key).map(|at| *at + GAP);
            let due = same.map_or_else(|| written.unwrap_or(now).max(now), |(_, due)| due);
            self.order.insert((due, key.clone()));
            self.waiting.insert(key, (write, due));
        }
    }

    /// A write that is due. Its object is busy until [`done`](Self::done) or [`failed`](Self::failed).
    pub fn take(&mut self, now: Instant) -> Option<(Key, Write)> {
        let mut due = self.order.iter().take_while(|(due, _)| *due <= now);
        let next = due.find(|(_, key)| !self.busy.contains(key)).cloned()?;
        self.order.remove(&next);
        let (_, key) = next;
        let (write, _) = self.waiting.remove(&key)?;
        self.recent.insert(key.clone(), now);
        if self.recent.len() > RECENT_LIMIT {
            self.recent.retain(|_, at| now < *at + GAP);
        }
        self.busy.insert(key.clone());
        Some((key, unpack(write)))
    }

    /// When something is due next.
    pub fn next(&self) -> Option<Instant> {
        let mut all = self.order.iter();
        all.find(|(_, key)| !self.busy.contains(key)).map(|(due, _)| *due)
    }

    /// It is written.
    pub fn done(&mut self, key: &Key) {
        self.busy.remove(key);
        self.troubles.remove(key);
    }

    /// It is not written, and is tried again later unless it is no longer wanted by then.
    pub fn failed(&mut self, key: Key, write: Write, error: &str, now: Instant) -> Duration {
        self.busy.remove(&key);
        let before = self.troubles.get(&key).map(|(_, delay)| *delay);
        let delay = before.map_or(FIRST_RETRY, |delay| (delay * 2).min(LAST_RETRY));
        let error = error.chars().take(ERROR_LIMIT).collect();
        self.troubles.insert(key.clone(), (error, delay));
        let newer = self.waiting.remove(&key);
        if let Some((_, due)) = &newer {
            self.order.remove(&(*due, key.clone()));
        }
        self.order.insert((now + delay, key.clone()));
        let next = newer.map_or_else(|| pack(write), |(newer, _)| newer);
        self.waiting.insert(key, (next, now + delay));
        delay
    }

    /// What failed of a service, with what was said.
    pub fn troubles(&self, service: &ServiceName) -> BTreeMap<What, String> {
        let all = of(&self.troubles, service);
        all.filter_map(|key| Some((key.what.clone(), self.troubles.get(key)?.0.clone()))).collect()
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

/// The keys of a service.
fn of<'a, T>(map: &'a BTreeMap<Key, T>, service: &'a ServiceName) -> impl Iterator<Item = &'a Key> {
    let first = Key { service: service.clone(), what: What::Derived };
    map.range(first..).map(|(key, _)| key).take_while(move |key| key.service == *service)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn name(name: &str) -> ServiceName {
        ServiceName::new("shop", name).expect("name")
    }

    fn writes(what: &[What]) -> BTreeMap<What, Write> {
        what.iter().map(|what| (what.clone(), Write::Apply(json!({}), None))).collect()
    }

    #[test]
    fn the_first_change_is_due_at_once_and_the_next_a_moment_later() {
        let (mut queue, now, hello) = (Queue::default(), Instant::now(), name("hello"));
        queue.set(&hello, writes(&[What::Import]), now);
        let (key, _) = queue.take(now).expect("due");
        assert_eq!(queue.take(now), None);
        queue.set(&hello, writes(&[What::Import]), now);
        assert_eq!(queue.take(now + GAP), None, "the one before is under way");
        queue.done(&key);
        assert_eq!(queue.take(now), None, "ten a second");
        assert_eq!(queue.next(), Some(now + GAP));
        assert!(queue.take(now + GAP).is_some());
    }

    #[test]
    fn each_object_backs_off_by_itself_and_says_why() {
        let (mut queue, now, hello) = (Queue::default(), Instant::now(), name("hello"));
        queue.set(&hello, writes(&[What::Import, What::Derived]), now);
        let (key, write) = queue.take(now).expect("due");
        assert_eq!(key.what, What::Derived);
        assert_eq!(queue.failed(key.clone(), write, "exceeded quota", now), FIRST_RETRY);
        assert_eq!(queue.troubles(&hello)[&What::Derived], "exceeded quota");
        assert_eq!(queue.take(now).expect("the other").0.what, What::Import);
        queue.set(&hello, writes(&[What::Derived]), now);
        assert_eq!(queue.take(now), None, "another content changes nothing about that");
        let (key, write) = queue.take(now + FIRST_RETRY).expect("again");
        assert_eq!(queue.failed(key, write, "exceeded quota", now), 2 * FIRST_RETRY);
        let delete = BTreeMap::from([(What::Derived, Write::Delete("u".to_owned()))]);
        queue.set(&hello, delete, now + GAP + FIRST_RETRY);
        assert!(queue.take(now + GAP + FIRST_RETRY).is_some(), "that did not fail");
        queue.set(&hello, BTreeMap::new(), now);
        assert!(queue.is_empty());
    }

    #[test]
    fn what_is_no_longer_wanted_is_no_trouble() {
        let (mut queue, now, hello) = (Queue::default(), Instant::now(), name("hello"));
        queue.set(&hello, writes(&[What::Derived]), now);
        let (key, write) = queue.take(now).expect("due");
        queue.failed(key, write, "exceeded quota", now);
        queue.set(&hello, BTreeMap::new(), now);
        assert!(queue.is_empty() && queue.troubles(&hello).is_empty(), "no longer wanted");
    }

    #[test]
    fn what_is_wanted_for_one_service_leaves_others_alone() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.set(&name("a"), writes(&[What::Import]), now);
        queue.set(&name("b"), writes(&[What::Slice("x".to_owned())]), now);
        queue.set(&name("a"), BTreeMap::new(), now);
        assert_eq!(queue.take(now).expect("due").0.service, name("b"));
    }
}
