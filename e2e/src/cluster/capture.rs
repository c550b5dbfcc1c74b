//! What really passes a node's cable: proof that nothing leaves in clear.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{Error, Result};

/// A running capture. Dropping it ends it.
#[derive(Debug)]
pub struct Capture {
    child: Child,
    lines: Option<JoinHandle<String>>,
}

impl Capture {
    /// Starts `tcpdump` (already in the node's network) and waits until it listens.
    pub(super) fn start(mut tcpdump: Command, filter: &str) -> Result<Self> {
        // Unbuffered, without names, headers only: a line a packet, at once.
        tcpdump.args(["-n", "-l", "-q", "-i", "eth0", "--immediate-mode", filter]);
        let mut child = tcpdump
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|source| Error::Start { program: "tcpdump".to_owned(), source })?;
        let output = child.stdout.take();
        let lines = output.map(|mut output| {
            std::thread::spawn(move || {
                let mut bytes = Vec::new();
                if let Err(error) = output.read_to_end(&mut bytes) {
                    tracing::warn!(%error, "a capture was cut short");
                }
                String::from_utf8_lossy(&bytes).into_owned()
            })
        });
        let errors = child.stderr.take();
        let capture = Self { child, lines };
        let mut said = Vec::new();
        for line in errors.into_iter().flat_map(|errors| BufReader::new(errors).lines()) {
            let line = line.map_err(Error::file("reading from", "tcpdump"))?;
            if line.starts_with("listening on") {
                return Ok(capture);
            }
            said.push(line);
        }
        Err(Error::Invalid(format!("tcpdump did not start: {}", said.join(" "))))
    }

    /// Ends the capture and returns a line a packet.
    ///
    /// # Errors
    /// When it was cut short.
    pub fn stop(mut self) -> Result<Vec<String>> {
        self.end();
        let text = self.lines.take().map(JoinHandle::join).transpose();
        let cut_short = |_| Error::Invalid("the capture's reader failed".to_owned());
        let text = text.map_err(cut_short)?.unwrap_or_default();
        // tcpdump ends its output with an empty line.
        Ok(text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect())
    }

    fn end(&mut self) {
        let pid = self.child.id().try_into().map(Pid::from_raw);
        // SIGINT makes tcpdump write what it still holds.
        if let Ok(pid) = pid
            && let Err(error) = kill(pid, Signal::SIGINT)
        {
            tracing::debug!(%error, "the capture had ended already");
        }
        if let Err(error) = self.child.wait() {
            tracing::warn!(%error, "the capture's end was not seen");
        }
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        if self.lines.is_some() {
            self.end();
        }
    }
}
