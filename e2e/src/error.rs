//! What can go wrong in a lab, and what to do about it.

use std::path::PathBuf;

/// The result of every operation of the lab.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation of the lab failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operation needs rights that the caller lacks.
    #[error("{operation} needs root (namespaces, mounts, cgroups); run it as root or with sudo")]
    NotRoot {
        /// What was attempted.
        operation: &'static str,
    },
    /// A file could not be read or written.
    #[error("{action} {}: {source}", path.display())]
    File {
        /// What was attempted, as a verb ("reading").
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// A program could not be started.
    #[error("starting {program}: {source}; is it installed and on PATH?")]
    Start {
        /// The program's name or path.
        program: String,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// A program ended with an error.
    #[error("`{command}` failed ({status}): {output}")]
    Command {
        /// The command line.
        command: String,
        /// Its exit status.
        status: String,
        /// The end of what it printed.
        output: String,
    },
    /// A condition did not come true in time.
    #[error("gave up after {seconds:.0} s waiting for {what}; last seen: {last}")]
    Timeout {
        /// The condition.
        what: String,
        /// How long was waited, in seconds.
        seconds: f64,
        /// What was seen the last time.
        last: String,
    },
    /// A name that the lab doesn't have.
    #[error("lab {lab} has no {kind} {name}; it has: {known}")]
    Unknown {
        /// The lab's name.
        lab: String,
        /// What kind of thing was named ("cluster", "node", "process").
        kind: &'static str,
        /// The name given.
        name: String,
        /// The names that exist.
        known: String,
    },
    /// What was asked for is not possible.
    #[error("{0}")]
    Invalid(String),
    /// A certificate could not be made.
    #[error("making the certificate for {subject}: {source}")]
    Certificate {
        /// Whom the certificate names.
        subject: String,
        /// The reason.
        source: rcgen::Error,
    },
    /// A system call failed.
    #[error("{action}: {source}")]
    System {
        /// What was attempted.
        action: String,
        /// The operating system's reason.
        source: nix::Error,
    },
    /// Something that should be JSON or YAML was not.
    #[error("{what} is not what was expected: {reason}")]
    Format {
        /// The document.
        what: String,
        /// The parser's reason.
        reason: String,
    },
    /// The WAN emulator refused or failed.
    #[error("WAN emulator: {0}")]
    Wan(String),
}

impl Error {
    /// Wraps an I/O error with the file that it is about.
    pub fn file(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }

    /// Wraps a system call's error with what was attempted.
    pub fn system(action: impl Into<String>) -> impl FnOnce(nix::Error) -> Self {
        let action = action.into();
        move |source| Self::System { action, source }
    }
}
