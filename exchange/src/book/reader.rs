//! What of a book is believed. An entry that did not change is not read again.

use std::collections::BTreeMap;
use std::sync::Arc;

use carrick_model::{ExportedService, ServiceName};

use super::entry::Key;
use super::hash::Hash;
use super::parse::{Believed, Policy, Refusal, display, parse};
use super::tree::Book;

/// The most endpoints of all services of a book together.
pub const MAX_ENDPOINTS: usize = 100_000;

/// How many refusals are told; all are counted.
pub const MAX_TOLD: usize = 16;

/// A book, read by one policy.
#[derive(Debug, Default)]
pub struct Reader {
    policy: Policy,
    read: BTreeMap<Key, (Hash, Result<Arc<Read>, Refusal>)>,
}

#[derive(Debug)]
struct Read {
    service: Arc<ExportedService>,
    endpoints: usize,
    why: Option<Refusal>,
}

/// What is believed of a cluster's book.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Imports {
    /// The services.
    pub services: BTreeMap<ServiceName, Arc<ExportedService>>,
    /// How many services are refused, or believed without some of their endpoints.
    pub refused: usize,
    /// The first of these in the order of their names, with the reasons.
    pub told: Vec<(String, Refusal)>,
}

impl Reader {
    /// Reads a book by a policy.
    pub fn read(&mut self, book: &Book, policy: &Policy) -> Imports {
        if self.policy != *policy {
            self.policy = policy.clone();
            self.read.clear();
        }
        self.read.retain(|key, (hash, _)| book.get(key).is_some_and(|e| e.hash() == *hash));
        for (key, entry) in book.entries() {
            if !self.read.contains_key(key) {
                let read = parse(entry, policy).map(|believed| Arc::new(Read::new(believed)));
                self.read.insert(key.clone(), (entry.hash(), read));
            }
        }
        self.imports()
    }

    fn imports(&self) -> Imports {
        let mut out = Imports::default();
        let mut endpoints = 0;
        for (key, (_, read)) in &self.read {
            let refusal = match read {
                Ok(read) if endpoints + read.endpoints > MAX_ENDPOINTS => Some(Refusal::TooMany {
                    what: "endpoints of all services of the cluster",
                    count: endpoints + read.endpoints,
                    limit: MAX_ENDPOINTS,
                }),
                Ok(read) => {
                    endpoints += read.endpoints;
                    out.services.insert(read.service.name.clone(), read.service.clone());
                    read.why.clone()
                }
                Err(refusal) => Some(refusal.clone()),
            };
            if let Some(refusal) = refusal {
                out.refused += 1;
                if out.told.len() < MAX_TOLD {
                    out.told.push((display(key), refusal));
                }
            }
        }
        out
    }
}

impl Read {
    fn new(Believed { service, why, .. }: Believed) -> Self {
        let endpoints = service.groups.iter().map(|group| group.endpoints.len()).sum();
        Self { service: Arc::new(service), endpoints, why }
    }
}
