//! When a condition changed, as the API server told its watchers.

use std::io::BufReader;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use carrick_e2e::cluster::Cluster;
use carrick_e2e::wait::wait_until;
use serde_json::Value;

use crate::common::text;

/// One event of the watch.
#[derive(Debug)]
struct Event {
    at: Instant,
    deleted: bool,
    name: String,
    conditions: Value,
}

/// How a condition is wanted.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The ClusterPeering.
    pub peer: &'a str,
    /// The condition's type.
    pub condition: &'a str,
    /// Its status.
    pub status: &'a str,
    /// Its reason is one of these; any, when there are none.
    pub reasons: &'a [&'a str],
    /// What its message holds.
    pub word: &'a str,
}

impl<'a> Wanted<'a> {
    /// Ready with this status.
    pub fn ready(peer: &'a str, status: &'a str) -> Self {
        Self { peer, condition: "Ready", status, reasons: &[], word: "" }
    }
}

/// Watches all ClusterPeerings of a cluster until it is dropped.
#[derive(Debug)]
pub struct Watch {
    child: Child,
    events: Arc<Mutex<Vec<Event>>>,
}

impl Watch {
    /// Starts the watch.
    pub fn start(cluster: &Cluster) -> Result<Self, String> {
        let mut command = text(cluster.command("kubectl"))?;
        command.args(["get", "clusterpeerings", "--watch", "--output-watch-events", "-o", "json"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = text(command.spawn())?;
        let output = child.stdout.take().ok_or("kubectl has no output")?;
        let events = Arc::<Mutex<Vec<Event>>>::default();
        let seen = events.clone();
        std::thread::spawn(move || {
            let stream = serde_json::Deserializer::from_reader(BufReader::new(output));
            for value in stream.into_iter::<Value>().map_while(Result::ok) {
                let event = event(&value);
                seen.lock().unwrap_or_else(PoisonError::into_inner).push(event);
            }
        });
        Ok(Self { child, events })
    }

    /// Waits for an event after `since` in which a condition is as wanted; gives its time and what it
    /// said.
    pub fn wait(
        &self,
        wanted: &Wanted<'_>,
        since: Instant,
        limit: Duration,
    ) -> Result<(Instant, String), String> {
        let Wanted { peer, condition, status, reasons, word } = *wanted;
        let what = format!("{condition}={status} {reasons:?} of ClusterPeering {peer}");
        text(wait_until(limit, &what, || {
            let events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
            let fits = |event: &&Event| event.name == peer && event.at >= since && !event.deleted;
            let found = events.iter().filter(fits).find_map(|event| {
                let condition = named(event, condition)?;
                let (reason, said) = said(condition);
                let fits = reasons.is_empty() || reasons.contains(&reason.as_str());
                let fits = fits && condition["status"] == status && said.contains(word);
                fits.then_some((event.at, said))
            });
            found.ok_or_else(|| {
                let last = events.iter().rfind(|event| event.name == peer);
                last.map_or("no event".to_owned(), |event| event.conditions.to_string())
            })
        }))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // It may have ended by itself, with its API server.
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}

fn named<'a>(event: &'a Event, condition: &str) -> Option<&'a Value> {
    event.conditions.as_array()?.iter().find(|found| found["type"] == condition)
}

fn said(condition: &Value) -> (String, String) {
    let word = |name: &str| condition[name].as_str().unwrap_or_default().to_owned();
    (word("reason"), format!("{}: {}", word("reason"), word("message")))
}

fn event(value: &Value) -> Event {
    let object = &value["object"];
    Event {
        at: Instant::now(),
        deleted: value["type"] == "DELETED",
        name: object["metadata"]["name"].as_str().unwrap_or_default().to_owned(),
        conditions: object["status"]["conditions"].clone(),
    }
}
