//! A port of SCTP over clusters: without a kernel that speaks it, by packets that a raw socket makes. They go through the
//! same translation of addresses, and over the same mesh, as those of a connection.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use carrick_e2e::Lab;
use carrick_e2e::wait::wait_until;
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

use super::policy::{BACK, both_export, served_by};
use super::{SOON, derived, imported, object, slices, unexported};
use crate::common::{address_v4, check, node_names, pod_network, text};
use crate::flow::Network;
use crate::world::{Case, Outcome};

/// The case.
pub const CASES: &[(&str, Case)] = &[("services::sctp_reaches_the_other_cluster", sctp)];

/// The Service's port, and the pods'.
const PORT: u16 = 84;
const TARGET: u16 = 9710;

/// A packet and its answer take less.
const PATIENCE: Duration = Duration::from_secs(1);

/// The chunks that open an association, RFC 9260.
const INIT: u8 = 1;
const INIT_ACK: u8 = 2;

/// Bytes of the common header, and of a chunk that opens an association, at least.
const HEADER: usize = 12;
const CHUNK: usize = 20;

/// What of a packet is looked at.
#[derive(Debug, PartialEq, Eq)]
struct Packet {
    from: Ipv4Addr,
    ports: [u16; 2],
    /// The tag by which its receiver knows the association.
    tag: u32,
    kind: u8,
    /// The tag that its sender wants.
    initiate: u32,
}

fn sctp(lab: &Lab) -> Outcome {
    let (paris, osaka) = both_export(lab, "Failover: osaka, paris")?;
    let ports = format!(
        r#"{{"spec":{{"ports":[{{"name":"web","port":80,"targetPort":8080}},
           {{"name":"calls","protocol":"SCTP","port":{PORT},"targetPort":{TARGET}}}]}}}}"#
    );
    for cluster in [&paris, &osaka] {
        text(cluster.kubectl(&["patch", "service", "hello", "--type=merge", "--patch", &ports]))?;
    }
    text(wait_until(SOON, "the port on import, Service and slices", || {
        let named = |value: &serde_json::Value| {
            let ports = value["ports"].as_array().cloned().unwrap_or_default();
            ports.iter().any(|port| port["name"] == "calls" && port["protocol"] == "SCTP")
        };
        let import = object(&paris, "serviceimport", "hello")?;
        let (service, slices) = (derived(&paris, "hello")?, slices(&paris, "hello")?);
        let all = named(&import["spec"]) && named(&service["spec"]) && slices.iter().any(named);
        check(all, || format!("{import} {service} {slices:?}"))
    }))?;
    served_by(&paris, "hello", &["osaka"], BACK)?;
    let (_, address) = imported(&paris, "hello")?;
    let address: Ipv4Addr = text(address.parse())?;
    let servers: Result<Vec<(String, UdpSocket)>, String> = node_names(&osaka)
        .into_iter()
        .map(|node| Ok((node.clone(), raw(&pod_network(&osaka, &node)?)?)))
        .collect();
    let servers = servers?;
    let mut number = 40_000;
    for node in node_names(&paris) {
        let (own, client) = (address_v4(&paris, &node)?, raw(&pod_network(&paris, &node)?)?);
        let mut left: BTreeSet<&str> = servers.iter().map(|(node, _)| node.as_str()).collect();
        text(wait_until(SOON, &format!("associations of {node} with each node of osaka"), || {
            // Another port is another association, which may end at another pod.
            number += 1;
            left.remove(opened(&client, [number, PORT], (own, address), &servers)?);
            check(left.is_empty(), || format!("none yet on {left:?}"))
        }))?;
    }
    unexported(&[&paris, &osaka], &paris, &osaka)
}

