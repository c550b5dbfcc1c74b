//! The loop: watches and peers change what is known, and only what differs from that is written. A task of its own,
//! so that whatever services ask for, the engine goes on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use carrick_model::{ClusterId, Family, Prefix, ServiceName};
use jiff::Timestamp;
use kube::Client;
use kube::api::DynamicObject;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tracing::{debug, info, warn};

use super::facts::ExportFacts;
use super::misnamed::{tell, verdict};
use super::plan::{Held, Kind, View, Write, plan};
use super::queue::{Key, Queue};
use super::render::What;
use super::room::room;
use super::state::State;
use super::watch::{Seen, SeenService, SeenSlice, key};
use super::write::{WriteError, kind, write};
use super::{Exports, Remotes, Services};
use crate::event::Change;
use crate::metrics::Metrics;

/// Events that come together are answered by one plan.
const COALESCE: Duration = Duration::from_millis(10);

/// How many events of watches may wait.
const QUEUE: usize = 1024;

/// How many writes may be under way at a time.
const WRITES: usize = 8;

/// How many ServiceExports may be told at a time that their name is none.
const VERDICTS: usize = 4;

/// How many services are looked at before others get a turn: the engine runs on the same thread.
const TURN: usize = 32;

/// What the task is made of.
pub struct Parts {
    /// The Kubernetes API.
    pub client: Client,
    /// This cluster.
    pub cluster: ClusterId,
    /// What other clusters export.
    pub remotes: watch::Receiver<Remotes>,
    /// What we export.
    pub exports: watch::Sender<Exports>,
    /// How many services of one peer there is room for.
    pub room: watch::Sender<Option<usize>>,
    /// Where Services have their addresses, if the Kubernetes API does not say.
    pub service_ranges: Vec<Prefix>,
    /// Counters.
    pub metrics: Metrics,
}

/// What was written, and what came of it.
type Written = (Key, Write, Result<Option<DynamicObject>, WriteError>);

/// The task.
struct Task {
    client: Client,
    cluster: ClusterId,
    exports: watch::Sender<Exports>,
    room: watch::Sender<Option<usize>>,
    service_ranges: Vec<Prefix>,
    /// The ranges that the room is by.
    ranges: Option<Vec<Prefix>>,
    /// Their families.
    families: Vec<Family>,
    metrics: Metrics,
    state: State,
    queue: Queue,
    writes: JoinSet<Written>,
    /// ServiceExports that are told that no Service can have their name.
    verdicts: JoinSet<()>,
    told: bool,
}

/// Runs until it is dropped, or nobody feeds it any more.
pub async fn run(parts: Parts) {
    let Parts { client, cluster, mut remotes, exports, room, service_ranges, metrics } = parts;
    let (seen, mut watched) = mpsc::channel(QUEUE);
    let mut watches = JoinSet::new();
    super::watch::spawn(&client, &metrics, &seen, &mut watches);
    drop(seen);
    let mut task = Task {
        client,
        cluster,
        exports,
        room,
        service_ranges,
        ranges: None,
        families: Vec::new(),
        metrics,
        state: State::default(),
        queue: Queue::default(),
        writes: JoinSet::new(),
        verdicts: JoinSet::new(),
        told: false,
    };
    task.state.hear(remotes.borrow_and_update().clone());
    loop {
        let (due, more) = (task.due(), task.has_more());
        tokio::select! {
            seen = watched.recv() => match seen {
                Some(seen) => task.state.take(seen),
                None => return,
            },
            heard = remotes.changed() => match heard {
                Ok(()) => task.state.hear(remotes.borrow_and_update().clone()),
                Err(_) => return,
            },
            Some(done) = task.writes.join_next() => if !task.ended(done) { return },
            Some(_) = task.verdicts.join_next() => {}
            () = sleep_until(due) => {}
            () = std::future::ready(()), if more => {}
        }
        if !watched.is_empty() || remotes.has_changed().unwrap_or(true) {
            // But what waits to be written does not wait for that.
            if !more && !task.has_due() {
                tokio::time::sleep(COALESCE).await;
            }
            while let Ok(seen) = watched.try_recv() {
                task.state.take(seen);
            }
            if remotes.has_changed().unwrap_or_default() {
                task.state.hear(remotes.borrow_and_update().clone());
            }
        }
        while let Some(done) = task.writes.try_join_next() {
            if !task.ended(done) {
                return;
            }
        }
        task.step().await;
    }
}

impl Task {
    /// When the next write is due, unless as many as may be are under way.
    fn due(&self) -> Option<Instant> {
        self.queue.next().filter(|_| self.may_write())
    }

    /// Whether one more write may begin.
    fn may_write(&self) -> bool {
        self.state.is_writable() && self.writes.len() < WRITES
    }

    /// Whether a write is due, if others have to end before it may begin.
    fn has_due(&self) -> bool {
        self.queue.next().is_some_and(|due| due <= Instant::now())
    }

    /// Whether something is left to look at.
    fn has_more(&self) -> bool {
        self.state.is_known() && self.state.has_dirty()
    }

    /// Looks at what changed, and writes what is due. Of much that changed, as when a cluster is lost, only a part at a time,
    /// so that writing begins at once; but the first time all, as peers must not take a part for the whole.
    async fn step(&mut self) {
        if !self.state.is_known() {
            return;
        }
        self.tell_room();
        let mut changes = BTreeMap::new();
        loop {
            let names = self.state.take_dirty(TURN);
            if names.is_empty() {
                break;
            }
            for name in names {
                let export = self.look(&name);
                changes.insert(name, export);
            }
            self.tell_waiting();
            tokio::task::yield_now().await;
            if self.told {
                break;
            }
        }
        self.publish(changes);
        self.refuse_misnamed();
        while self.may_write()
            && let Some((key, one)) = self.queue.take(Instant::now())
        {
            let client = self.client.clone();
            self.writes.spawn(async move {
                let result = write(&client, &key, &one).await;
                (key, one, result)
            });
        }
        self.tell_waiting();
    }

