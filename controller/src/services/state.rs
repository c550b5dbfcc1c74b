//! All that is known of services, by name, and which of them changed since they were last looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use carrick_model::service::ServiceKind;
use carrick_model::{ClusterId, Prefix, ServiceName};

use super::discover::{Discovered, Unexportable, discover};
use super::facts::{ExportFacts, ServiceFacts, SliceFacts};
use super::names::derived;
use super::plan::{Held, Objects};
use super::render::What;
use super::watch::{Missing, Seen, SeenService, SeenSlice};
use super::{RemoteServices, Remotes, Services};
use crate::event::Change;

/// All that is known.
#[derive(Debug, Default)]
pub struct State {
    exports: Collection<ExportFacts>,
    /// Only that they are there: what they are is in `objects`.
    imports: Collection<()>,
    services: Collection<Kept<ServiceFacts>>,
    slices: Collection<Kept<SliceFacts>>,
    namespaces: Collection<()>,
    ranges: Collection<Vec<Prefix>>,
    missing_exports: bool,
    missing_imports: bool,
    remotes: Remotes,
    /// EndpointSlices of each Service that we did not make, by key.
    behind: BTreeMap<ServiceName, BTreeSet<String>>,
    /// Our objects of each service.
    objects: BTreeMap<ServiceName, Objects>,
    dirty: BTreeSet<ServiceName>,
    /// ServiceExports that changed and whose names no Service can have, by key.
    misnamed: BTreeSet<String>,
}

/// What is kept of an object by its key.
#[derive(Debug)]
enum Kept<T> {
    /// What matters of one that may be exported.
    Theirs(T),
    /// For which service we made it: what it is is in `objects`.
    Ours(ServiceName),
}

/// A collection as the API has it; by key.
#[derive(Debug)]
struct Collection<T> {
    known: bool,
    all: BTreeMap<String, T>,
}

impl<T> Default for Collection<T> {
    fn default() -> Self {
        Self { known: false, all: BTreeMap::new() }
    }
}

/// One step of a change: what was there, and what is.
struct Step<T> {
    key: String,
    new: Option<T>,
}

impl<T> Collection<T> {
    /// A change as steps.
    fn steps<U>(&mut self, change: Change<U>) -> Vec<Step<U>> {
        match change {
            Change::Set(key, value) => vec![Step { key, new: Some(value) }],
            Change::Gone(key) => vec![Step { key, new: None }],
            Change::All(all) => {
                self.known = true;
                let new: BTreeMap<String, U> = all.into_iter().collect();
                let gone = self.all.keys().filter(|key| !new.contains_key(*key)).cloned();
                let gone: Vec<Step<U>> = gone.map(|key| Step { key, new: None }).collect();
                let set = new.into_iter().map(|(key, value)| Step { key, new: Some(value) });
                gone.into_iter().chain(set).collect()
            }
        }
    }

    fn put(&mut self, key: String, new: Option<T>) -> Option<T> {
        match new {
            Some(value) => self.all.insert(key, value),
            None => self.all.remove(&key),
        }
    }
}

impl State {
    /// Takes what a watch saw, or a write gave back.
    pub fn take(&mut self, seen: Seen) {
        match seen {
            Seen::Exports(change) => {
                if std::mem::take(&mut self.missing_exports) {
                    self.touch_all();
                }
                for Step { key, new } in self.exports.steps(change) {
                    match named(&key) {
                        Some(name) => {
                            self.dirty.insert(name);
                        }
                        None => {
                            self.misnamed.insert(key.clone());
                        }
                    }
                    self.exports.put(key, new);
                }
            }
            Seen::Imports(change) => {
                if std::mem::take(&mut self.missing_imports) {
                    self.touch_all();
                }
                for Step { key, new } in self.imports.steps(change) {
                    self.import(key, new);
                }
            }
            Seen::Services(change) => {
                for Step { key, new } in self.services.steps(change) {
                    self.service(key, new);
                }
            }
            Seen::Slices(change) => {
                for Step { key, new } in self.slices.steps(change) {
                    self.slice(key, new);
                }
            }
            Seen::Namespaces(change) => {
                for Step { key, new } in self.namespaces.steps(change) {
                    if self.namespaces.all.contains_key(&key) != new.is_some() {
                        self.namespaces.put(key.clone(), new);
                        let names = self.names();
                        self.dirty.extend(names.into_iter().filter(|name| name.namespace() == key));
                    }
                }
            }
            Seen::Ranges(change) => {
                for Step { key, new } in self.ranges.steps(change) {
                    self.ranges.put(key, new);
                }
            }
            Seen::Missing(Missing::Ranges) => self.ranges.known = true,
            Seen::Missing(Missing::Exports) => {
                (self.missing_exports, self.exports.known) = (true, true)
            }
            Seen::Missing(Missing::Imports) => {
                (self.missing_imports, self.imports.known) = (true, true)
            }
        }
    }

