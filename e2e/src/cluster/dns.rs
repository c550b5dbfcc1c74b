//! Asking a cluster's DNS from a node, with a query of our own: no resolver of
//! the host's is involved.

use std::fs::File;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use serde::{Deserialize, Serialize};

use crate::machine::ProcessRecord;
use crate::run::run;
use crate::{Error, Result, helper};

/// DNS inside one cluster answers within milliseconds.
const PATIENCE: Duration = Duration::from_secs(1);

/// The query's number; the socket is used once, so it may be fixed.
const ID: [u8; 2] = [0x4c, 0x41];

#[derive(Serialize, Deserialize)]
struct Request {
    machine: i32,
    server: Ipv4Addr,
    name: String,
}

/// The IPv4 addresses of a name, as `server` tells them to a machine.
pub(super) fn resolve(
    machine: &ProcessRecord,
    server: Ipv4Addr,
    name: &str,
) -> Result<Vec<Ipv4Addr>> {
    let request = Request { machine: machine.pid, server, name: name.to_owned() };
    let said = run(&mut helper::command("resolve", &request)?)?;
    Ok(said.lines().filter_map(|line| line.parse().ok()).collect())
}

/// Helper side: enters the machine's network, asks, and prints the addresses.
pub(crate) fn resolve_inside(request: &str) -> Result<()> {
    let request: Request = helper::parse(request)?;
    let path = format!("/proc/{}/ns/net", request.machine);
    let network = File::open(&path).map_err(Error::file("opening", path))?;
    setns(network, CloneFlags::CLONE_NEWNET).map_err(Error::system("entering the network"))?;
    let asked = format!("DNS at {}:53", request.server);
    let failed = |source| Error::File { action: "asking", path: asked.clone().into(), source };
    let socket = UdpSocket::bind("0.0.0.0:0").map_err(failed)?;
    socket.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    socket.connect((request.server, 53)).map_err(failed)?;
    socket.send(&query(&request.name)).map_err(failed)?;
    let mut answer = [0; 1500];
    let length = socket.recv(&mut answer).map_err(failed)?;
    let addresses = addresses(&answer[..length]).ok_or_else(|| Error::Format {
        what: format!("the answer of {asked} for {}", request.name),
        reason: "it is cut short or of another query".to_owned(),
    })?;
    addresses.iter().for_each(|address| println!("{address}"));
    Ok(())
}

fn query(name: &str) -> Vec<u8> {
    let mut packet = Vec::from(ID);
    // Recursion desired, one question.
    packet.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.trim_end_matches('.').split('.') {
        packet.push(u8::try_from(label.len()).unwrap_or(u8::MAX));
        packet.extend(label.as_bytes());
    }
    // End of the name, type A, class IN.
    packet.extend([0, 0, 1, 0, 1]);
    packet
}

/// The addresses in an answer; none that can be read gives `None`.
fn addresses(packet: &[u8]) -> Option<Vec<Ipv4Addr>> {
    if packet.get(..2)? != ID {
        return None;
    }
    let count = |at: usize| Some(u16::from_be_bytes([*packet.get(at)?, *packet.get(at + 1)?]));
    let (questions, answers) = (count(4)?, count(6)?);
    let mut at = 12;
    for _ in 0..questions {
        at = skip_name(packet, at)? + 4;
    }
    let mut found = Vec::new();
    for _ in 0..answers {
        at = skip_name(packet, at)?;
        let (kind, length) = (count(at)?, usize::from(count(at + 8)?));
        let data = packet.get(at + 10..at + 10 + length)?;
        if let (1, Ok(octets)) = (kind, <[u8; 4]>::try_from(data)) {
            found.push(Ipv4Addr::from(octets));
        }
        at += 10 + length;
    }
    Some(found)
}

fn skip_name(packet: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *packet.get(at)? {
            0 => return Some(at + 1),
            pointer if pointer >= 0xc0 => return Some(at + 2),
            length => at += 1 + usize::from(length),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> Vec<u8> {
        let mut packet = query("a.bc");
        packet[2] = 0x81;
        packet[7] = 2;
        // A CNAME first, then the address; both names by pointer.
        packet.extend([0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 5, 0, 2, 0xc0, 12]);
        packet.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4, 10, 101, 0, 1]);
        packet
    }

    #[test]
    fn a_query_is_as_rfc_1035_says() {
        let expected =
            [0x4c, 0x41, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, b'a', 2, b'b', b'c', 0, 0, 1, 0, 1];
        assert_eq!(query("a.bc."), expected);
    }

    #[test]
    fn addresses_are_found_behind_other_records() {
        assert_eq!(addresses(&answer()), Some(vec![Ipv4Addr::new(10, 101, 0, 1)]));
        assert_eq!(addresses(&query("a.bc")), Some(vec![]));
    }

    #[test]
    fn what_is_cut_short_or_of_another_query_is_refused() {
        let packet = answer();
        for length in 0..packet.len() {
            assert_eq!(addresses(&packet[..length]), None, "{length} bytes");
        }
        let mut other = packet;
        other[0] ^= 1;
        assert_eq!(addresses(&other), None);
    }
}
