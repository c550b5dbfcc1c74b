//! Changing a running emulator over a unix socket: one JSON line asks, one JSON line answers.

mod server;

pub use server::{Server, ServerError};

use crate::conditions::Conditions;
use crate::stats::Stats;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// A question or change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "op", deny_unknown_fields)]
pub enum Request {
    /// New conditions for a direction.
    Set {
        /// The sending site.
        from: String,
        /// The receiving site.
        to: String,
        /// All conditions; fields left out are those of a perfect link.
        conditions: Conditions,
    },
    /// A direction's present conditions.
    Get {
        /// The sending site.
        from: String,
        /// The receiving site.
        to: String,
    },
    /// Cut a direction.
    Cut {
        /// The sending site.
        from: String,
        /// The receiving site.
        to: String,
    },
    /// Undo a cut.
    Restore {
        /// The sending site.
        from: String,
        /// The receiving site.
        to: String,
    },
    /// The counters.
    Stats {},
    /// All conditions as at the start.
    Reset {},
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Response {
    /// It was done; the value depends on the request.
    Ok(serde_json::Value),
    /// It was refused, and why.
    Error(String),
}

/// Why a control call failed.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nobody answers at the path.
    #[error("no emulator answers at {path}: {source}; is `carrick-wan run --control` running?")]
    Connect {
        /// The socket's path.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// The connection broke.
    #[error("the emulator broke the connection: {0}; see its log")]
    Io(#[from] io::Error),
    /// Not the protocol.
    #[error("the emulator's answer is not understood: {0}; use the same version on both sides")]
    Protocol(#[from] serde_json::Error),
    /// The emulator refused.
    #[error("the emulator refused: {0}")]
    Refused(String),
}

/// A client's connection.
#[derive(Debug)]
pub struct Control {
    stream: BufReader<UnixStream>,
}

impl Control {
    /// Connects to a running emulator.
    ///
    /// # Errors
    /// When nobody listens at the path.
    pub fn connect(path: impl AsRef<Path>) -> Result<Self, ControlError> {
        let path = path.as_ref();
        let stream = UnixStream::connect(path)
            .map_err(|source| ControlError::Connect { path: path.to_owned(), source })?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Sets all conditions of a direction.
    ///
    /// # Errors
    /// A broken connection, or the emulator's refusal.
    pub fn set(&mut self, from: &str, to: &str, to_be: &Conditions) -> Result<(), ControlError> {
        let (from, to) = (from.to_owned(), to.to_owned());
        self.call(&Request::Set { from, to, conditions: to_be.clone() })
    }

    /// A direction's present conditions.
    ///
    /// # Errors
    /// A broken connection, or the emulator's refusal.
    pub fn get(&mut self, from: &str, to: &str) -> Result<Conditions, ControlError> {
        self.call(&Request::Get { from: from.to_owned(), to: to.to_owned() })
    }

    /// Cuts a direction; the other one stays.
    ///
    /// # Errors
    /// A broken connection, or the emulator's refusal.
    pub fn cut(&mut self, from: &str, to: &str) -> Result<(), ControlError> {
        self.call(&Request::Cut { from: from.to_owned(), to: to.to_owned() })
    }

    /// Undoes a cut; the other conditions are as before.
    ///
    /// # Errors
    /// A broken connection, or the emulator's refusal.
    pub fn restore(&mut self, from: &str, to: &str) -> Result<(), ControlError> {
        self.call(&Request::Restore { from: from.to_owned(), to: to.to_owned() })
    }

    /// The counters since the start.
    ///
    /// # Errors
    /// A broken connection, or the emulator's refusal.
    pub fn stats(&mut self) -> Result<Stats, ControlError> {
        self.call(&Request::Stats {})
    }

    /// Gives every direction its conditions of the start.
    ///
    /// # Errors
    /// A broken connection, or the emulator's refusal.
    pub fn reset(&mut self) -> Result<(), ControlError> {
        self.call(&Request::Reset {})
    }

    fn call<T: DeserializeOwned>(&mut self, request: &Request) -> Result<T, ControlError> {
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        self.stream.get_mut().write_all(&line)?;
        let mut answer = String::new();
        self.stream.read_line(&mut answer)?;
        match serde_json::from_str(&answer)? {
            Response::Ok(value) => Ok(serde_json::from_value(value)?),
            Response::Error(reason) => Err(ControlError::Refused(reason)),
        }
    }
}
