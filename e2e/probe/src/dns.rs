//! Asking the pod's DNS for records of a type, as RFC 1035 says: no search list, no resolver of a C library.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

/// Where Kubernetes writes a pod's name server.
const RESOLVERS: &str = "/etc/resolv.conf";
/// The query's number; each socket asks once, so it may be fixed.
const ID: u16 = 0x4c41;
/// The largest answer that is asked for.
const LARGEST: u16 = 4096;
/// How often a lost query is sent again.
const TRIES: u32 = 3;

/// Types that can be asked for, by their numbers.
const TYPES: [(&str, u16); 5] = [("A", 1), ("AAAA", 28), ("SRV", 33), ("TXT", 16), ("PTR", 12)];
/// What a server says of a query, by number.
const CODES: [&str; 6] = ["NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED"];

/// Asks for `TYPE/NAME` and prints what came: the code, then a record a line, sorted.
pub fn lookup(target: &str, timeout: Duration) -> Result<(), String> {
    let (kind, name) = target.split_once('/').ok_or("write TYPE/NAME, such as A/example.org")?;
    let number = TYPES.iter().find(|(known, _)| *known == kind).map(|(_, number)| *number);
    let number = number.ok_or_else(|| format!("{kind:?} is none of A, AAAA, SRV, TXT, PTR"))?;
    let query = query(name, number)?;
    let server =
        server(&std::fs::read_to_string(RESOLVERS).map_err(|e| format!("{RESOLVERS}: {e}"))?)?;
    let answer = ask(server, &query, timeout)?;
    let (code, records) =
        read(&answer, number).ok_or(format!("{server} answered what cannot be read"))?;
    println!("{}", code?);
    records.iter().for_each(|record| println!("{record}"));
    Ok(())
}

/// The first name server of a pod.
fn server(resolvers: &str) -> Result<SocketAddr, String> {
    let named = resolvers.lines().find_map(|line| line.trim().strip_prefix("nameserver"));
    let address = named.ok_or(format!("{RESOLVERS} names no server"))?.trim();
    let address: IpAddr = address.parse().map_err(|_| format!("{address:?} is no address"))?;
    Ok((address, 53).into())
}

fn ask(server: SocketAddr, query: &[u8], timeout: Duration) -> Result<Vec<u8>, String> {
    let failed = |error| format!("asking {server}: {error}");
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).map_err(failed)?;
    socket.connect(server).map_err(failed)?;
    socket.set_read_timeout(Some(timeout / TRIES)).map_err(failed)?;
    let mut answer = vec![0; usize::from(LARGEST)];
    let mut last = String::new();
    for _ in 0..TRIES {
        socket.send(query).map_err(failed)?;
        match socket.recv(&mut answer) {
            Ok(length) => {
                answer.truncate(length);
                return Ok(answer);
            }
            Err(error) => last = failed(error),
        }
    }
    Err(last)
}

fn query(name: &str, kind: u16) -> Result<Vec<u8>, String> {
    let mut packet = Vec::from(ID.to_be_bytes());
    // Recursion desired; one question, one additional record.
    packet.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 1]);
    for label in name.trim_end_matches('.').split('.') {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..=63).contains(length));
        packet.push(length.ok_or_else(|| format!("{label:?} is no label of a name"))?);
        packet.extend(label.as_bytes());
    }
    packet.push(0);
    packet.extend(kind.to_be_bytes());
    packet.extend([0, 1]);
    // RFC 6891: how large the answer may be.
    packet.extend([0, 0, 41]);
    packet.extend(LARGEST.to_be_bytes());
    packet.extend([0; 6]);
    Ok(packet)
}

/// The code of an answer and its records of a type; `None` when it is cut short or of another query.
fn read(packet: &[u8], kind: u16) -> Option<(Result<String, String>, Vec<String>)> {
    let number = |at: usize| Some(u16::from_be_bytes([*packet.get(at)?, *packet.get(at + 1)?]));
    if number(0)? != ID {
        return None;
    }
    let flags = number(2)?;
    let code = usize::from(flags & 15);
    let code = match CODES.get(code) {
        _ if flags & 0x200 != 0 => Err(format!("the answer is longer than {LARGEST} bytes")),
        Some(code) => Ok((*code).to_owned()),
        None => Err(format!("the answer's code is {code}")),
    };
    let (questions, answers) = (number(4)?, number(6)?);
    let mut at = 12;
    for _ in 0..questions {
        at = name(packet, at)?.1 + 4;
    }
    let mut records = Vec::new();
    for _ in 0..answers {
        at = name(packet, at)?.1;
        let end = at + 10 + usize::from(number(at + 8)?);
        packet.get(at..end)?;
        if number(at)? == kind {
            records.push(record(packet, kind, at + 10, end)?);
        }
        at = end;
    }
    records.sort();
    Some((code, records))
}