    fn import(&mut self, key: String, new: Option<(ServiceName, Held)>) {
        let Some(name) = named(&key) else { return };
        let held = self.objects.get(&name).and_then(|objects| objects.import.as_ref());
        if let (Some((_, new)), Some(held)) = (&new, held)
            && is_seen(new, held)
        {
            return;
        }
        let objects = self.objects.entry(name.clone()).or_default();
        objects.import = new.map(|(_, held)| held);
        self.tidy(&name);
        self.dirty.insert(name.clone());
        let shown = self.objects.get(&name).is_some_and(|objects| objects.import.is_some());
        self.imports.put(key, shown.then_some(()));
    }

    fn service(&mut self, key: String, new: Option<SeenService>) {
        if let Some(SeenService::Ours(name, held)) = &new {
            let before = self.objects.get(name).and_then(|objects| objects.derived.as_ref());
            if before.is_some_and(|before| is_seen(held, before)) {
                return;
            }
        }
        let exported = named(&key);
        let mut keep = None;
        let ours = match new {
            Some(SeenService::Ours(name, held)) => {
                self.objects.entry(name.clone()).or_default().derived = Some(*held);
                keep = Some(Kept::Ours(name.clone()));
                Some(name)
            }
            Some(SeenService::Theirs(facts)) => {
                keep = Some(Kept::Theirs(facts));
                None
            }
            None => None,
        };
        let theirs = matches!(keep, Some(Kept::Theirs(_)));
        let before = self.services.put(key.clone(), keep);
        let was_theirs = matches!(before, Some(Kept::Theirs(_)));
        if let Some(Kept::Ours(name)) = before
            && ours.as_ref() != Some(&name)
        {
            if let Some(objects) = self.objects.get_mut(&name) {
                objects.derived = None;
            }
            self.tidy(&name);
            self.dirty.insert(name);
        }
        // A Service in the way of a derived one: whose way, only the names of imports can say. Of ours it is known.
        if key.contains("/derived-") && (theirs || was_theirs) {
            let (namespace, own) = key.split_once('/').unwrap_or_default();
            let names = self.names().into_iter();
            self.dirty.extend(names.filter(|n| n.namespace() == namespace && derived(n) == own));
        }
        self.dirty.extend(exported);
        self.dirty.extend(ours);
    }

    fn slice(&mut self, key: String, new: Option<SeenSlice>) {
        let namespace = key.split_once('/').map(|(namespace, _)| namespace.to_owned());
        let namespace = namespace.unwrap_or_default();
        let own = key.split_once('/').map(|(_, name)| name.to_owned()).unwrap_or_default();
        if let Some(SeenSlice::Ours(name, held)) = &new {
            let before = self.objects.get(name).and_then(|objects| objects.slices.get(&own));
            if before.is_some_and(|before| is_seen(held, before)) {
                return;
            }
        }
        let mut keep = None;
        let mut touched: Vec<ServiceName> = Vec::new();
        match new {
            Some(SeenSlice::Ours(name, held)) => {
                self.objects.entry(name.clone()).or_default().slices.insert(own.clone(), held);
                keep = Some(Kept::Ours(name.clone()));
                touched.push(name);
            }
            Some(SeenSlice::Theirs(facts)) => {
                if let Ok(name) = ServiceName::new(&namespace, &facts.service) {
                    self.behind.entry(name.clone()).or_default().insert(key.clone());
                    touched.push(name);
                }
                keep = Some(Kept::Theirs(facts));
            }
            None => {}
        }
        match self.slices.put(key.clone(), keep) {
            Some(Kept::Ours(name)) if !touched.contains(&name) => {
                if let Some(objects) = self.objects.get_mut(&name) {
                    objects.slices.remove(&own);
                }
                self.tidy(&name);
                touched.push(name);
            }
            Some(Kept::Theirs(facts)) => {
                if let Ok(name) = ServiceName::new(&namespace, &facts.service)
                    && !touched.contains(&name)
                {
                    if let Some(keys) = self.behind.get_mut(&name) {
                        keys.remove(&key);
                        if keys.is_empty() {
                            self.behind.remove(&name);
                        }
                    }
                    touched.push(name);
                }
            }
            _ => {}
        }
        self.dirty.extend(touched);
    }

