//! Running other programs and keeping what they said for the error.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::{Error, Result};

/// How much of a failed program's output goes into the error.
const TAIL: usize = 2000;

/// Runs a command to its end and returns what it wrote to standard output.
///
/// # Errors
/// [`Error::Start`], or [`Error::Command`] with the end of its output.
pub fn run(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().map_err(|e| not_started(command, e))?;
    finish(command, &output)
}

/// Runs a command with `input` on standard input.
///
/// # Errors
/// As [`run`].
pub fn run_with_input(command: &mut Command, input: &[u8]) -> Result<String> {
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().map_err(|e| not_started(command, e))?;
    let mut stdin = child.stdin.take();
    let output = std::thread::scope(|scope| {
        scope.spawn(move || {
            if let Some(mut stdin) = stdin.take()
                && let Err(error) = stdin.write_all(input)
            {
                // The program ended without reading all: its status tells why.
                tracing::debug!(%error, "standard input was not read to its end");
            }
        });
        child.wait_with_output()
    });
    let output = output.map_err(|e| not_started(command, e))?;
    finish(command, &output)
}

/// Runs a long command whose output goes to a file, where its progress can be
/// read meanwhile ([`last_line`]); the file is gone afterwards.
///
/// # Errors
/// As [`run`].
pub fn run_logged(command: &mut Command, log: &Path) -> Result<()> {
    let file = File::create(log).map_err(Error::file("making", log))?;
    let copy = file.try_clone().map_err(Error::file("opening", log))?;
    let status = command.stdin(Stdio::null()).stdout(file).stderr(copy).status();
    let stdout = std::fs::read(log).map_err(Error::file("reading", log))?;
    std::fs::remove_file(log).map_err(Error::file("removing", log))?;
    let status = status.map_err(|e| not_started(command, e))?;
    finish(command, &Output { status, stdout, stderr: Vec::new() }).map(|_| ())
}

/// The last line of a growing file, for messages about progress.
#[must_use]
pub fn last_line(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    text.trim_end().rsplit('\n').next().unwrap_or_default().trim().to_owned()
}

/// The command line of a command, for messages.
#[must_use]
pub fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

/// Finds a program on PATH or in the folders where Debian keeps those of the superuser.
#[must_use]
pub fn find_program(name: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(std::path::PathBuf::from);
    let folders = std::env::split_paths(&path).chain(system);
    folders.map(|folder| folder.join(name)).find(|file| file.is_file())
}

fn not_started(command: &Command, source: std::io::Error) -> Error {
    Error::Start { program: command.get_program().to_string_lossy().into_owned(), source }
}

fn finish(command: &Command, output: &Output) -> Result<String> {
    let stdout = String::from_utf8_lossy(&output.stdout);
    if output.status.success() {
        return Ok(stdout.into_owned());
    }
    let text = format!("{}{}", stdout, String::from_utf8_lossy(&output.stderr));
    Err(Error::Command {
        command: describe(command),
        status: output.status.to_string(),
        output: tail(text.trim()).to_owned(),
    })
}

fn tail(text: &str) -> &str {
    let start = text.len().saturating_sub(TAIL);
    let start = (start..=text.len()).find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    &text[start..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_keeps_command_status_and_output() {
        let error = run(Command::new("sh").args(["-c", "echo spoken; exit 3"])).expect_err("3");
        let text = error.to_string();
        assert!(text.contains("exit status: 3") && text.contains("spoken"), "{text}");
        let missing = run(&mut Command::new("no-such-program")).expect_err("missing");
        assert!(missing.to_string().contains("no-such-program"));
    }

    #[test]
    fn input_reaches_the_program() {
        let out = run_with_input(Command::new("cat").arg("-"), b"through").expect("cat");
        assert_eq!(out, "through");
    }

    #[test]
    fn a_long_output_is_cut_between_characters() {
        let long = "é".repeat(TAIL);
        assert!(tail(&long).len() <= TAIL);
    }
}
