//! ICMP: echo requests of many sizes, which the other end's kernel answers.

use std::io::Read as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::datagram::{LABEL, label, read};
use super::outstanding::Outstanding;
use super::{Flow, LOOK};

const HEADER: usize = 8;
/// Payloads; the last two are fragmented.
const SIZES: [usize; 6] = [LABEL, 56, 777, 1372, 1500, 5000];

/// Sends requests and takes the answers.
pub fn run(flow: &Flow<'_>) -> anyhow::Result<()> {
    if flow.load.echoes == 0 {
        return Ok(());
    }
    let (domain, protocol) = match flow.v6() {
        false => (Domain::IPV4, Protocol::ICMPV4),
        true => (Domain::IPV6, Protocol::ICMPV6),
    };
    let socket = Socket::new(domain, Type::RAW, Some(protocol)).context("a raw socket")?;
    socket.bind(&SocketAddr::new(flow.from, 0).into()).context("binding it")?;
    socket.connect(&flow.target(0).into()).context("connecting it")?;
    let pace = Duration::from_secs(1) / flow.load.echoes;
    let mut outstanding = Outstanding::new("icmp", flow.tally);
    let (mut number, mut due) = (0, Instant::now());
    while !(flow.is_done() && outstanding.is_empty()) {
        if !flow.is_done() && Instant::now() >= due {
            outstanding.sent(number..number + 1);
            if socket.send(&request(flow, number)).is_err() {
                outstanding.unsent(number..number + 1);
            }
            (number, due) = (number + 1, (due + pace).max(Instant::now()));
        }
        receive(&socket, flow, &mut outstanding, due)?;
        outstanding.expire();
    }
    Ok(())
}

fn request(flow: &Flow<'_>, number: u64) -> Vec<u8> {
    let mut message = vec![0; HEADER + SIZES[number as usize % SIZES.len()]];
    message[0] = if flow.v6() { 128 } else { 8 };
    message[4..6].copy_from_slice(&(flow.seed as u16).to_be_bytes());
    message[6..HEADER].copy_from_slice(&(number as u16).to_be_bytes());
    label(flow.seed, number, &mut message[HEADER..]);
    // ICMPv6's is the kernel's to write.
    if !flow.v6() {
        let sum = checksum(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    message
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let pairs = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |b| u32::from(*b)));
    let sum = pairs.sum::<u32>();
    let sum = (sum & 0xffff) + (sum >> 16);
    !((sum & 0xffff) + (sum >> 16)) as u16
}

fn receive(
    socket: &Socket,
    flow: &Flow<'_>,
    outstanding: &mut Outstanding<'_>,
    due: Instant,
) -> anyhow::Result<()> {
    let mut buffer = [0; 10_000];
    loop {
        let left = due.saturating_duration_since(Instant::now()).min(LOOK);
        SockRef::from(socket).set_read_timeout(Some(left.max(Duration::from_micros(100))))?;
        let mut reader = socket;
        let Ok(length) = reader.read(&mut buffer) else { return Ok(()) };
        // IPv4's raw sockets give the IP header too.
        let start = if flow.v6() { 0 } else { usize::from(buffer[0] & 0xf) * 4 };
        if let Some(message) = buffer[..length].get(start..) {
            take(message, flow, outstanding);
        }
        if due <= Instant::now() {
            return Ok(());
        }
    }
}

/// Answers of ours count; the kernel shows the socket every other ICMP message too.
fn take(message: &[u8], flow: &Flow<'_>, outstanding: &mut Outstanding<'_>) {
    let answer = if flow.v6() { 129 } else { 0 };
    let Some((header, payload)) = message.split_first_chunk::<HEADER>() else { return };
    if header[0] != answer || header[4..6] != (flow.seed as u16).to_be_bytes() {
        return;
    }
    match read(payload) {
        Some((seed, number)) if seed == flow.seed => outstanding.answered(number),
        _ => flow.tally.corrupted(&format!("an echo of {} bytes", payload.len())),
    }
}