    fn tidy(&mut self, name: &ServiceName) {
        if self.objects.get(name).is_some_and(Objects::is_empty) {
            self.objects.remove(name);
        }
    }

    /// Takes what other clusters export now.
    pub fn hear(&mut self, new: Remotes) {
        let old = std::mem::replace(&mut self.remotes, new);
        let (old, Some(new)) = (old, self.remotes.as_ref()) else { return };
        let Some(old) = old else { return self.touch_all() };
        let silent = RemoteServices::default();
        let clusters: BTreeSet<&ClusterId> = old.keys().chain(new.keys()).collect();
        let mut dirty = BTreeSet::new();
        for cluster in clusters {
            let (before, now) =
                (old.get(cluster).unwrap_or(&silent), new.get(cluster).unwrap_or(&silent));
            let (some, others) = (before.services.as_deref(), now.services.as_deref());
            let known = old.contains_key(cluster) == new.contains_key(cluster);
            if before.access == now.access && some.is_some() == others.is_some() && known {
                dirty.extend(different(some, others));
            } else {
                dirty.extend(some.into_iter().chain(others).flat_map(Services::keys).cloned());
                // Also what was imported from it by an earlier controller.
                let from = |objects: &&Objects| {
                    let import = objects.import.iter();
                    import.flat_map(|i| &i.clusters).any(|from| from == cluster.as_str())
                };
                let imported = self.objects.iter().filter(|(_, objects)| from(objects));
                dirty.extend(imported.map(|(name, _)| name.clone()));
            }
        }
        self.dirty.extend(dirty);
    }

    /// All services that anything is known of.
    fn names(&self) -> BTreeSet<ServiceName> {
        let exports = self.exports.all.keys().filter_map(|key| named(key));
        let remotes = self.remotes.iter().flat_map(BTreeMap::values);
        let remotes = remotes.filter_map(|remote| remote.services.as_ref());
        let remotes = remotes.flat_map(|services| services.keys().cloned());
        exports.chain(remotes).chain(self.objects.keys().cloned()).collect()
    }

    /// Whether the Kubernetes API has said all that there is.
    pub fn is_known(&self) -> bool {
        self.exports.known
            && self.imports.known
            && self.services.known
            && self.slices.known
            && self.namespaces.known
    }

    /// Where Services have their addresses, in order; none where the API does not say, and `None` before that is known.
    pub fn ranges(&self) -> Option<Vec<Prefix>> {
        let mut all: Vec<Prefix> = self.ranges.all.values().flatten().copied().collect();
        all.sort_unstable();
        (self.ranges.known && self.is_known()).then_some(all)
    }

    /// How many Services that are not ours have an address.
    pub fn addressed(&self) -> usize {
        let addressed = |service: &&Kept<ServiceFacts>| match service {
            Kept::Theirs(facts) => facts.kind == Some(ServiceKind::ClusterSetIp),
            Kept::Ours(_) => false,
        };
        self.services.all.values().filter(addressed).count()
    }

    /// Whether imports can be written: it is known who the peers are, and the kinds are there.
    pub fn is_writable(&self) -> bool {
        self.is_known() && self.remotes.is_some() && !self.missing_imports && !self.missing_exports
    }

    /// Whether any service changed.
    pub fn has_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// How many services changed.
    pub fn dirty(&self) -> usize {
        self.dirty.len()
    }