/// Has an INIT sent and answered by an INIT ACK, and gives the node where it arrived.
fn opened<'a>(
    client: &UdpSocket,
    ports: [u16; 2],
    (own, address): (Ipv4Addr, Ipv4Addr),
    servers: &'a [(String, UdpSocket)],
) -> Result<&'a str, String> {
    let (asks, answers) = (u32::from(ports[0]) << 8 | 1, u32::from(ports[0]) << 8 | 2);
    send(client, address, &packet(ports, 0, INIT, asks))?;
    let (node, server, seen) = text(wait_until(PATIENCE, "an INIT", || {
        let heard = servers.iter().find_map(|(node, server)| {
            let seen = receive(server)?;
            (seen.initiate == asks).then_some((node.as_str(), server, seen))
        });
        heard.ok_or_else(|| "none came".to_owned())
    }))?;
    let right = seen.from == own && seen.ports[1] == TARGET && seen.kind == INIT;
    check(right, || format!("{node} saw {seen:?} of {own}"))?;
    send(server, seen.from, &packet([TARGET, seen.ports[0]], asks, INIT_ACK, answers))?;
    let want = Packet {
        from: address,
        ports: [ports[1], ports[0]],
        tag: asks,
        kind: INIT_ACK,
        initiate: answers,
    };
    text(wait_until(PATIENCE, "an INIT ACK", || match receive(client) {
        Some(seen) if seen == want => Ok(node),
        other => Err(format!("{other:?} instead of {want:?}")),
    }))
}

/// A raw socket of SCTP in a pod's network. Its reads and writes are like those of UDP sockets, with no port.
fn raw(network: &Network) -> Result<UdpSocket, String> {
    let (family, flags) = (AddressFamily::Inet, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK);
    let made = network.inside(|| socket(family, SockType::Raw, flags, SockProtocol::Sctp))?;
    text(made).map(UdpSocket::from)
}

fn send(socket: &UdpSocket, to: Ipv4Addr, packet: &[u8]) -> Outcome {
    text(socket.send_to(packet, SocketAddr::from((to, 0)))).map(drop)
}

/// The next packet that opens an association, if there is one.
fn receive(socket: &UdpSocket) -> Option<Packet> {
    let mut buffer = [0; 256];
    let (length, from) = socket.recv_from(&mut buffer).ok()?;
    let IpAddr::V4(from) = from.ip() else { return None };
    let header = usize::from(buffer[0] & 0xf) * 4;
    let sctp = buffer.get(header..length)?;
    let short = |at: usize| Some(u16::from_be_bytes(sctp.get(at..at + 2)?.try_into().ok()?));
    let long = |at: usize| Some(u32::from_be_bytes(sctp.get(at..at + 4)?.try_into().ok()?));
    let (ports, tag) = ([short(0)?, short(2)?], long(4)?);
    Some(Packet { from, ports, tag, kind: *sctp.get(HEADER)?, initiate: long(HEADER + 4)? })
}

/// A packet with one chunk, INIT or INIT ACK.
fn packet(ports: [u16; 2], tag: u32, kind: u8, initiate: u32) -> Vec<u8> {
    // The answer has a cookie, here of four bytes.
    let cookie: &[u8] = if kind == INIT_ACK { &[0, 7, 0, 8, 1, 2, 3, 4] } else { &[] };
    let length = (CHUNK + cookie.len()) as u16;
    let mut out = Vec::new();
    out.extend(ports.iter().flat_map(|port| port.to_be_bytes()));
    out.extend(tag.to_be_bytes());
    out.extend([0; 4]);
    out.extend([kind, 0]);
    out.extend(length.to_be_bytes());
    out.extend(initiate.to_be_bytes());
    // The window, streams both ways, and the first number.
    out.extend(65_536_u32.to_be_bytes());
    out.extend([0, 1, 0, 1]);
    out.extend(1_u32.to_be_bytes());
    out.extend(cookie);
    let sum = crc32c(&out);
    out[8..HEADER].copy_from_slice(&sum.to_le_bytes());
    out
}

/// The checksum of SCTP, RFC 9260 appendix A. Connection tracking refuses packets with a wrong one.
fn crc32c(bytes: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    let step = |sum: u32, _| if sum & 1 == 1 { (sum >> 1) ^ POLYNOMIAL } else { sum >> 1 };
    !bytes.iter().fold(!0, |sum, byte| (0..8).fold(sum ^ u32::from(*byte), step))
}
