//! WireGuard's cross-platform userspace protocol, by which gateways that are not ours are configured.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};

/// Where userspace WireGuard implementations listen for their configuration, whatever the network
/// namespace.
pub const SOCKETS: &str = "/var/run/wireguard";

/// For an answer.
const SOON: Duration = Duration::from_secs(10);

/// Says one request to the implementation that listens at `path`.
///
/// # Errors
/// When nobody listens there, or it refuses.
pub fn configure(path: &Path, request: &str) -> anyhow::Result<()> {
    let mut stream =
        UnixStream::connect(path).with_context(|| format!("connecting to {}", path.display()))?;
    stream.set_read_timeout(Some(SOON))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    let mut piece = [0; 256];
    while !answer.ends_with(b"\n\n") {
        match stream.read(&mut piece)? {
            0 => break,
            length => answer.extend(&piece[..length]),
        }
    }
    match String::from_utf8_lossy(&answer).trim() {
        "errno=0" => Ok(()),
        other => bail!("it refused its configuration: {other:?}"),
    }
}

/// A key as that protocol writes it.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