    /// Tells how much is left to do.
    fn tell_waiting(&self) {
        self.metrics.set_waiting(self.state.dirty() + self.queue.len() + self.writes.len());
    }

    /// Tells how much room there is: when that becomes known, and when the ranges change. Services that come and go later
    /// do not count, or imports would come and go with them.
    fn tell_room(&mut self) {
        let Some(mut ranges) = self.state.ranges() else { return };
        if ranges.is_empty() {
            ranges.clone_from(&self.service_ranges);
        }
        if self.ranges.as_ref() != Some(&ranges) {
            let room = room(&ranges, self.state.addressed());
            info!(room, "services of one peer, unless its ClusterPeering says otherwise");
            self.room.send_replace(Some(room));
            let has = |family: &Family| ranges.iter().any(|range| range.family() == *family);
            let families: Vec<Family> = [Family::V4, Family::V6].into_iter().filter(has).collect();
            if self.families != families {
                self.families = families;
                self.state.touch_all();
            }
            self.ranges = Some(ranges);
        }
    }

    /// Tells ServiceExports that no Service can have their name.
    fn refuse_misnamed(&mut self) {
        if !self.state.is_writable() {
            return;
        }
        let room = VERDICTS.saturating_sub(self.verdicts.len());
        for (key, export) in self.state.take_misnamed(room) {
            if let Some(object) = verdict(&key, &export, Timestamp::now()) {
                self.verdicts.spawn(tell(self.client.clone(), object));
            }
        }
    }

    /// Plans for one service, and gives what we export of it.
    fn look(&mut self, name: &ServiceName) -> Option<Arc<carrick_model::ExportedService>> {
        let discovered = self.state.discover(name);
        if self.state.is_writable()
            && let Some(remotes) = self.state.remotes()
        {
            let held = self.state.objects(name);
            let view = View {
                name,
                own: &self.cluster,
                export: self.state.export(name),
                discovered: discovered.as_ref(),
                families: &self.families,
                remotes,
                namespace: self.state.has_namespace(name.namespace()),
                held: &held,
                troubles: &self.queue.troubles(name),
                now: Timestamp::now(),
            };
            let planned = plan(view);
            self.queue.set(name, planned.writes, Instant::now());
            self.state.settle(name, planned.settled);
        }
        discovered.and_then(Result::ok).map(|found| Arc::new(found.service))
    }

    /// Tells what changed in our exports; at first, all of them.
    fn publish(
        &mut self,
        changes: BTreeMap<ServiceName, Option<Arc<carrick_model::ExportedService>>>,
    ) {
        if !std::mem::replace(&mut self.told, true) {
            let all: Services =
                changes.into_iter().filter_map(|(name, export)| Some((name, export?))).collect();
            info!(exports = all.len(), "services are known");
            self.exports.send_replace(Some(all));
            return;
        }
        self.exports.send_if_modified(|exports| {
            let exports = exports.get_or_insert_default();
            let mut modified = false;
            for (name, export) in changes {
                if exports.get(&name) == export.as_ref() {
                    continue;
                }
                modified = true;
                match export {
                    Some(export) => exports.insert(name, export),
                    None => exports.remove(&name),
                };
            }
            modified
        });
    }

    /// Takes a write that ended; false when it panicked: its object would stay busy, so all has to begin anew.
    fn ended(&mut self, done: Result<Written, JoinError>) -> bool {
        let Ok((key, write, result)) = done else { return false };
        self.written(key, write, result);
        true
    }

    fn written(
        &mut self,
        key: Key,
        write: Write,
        result: Result<Option<DynamicObject>, WriteError>,
    ) {
        let what = kind(&key.what);
        self.state.touch(key.service.clone());
        match result {
            Ok(object) => {
                self.metrics.written(what);
                self.queue.done(&key);
                if let Some(seen) = object.and_then(|object| back(&key, &object)) {
                    self.state.take(seen);
                }
            }
            Err(error) => {
                let gone = matches!(error, WriteError::Gone);
                let error = error.to_string();
                let (service, object) = (key.service.clone(), key.what.clone());
                let retry = self.queue.failed(key, write, &error, Instant::now());
                if gone {
                    debug!(%service, ?object, error, ?retry, "write failed");
                } else {
                    self.metrics.api_error(what);
                    warn!(%service, ?object, error, ?retry, "write failed");
                }
            }
        }
    }
}

/// What a write gave back, as if a watch had seen it. What was deleted the watch tells: it may yet be waiting for others.
fn back(written: &Key, object: &DynamicObject) -> Option<Seen> {
    let key = key(&object.metadata);
    Some(match written.what {
        What::Derived => {
            let (name, held) = Held::read(object, Kind::Derived)?;
            Seen::Services(Change::Set(key, SeenService::Ours(name, Box::new(held))))
        }
        What::Slice(_) => {
            let (name, held) = Held::read(object, Kind::Slice)?;
            Seen::Slices(Change::Set(key, SeenSlice::Ours(name, Box::new(held))))
        }
        What::Import | What::ImportStatus => {
            Seen::Imports(Change::Set(key, Held::read(object, Kind::Import)?))
        }
        What::ExportStatus => Seen::Exports(Change::Set(key, ExportFacts::read(object))),
    })
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