    /// Services that changed, at most so many.
    pub fn take_dirty(&mut self, limit: usize) -> Vec<ServiceName> {
        let taken: Vec<ServiceName> = self.dirty.iter().take(limit).cloned().collect();
        taken.iter().for_each(|name| {
            self.dirty.remove(name);
        });
        taken
    }

    /// ServiceExports that changed and whose names no Service can have, at most so many.
    pub fn take_misnamed(&mut self, limit: usize) -> Vec<(String, ExportFacts)> {
        let taken: Vec<String> = self.misnamed.iter().take(limit).cloned().collect();
        taken.iter().for_each(|key| {
            self.misnamed.remove(key);
        });
        let there = |key: String| self.exports.all.get(&key).cloned().map(|export| (key, export));
        taken.into_iter().filter_map(there).collect()
    }

    /// Has all services looked at again.
    pub fn touch_all(&mut self) {
        let names = self.names();
        self.dirty.extend(names);
    }

    /// Has a service looked at again.
    pub fn touch(&mut self, name: ServiceName) {
        self.dirty.insert(name);
    }

    /// What we export under this name; `None` when nothing asks for that.
    pub fn discover(&self, name: &ServiceName) -> Option<Result<Discovered, Unexportable>> {
        let export = self.exports.all.get(&name.to_string())?;
        let service = match self.services.all.get(&name.to_string()) {
            Some(Kept::Theirs(facts)) => Some(facts),
            _ => None,
        };
        let keys = self.behind.get(name).into_iter().flatten();
        let slices = keys.filter_map(|key| match self.slices.all.get(key) {
            Some(Kept::Theirs(facts)) => Some(facts),
            _ => None,
        });
        let slices: Vec<&SliceFacts> = slices.collect();
        Some(discover(name, export, service, slices.into_iter()))
    }

    /// The objects of a service, with a Service in the way if there is one.
    pub fn objects(&self, name: &ServiceName) -> Objects {
        let mut objects = self.objects.get(name).cloned().unwrap_or_default();
        if objects.derived.is_none() {
            let key = format!("{}/{}", name.namespace(), derived(name));
            let taken = self.services.all.contains_key(&key);
            objects.derived = taken.then(Held::foreign);
        }
        objects
    }

    /// Our ServiceExport of this name.
    pub fn export(&self, name: &ServiceName) -> Option<&ExportFacts> {
        self.exports.all.get(&name.to_string())
    }

    /// Whether the namespace is there, and not about to go.
    pub fn has_namespace(&self, namespace: &str) -> bool {
        self.namespaces.all.contains_key(namespace)
    }

    /// What other clusters export.
    pub fn remotes(&self) -> Option<&BTreeMap<ClusterId, RemoteServices>> {
        self.remotes.as_ref()
    }

    /// Remembers that an object is as it should be.
    pub fn settle(&mut self, name: &ServiceName, settled: Vec<(What, String)>) {
        if let Some(objects) = self.objects.get_mut(name) {
            settled.into_iter().for_each(|(what, digest)| objects.settle(&what, digest));
        }
    }
}

/// Whether an object is none that we have not seen: a watch says again what a write gave back, and says all when it
/// begins anew.
fn is_seen(new: &Held, held: &Held) -> bool {
    new.uid == held.uid && new.version.zip(held.version).is_some_and(|(new, held)| new <= held)
}

fn named(key: &str) -> Option<ServiceName> {
    let (namespace, name) = key.split_once('/')?;
    ServiceName::new(namespace, name).ok()
}

/// The names under which two clusters' books differ.
fn different(some: Option<&Services>, others: Option<&Services>) -> Vec<ServiceName> {
    let none = Services::new();
    let (some, others) = (some.unwrap_or(&none), others.unwrap_or(&none));
    let differs = |name: &&ServiceName| match (some.get(*name), others.get(*name)) {
        (Some(one), Some(other)) => !Arc::ptr_eq(one, other) && one != other,
        (one, other) => one.is_some() != other.is_some(),
    };
    let names: BTreeSet<&ServiceName> = some.keys().chain(others.keys()).collect();
    names.into_iter().filter(differs).cloned().collect()
}

#[cfg(test)]
mod tests;
