//! Work that needs a process of its own: the program starts itself again as a
//! helper. Every program of the lab therefore calls [`serve`] first.

use std::process::Command;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Error, Result, machine};

/// The first argument of a helper.
const MARK: &str = "--as-lab-helper";

/// Does a helper's work and ends the process, if this process is one.
pub fn serve() {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() != Some(MARK) {
        return;
    }
    let task = arguments.next().unwrap_or_default();
    let request = arguments.next().unwrap_or_default();
    let result = match task.as_str() {
        "hold" => machine::hold_namespaces(&request),
        "init" => machine::initialize(&request),
        "run" => machine::run_inside(&request),
        "resolve" => crate::cluster::resolve_inside(&request),
        "wan" => crate::lab::emulate_wan(&request),
        other => Err(Error::Invalid(format!("the helper knows no task {other:?}"))),
    };
    match result {
        Ok(()) => std::process::exit(0),
        Err(error) => {
            eprintln!("{error}");
            std::process::exit(1);
        }
    }
}

/// A command that starts this program as a helper.
pub(crate) fn command(task: &str, request: &impl Serialize) -> Result<Command> {
    let text = serde_json::to_string(request)
        .map_err(|e| Error::Format { what: format!("request {task}"), reason: e.to_string() })?;
    command_raw(task, &text)
}

/// As [`command`] with a request that is text already.
pub(crate) fn command_raw(task: &str, request: &str) -> Result<Command> {
    // The link follows the running program even when a build has replaced its file.
    let mut command = Command::new("/proc/self/exe");
    command.args([MARK, task, request]);
    Ok(command)
}

pub(crate) fn parse<T: DeserializeOwned>(request: &str) -> Result<T> {
    serde_json::from_str(request)
        .map_err(|e| Error::Format { what: "the helper's request".into(), reason: e.to_string() })
}
