//! A cluster's API server by plain HTTP, through one `kubectl proxy`: for writes and watches whose times count, without a
//! kubectl that has to start first.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use carrick_e2e::cluster::Cluster;
use carrick_e2e::wait::wait_until;
use serde_json::Value;

use crate::common::text;
use crate::world::Outcome;

/// The proxy has to answer within that, and the API server as well.
const SOON: Duration = Duration::from_secs(20);

/// The proxy, until it is dropped.
pub struct Api {
    child: Child,
    socket: PathBuf,
    _folder: tempfile::TempDir,
}

impl Api {
    /// Starts the proxy of a cluster.
    pub fn start(cluster: &Cluster) -> Result<Self, String> {
        let folder = text(tempfile::tempdir())?;
        let socket = folder.path().join("api");
        let mut command = text(cluster.command("kubectl"))?;
        command.arg("proxy").arg("--unix-socket").arg(&socket);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let api = Self { child: text(command.spawn())?, socket, _folder: folder };
        text(wait_until(SOON, "kubectl proxy", || api.send("GET", "/readyz", None).map(drop)))?;
        Ok(api)
    }

    /// Changes an object of Kubernetes' own kinds by a strategic merge patch.
    pub fn patch(&self, path: &str, patch: &Value) -> Outcome {
        read(self.send("PATCH", path, Some(patch))?).map(drop)
    }

    /// Deletes an object.
    pub fn delete(&self, path: &str) -> Outcome {
        read(self.send("DELETE", path, None)?).map(drop)
    }

    /// Watches a list, which `path` with its query names, from now on.
    pub fn watch(&self, path: &str) -> Result<Feed, String> {
        let mark = if path.contains('?') { '&' } else { '?' };
        let answer = self.send("GET", &format!("{path}{mark}watch=1"), None)?;
        text(answer.get_ref().set_read_timeout(None))?;
        let stream = text(answer.get_ref().try_clone())?;
        let events = Arc::<Mutex<Vec<Event>>>::default();
        let seen = events.clone();
        std::thread::spawn(move || {
            let values = serde_json::Deserializer::from_reader(answer).into_iter::<Value>();
            for mut value in values.map_while(Result::ok) {
                let deleted = value["type"] == "DELETED";
                let event = Event { at: Instant::now(), deleted, object: value["object"].take() };
                seen.lock().unwrap_or_else(PoisonError::into_inner).push(event);
            }
        });
        Ok(Feed { stream, events })
    }

    /// Sends a request, and gives the answer's body where it is a good one. HTTP/1.0, so that a body ends with its connection.
    fn send(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<BufReader<UnixStream>, String> {
        let mut stream = text(UnixStream::connect(&self.socket))?;
        text(stream.set_read_timeout(Some(SOON)))?;
        let mut request = format!("{method} {path} HTTP/1.0\r\nHost: localhost\r\n");
        let body = body.map(Value::to_string).unwrap_or_default();
        if !body.is_empty() {
            request += "Content-Type: application/strategic-merge-patch+json\r\n";
        }
        request += &format!("Content-Length: {}\r\n\r\n{body}", body.len());
        text(stream.write_all(request.as_bytes()))?;
        let mut answer = BufReader::new(stream);
        let mut status = String::new();
        text(answer.read_line(&mut status))?;
        let mut line = String::new();
        while text(answer.read_line(&mut line))? > 2 {
            line.clear();
        }
        if status.split(' ').nth(1).is_some_and(|code| code.starts_with('2')) {
            return Ok(answer);
        }
        Err(format!("{method} {path}: {}: {}", status.trim_end(), read(answer)?))
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}

fn read(mut answer: BufReader<UnixStream>) -> Result<String, String> {
    let mut said = String::new();
    text(answer.read_to_string(&mut said))?;
    Ok(said)
}

/// What a watch said, and when.
#[derive(Debug)]
pub struct Event {
    /// When it arrived here.
    pub at: Instant,
    /// Whether the object is gone.
    pub deleted: bool,
    /// The object as it is now, or was last.
    pub object: Value,
}

/// A watch, until it is dropped.
pub struct Feed {
    stream: UnixStream,
    events: Arc<Mutex<Vec<Event>>>,
}

impl Feed {
    /// Waits until all events so far, in their order, say what is looked for.
    pub fn wait<T>(
        &self,
        what: &str,
        limit: Duration,
        look: impl Fn(&[Event]) -> Option<T>,
    ) -> Result<T, String> {
        text(wait_until(limit, what, || {
            let events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
            look(&events).ok_or_else(|| match events.last() {
                Some(event) => format!("{} events, the last {}", events.len(), event.object),
                None => "no event".to_owned(),
            })
        }))
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        // The API server may have ended it.
        let _ended = self.stream.shutdown(Shutdown::Both);
    }
}