/// What a record says.
fn record(packet: &[u8], kind: u16, start: usize, end: usize) -> Option<String> {
    let data = packet.get(start..end)?;
    let number = |at: usize| Some(u16::from_be_bytes([*data.get(at)?, *data.get(at + 1)?]));
    match kind {
        1 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(data).ok()?).to_string()),
        28 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(data).ok()?).to_string()),
        // Priority and weight are the server's choice.
        33 => Some(format!("{} {}", number(4)?, name(packet, start + 6)?.0)),
        16 => {
            let text = data.get(1..1 + usize::from(*data.first()?))?;
            Some(String::from_utf8_lossy(text).into_owned())
        }
        _ => Some(name(packet, start)?.0),
    }
}

/// A name that may end elsewhere in the packet, and where it ends here.
fn name(packet: &[u8], mut at: usize) -> Option<(String, usize)> {
    let mut labels: Vec<String> = Vec::new();
    let mut end = None;
    // A name has at most 127 labels, and a pointer after each.
    for _ in 0..256 {
        match usize::from(*packet.get(at)?) {
            0 => return Some((labels.join("."), end.unwrap_or(at + 1))),
            length if length >= 0xc0 => {
                end = end.or(Some(at + 2));
                at = (length & 0x3f) << 8 | usize::from(*packet.get(at + 1)?);
            }
            length => {
                labels.push(
                    String::from_utf8_lossy(packet.get(at + 1..at + 1 + length)?).into_owned(),
                );
                at += 1 + length;
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The answer to a query, with this code and these records (type and data) of the name asked for.
    fn answer(kind: u16, flags: u16, records: &[(u16, &[u8])]) -> Vec<u8> {
        let mut packet = query("a.bc", kind).expect("a name");
        packet.truncate(packet.len() - 11);
        packet[2..4].copy_from_slice(&flags.to_be_bytes());
        packet[7] = u8::try_from(records.len()).expect("few");
        packet[11] = 0;
        for (kind, data) in records {
            packet.extend([0xc0, 12]);
            packet.extend(kind.to_be_bytes());
            packet.extend([0, 1, 0, 0, 0, 5]);
            packet.extend(u16::try_from(data.len()).expect("short").to_be_bytes());
            packet.extend(*data);
        }
        packet
    }

    fn found(packet: &[u8], kind: u16) -> (String, Vec<String>) {
        let (code, records) = read(packet, kind).expect("readable");
        (code.expect("a code"), records)
    }

    #[test]
    fn records_of_each_type() {
        let cname: (u16, &[u8]) = (5, &[0xc0, 12]);
        let packet = answer(1, 0x8180, &[cname, (1, &[10, 1, 0, 2]), (1, &[10, 1, 0, 1])]);
        assert_eq!(
            found(&packet, 1),
            ("NOERROR".into(), vec!["10.1.0.1".into(), "10.1.0.2".into()])
        );
        let packet = answer(33, 0x8180, &[(33, &[0, 0, 0, 9, 0, 80, 1, b'x', 0xc0, 12])]);
        assert_eq!(found(&packet, 33).1, ["80 x.a.bc"]);
        let packet = answer(16, 0x8180, &[(16, b"\x051.1.0")]);
        assert_eq!(found(&packet, 16).1, ["1.1.0"]);
        let mut v6 = [0; 16];
        v6[15] = 1;
        assert_eq!(found(&answer(28, 0x8180, &[(28, &v6)]), 28).1, ["::1"]);
        assert_eq!(found(&answer(1, 0x8183, &[]), 1), ("NXDOMAIN".into(), vec![]));
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        let packet = answer(33, 0x8180, &[(33, &[0, 0, 0, 9, 0, 80, 1, b'x', 0xc0, 12])]);
        for length in 0..packet.len() {
            assert_eq!(read(&packet[..length], 33), None, "{length} bytes");
        }
        let mut circle = packet.clone();
        let last = circle.len() - 1;
        circle[last] = u8::try_from(last - 1).expect("short");
        assert_eq!(read(&circle, 33), None);
        let mut other = packet;
        other[0] ^= 1;
        assert_eq!(read(&other, 33), None);
        assert!(read(&answer(1, 0x8380, &[]), 1).expect("readable").0.is_err(), "cut short");
        assert!(query("a..b", 1).is_err() && lookup("A", Duration::ZERO).is_err());
        assert!(lookup("MX/a", Duration::ZERO).is_err_and(|e| e.contains("MX")));
    }

    #[test]
    fn the_first_server_is_asked() {
        let server = |text| super::server(text).map(|found| found.to_string());
        assert_eq!(
            server("search a b\nnameserver 10.96.0.10\nnameserver ::1\n").as_deref(),
            Ok("10.96.0.10:53")
        );
        assert!(server("search a\n").is_err() && server("nameserver x\n").is_err());
    }
}
