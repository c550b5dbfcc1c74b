//! The emulator's end of the control socket: a bounded number of clients, a thread each.

use super::{Request, Response};
use crate::emulator::{Emulator, EmulatorError};
use serde::Serialize;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Clients at a time; more are refused.
const MAX_CLIENTS: usize = 16;
/// Bytes of one request.
const MAX_LINE: u64 = 64 * 1024;

/// Why the control socket couldn't be opened.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Another emulator listens there.
    #[error("another emulator answers at {0}; stop it or choose another --control path")]
    InUse(PathBuf),
    /// The path can't be bound.
    #[error("cannot listen at {path}: {source}; choose a path in a folder that can be written")]
    Bind {
        /// The path.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
}

/// The listening socket; dropping it removes the path.
#[derive(Debug)]
pub struct Server {
    path: PathBuf,
}

impl Server {
    /// Listens at a path and serves the emulator. A socket that a killed run left is replaced.
    ///
    /// # Errors
    /// When somebody listens there, or the path can't be bound.
    pub fn start(path: &Path, emulator: Arc<Emulator>) -> Result<Self, ServerError> {
        let failed = |source| ServerError::Bind { path: path.to_owned(), source };
        match UnixStream::connect(path) {
            Ok(_) => return Err(ServerError::InUse(path.to_owned())),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                std::fs::remove_file(path).map_err(failed)?;
            }
            Err(_) => {}
        }
        let listener = UnixListener::bind(path).map_err(failed)?;
        let server = Self { path: path.to_owned() };
        std::thread::Builder::new()
            .name("wan-control".to_owned())
            .spawn(move || accept(&listener, &emulator))
            .map_err(failed)?;
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "control socket not removed");
        }
    }
}

fn accept(listener: &UnixListener, emulator: &Arc<Emulator>) {
    let clients = Arc::new(AtomicUsize::new(0));
    for stream in listener.incoming() {
        let stream = match stream {
            Ok(stream) => stream,
            Err(error) => {
                tracing::error!(%error, "control socket closed");
                return;
            }
        };
        if clients.fetch_add(1, Ordering::Relaxed) >= MAX_CLIENTS {
            clients.fetch_sub(1, Ordering::Relaxed);
            let text = format!("{MAX_CLIENTS} clients are connected; close one");
            log_end(answer(&stream, &Response::Error(text)));
            continue;
        }
        let (emulator, counter) = (emulator.clone(), clients.clone());
        std::thread::spawn(move || {
            log_end(serve(&stream, &emulator));
            counter.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

fn log_end(result: io::Result<()>) {
    if let Err(error) = result {
        tracing::debug!(%error, "control client gone");
    }
}

fn serve(stream: &UnixStream, emulator: &Emulator) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        reader.by_ref().take(MAX_LINE).read_line(&mut line)?;
        if line.is_empty() {
            return Ok(());
        }
        let whole = line.ends_with('\n');
        let response = match serde_json::from_str(&line) {
            Ok(request) => carry_out(emulator, request),
            Err(error) => Response::Error(format!("request not understood: {error}")),
        };
        answer(stream, &response)?;
        if !whole {
            return Ok(());
        }
    }
}

fn answer(mut stream: &UnixStream, response: &Response) -> io::Result<()> {
    let mut line = serde_json::to_vec(response)?;
    line.push(b'\n');
    stream.write_all(&line)
}

fn carry_out(emulator: &Emulator, request: Request) -> Response {
    match request {
        Request::Set { from, to, conditions } => respond(emulator.set(&from, &to, conditions)),
        Request::Get { from, to } => respond(emulator.get(&from, &to)),
        Request::Cut { from, to } => respond(emulator.set_cut(&from, &to, true)),
        Request::Restore { from, to } => respond(emulator.set_cut(&from, &to, false)),
        Request::Stats {} => respond(emulator.stats()),
        Request::Reset {} => respond(emulator.reset()),
    }
}

fn respond<T: Serialize>(result: Result<T, EmulatorError>) -> Response {
    match result.map(serde_json::to_value) {
        Ok(Ok(value)) => Response::Ok(value),
        Ok(Err(error)) => Response::Error(error.to_string()),
        Err(error) => Response::Error(error.to_string()),
    }
}
