//! Connections of a pod, made from within this process: who serves them.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use carrick_e2e::probes::{self, Page};

use crate::common::text;
use crate::flow::Network;

/// A connection that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(2);

/// The page that a new connection from a pod's network to `target` fetches.
pub fn page(from: &Network, target: SocketAddr) -> Result<Page, String> {
    from.inside(|| fetch(target))?
}

/// The page that a new connection to `target` fetches from the network that this thread is in.
pub fn fetch(target: SocketAddr) -> Result<Page, String> {
    let failed = |error: std::io::Error| format!("a page of {target}: {error}");
    let mut connection = TcpStream::connect_timeout(&target, PATIENCE).map_err(failed)?;
    connection.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    connection.write_all(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n").map_err(failed)?;
    let mut said = String::new();
    connection.read_to_string(&mut said).map_err(failed)?;
    let body = said.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    text(probes::page(body))
}
